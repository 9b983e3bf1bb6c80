"""Llama's arithmetic on a CPU, with weights of half the size: `Llama`.

The products are FBGEMM's: weights in float16, all else in float32. To write a token, all weights
are read from memory, so half the bytes are half the time; and what several texts want of them is
read once for all. What tokens mean it does not know.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

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


Text = tuple[Kept, Sequence[int], Choice | None]
"""A text so far, the tokens that come to it, and how the one after these is chosen; None: it is
not, as more are to come."""


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
        self._epsilon = float(config.rms_norm_eps)
        # Views of the file would keep all of it in memory.
        self._embedding = body.embed_tokens.weight.data.clone()
        self._norm = body.norm.weight.data.clone()
        with torch.inference_mode():
            places = torch.arange(config.max_position_embeddings)[None]
            cos, sin = body.rotary_emb(self._norm, places)
            sin[..., : self._size // 2].neg_()
            self._cos, self._sin = cos[0, :, None], sin[0, :, None]
            trial = model(input_ids=torch.tensor([TRIAL]), use_cache=False).logits[0, -1]
            for layer in body.layers:
                attention, mlp = layer.self_attn, layer.mlp
                self._layers.append(
                    Layer(
                        layer.input_layernorm.weight.data.clone(),
                        _packed(attention.q_proj, attention.k_proj, attention.v_proj),
                        _packed(attention.o_proj),
                        layer.post_attention_layernorm.weight.data.clone(),
                        _packed(mlp.gate_proj, mlp.up_proj),
                        _packed(mlp.down_proj),
                    )
                )
            self._head = _packed(model.lm_head)
            (found,) = self._logits([(self.room(len(TRIAL)), TRIAL, Choice())], lambda: None)
        if not (found - trial).abs().max() <= NEAR * trial.abs().max():
            raise ValueError("other logits than transformers'")

    def room(self, tokens: int) -> Kept:
        """For a new text."""
        return Kept(len(self._layers), self._kept_heads, tokens, self._size)

    def read(self, texts: Sequence[Text], look: Callable[[], object]) -> list[int]:
        """Add to each text what comes to it; the tokens that come next (-1 where none is chosen).

        `look` is called before each layer. What it raises leaves the texts as they were.
        """
        import torch

        with torch.inference_mode():
            chosen = [choice for _, _, choice in texts if choice]
            ids = iter(choose(self._logits(texts, look), chosen))
        for kept, tokens, _ in texts:
            kept.tokens.extend(tokens)
        return [next(ids) if choice else -1 for _, _, choice in texts]

    def _logits(self, texts: Sequence[Text], look: Callable[[], object]) -> Any:
        """Of what comes next, for each text where that is chosen."""
        import torch
        from torch.nn.functional import rms_norm, scaled_dot_product_attention, silu

        product = torch.ops.quantized.linear_dynamic_fp16
        spans, begin = [], 0
        for kept, tokens, _ in texts:
            spans.append((kept, begin, begin + len(tokens), len(kept.tokens)))
            begin += len(tokens)
        places = torch.cat([torch.arange(past, past + e - b) for _, b, e, past in spans])
        cos, sin = self._cos[places], self._sin[places]
        masks = [self._mask(past, e - b) for _, b, e, past in spans]
        x = self._embedding[torch.tensor([id_ for _, tokens, _ in texts for id_ in tokens])]
        rows, width = len(x), x.shape[1:]
        attended = torch.empty(rows, self._heads, self._size)
        turning = self._heads + self._kept_heads
        for number, layer in enumerate(self._layers):
            look()
            y = product(rms_norm(x, width, layer.norm, self._epsilon), layer.qkv)
            y = y.view(rows, turning + self._kept_heads, self._size)
            turned = y[:, :turning]
            y[:, :turning] = torch.addcmul(turned * cos, turned.roll(self._size // 2, -1), sin)
            for (kept, b, e, past), mask in zip(spans, masks, strict=True):
                there = kept.values[number, :, : past + e - b]
                there[:, past:] = y[b:e, self._heads :].transpose(0, 1)
                # The heads that share a key are rows of one product.
                queries = y[b:e, : self._heads].transpose(0, 1)
                queries = queries.reshape(1, self._kept_heads, -1, self._size)
                keys, values = there[None].split(self._kept_heads, 1)
                out = scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
                attended[b:e] = out.view(self._heads, e - b, self._size).transpose(0, 1)
            x = x + product(attended.view(rows, -1), layer.out)
            y = product(rms_norm(x, width, layer.mlp_norm, self._epsilon), layer.gate_up)
            gate, up = y.chunk(2, -1)
            x = x + product(silu(gate).mul_(up), layer.down)
        lasts = [e - 1 for (_, _, e, _), (_, _, choice) in zip(spans, texts, strict=True) if choice]
        return product(rms_norm(x[lasts], width, self._norm, self._epsilon), self._head)

    def _mask(self, past: int, tokens: int) -> Any:
        """None for a single token, which sees all before it."""
        import torch

        if tokens == 1:
            return None
        mask = torch.full((tokens, past + tokens), -torch.inf).triu_(past + 1)
        return mask.repeat(self._heads // self._kept_heads, 1)


def choose(logits: Any, choices: Sequence[Choice]) -> list[int]:
    """A token for each row of `logits`."""
    import torch

    ids: list[int] = logits.argmax(-1).tolist()
    for number, choice in enumerate(choices):
        if choice.temperature > 0:
            count = min(choice.top_k or logits.shape[1], logits.shape[1])
            likeliest, places = (logits[number] / choice.temperature).topk(count)
            share = likeliest.softmax(-1)
            before = share.cumsum(-1) - share
            share = torch.where(before < choice.top_p, share, 0.0)
            share[0] = max(float(share[0]), 1e-9)  # one is left, whatever top_p is
            ids[number] = int(places[share.multinomial(1)])
    return ids


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
