"""A question's way through a terminal.

The answer goes to the standard output as it arrives, and its sources after it; what is being done
goes to the standard error, so that an answer can be piped. So do the figures of `eval`. Knows
nothing of the page.
"""

import argparse
import io
import json
import logging
import shutil
import sys
from collections.abc import Iterable
from contextlib import closing, nullcontext, suppress
from dataclasses import replace
from pathlib import Path

from rag.answering.defaults import Settings
from rag.answering.engine import load_rerank, searched, usual_postprocessors
from rag.answering.events import ENDINGS, Events, Status
from rag.answering.response import Response, formatted
from rag.answering.sentences import BestSentences
from rag.answering.vector_store_index import VectorStoreIndex
from rag.config import Config
from rag.documents.reader import SimpleDirectoryReader
from rag.errors import ConfigurationError, RivuletError
from rag.evaluation.files import read_corpus, read_questions
from rag.evaluation.measuring import measure_answers, measure_retrieval, put_in
from rag.index.mending import Finding, made_with, mend
from rag.index.reembedding import reembed
from rag.llms.catalog import load
from rag.types import Document, counted, harmless
from rag.upkeep.backup import backup, restore
from rag.upkeep.checking import Seen, check, told
from rag.upkeep.folder import held

CLEAR = "\r\x1b[K"
"""Takes back the line that is on the screen."""


def run(config: Config, options: argparse.Namespace) -> None:
    """Answer one question, or as many as are put, or measure how well that is done.

    Raises what reading, loading and models raise.
    """
    logger, screen = logging.getLogger("rag"), Screen()
    level = logger.level
    logger.addHandler(screen)
    logger.setLevel(logging.INFO)
    try:
        if options.command == "eval":
            evaluate(config, options, screen)
        elif options.command == "reembed":
            embed_again(config, options, screen)
        elif options.command in ("check", "backup", "restore"):
            keep_up(replace(config, data_dir=options.data_dir.expanduser()), options, screen)
        elif options.command == "chat":
            Terminal(config, options, screen).chat()
        else:
            Terminal(config, options, screen).ask(options.question)
    finally:
        screen.clear()
        logger.removeHandler(screen)
        logger.setLevel(level)


def evaluate(config: Config, options: argparse.Namespace, screen: "Screen") -> None:
    """How well the questions of a file are answered, in figures on the standard output."""
    entries = read_corpus(Path(options.corpus))
    questions = read_questions(Path(options.questions), {entry.id_ for entry in entries})
    questions = questions[: options.limit]
    searched = sum(question.is_searchable for question in questions)
    if not (searched or options.answers):
        raise ConfigurationError(
            f"There is nothing to measure: no question that was read of {options.questions} names "
            f"what answers it."
        )

    def report(doing: str, done: float) -> None:
        screen.passing(f"{doing}, {done:.0%}")

    index = VectorStoreIndex(storage_dir=options.storage_dir)
    put_in(index, entries, report)
    figures = measure_retrieval(index, questions, options.retriever, report)
    if options.answers:
        llm = load(options.model, config, report)
        rerank = load_rerank(config, report)
        figures |= measure_answers(index, questions, options.retriever, llm, config, report, rerank)
    unanswerable = sum(not question.is_answerable for question in questions)
    screen.clear()
    if options.json:
        counts = {"entries": len(entries), "questions": len(questions)}
        print(json.dumps(figures | counts | {"unanswerable": unanswerable}), flush=True)
        return
    screen.say(f"{counted(len(questions), 'question')}, {unanswerable:,} without an answer")
    for name, figure in figures.items():
        print(f"{name} {figure:.3f}", flush=True)


def embed_again(config: Config, options: argparse.Namespace, screen: "Screen") -> None:
    """Embed the indexes of the page, or one of its own folder, with the model that is set."""
    if options.storage_dir:
        folders = [Path(options.storage_dir).expanduser()]
        if not folders[0].is_dir():
            raise ConfigurationError(f"There is no folder {folders[0]}. Check the path.")
    else:
        folders = sorted((config.data_dir / "sessions").glob("*/chroma"))
    passages = 0
    embed_model = Settings.embed_model
    with nullcontext() if options.storage_dir else held(config.data_dir):
        for number, folder in enumerate(folders, 1):
            done = 0
            for done, total in reembed(folder, embed_model):
                screen.passing(f"Index {number} of {len(folders)}: {done:,} of {total:,} passages")
            passages += done
    screen.say(f"{counted(passages, 'passage')} embedded again with {embed_model.name}.")


def keep_up(config: Config, options: argparse.Namespace, screen: "Screen") -> None:
    """Look over the data folder, copy it, or bring a copy back. Raises RivuletError where something
    is left to be done."""
    if options.command == "check" and options.storage_dir:
        folder = Path(options.storage_dir).expanduser()
        if not folder.is_dir():
            raise ConfigurationError(f"There is no folder {folder}. Check the path.")
        findings = told(mend(folder, made_with(folder) or Settings.embed_model.name))
        _say_what(((folder.name, each) for each in findings), screen)
        return
    if options.command != "restore" and not config.data_dir.is_dir():
        raise ConfigurationError(f"There is no folder {config.data_dir}. Check the path.")
    with held(config.data_dir):
        if options.command == "check":
            _check(config, screen)
        elif options.command == "backup":
            number = backup(config.data_dir, options.file)
            screen.say(f"{counted(number, 'file')} copied to {options.file}.")
            if config.chroma_url:
                screen.say(f"Back up the Chroma server at {config.chroma_url} as well.")
        else:
            number = restore(config.data_dir, options.file)
            screen.say(f"{counted(number, 'file')} brought back into {config.data_dir}.")


