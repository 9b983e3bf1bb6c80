"""Llama's arithmetic beside transformers', on small models of random weights."""

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from rag.llms import decoding
from rag.llms.decoding import FEW, Choice, Kept, Llama, Text, choose
from rag.llms.threads import TRIES

pytestmark = pytest.mark.slow

SIZES = {
    "vocab_size": 300,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
}
PROMPT = [5, 17, 250, 3, 99, 42, 7, 7, 101, 12]
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def made(kind: str = "Llama", **options: Any) -> Any:
    """A model of transformers with random weights, always the same."""
    import torch
    import transformers

    torch.manual_seed(1)
    config = getattr(transformers, f"{kind}Config")(**{**SIZES, **options})
    model = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    for name, parameter in model.named_parameters():
        if name.endswith(("bias", "norm.weight")):
            parameter.data += torch.rand_like(parameter) / 2
    return model


def by_two(model: Any) -> Llama:
    """By one thread or two, also where there is one core."""
    import torch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: 2)
        return Llama(model)


def look() -> None:
    pass


def greedy(llama: Llama, kept: Kept, tokens: list[int], count: int) -> list[int]:
    """What comes after `tokens`, which come to what is kept."""
    ids: list[int] = []
    for _ in range(count):
        ids += llama.read([Text(kept, tokens, Choice())], look)[0]
        tokens = ids[-1:]
    return ids


def by_transformers(model: Any, tokens: list[int], count: int) -> list[int]:
    import torch

    with torch.inference_mode():
        ids = list(tokens)
        for _ in range(count):
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(tokens) :]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("Llama", {}),
        ("Llama", {"tie_word_embeddings": True}),
        ("Llama", {"attention_bias": True, "mlp_bias": True}),
        ("Llama", {"num_key_value_heads": 6, "head_dim": 16}),
        ("Llama", {"rope_parameters": LLAMA3}),
        ("Mistral", {"sliding_window": None}),
        ("Qwen2", {}),
    ],
    ids=str,
)
def test_it_computes_what_transformers_does(kind: str, options: dict[str, Any]) -> None:
    model = made(kind, **options)
    expected = by_transformers(model, PROMPT, 30)
    assert len(set(expected)) > 3
    llama = Llama(model)
    assert greedy(llama, llama.room(64), PROMPT, 30) == expected


def test_texts_of_any_length_are_read_together_and_in_pieces() -> None:
    prompts = [PROMPT, PROMPT[3:5], [*PROMPT, *PROMPT[::-1]]]
    model = made()
    expected = [by_transformers(model, prompt, 8) for prompt in prompts]
    llama = Llama(model)
    kept = [llama.room(40) for _ in prompts]
    assert llama.read(
        [
            Text(kept[0], prompts[0], Choice()),
            Text(kept[1], prompts[1], Choice()),
            Text(kept[2], prompts[2][:7]),
        ],
        look,
    ) == [expected[0][:1], expected[1][:1], []]
    assert llama.read(
        [
            Text(kept[0], expected[0][:1], Choice(), expected[0][1:3]),
            Text(kept[2], prompts[2][7:], Choice()),
            Text(kept[1], expected[1][:1], Choice()),
        ],
        look,
    ) == [expected[0][1:4], expected[2][:1], expected[1][1:2]]
    assert kept[2].tokens == prompts[2]


@pytest.mark.parametrize(
    ("right", "wrong"), [(0, 0), (3, 0), (0, 3), (2, 1), (2, 3)], ids=lambda number: str(number)
)
@pytest.mark.parametrize("choice", [Choice(), Choice(1e-6, 5)], ids=["likeliest", "random"])
def test_what_is_right_of_a_draft_is_taken(choice: Choice, right: int, wrong: int) -> None:
    model = made()
    expected = by_transformers(model, PROMPT, 12)
    llama = Llama(model)
    kept = llama.room(40)
    assert llama.read([Text(kept, PROMPT, choice)], look) == [expected[:1]]
    draft = [*expected[1 : right + 1], *[(id_ + 1) % 300 for id_ in expected[right + 1 :][:wrong]]]
    (ids,) = llama.read([Text(kept, expected[:1], choice, draft)], look)
    assert ids == expected[1 : right + 2]
    assert kept.tokens == [*PROMPT, *expected[: right + 1]]
    assert greedy(llama, kept, ids[-1:], 6) == expected[right + 2 : right + 8]


