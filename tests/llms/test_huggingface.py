"""`HuggingFaceLLM` with the real default model."""

import shutil
import threading
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from rag.answering import prompts
from rag.errors import ContextWindowError, ModelError, ModelUnavailableError
from rag.llms.huggingface import LOOP, HuggingFaceLLM
from rag.types import ChatMessage, Completion, Node, NodeWithScore
from tests.llms.conftest import read

pytestmark = pytest.mark.slow

GUARD = 60
ASKED = [ChatMessage("user", "Write a story about a fox.")]


def ask(llm: HuggingFaceLLM, question: str, max_tokens: int = 12) -> tuple[list[str], Completion]:
    return read(llm.stream([ChatMessage("user", question)], max_tokens=max_tokens))


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("generate ")]


def writes(monkeypatch: pytest.MonkeyPatch, llm: HuggingFaceLLM, ids: list[int]) -> None:
    """Let the model write `ids`, whatever it is asked, unless it is told to stop."""
    import torch

    def generate(*, input_ids: Any, streamer: Any, stopping_criteria: Any, **_: Any) -> None:
        streamer.put(input_ids[0])
        for id_ in ids:
            streamer.put(torch.tensor([id_]))
            if any(criterion(input_ids, None).all() for criterion in stopping_criteria):
                return

    monkeypatch.setattr(llm._model, "generate", generate)


def test_the_pieces_are_what_the_model_writes(smollm: HuggingFaceLLM) -> None:
    tokenizer, model = smollm._tokenizer, smollm._model
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": ASKED[0].content}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    length = prompt["input_ids"].shape[1]
    whole = model.generate(**prompt, max_new_tokens=24, do_sample=False)[0][length:]
    pieces, completion = read(smollm.stream(ASKED, max_tokens=24))
    assert "".join(pieces) == tokenizer.decode(whole, skip_special_tokens=True)
    assert len(pieces) > 10
    assert completion.finish_reason == "length"
    assert completion.usage is not None
    assert completion.usage.prompt_tokens == length
    assert completion.usage.completion_tokens == 24


def test_an_answer_that_the_model_ends(smollm: HuggingFaceLLM) -> None:
    pieces, completion = ask(smollm, "What is the capital of France?", max_tokens=60)
    text = "".join(pieces)
    assert "Paris" in text
    assert "<|" not in text
    assert completion.finish_reason == "stop"