def _check(config: Config, screen: "Screen") -> None:
    seen = Seen()
    found = ((place.relative_to(config.data_dir), each) for place, each in check(config, seen))
    _say_what(found, screen, seen)


def _say_what(
    found: Iterable[tuple[Path | str, Finding]], screen: "Screen", seen: Seen | None = None
) -> None:
    """Print what was found, and where. Raises RivuletError where something is left to be done."""
    mended = left = 0
    for place, finding in found:
        mended += finding.mended
        left += not finding.mended
        screen.clear()
        did = "mended" if finding.mended else "to do "
        print(f"{did}  {harmless(f'{place}: {finding.what}')}", flush=True)
    if seen:
        _say_how_much(seen, screen)
    if left:
        raise RivuletError(f"{counted(left, 'thing')} to do, {mended:,} mended.")
    screen.say(f"{counted(mended, 'thing')} mended." if mended else "All is in order.")


def _say_how_much(seen: Seen, screen: "Screen") -> None:
    looked_over = ", ".join(
        counted(number, noun)
        for number, noun in (
            (seen.sessions, "session"),
            (seen.documents, "document"),
            (seen.conversations, "conversation"),
        )
    )
    screen.say(f"Looked over: {looked_over}.")
    if seen.waiting:
        screen.say(f"{counted(seen.waiting, 'file')} on the way in, offered again on the page.")


class Terminal:
    """One conversation over the documents that `options` names (`rag.__main__`)."""

    def __init__(self, config: Config, options: argparse.Namespace, screen: "Screen"):
        self._screen = screen
        documents: list[Document] = []
        for path in options.docs:
            self._screen.passing(f"Reading {path}")
            reader = SimpleDirectoryReader(path, recursive=True, read_timeout=config.read_timeout)
            documents += reader.load_data()
        self._screen.clear()
        index = VectorStoreIndex.from_documents(
            documents, storage_dir=options.storage_dir, show_progress=sys.stderr.isatty()
        )
        llm = load(options.model, config, self._report)
        config = replace(config, response_mode=options.mode, top_k=options.top_k or config.top_k)
        usual = usual_postprocessors(
            llm, config, index.embed_model, load_rerank(config, self._report)
        )
        if options.top_k:  # who states a number of passages gets it
            usual = [each for each in usual if not isinstance(each, BestSentences)]
        self._engine = index.as_chat_engine(
            llm, searched(config), options.mode, usual, max_tokens=config.max_new_tokens
        )
        self._screen.clear()

    def ask(self, question: str) -> None:
        """Answer one question. Ctrl-C ends the answer and keeps what came."""
        self._show(self._engine.events(question))

    def chat(self) -> None:
        """Answer line by line until the input ends. An error ends only its answer, and so does
        Ctrl-C; while a line is waited for, it ends the conversation."""
        with suppress(ImportError):
            import readline  # noqa: F401 - gives `input` its editing and its history
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(errors="replace")
        prompt = "> " if sys.stdin.isatty() else ""
        if prompt:
            self._screen.say("Ctrl-C stops an answer, Ctrl-D ends the conversation.")
        while True:
            try:
                message = input(prompt)
            except (EOFError, KeyboardInterrupt):
                if prompt:
                    self._screen.say("")
                return
            if message.strip():
                try:
                    self.ask(message)
                except (RivuletError, NotImplementedError) as error:
                    self._screen.say(str(error))

    def _show(self, events: Events) -> None:
        response = Response()
        try:
            with closing(events):
                for event in events:
                    response.take(event)
                    match event:
                        case str(text):
                            self._screen.write(text)
                        case Status():
                            self._screen.passing(str(event))
        except KeyboardInterrupt:
            response.finish_reason = "stopped"
        finally:
            self._screen.end_line()
        if response.searched_for:
            self._screen.say(f"(searched for: {response.searched_for})")
        if response.finish_reason in ENDINGS:
            self._screen.say(f"({ENDINGS[response.finish_reason]})")
        if response.citations:
            print(f"\n{harmless(response.get_formatted_citations())}", flush=True)
        if nearest := response.source_nodes or response.other_nodes:
            print(f"\n{harmless(formatted(nearest))}\n", flush=True)

    def _report(self, doing: str, done: float) -> None:
        self._screen.passing(f"{doing}, {done:.0%}")


class Screen(logging.Handler):
    """The answer on the standard output, and beside it, on the standard error, what is said.

    A passing line gives way to whatever comes next. It is shown only in a terminal, and there not
    in the middle of an answer, whose line it would take back. What is logged is said: warnings
    to stay, the rest in passing.
    """

    def __init__(self) -> None:
        super().__init__()
        self._passing = self._writing = False

    def emit(self, record: logging.LogRecord) -> None:
        show = self.say if record.levelno >= logging.WARNING else self.passing
        show(record.getMessage())

    def write(self, text: str) -> None:
        """A piece of the answer."""
        if text:
            self.clear()
            self._writing = True
            print(harmless(text), end="", flush=True)

    def end_line(self) -> None:
        """The end of the answer."""
        self.clear()
        if self._writing:
            print(flush=True)
        self._writing = False

    def passing(self, text: str) -> None:
        if sys.stderr.isatty() and not (self._writing and sys.stdout.isatty()):
            self._passing = True
            width = shutil.get_terminal_size().columns - 1  # one line can be taken back
            print(f"{CLEAR}{harmless(text)[:width]}", end="", file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        self.clear()
        print(harmless(text), file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._passing:
            self._passing = False
            print(CLEAR, end="", file=sys.stderr, flush=True)
