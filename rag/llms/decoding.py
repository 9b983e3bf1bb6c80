"""Llama's arithmetic on a CPU, with weights of half the size: `Llama`.

The products are FBGEMM's: weights in float16, all else in float32. To write a token, all weights
are read from memory, so half the bytes are half the time; and what several texts want of them, or
several tokens of one that may be right, is read once for all. What tokens mean it does not know.
"""

import ctypes
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from rag.llms.threads import Threads

KINDS = ("llama", "mistral", "qwen2")
"""Model types that compute what is computed here."""
TURNS = ("default", "linear", "llama3")
"""Kinds of rotary embedding whose angles do not depend on the length of the text."""
LARGEST = 65504.0
"""The largest number of float16."""
NEAR = 0.01
"""How far the logits of a trial may be from transformers', as a share of the largest."""
TRIAL = range(3, 20)
"""Tokens."""
FEW = 16
"""Rows up to which one thread may be as quick as all."""


@dataclass(frozen=True)
class Choice:
    """How the next token is chosen: the likeliest at temperature 0, otherwise at random among the
    `top_k` likeliest (0: all), of these the fewest that have `top_p` of the probability."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0


class Kept:
    """The keys and values of `tokens`, with room for `room` of them."""

    def __init__(self, layers: int, heads: int, room: int, size: int):
        import torch

        self.tokens: list[int] = []
        self.room = room
        self.values: Any = torch.empty(layers, 2 * heads, room, size)
        """Of each layer, its heads' keys and then their values."""

    @property
    def size(self) -> int:
        """In bytes."""
        return int(self.values.nbytes)

    def take(self, other: "Kept", length: int) -> None:
        """The first `length` tokens of `other`, instead of what is here."""
        self.values[:, :, :length] = other.values[:, :, :length]
        self.tokens = other.tokens[:length]


class Text(NamedTuple):
    """A text so far, and `tokens` that come to it."""

    kept: Kept
    tokens: Sequence[int]
    choice: Choice | None = None
    """How the token after these is chosen; None: it is not, as more are to come."""
    draft: Sequence[int] = ()
    """What may be chosen, one token after the other: as far as it is, more are chosen at once."""


class _Span:
    """The rows of a text among those of all, and where their keys and values are, in each layer."""

    def __init__(self, kept: Kept, begin: int, size: int, heads: int):
        self.begin, self.size = begin, size
        self.past = len(kept.tokens)
        there = kept.values[:, None, :, : self.past + size]
        self.new = kept.values[:, :, self.past : self.past + size].unbind()
        self.keys = there[:, :, :heads].unbind()
        self.values = there[:, :, heads:].unbind()


@dataclass(frozen=True)
class Layer:
    norm: Any
    qkv: Any
    out: Any
    mlp_norm: Any
    gate_up: Any
    down: Any


