"""Rivulet in a terminal: `python -m rag ask "question" --docs PATH`, `python -m rag chat`.

The answer goes to the standard output as it arrives; what is being done goes to the standard
error, so that an answer can be piped. Knows nothing of the page.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import closing, suppress
from typing import get_args

from rag.answering.chat_engine import ChatEngine
from rag.answering.events import ENDINGS, Events, Status
from rag.answering.postprocessing import best_only
from rag.answering.response import Response
from rag.answering.vector_store_index import VectorStoreIndex
from rag.config import Config, ResponseMode
from rag.documents.reader import SimpleDirectoryReader
from rag.errors import RivuletError
from rag.llms.catalog import load
from rag.types import Reasoning


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit status: 0, or 1 with one line on the standard error."""
    try:
        config = Config.from_env()
        options = _options(config, arguments)
        engine = _engine(config, options)
        if options.command == "chat":
            _chat(engine)
        else:
            _show(engine.events(options.question))
    except BrokenPipeError:  # whoever read has read enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        _say("Stopped.")
        return 1
    except (RivuletError, NotImplementedError, ValueError) as error:
        _say(str(error))
        return 1
    return 0


def _engine(config: Config, options: argparse.Namespace) -> ChatEngine:
    """A conversation over the documents of the command line."""
    documents = [
        document
        for path in options.docs
        for document in SimpleDirectoryReader(
            path, recursive=True, read_timeout=config.read_timeout
        ).load_data()
    ]
    index = VectorStoreIndex.from_documents(
        documents, storage_dir=options.storage_dir, show_progress=sys.stderr.isatty()
    )
    there = {document.id_ for document in documents}
    for stored in index.documents:  # of an earlier time, from a file that is no more
        if stored.id_ not in there:
            index.delete(stored.id_)
    llm = load(
        options.model, config, lambda doing, done: _say(f"{doing}, {done:.0%}", passing=True)
    )
    # Who states a number of passages gets it.
    spare = llm.is_small and options.mode == "compact" and options.top_k is None
    return index.as_chat_engine(
        llm,
        config.top_k if options.top_k is None else options.top_k,
        options.mode,
        [best_only] if spare else [],
        max_tokens=config.max_new_tokens,
    )


def _chat(engine: ChatEngine) -> None:
    """Answer line by line until the input ends; an error or Ctrl-C ends only its answer."""
    with suppress(ImportError):
        import readline  # noqa: F401 - gives `input` its editing and its history
    prompt = "> " if sys.stdin.isatty() else ""
    while True:
        try:
            message = input(prompt)
        except EOFError:
            return
        if message.strip():
            try:
                _show(engine.events(message))
            except (RivuletError, NotImplementedError) as error:
                _say(str(error))


def _show(events: Events) -> None:
    """Print the answer as it comes, then how it ended and its sources."""
    response = Response()
    try:
        with closing(events):
            for event in events:
                response.take(event)
                match event:
                    case str(text):
                        if text:
                            _say("", passing=True)
                            print(text, end="", flush=True)
                    case Status(text):
                        _say(text, passing=True)
                    case Reasoning():
                        _say("Thinking", passing=True)
    except KeyboardInterrupt:
        response.finish_reason = "stopped"
    finally:
        _say("", passing=True)
        if response.response:
            print(flush=True)
    if response.searched_for:
        _say(f"(searched for: {response.searched_for})")
    if response.finish_reason in ENDINGS:
        _say(f"({ENDINGS[response.finish_reason]})")
    if response.source_nodes:
        print(f"\n{response.get_formatted_sources()}\n", flush=True)


def _say(text: str, *, passing: bool = False) -> None:
    """A line for the person; one that is `passing` gives way to the next, or is not shown where
    that is not possible."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="" if passing else "\n", file=sys.stderr, flush=True)
    elif not passing:
        print(text, file=sys.stderr, flush=True)


def _options(config: Config, arguments: Sequence[str] | None) -> argparse.Namespace:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--docs", action="append", required=True, metavar="PATH", help="file or folder; repeatable"
    )
    shared.add_argument(
        "--model", default=config.model, metavar="ID", help="Hub id, folder or openai:NAME"
    )
    shared.add_argument(
        "--top-k", type=int, metavar="N", help=f"passages that are searched ({config.top_k})"
    )
    shared.add_argument(
        "--mode",
        choices=get_args(ResponseMode),
        default=config.response_mode,
        help="how an answer is made of them (%(default)s)",
    )
    shared.add_argument(
        "--storage-dir", metavar="FOLDER", help="keep the index there, for the next time"
    )
    parser = argparse.ArgumentParser("python -m rag", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    ask = commands.add_parser("ask", parents=[shared], help="answer one question")
    ask.add_argument("question")
    commands.add_parser("chat", parents=[shared], help="answer in a conversation")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