def test_keys_and_values_of_another_text() -> None:
    model = made()
    expected = by_transformers(model, PROMPT, 12)
    llama = Llama(model)
    other = llama.room(40)
    greedy(llama, other, [*PROMPT[:6], 1, 2, 3], 3)
    kept = llama.room(30)
    kept.take(other, 6)
    assert kept.tokens == PROMPT[:6]
    assert greedy(llama, kept, PROMPT[6:], 12) == expected
    assert kept.size == 3 * 2 * 2 * 30 * 8 * 4


def test_small_passes_try_how_many_threads_are_best_and_no_other_thread_is_changed() -> None:
    import torch

    before, llama = torch.get_num_threads(), by_two(made())
    kept = llama.room(250)
    used: list[set[int]] = []

    def read(rows: int) -> set[int]:
        used.append(set())
        tokens = [5] * rows
        llama.read([Text(kept, tokens)], lambda: used[-1].add(torch.get_num_threads()))
        return used[-1]

    def work() -> None:
        assert read(FEW + 1) == {2}  # as for a prompt
        assert set.union(*(read(1) for _ in range(3 * TRIES))) == {1, 2}
        assert all(len(each) == 1 for each in used)
        assert read(FEW + 1) == {2}

    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result()
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("rows", [1, 6, FEW])
def test_the_number_of_threads_does_not_change_what_is_computed(rows: int) -> None:
    import torch

    llama = Llama(made(hidden_size=576, intermediate_size=1536, vocab_size=50_000))

    def logits(threads: int) -> Any:
        decoding._set_threads()(threads)
        with torch.inference_mode():
            text = Text(llama.room(40), [*range(rows)], Choice(), [7, 8, 9])
            return torch.stack(list(llama._logits([text], look)))

    with ThreadPoolExecutor(1) as pool:
        one, two = pool.map(logits, (1, 2))
    assert torch.equal(one, two)


def test_what_look_raises_leaves_the_text_as_it_was() -> None:
    model = made()
    expected = by_transformers(model, PROMPT, 5)
    llama = Llama(model)
    kept = llama.room(40)
    first = greedy(llama, kept, PROMPT, 2)
    before = list(kept.tokens)
    looks = iter([None, None])

    def ends() -> None:
        if next(looks, "end"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        llama.read([Text(kept, first[-1:], Choice())], ends)
    assert kept.tokens == before
    assert first + greedy(llama, kept, first[-1:], 3) == expected


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (functools.partial(made, hidden_act="gelu"), "activation gelu"),
        (functools.partial(made, "Mistral", sliding_window=8), "all the way back"),
        (functools.partial(made, "Qwen3", head_dim=8), "model type qwen3"),
        (lambda: made().bfloat16(), "no float32"),
        (lambda: spoilt(1e5), "too large for float16"),
        (lambda: spoilt(float("nan")), "other logits"),
        (
            functools.partial(made, rope_parameters={"rope_type": "dynamic", "factor": 2.0}),
            "depend on the length",
        ),
    ],
)
def test_a_model_that_is_not_for_it(make: Callable[[], Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Llama(make())


def spoilt(value: float) -> Any:
    model = made()
    model.model.layers[1].mlp.up_proj.weight.data[3, 4] = value
    return model


# Choosing


def test_the_likeliest_token() -> None:
    import torch

    assert choose(torch.tensor([0.0, 3, 1]), Choice()) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 1.0, "top_k": 0, "top_p": 1.0},
        {"temperature": 0.6, "top_k": 0, "top_p": 1.0},
        {"temperature": 1.7, "top_k": 4, "top_p": 1.0},
        {"temperature": 1.0, "top_k": 0, "top_p": 0.7},
        {"temperature": 1.3, "top_k": 6, "top_p": 0.8},
        {"temperature": 1.0, "top_k": 500, "top_p": 1e-9},
    ],
    ids=str,
)
def test_tokens_are_as_frequent_as_transformers_has_them(options: dict[str, Any]) -> None:
    import torch
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    torch.manual_seed(3)
    logits = torch.randn(12) * 2
    scores = TemperatureLogitsWarper(options["temperature"])(None, logits[None])
    if options["top_k"]:
        scores = TopKLogitsWarper(options["top_k"])(None, scores)
    expected = TopPLogitsWarper(options["top_p"])(None, scores).softmax(-1)[0]
    count = 4000
    ids = [choose(logits, Choice(**options)) for _ in range(count)]
    found = torch.bincount(torch.tensor(ids), minlength=12) / count
    assert (found[expected == 0] == 0).all()
    assert (found - expected).abs().max() < 4 * (0.25 / count) ** 0.5
