"""The app as `app.py` makes it, for `benchmarks.load`: its model says what can be foreseen.

    python -m benchmarks.load_app DATA_DIR TOKENS SPEED FIRST

All else comes from the environment, as for the app itself; RAG_EMBED_MODEL=hash embeds by hashed
words, so that no weights are needed.
"""

import dataclasses
import random
import re
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

WORDS = (
    *("river", "carries", "what", "it", "is", "given", "down", "to", "the", "sea", "and", "keeps"),
    *("nothing", "of", "but", "sand", "which", "every", "spring", "moves", "on", "while", "herons"),
    *("stand", "in", "its", "shallows", "waiting", "for", "fish", "that", "never", "come"),
)
IN_A_SENTENCE = 12
SECTIONS = ("harbour", "orchard", "chapel", "quarry", "meadow", "lighthouse")
"""Of each document; each has a code word of its own, and is a passage."""


def question(reader: str, number: int) -> str:
    """The `number`-th question of a reader: each other than all others."""
    return f"Question {number}: what is the code word of the {_section(number)} of {reader}?"


def _section(number: int) -> str:
    return SECTIONS[number % len(SECTIONS)]


def code_word(reader: str, number: int) -> str:
    """What the document says to the `number`-th question."""
    section = _section(number)
    letters = random.Random(f"{reader} {section}").choices("bcdfghklmnprstvwz", k=8)
    return "".join(letters)


def document(reader: str) -> str:
    """What a reader uploads, in Markdown."""
    parts = []
    for number, section in enumerate(SECTIONS):
        told = " ".join(_sentences(f"{reader} {section}", 90))
        name = f"{section} of {reader}"
        word = code_word(reader, number)
        parts.append(f"## The {name}\n\nThe code word of the {name} is {word}. {told}\n")
    return "\n".join(parts)


def answer(reader: str, number: int, word: str, tokens: int) -> str:
    """What the model says: the code word of the passage, then sentences that no other answer
    has."""
    first = f"The code word of the {_section(number)} of {reader} is {word}."
    rest = _sentences(f"{reader}/{number}", tokens - len(first.split()))
    blocks = [[first, *rest[:3]], *(rest[n : n + 4] for n in range(3, len(rest), 4))]
    return "\n\n".join(" ".join(block) for block in blocks)


def _sentences(seed: str, words: int) -> list[str]:
    chosen = random.Random(seed).choices(WORDS, k=max(words, 0))
    lines = [chosen[n : n + IN_A_SENTENCE] for n in range(0, len(chosen), IN_A_SENTENCE)]
    return [f"{' '.join(line).capitalize()}." for line in lines]


_ASKED = re.compile(r"Question (\d+): what is the code word of the (\w+) of ([\w-]+)\?")


def script(prompt: str, tokens: int) -> str:
    """What the model says to a prompt: the answer, the question by itself, or further questions."""
    (number, section, reader) = _ASKED.findall(prompt)[-1]
    if "Write only the question." in prompt:
        return question(reader, int(number))
    if "Write three other short questions" in prompt:
        return "\n".join(f"What is told of the {each} of {reader}?" for each in SECTIONS[:3])
    found = re.search(rf"code word of the {section} of {reader} is (\w+)\.", prompt)
    return answer(reader, int(number), found[1] if found else "unknown", tokens)


def main(arguments: Sequence[str]) -> None:
    from rag.config import Config
    from rag.index.embedding import HashEmbedding
    from rag.llms.scripted import ScriptedLLM
    from rag.types import ChatMessage
    from rag.ui.backend import Backend
    from rag.ui.health import Health
    from rag.ui.page import build, launch
    from rag.ui.programs import Programs

    folder, tokens, speed, first = Path(arguments[0]), int(arguments[1]), *map(float, arguments[2:])
    config = dataclasses.replace(Config.from_env(), data_dir=folder, model="scripted")
    backend = Backend(config, HashEmbedding() if config.embed_model == "hash" else None)

    def says(messages: Sequence[ChatMessage]) -> str:
        llm.calls.clear()  # kept for tests; here they would be taken for what the app keeps
        llm.options.clear()
        return script(messages[-1].content, tokens)

    llm = ScriptedLLM(
        says,
        tokens_per_second=speed,
        first_token=first,
        max_tokens=config.max_new_tokens,
    )
    backend.catalog.put("scripted", llm)
    programs = Programs(backend)
    launch(build(programs), config, "127.0.0.1", health=Health(backend), programs=programs)
    backend.start()
    backend.settle()
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    stopped.wait()
    backend.close()


if __name__ == "__main__":
    main(sys.argv[1:])
