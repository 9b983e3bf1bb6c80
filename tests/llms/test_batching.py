"""Answers that are computed together, by a decoder that counts."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from typing import Any

import pytest

from rag.errors import ModelError
from rag.llms import batching
from rag.llms.batching import AHEAD, BESIDE, PIECE, Answer, Batch
from rag.llms.decoding import Choice
from rag.llms.protocol import TextStream
from rag.types import Completion, Prefill, Queued
from tests.llms.conftest import GUARD, read

END = 0


class Kept:
    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.size = 1

    def take(self, other: "Kept", length: int) -> None:
        self.tokens = other.tokens[:length]


class Counts:
    """Writes for each text the number of its tokens, or what `of` makes of it. Where `gate` is
    given, it computes only as often as that is released."""

    def __init__(
        self, gate: threading.Semaphore | None = None, of: Callable[[int], int] = lambda n: n
    ):
        self.gate = gate
        self.of = of
        self.passes: list[list[int]] = []
        """How many tokens came to each text, with those of its draft."""
        self.fails: Callable[[list[Any]], BaseException | None] = lambda _: None

    def room(self, tokens: int) -> Any:
        return Kept()

    def read(self, texts: Sequence[Any], look: Callable[[], object]) -> list[list[int]]:
        for _ in range(3):  # layers
            look()
        if self.gate:
            while not self.gate.acquire(timeout=0.005):
                look()
        if error := self.fails(list(texts)):
            raise error
        self.passes.append([len(text.tokens) + len(text.draft) for text in texts])
        return [self.written(text) for text in texts]

    def written(self, text: Any) -> list[int]:
        known = text.kept.tokens
        known.extend(text.tokens)
        ids: list[int] = []
        for guessed in (*text.draft, None) if text.choice else ():
            ids.append(self.of(len(known)))
            if ids[-1] != guessed:
                break
            known.append(guessed)
        return ids


class Numbers:
    """A writer of numbers."""

    stopped = False

    def __init__(self, put: Callable[[str], object], fails_at: int = -1):
        self.put = put
        self.last_id: int | None = None
        self.count = 0
        self.fails_at = fails_at

    def write(self, id_: int) -> bool:
        if self.count == self.fails_at:
            raise ValueError("no such token")
        self.count += 1
        self.last_id = id_
        self.put(f"{id_} ")
        return False

    def end(self) -> None:
        self.put("." * (self.fails_at > 0))


def failed(error: BaseException) -> Exception:
    made = ModelError(f"failed: {error}")
    made.__cause__ = error
    return made


def answer(prompt: int | list[int], limit: int = 3, ends: int = END, fails_at: int = -1) -> Answer:
    pieces: Any = queue.Queue()
    tokens = prompt if isinstance(prompt, list) else [prompt * 1000 + n for n in range(prompt)]
    writer: Any = Numbers(pieces.put, fails_at)
    return Answer(tokens, limit, Choice(), frozenset([ends]), pieces, writer, failed)


def text(stream: TextStream) -> str:
    return "".join(map(str, read(stream)[0]))


def started(target: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    return thread


def until(said: Callable[[], object]) -> None:
    end = time.monotonic() + GUARD
    while not said():
        assert time.monotonic() < end
        time.sleep(0.002)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "counting"]


@pytest.fixture
def gate() -> threading.Semaphore:
    return threading.Semaphore(0)


@pytest.fixture
def gated(gate: threading.Semaphore) -> Iterator[Batch]:
    batch = Batch(Counts(gate), "counting")
    yield batch
    gate.release(10_000)
    until(lambda: not threads())


@pytest.fixture
def batch() -> Iterator[Batch]:
    yield Batch(Counts(), "counting")
    until(lambda: not threads())


def passes(batch: Batch) -> list[list[int]]:
    decoder: Any = batch._decoder
    return decoder.passes


def begun(stream: TextStream) -> TextStream:
    """It has arrived, and its answer is waited for."""
    assert next(stream) == ""
    return stream


def test_an_answer(batch: Batch) -> None:
    pieces, completion = read(batch.stream(answer(5)))
    assert pieces == ["5 ", "6 ", "7 "]
    assert completion.finish_reason == "length"
    assert completion.usage
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (5, 3)
    assert passes(batch) == [[5], [1], [1]]
    assert (batch.steps, batch.read) == (3, 5)


def test_a_token_ends_it(batch: Batch) -> None:
    pieces, completion = read(batch.stream(answer(5, ends=6)))
    assert pieces == ["5 ", "6 "]
    assert completion.finish_reason == "stop"


def test_answers_are_written_together(gated: Batch, gate: threading.Semaphore) -> None:
    """Prompts are read in the order of their coming, beside what is being written."""
    streams = [begun(gated.stream(answer(n, 4))) for n in (5, 7, 9)]
    gate.release(100)
    assert [text(stream) for stream in streams] == ["5 6 7 8 ", "7 8 9 10 ", "9 10 11 12 "]
    # The first may have been alone when the thread looked.
    assert passes(gated) == [[5], [1, 7], [1, 1, 9], [1, 1, 1], [1, 1], [1]]


def test_a_long_prompt_is_read_in_pieces(batch: Batch) -> None:
    pieces: list[Any] = list(batch.stream(answer(2 * PIECE + 10, 2)))
    total = 2 * PIECE + 10
    assert [each for each in pieces if isinstance(each, Prefill)] == [
        Prefill(0, total),
        Prefill(PIECE, total),
        Prefill(2 * PIECE, total),
    ]
    assert passes(batch) == [[PIECE], [PIECE], [10], [1]]


def test_others_write_on_while_a_long_prompt_is_read(
    gated: Batch, gate: threading.Semaphore
) -> None:
    first, long = (begun(gated.stream(answer(n, 8))) for n in (5, 3 * BESIDE))
    gate.release(100)
    assert text(first) == "5 6 7 8 9 10 11 12 "
    assert text(long).startswith(f"{3 * BESIDE} ")
    assert passes(gated)[:5] == [[5], [1, BESIDE], [1, BESIDE], [1, BESIDE], [1, 1]]


def test_one_that_waits_is_told_its_place(gated: Batch, gate: threading.Semaphore) -> None:
    streams = [begun(gated.stream(answer(n))) for n in (5, 7, 9, 11)]
    gate.release(100)
    told = [[piece for piece in stream if isinstance(piece, Queued)] for stream in streams]
    assert told == [[], [], [Queued(1), Queued(0)], [Queued(2), Queued(1), Queued(0)]]


def test_no_more_than_so_many_are_written_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "TOGETHER", 2)
    gate = threading.Semaphore(0)
    batch = Batch(Counts(gate), "counting")
    streams = [begun(batch.stream(answer(n))) for n in (5, 7, 9)]
    gate.release(100)
    assert [text(stream) for stream in streams] == ["5 6 7 ", "7 8 9 ", "9 10 11 "]
    assert max(map(len, passes(batch))) == 2


@pytest.mark.parametrize("reading", [True, False])
def test_closing_ends_the_work(gated: Batch, gate: threading.Semaphore, reading: bool) -> None:
    stream = begun(gated.stream(answer(5, 100)))
    if not reading:
        gate.release(3)
        until(lambda: gated.steps == 3)
    closer = started(stream.close)
    if not reading:
        gate.release()  # the token that is being computed
    closer.join(GUARD)
    assert not closer.is_alive()
    assert gated.steps == (0 if reading else 4)
    assert not threads()


def test_others_go_on_when_one_is_closed(gated: Batch, gate: threading.Semaphore) -> None:
    streams = [begun(gated.stream(answer(n, 6))) for n in (5, 7, 9)]
    gate.release(4)
    until(lambda: len(passes(gated)) == 4)
    closer = started(streams[1].close)
    time.sleep(0.02)
    gate.release(100)
    closer.join(GUARD)
    assert text(streams[0]) == "5 6 7 8 9 10 "
    assert text(streams[2]) == "9 10 11 12 13 14 "
    assert passes(gated)[-3] != passes(gated)[3]


def test_one_that_is_not_read_on_waits_alone(batch: Batch) -> None:
    held = begun(batch.stream(answer(5, 100)))
    until(lambda: batch.steps >= AHEAD)
    assert text(batch.stream(answer(7))) == "7 8 9 "
    assert text(batch.stream(answer(8))) == "8 9 10 "
    assert batch.steps <= AHEAD + 7
    assert text(held) == "".join(f"{n} " for n in range(5, 105))


def test_those_that_are_not_read_on_leave_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "TOGETHER", 2)
    batch = Batch(Counts(), "counting")
    held = [begun(batch.stream(answer(n, 100))) for n in (5, 7)]
    until(lambda: batch.steps >= 2 * AHEAD)
    assert text(batch.stream(answer(9))) == "9 10 11 "
    for stream in held:
        stream.close()
    assert not threads()


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), SystemExit(1)], ids=repr)
def test_an_error_is_raised_in_the_readers_of_that_pass(batch: Batch, error: BaseException) -> None:
    decoder: Any = batch._decoder
    decoder.fails = lambda texts: error if len(texts[0].kept.tokens) == 6 else None
    pieces: list[Any] = []
    with pytest.raises(ModelError, match="failed") as caught:
        pieces.extend(piece for piece in batch.stream(answer(5)) if piece)
    assert caught.value.__cause__ is error
    assert pieces == ["5 ", "6 "]
    until(lambda: not threads())
    assert text(batch.stream(answer(7))) == "7 8 9 "


def test_an_error_of_one_answer_is_not_the_others(gated: Batch, gate: threading.Semaphore) -> None:
    streams = [begun(gated.stream(each)) for each in (answer(5), answer(7, fails_at=1))]
    gate.release(100)
    assert text(streams[0]) == "5 6 7 "
    pieces: list[Any] = []
    with pytest.raises(ModelError, match="no such token"):
        pieces.extend(piece for piece in streams[1] if piece and isinstance(piece, str))
    assert pieces == ["7 ", "."]


def test_what_one_of_several_fails_by_is_not_the_others(
    gated: Batch, gate: threading.Semaphore
) -> None:
    """A pass that fails is computed again for each of them alone."""
    decoder: Any = gated._decoder
    error = RuntimeError("out of memory")
    decoder.fails = lambda texts: error if any(len(each.tokens) == 7 for each in texts) else None
    streams = [begun(gated.stream(answer(n, 4))) for n in (5, 7, 9)]
    gate.release(100)
    assert text(streams[0]) == "5 6 7 8 "
    with pytest.raises(ModelError, match="out of memory") as caught:
        read(streams[1])
    assert caught.value.__cause__ is error
    assert text(streams[2]) == "9 10 11 12 "


def test_what_fails_once_is_not_told(batch: Batch) -> None:
    """What was kept for later may have been what was short of memory."""
    decoder: Any = batch._decoder
    assert text(batch.stream(answer(5))) == "5 6 7 "
    assert batch.prefixes._all
    decoder.fails = lambda _: RuntimeError("no memory") if batch.prefixes._all else None
    assert text(batch.stream(answer(7))) == "7 8 9 "


def test_where_there_is_no_room_for_one_the_others_go_on(
    gated: Batch, gate: threading.Semaphore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def room(tokens: int) -> Any:
        if tokens > 100:
            raise MemoryError
        return Kept()

    monkeypatch.setattr(gated._decoder, "room", room)
    streams = [begun(gated.stream(answer(5, limit))) for limit in (4, 200, 3)]
    gate.release(100)
    assert text(streams[0]) == "5 6 7 8 "
    with pytest.raises(ModelError):
        read(streams[1])
    assert text(streams[2]) == "5 6 7 "


@pytest.mark.parametrize("where", ["tell_place", "end", "following"])
def test_whatever_fails_in_the_thread_all_are_told_and_the_next_is_answered(
    gated: Batch, gate: threading.Semaphore, where: str
) -> None:
    streams = []
    for number in (5, 7, 9):
        each = answer(number)
        if number == 7:
            setattr(each, where, lambda *_: 1 / 0)
        streams.append(begun(gated.stream(each)))
    gate.release(100)

    def read_all() -> None:
        for stream in streams:
            with suppress(ModelError):
                read(stream)

    reader = started(read_all)
    reader.join(GUARD)
    assert not reader.is_alive()
    until(lambda: not threads())
    assert text(gated.stream(answer(8))) == "8 9 10 "


def test_where_there_is_no_thread_it_is_told_and_the_next_is_answered(
    batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(ModelError, match="can't start new thread"):
            read(batch.stream(answer(5)))
    reader = started(lambda: text(batch.stream(answer(7))))
    reader.join(GUARD)
    assert not reader.is_alive()
    assert passes(batch) == [[7], [1], [1]]  # nothing of the first


def test_what_a_prompt_begins_with_is_not_computed_again(batch: Batch) -> None:
    tokens = list(range(100, 150))
    assert text(batch.stream(answer(tokens))) == "50 51 52 "
    assert batch.read == 50
    assert text(batch.stream(answer(tokens))) == "50 51 52 "
    assert batch.read == 51
    assert text(batch.stream(answer([*tokens, 50, 51, 7, 8, 9]))) == "55 56 57 "
    assert batch.read == 54  # of the answer too
    assert text(batch.stream(answer([1, *tokens]))) == "51 52 53 "
    assert batch.read == 54 + 51


def test_what_was_stopped_is_known_as_far_as_it_came(
    gated: Batch, gate: threading.Semaphore
) -> None:
    tokens = list(range(3 * PIECE))
    stream = begun(gated.stream(answer(tokens)))
    gate.release(2)
    until(lambda: gated.read == 2 * PIECE)
    stream.close()
    gate.release(100)
    assert text(gated.stream(answer(tokens)))
    assert gated.read == 3 * PIECE


def test_the_end_of_the_program_ends_all() -> None:
    said: list[tuple[threading.Thread, threading.Event]] = []
    gate = threading.Semaphore(0)
    batch = Batch(Counts(gate), "counting", lambda *begun: said.append(begun))
    streams = [begun(batch.stream(answer(n, 100))) for n in (5, 7)]
    ((thread, ending),) = said
    ending.set()
    gate.release(1)
    thread.join(GUARD)
    assert not thread.is_alive()
    assert [read(stream)[1].finish_reason for stream in streams] == ["stopped"] * 2
    _, completion = read(batch.stream(answer(5)))
    assert completion == Completion("stopped", completion.usage)


def test_many_come_and_go(batch: Batch) -> None:
    """Threads that read, drop and close, while others begin."""
    wrong: list[Any] = []

    def ask(number: int) -> None:
        for turn in range(20):
            stream = batch.stream(answer(number + 1, 30))
            if (turn + number) % 3:
                expected = "".join(f"{n} " for n in range(number + 1, number + 31))
                if text(stream) != expected:
                    wrong.append((number, turn))
            else:
                with closing(stream):
                    for _, _ in zip(range(turn), stream, strict=False):
                        pass

    asking = [started(lambda n=n: ask(n)) for n in range(8)]
    for thread in asking:
        thread.join(GUARD)
        assert not thread.is_alive()
    assert wrong == []


# Guessing


@pytest.fixture
def guessed(gate: threading.Semaphore) -> Iterator[Batch]:
    """It writes 10, 11, 12, 13, 10, 11 and so on."""
    batch = Batch(Counts(gate, lambda n: 10 + n % 4), "counting")
    yield batch
    gate.release(10**6)
    until(lambda: not threads())


def test_what_was_said_before_is_written_at_once(guessed: Batch, gate: threading.Semaphore) -> None:
    gate.release(100)
    pieces, completion = read(guessed.stream(answer([10, 11, 12, 13, 10, 11, 12, 13], 12)))
    assert "".join(map(str, pieces)) == "10 11 12 13 " * 3
    assert completion.usage
    assert completion.usage.completion_tokens == guessed.steps == 12
    # A token; the four that came since it stood last, and one; the same again; the last.
    assert passes(guessed) == [[8], [5], [5], [1]]
    assert len(guessed.prefixes._all[0].tokens) == 8 + 12 - 1


def test_no_more_is_guessed_than_may_be_written(guessed: Batch, gate: threading.Semaphore) -> None:
    gate.release(100)
    assert text(guessed.stream(answer([10, 11, 12, 13], 3))) == "10 11 12 "
    assert passes(guessed) == [[4], [2]]


def test_what_was_guessed_wrongly_is_not_written(batch: Batch) -> None:
    assert text(batch.stream(answer([5, 9, 9, 9, 9], 3))) == "5 6 7 "
    assert passes(batch) == [[5], [2], [1]]


def test_an_answer_ends_in_the_middle_of_what_was_guessed(
    guessed: Batch, gate: threading.Semaphore
) -> None:
    gate.release(100)
    prompt = [10, 11, 12, 13] * 2
    pieces, completion = read(guessed.stream(answer(prompt, 12, ends=12)))
    assert pieces == ["10 ", "11 ", "12 "]
    assert completion.finish_reason == "stop"
    assert guessed.steps == 3


def test_the_more_answers_the_less_is_guessed(guessed: Batch, gate: threading.Semaphore) -> None:
    streams = [begun(guessed.stream(answer([10, 11, 12, 13] * 4, 100))) for _ in range(4)]
    gate.release(5)
    until(lambda: len(passes(guessed)) == 5)
    assert passes(guessed) == [[16], [5, 16], [3, 3, 16], [2, 2, 2, 16], [1, 1, 1, 1]]
    gate.release(10**6)
    for stream in streams:
        stream.close()


# Reading ahead


def test_a_prompt_is_read_before_it_is_asked(batch: Batch) -> None:
    tokens = list(range(100, 150))
    batch.read_ahead(tokens)
    until(lambda: not threads())
    assert passes(batch) == [[50]]
    assert text(batch.stream(answer([*tokens[:40], 1, 2]))) == "42 43 44 "
    assert passes(batch)[1:] == [[2], [1], [1]]
    assert batch.steps == 3


def test_it_makes_way_for_a_question(gated: Batch, gate: threading.Semaphore) -> None:
    gated.read_ahead(list(range(3 * PIECE)))
    gate.release()
    until(lambda: gated.read == PIECE)
    stream = begun(gated.stream(answer(5)))  # in the middle of the second piece
    until(lambda: not gated._ahead)
    gate.release(3)
    assert text(stream) == "5 6 7 "
    until(lambda: not threads())
    assert passes(gated) == [[PIECE], [5], [1], [1]]


def test_it_waits_while_answers_are_computed(gated: Batch, gate: threading.Semaphore) -> None:
    stream = begun(gated.stream(answer(5)))
    gated.read_ahead([1, 2, 3, 4])
    gate.release(100)
    assert text(stream) == "5 6 7 "
    until(lambda: len(passes(gated)) == 4)
    assert passes(gated) == [[5], [1], [1], [4]]


def test_only_the_latest_is_read(gated: Batch, gate: threading.Semaphore) -> None:
    gated.read_ahead(list(range(2 * PIECE)))
    gate.release()
    until(lambda: gated.read == PIECE)
    kept = len(gated.prefixes._all)
    gated.read_ahead([1, 2, 3])
    until(lambda: len(gated.prefixes._all) > kept)  # what came of the first
    gate.release(100)
    until(lambda: not threads())
    assert passes(gated) == [[PIECE], [3]]


def test_what_goes_wrong_in_it_is_nobodys_error(batch: Batch) -> None:
    decoder: Any = batch._decoder
    decoder.fails = lambda texts: RuntimeError("out of memory")
    batch.read_ahead([1, 2, 3])
    until(lambda: not threads())
    decoder.fails = lambda texts: None
    assert text(batch.stream(answer(5))) == "5 6 7 "


def test_nor_that_there_is_no_room_for_it(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    def room(tokens: int) -> Any:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(batch._decoder, "room", room)
        batch.read_ahead([1, 2, 3])
        until(lambda: not threads())
    assert text(batch.stream(answer(5))) == "5 6 7 "
