"""How fast the default model answers many at once: Rivulet, llama.cpp and LlamaIndex.

    python -m benchmarks.concurrency [--at-once 8] [--rounds N] [--no-peer]

In each round the same prompts are answered one after another, then all at once. LlamaIndex, whose
answers hinder each other, writes fewer tokens of each: with 64, a round took seven minutes on a
machine that had other work. What a prompt costs then weighs more in its rate, by some 5 %.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from benchmarks import record, spread
from benchmarks.decoding import TOKENS, TOPICS, Run, Writer, peers, writer
from benchmarks.retrieval import PEERS, machine
from rag.llms.huggingface import HuggingFaceLLM


def prompt(topic: str, turn: int) -> str:
    return f"This is question {turn}. Write a long story about a {topic}."


def measure(writers: dict[str, Writer], at_once: int, rounds: int) -> str:
    for write in writers.values():
        write([prompt("moon", 0)])
    lines = [
        f"|  | tokens/s, one at a time | {at_once} at once | times as many "
        "| last first token, s: one at a time | at once |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    found: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in writers}
    for turn in range(rounds):
        prompts = [prompt(topic, turn) for topic in TOPICS[:at_once]]
        for name, write in writers.items():
            begun = time.perf_counter()
            alone: list[Run] = []
            last_first = 0.0
            for each in prompts:
                before = time.perf_counter() - begun
                alone += write([each])
                last_first = before + alone[-1].first
            one = sum(run.tokens for run in alone) / (time.perf_counter() - begun)
            begun = time.perf_counter()
            together = write(prompts)
            all_ = sum(run.tokens for run in together) / (time.perf_counter() - begun)
            found[name].append((one, all_, last_first, max(run.first for run in together)))
    for name, own in found.items():
        columns: Sequence[Callable[[tuple[float, float, float, float]], float]] = (
            lambda each: each[0],
            lambda each: each[1],
            lambda each: each[1] / each[0],
            lambda each: each[2],
            lambda each: each[3],
        )
        cells = (spread([column(each) for each in own], ".1f") for column in columns)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.concurrency", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=TOKENS, help="of each answer")
    parser.add_argument(
        "--llamaindex-tokens", type=int, default=16, help="the same of LlamaIndex's"
    )
    parser.add_argument("--llamacpp", type=int, nargs="*", default=[1, 2], metavar="THREADS")
    parser.add_argument("--no-peer", action="store_true", help="leave LlamaIndex and llama.cpp out")
    options = parser.parse_args()
    shown = () if options.no_peer else PEERS
    told = machine(*shown)
    llm = HuggingFaceLLM()
    writers = {"Rivulet": writer(llm, options.tokens)}
    with ExitStack() as stack:
        if not options.no_peer:
            for name, peer in peers(
                llm, options.llamacpp, options.tokens, options.llamaindex_tokens
            ).items():
                writers[name] = stack.enter_context(peer)
        table = measure(writers, options.at_once, options.rounds)
    record("concurrency", f"{told}\n\n{table}", 0 if options.no_peer else options.rounds)


if __name__ == "__main__":
    main()