@pytest.mark.parametrize(
    "text", ["🙂🎉🚀", "你好世界，我们。", "Zoë 👩‍👩‍👧 naïve — ½", "плохо हिन्दी"]
)
def test_no_character_is_shown_broken(
    smollm: HuggingFaceLLM, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    ids = smollm._tokenizer.encode(text, add_special_tokens=False)
    assert any("\ufffd" in smollm._tokenizer.decode([id_]) for id_ in ids)
    writes(monkeypatch, smollm, ids)
    pieces, _ = ask(smollm, "Hello")
    assert "".join(pieces) == text
    assert "\ufffd" not in "|".join(pieces)


def test_a_character_cut_by_the_length_limit_is_left_out(
    smollm: HuggingFaceLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes(monkeypatch, smollm, smollm._tokenizer.encode("ok 你🦜")[:-1])
    pieces, _ = ask(smollm, "Hello")
    assert "".join(pieces) == "ok 你"


def test_the_real_model_repeats_characters_whole(smollm: HuggingFaceLLM) -> None:
    pieces, _ = ask(smollm, "Repeat this: 你好 🙂 你好 🙂 你好 🙂", max_tokens=24)
    assert pieces
    assert "\ufffd" not in "|".join(pieces)


def test_an_answer_that_repeats_itself_is_cut(
    smollm: HuggingFaceLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    sentence = "".join(f" Here comes fox {n}." for n in range(LOOP))
    ids = smollm._tokenizer.encode(sentence)
    writes(monkeypatch, smollm, ids)
    assert "".join(ask(smollm, "Hello")[0]) == sentence
    writes(monkeypatch, smollm, ids * 3)
    pieces, completion = ask(smollm, "Hello")
    assert "".join(pieces) == sentence + smollm._tokenizer.decode(ids[:LOOP])
    assert completion.finish_reason == "length"


def test_the_first_item_does_not_wait_for_the_model(smollm: HuggingFaceLLM) -> None:
    with closing(smollm.stream(ASKED, max_tokens=4)) as stream:
        assert next(stream) == ""


def test_closing_ends_the_work(smollm: HuggingFaceLLM) -> None:
    stream = smollm.stream(ASKED, max_tokens=400)
    for _, _ in zip(range(3), (piece for piece in stream if piece), strict=False):
        pass
    before = smollm.steps
    stream.close()
    ended = smollm.steps
    assert ended - before <= 2
    assert not workers()
    time.sleep(0.5)
    assert smollm.steps == ended


def test_a_reader_that_pauses_is_not_run_away_from(smollm: HuggingFaceLLM) -> None:
    before = smollm.steps
    with closing(smollm.stream(ASKED, max_tokens=400)) as stream:
        assert next(piece for piece in stream if piece)
        time.sleep(4)
        assert smollm.steps - before < 40
    assert not workers()


def test_an_error_in_the_worker_reaches_the_reader(
    smollm: HuggingFaceLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = read(smollm.stream(ASKED, max_tokens=6))
    step, start = smollm._step, smollm.steps

    def failing(*args: Any) -> Any:
        if smollm.steps - start == 3:
            raise RuntimeError("out of memory")
        return step(*args)

    with monkeypatch.context() as patch:
        patch.setattr(smollm, "_step", failing)
        pieces: list[str] = []
        with pytest.raises(ModelError, match="out of memory") as caught:
            pieces.extend(piece for piece in smollm.stream(ASKED, max_tokens=6) if piece)
    assert "Ask again" in str(caught.value)
    assert pieces == whole[:3]
    assert not workers()
    assert read(smollm.stream(ASKED, max_tokens=6))[0] == whole


def test_two_questions_are_answered_in_turn(
    smollm: HuggingFaceLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = ["".join(ask(smollm, question)[0]) for question in ("Name a colour.", "Name a city.")]
    generate = smollm._generate
    running, most = 0, 0

    def counted(*args: Any) -> Completion:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            return generate(*args)
        finally:
            running -= 1

    monkeypatch.setattr(smollm, "_generate", counted)
    found: dict[str, str] = {}

    def reader(question: str) -> None:
        found[question] = "".join(ask(smollm, question)[0])

    threads = [
        threading.Thread(target=reader, args=(q,)) for q in ("Name a colour.", "Name a city.")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(GUARD)
    assert [found["Name a colour."], found["Name a city."]] == alone
    assert most == 1


def test_stopping_while_waiting_in_turn_does_not_wait(smollm: HuggingFaceLLM) -> None:
    with ExitStack() as stack:
        first = stack.enter_context(closing(smollm.stream(ASKED, max_tokens=400)))
        assert next(piece for piece in first if piece)
        # It is 16 pieces ahead at most, then waits for its reader: it cannot end meanwhile.
        waiting = smollm.stream(ASKED, max_tokens=4)
        assert [next(waiting), next(waiting)] == ["", ""]
        third = smollm.stream(ASKED, max_tokens=4)
        assert next(third) == ""
        closer = threading.Thread(target=waiting.close)
        closer.start()
        closer.join(5)
        in_time = not closer.is_alive()
        first.close()
        assert in_time
        assert read(third)[1].finish_reason == "length"
    closer.join(GUARD)
    assert not workers()


def test_a_prompt_longer_than_the_window(
    smollm: HuggingFaceLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smollm, "context_window", 64)
    with pytest.raises(ContextWindowError, match="does not fit the 64 tokens") as caught:
        ask(smollm, "word " * 60)
    assert "shorter question" in str(caught.value)
    assert not workers()


def test_a_prompt_that_is_laid_out_to_fit_does_fit(
    smollm: HuggingFaceLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what the chat template adds, which is a whole system message here."""
    monkeypatch.setattr(smollm, "is_small", False)
    monkeypatch.setattr(smollm, "context_window", 200)
    hit = NodeWithScore(Node("The sky is blue.", "d", 0, 0, "a.txt"), 0.9)

    def laid_out(length: int) -> list[ChatMessage]:
        history = [ChatMessage("user", "word " * length), ChatMessage("assistant", "Yes.")]
        return prompts.build(smollm, "Why?", [hit], history, max_tokens=1).messages

    longest = max(length for length in range(200) if len(laid_out(length)) == 3)
    assert 10 < longest < 150
    pieces, _ = read(smollm.stream(laid_out(longest), max_tokens=1))
    assert pieces


def linked(smollm_path: Path, folder: Path, *left_out: str) -> Path:
    """A folder with the files of the model, but for some."""
    folder.mkdir()
    for file in smollm_path.iterdir():
        if file.name not in left_out:
            (folder / file.name).symlink_to(file.resolve())
    return folder


def test_a_model_without_a_chat_template(smollm_path: Path, tmp_path: Path) -> None:
    folder = linked(smollm_path, tmp_path / "plain", "chat_template.jinja")
    with pytest.raises(ModelUnavailableError, match="no chat template") as caught:
        HuggingFaceLLM(folder)
    assert "plain" in str(caught.value)
    assert "instruction-tuned" in str(caught.value)


@pytest.mark.parametrize("size", [0, 100_000])
def test_damaged_weights(smollm_path: Path, tmp_path: Path, size: int) -> None:
    folder = linked(smollm_path, tmp_path / "damaged", "model.safetensors")
    with (smollm_path / "model.safetensors").open("rb") as whole:
        (folder / "model.safetensors").write_bytes(whole.read(size))
    with pytest.raises(ModelUnavailableError, match="cannot be loaded") as caught:
        HuggingFaceLLM(folder, "mine")
    assert "mine" in str(caught.value)


def test_a_folder_without_weights(smollm_path: Path, tmp_path: Path) -> None:
    shutil.copy(smollm_path / "config.json", tmp_path)
    with pytest.raises(ModelUnavailableError, match="cannot be loaded"):
        HuggingFaceLLM(tmp_path)


def test_the_facts_about_the_model(smollm: HuggingFaceLLM) -> None:
    assert smollm.model_name == "SmolLM2-135M-Instruct"
    assert smollm.context_window == 8192
    assert smollm.is_small
    assert smollm.is_streaming
    assert smollm.count_tokens("") == 0
    assert smollm.count_tokens("The sky is blue.") == 5
