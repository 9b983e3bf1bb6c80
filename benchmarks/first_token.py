"""How long the first token takes: Rivulet and LlamaIndex, with the same weights and passages.

    python -m benchmarks.first_token --data FOLDER [--rounds N] [--llamacpp THREADS]

Of the model alone: a prompt of some 900 tokens; the same while it is typed, so that Rivulet has
read what there was of it. Of the whole way: the first question and the third turn of a conversation
about passages of SQuAD, as each does it by itself: LlamaIndex condenses by the model and gives it
four passages, Rivulet does neither with a model of this size. llama.cpp is a model alone.
"""

import argparse
import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from benchmarks import record, spread, takes_data
from benchmarks.decoding import llamacpp
from benchmarks.retrieval import PEERS, machine, peer_python, weights
from rag.answering.engine import answer_as_set
from rag.answering.prompts import TEXT_QA
from rag.answering.vector_store_index import VectorStoreIndex
from rag.config import DEFAULT_EMBED_MODEL, DEFAULT_MODEL, Config
from rag.evaluation.files import read_corpus
from rag.index.embedding import remembered
from rag.index.embedding_huggingface import HuggingFaceEmbedding
from rag.llms.huggingface import HuggingFaceLLM
from rag.types import ChatMessage, Document

PEER = Path(__file__).with_name("llamaindex_chat.py")
TALKS = (
    ("Who were the Normans?", "Where did they come from?", "When did they arrive in England?"),
    ("What does the Rhine flow through?", "Where does it begin?", "How long is it?"),
    ("What is a steam engine?", "Who improved it?", "What is it used for today?"),
    ("What did Luther translate?", "When was that?", "Where did he do it?"),
    ("What is oxygen used for?", "Who discovered it?", "How is it made?"),
)
COLUMNS = ("900 tokens", "900 tokens, typed", "first question", "third turn")


@contextmanager
def peer(passages: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    models = [str(weights(DEFAULT_EMBED_MODEL)), str(weights(DEFAULT_MODEL))]
    with subprocess.Popen(
        [str(peer_python()), str(PEER), *models],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        ask(process, passages, expect="ready")
        yield process
        assert process.stdin
        process.stdin.close()


def ask(process: "subprocess.Popen[str]", said: object, expect: str = "") -> list[float]:
    assert process.stdin
    assert process.stdout
    process.stdin.write(json.dumps(said) + "\n")
    process.stdin.flush()
    line = process.stdout.readline().strip()
    if expect:
        assert line == expect, line
        return []
    return [float(each) for each in json.loads(line)]


class Ours:
    """Rivulet's side, as the page has it."""

    def __init__(self, passages: Sequence[str]):
        self.config = Config(max_new_tokens=48)
        self.llm = HuggingFaceLLM()
        self.embedding = HuggingFaceEmbedding()
        documents = [Document(text, {"file_name": f"{n}.txt"}) for n, text in enumerate(passages)]
        index = VectorStoreIndex.from_documents(documents, embed_model=self.embedding)
        self.retriever = index.as_retriever(similarity_top_k=self.config.top_k)

    def forget(self) -> None:
        self.llm.forget()
        remembered.cache_clear()

    def prompt(self, text: str, typed: str = "") -> float:
        """Seconds until the first token of the answer to `text`, of which `typed` was read."""
        self.forget()
        if typed:
            self.llm.prefill([ChatMessage("user", typed)])
            while self.llm._batch and self.llm._batch._thread:
                time.sleep(0.01)
        begun = time.perf_counter()
        with closing(self.llm.stream([ChatMessage("user", text)], max_tokens=48)) as stream:
            next(piece for piece in stream if piece and isinstance(piece, str))
            return time.perf_counter() - begun

    def talk(self, questions: Sequence[str]) -> list[float]:
        """Seconds until the first token of each answer."""
        self.forget()
        history: list[ChatMessage] = []
        times = []
        for question in questions:
            begun, first, said = time.perf_counter(), 0.0, ""
            for event in answer_as_set(
                question,
                self.retriever,
                self.llm,
                self.config,
                self.embedding,
                history=history,
            ):
                if event and isinstance(event, str):
                    first = first or time.perf_counter() - begun
                    said += event
            times.append(first)
            history += [ChatMessage("user", question), ChatMessage("assistant", said, "stop")]
        return times


def prompt(passages: Sequence[str], number: int) -> tuple[str, str]:
    """Some 900 tokens, and what there is of them once half of the question is typed."""
    context = "\n\n".join(passages[5 * number : 5 * number + 5])
    question = "What is the most important thing that is said here about the people in it?"
    whole = TEXT_QA.format(context_str=context, query_str=question)
    return whole, TEXT_QA.format(context_str=context, query_str=question[: len(question) // 2])


def main() -> None:
    parser = argparse.ArgumentParser(description="How long the first token takes.")
    takes_data(parser)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--llamacpp", type=int, default=2, metavar="THREADS")
    asked = parser.parse_args()
    passages = [entry.text for entry in read_corpus(asked.data / "squad" / "corpus.jsonl")]
    told = machine(*PEERS)
    rows: dict[str, list[list[float]]] = {"LlamaIndex": [], "Rivulet": []}
    alone: list[float] = []
    ours = Ours(passages)
    ours.talk(TALKS[0])
    with peer(passages) as process, llamacpp(ours.llm, asked.llamacpp, 2) as write:
        ask(process, TALKS[0])
        for number in range(asked.rounds):
            whole, half = prompt(passages, number)
            talk = TALKS[number % len(TALKS)]
            alone.append(write([whole])[0].first)
            (first,) = ask(process, whole)
            theirs = ask(process, talk)
            rows["LlamaIndex"].append([first, first, theirs[0], theirs[2]])
            times = ours.talk(talk)
            rows["Rivulet"].append(
                [ours.prompt(whole), ours.prompt(whole, half), times[0], times[2]]
            )
    lines = [told, "", f"| seconds | {' | '.join(COLUMNS)} |"]
    lines.append(f"| --- | {' | '.join('---' for _ in COLUMNS)} |")
    ratios = [
        [own / other for own, other in zip(mine, theirs, strict=True)]
        for mine, theirs in zip(rows["Rivulet"], rows["LlamaIndex"], strict=True)
    ]
    for name, runs in {**rows, "Rivulet / LlamaIndex": ratios}.items():
        lines.append(f"| {name} | {' | '.join(map(spread, zip(*runs, strict=True)))} |")
    lines.append(f"| llama.cpp, threads: {asked.llamacpp} | {spread(alone)} | | | |")
    record("first_token", "\n".join(lines), asked.rounds)


if __name__ == "__main__":
    main()