class Llama:
    """The arithmetic of `model`, one of transformers, from which it takes the weights away.

    Raises ValueError where that would not be the same, or not be quick.
    """

    def __init__(self, model: Any):
        import torch

        _check(model)
        config, body = model.config, model.model
        self._layers: list[Layer] = []
        self._heads = int(config.num_attention_heads)
        self._kept_heads = int(config.num_key_value_heads)
        self._size = int(body.layers[0].self_attn.head_dim)
        # Views of the file would keep all of it in memory.
        self._embedding = body.embed_tokens.weight.data.clone()
        root = self._embedding.shape[1] ** 0.5
        self._epsilon = torch.tensor(root * config.rms_norm_eps**0.5)
        self._norm = body.norm.weight.data * root
        with torch.inference_mode():
            places = torch.arange(config.max_position_embeddings)[None]
            half = slice(self._size // 2)
            self._turns = torch.complex(
                *(
                    each[0, :, None, half].contiguous()
                    for each in body.rotary_emb(self._norm, places)
                )
            )
            trial = model(input_ids=torch.tensor([TRIAL]), use_cache=False).logits[0, -1]
            for layer in body.layers:
                attention, mlp = layer.self_attn, layer.mlp
                self._layers.append(
                    Layer(
                        layer.input_layernorm.weight.data * root,
                        _packed(
                            _in_pairs(attention.q_proj, self._size),
                            _in_pairs(attention.k_proj, self._size),
                            attention.v_proj,
                        ),
                        _packed(attention.o_proj),
                        layer.post_attention_layernorm.weight.data * root,
                        _packed(mlp.gate_proj, mlp.up_proj),
                        _packed(mlp.down_proj),
                    )
                )
            self._head = _packed(model.lm_head)
            self._threads = [Threads(torch.get_num_threads()) for _ in range(FEW.bit_length())]
            trial_text = Text(self.room(len(TRIAL)), TRIAL, Choice())
            (found,) = self._logits([trial_text], lambda: None)
        if not (found - trial).abs().max() <= NEAR * trial.abs().max():
            raise ValueError("other logits than transformers'")

    def room(self, tokens: int) -> Kept:
        """For a new text."""
        return Kept(len(self._layers), self._kept_heads, tokens, self._size)

    def read(self, texts: Sequence[Text], look: Callable[[], object]) -> list[list[int]]:
        """Add to each text what comes to it; the tokens that come next (none where none is chosen).
        All but the last of them are its draft's, and are added too.

        `look` is called before each layer. What it raises leaves the texts as they were.
        """
        import torch

        chosen = []
        size = sum(len(text.tokens) + len(text.draft) for text in texts)
        with torch.inference_mode(), self._with_threads(size):
            rows = iter(self._logits(texts, look))
            for text in texts:
                own = [next(rows) for _ in range(1 + len(text.draft))] if text.choice else []
                chosen.append(_chosen(own, text))
        for text, ids in zip(texts, chosen, strict=True):
            text.kept.tokens.extend((*text.tokens, *ids[:-1]))
        return chosen

    @contextmanager
    def _with_threads(self, rows: int) -> Iterator[None]:
        """As many as are best for so many rows: all for many, as for a prompt."""
        if rows > FEW:
            _set_threads()(self._threads[0].most)
            yield
            return
        threads = self._threads[(rows - 1).bit_length()]
        number = threads.next()
        _set_threads()(number)
        begun = time.perf_counter()
        yield
        threads.took(number, time.perf_counter() - begun)

    def _logits(self, texts: Sequence[Text], look: Callable[[], object]) -> Any:
        """Of what comes next, for each text where that is chosen, and then for each token of its
        draft."""
        import torch
        from torch.nn.functional import scaled_dot_product_attention, silu

        product = _product()
        spans, tokens, wanted = [], list[int](), list[int]()
        for text in texts:
            begin = len(tokens)
            tokens += [*text.tokens, *text.draft]
            spans.append(_Span(text.kept, begin, len(tokens) - begin, self._kept_heads))
            if text.choice:
                wanted += range(len(tokens) - len(text.draft) - 1, len(tokens))
        places = torch.cat([torch.arange(each.past, each.past + each.size) for each in spans])
        turns = self._turns[places]
        masks = [self._mask(each.past, each.size) for each in spans]
        x = self._embedding[torch.tensor(tokens)]
        rows, turning = len(tokens), self._heads + self._kept_heads
        for number, layer in enumerate(self._layers):
            look()
            y = product(self._normed(x, layer.norm), layer.qkv)
            y = y.view(rows, turning + self._kept_heads, self._size)
            torch.view_as_complex(y[:, :turning].unflatten(-1, (-1, 2))).mul_(turns)
            attended = []
            for span, mask in zip(spans, masks, strict=True):
                mine = y[span.begin : span.begin + span.size].transpose(0, 1)
                span.new[number].copy_(mine[self._heads :])
                # The heads that share a key are rows of one product.
                queries = mine[: self._heads].reshape(1, self._kept_heads, -1, self._size)
                out = scaled_dot_product_attention(
                    queries, span.keys[number], span.values[number], attn_mask=mask
                )
                attended.append(out.view(self._heads, span.size, self._size).transpose(0, 1))
            x += product(torch.cat(attended).view(rows, -1), layer.out)
            y = product(self._normed(x, layer.mlp_norm), layer.gate_up)
            gate, up = y.chunk(2, -1)
            x += product(silu(gate).mul_(up), layer.down)
        return product(self._normed(x[wanted], self._norm), self._head)

    def _normed(self, x: Any, weight: Any) -> Any:
        """RMSNorm, with the root of the width in `weight` and in epsilon: 4 operations, not 10."""
        import torch

        return (
            x / torch.hypot(torch.linalg.vector_norm(x, dim=-1, keepdim=True), self._epsilon)
        ).mul_(weight)

    def _mask(self, past: int, tokens: int) -> Any:
        """None for a single token, which sees all before it."""
        import torch

        if tokens == 1:
            return None
        mask = torch.full((tokens, past + tokens), -torch.inf).triu_(past + 1)
        return mask.repeat(self._heads // self._kept_heads, 1)


def _chosen(logits: Sequence[Any], text: Text) -> list[int]:
    """A token, and one after each token of the draft, up to the first that is not the draft's."""
    ids: list[int] = []
    for own, expected in zip(logits, (*text.draft, None), strict=False):
        assert text.choice
        ids.append(choose(own, text.choice))
        if ids[-1] != expected:
            break
    return ids


def choose(logits: Any, choice: Choice) -> int:
    """A token."""
    import torch

    if choice.temperature == 0:
        return int(logits.argmax())
    count = min(choice.top_k or len(logits), len(logits))
    likeliest, places = (logits / choice.temperature).topk(count)
    share = likeliest.softmax(-1)
    before = share.cumsum(-1) - share
    share = torch.where(before < choice.top_p, share, 0.0)
    share[0] = max(float(share[0]), 1e-9)  # one is left, whatever top_p is
    return int(places[share.multinomial(1)])


@functools.cache
def _product() -> Callable[[Any, Any], Any]:
    """x, packed weights -> their product. By its name in `torch.ops` each call takes 15 µs more,
    which are 2 ms a token."""
    import torch

    handle = torch._C._dispatch_find_schema_or_throw("quantized::linear_dynamic_fp16", "")
    return functools.partial(torch._C._dispatch_call_boxed, handle)


@functools.cache
def _set_threads() -> Callable[[int], object]:
    """Sets OpenMP's number of threads for the thread that calls it. torch's own sets it for those
    to come as well, and drops what oneDNN has compiled."""
    import torch

    library = ctypes.CDLL(torch._C.__file__)
    return getattr(library, "omp_set_num_threads", lambda _: None)  # Windows looks no further


def _check(model: Any) -> None:
    import torch

    config = model.config
    engine = torch.backends.quantized.engine
    rope = getattr(config, "rope_parameters", None) or {}
    for wrong, why in (
        (engine not in ("x86", "fbgemm"), f"the engine {engine}"),
        (not torch.backends.cpu.get_cpu_capability().startswith("AVX"), "no vector instructions"),
        (config.model_type not in KINDS, f"the model type {config.model_type}"),
        (config.hidden_act != "silu", f"the activation {config.hidden_act}"),
        (rope.get("rope_type") not in TURNS, "positions that depend on the length"),
        (_slides(config), "attention that does not go all the way back"),
        (any(each.dtype != torch.float32 for each in model.parameters()), "no float32"),
        (any(each.device.type != "cpu" for each in model.parameters()), "no CPU"),
        (any(each.abs().max() > LARGEST for each in model.parameters()), "too large for float16"),
    ):
        if wrong:
            raise ValueError(why)


def _slides(config: Any) -> bool:
    kinds = getattr(config, "layer_types", None)
    if kinds:
        return any(kind != "full_attention" for kind in kinds)
    return bool(getattr(config, "sliding_window", None))


def _in_pairs(part: Any, size: int) -> Any:
    """The rows of each head with those beside each other that turn together: a complex number."""
    for each in (part.weight, part.bias):
        if each is not None:
            each.data = each.data.unflatten(0, (-1, 2, size // 2)).transpose(1, 2).flatten(0, 2)
    return part


def _packed(*parts: Any) -> Any:
    """Linear layers that read the same, as one."""
    import torch

    bias = None
    if any(part.bias is not None for part in parts):
        without = [torch.zeros(part.out_features) for part in parts]
        biases = [part.bias for part in parts]
        bias = torch.cat([w if b is None else b.data for w, b in zip(without, biases, strict=True)])
    weight = torch.cat([part.weight.data for part in parts])
    for part in parts:  # a large model is in memory once and a half otherwise
        part.weight = None
    return torch.ops.quantized.linear_prepack_fp16(weight, bias)
