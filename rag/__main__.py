"""Rivulet in a terminal: `python -m rag ask "question" --docs PATH`, `chat`, `eval`; `check`,
`backup` and `restore` of the data folder.

Reads the arguments; `rag.terminal` does the rest, and is loaded when they are understood.
"""

import argparse
import getpass
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, get_args

from rag.config import (
    Config,
    ResponseMode,
    RetrieverMode,
    as_argument,
    parse_model,
    parse_positive,
)
from rag.errors import ConfigurationError, RivuletError
from rag.passwords import hashed
from rag.types import harmless


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit status: 0, or 1 with one line on the standard error."""
    try:
        config = Config.from_env()
        options = _options(config, arguments)
        if options.command == "password":
            print(_password_line(options.user))
            return 0
        from rag.terminal import run

        run(config, options)
    except KeyboardInterrupt:
        return _failed("Stopped.")
    except BrokenPipeError:  # whoever read has read enough, as `head` does
        _silence()
    except OSError as error:
        _silence()
        return _failed(f"The answer cannot be written: {error.strerror}.")
    except (RivuletError, NotImplementedError, ValueError) as error:
        return _failed(str(error))
    return 0


def _password_line(user: str) -> str:
    """A line for `--auth-file`. The password is asked for, or read from a pipe: as an argument it
    would be in the list of processes and in the shell's history."""
    if not user.strip() or ":" in user:
        raise ConfigurationError("A user's name has to have letters, and no colon.")
    asks = sys.stdin.isatty()
    password = getpass.getpass() if asks else sys.stdin.readline().rstrip("\n")
    if asks and getpass.getpass("Again: ") != password:
        raise ConfigurationError("The two are not the same.")
    if not password:
        raise ConfigurationError("The password is empty.")
    return f"{user.strip()}:{hashed(password)}"


def _failed(why: str) -> int:
    print(harmless(why), file=sys.stderr)
    return 1


def _silence() -> None:
    """What is still to be printed goes nowhere: Python would fail on it once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigurationError(f"{message[:1].upper()}{message[1:]}. See {self.prog} --help.")


def _options(config: Config, arguments: Sequence[str] | None) -> argparse.Namespace:
    asking = _Parser(add_help=False)
    asking.add_argument(
        "--docs",
        action="append",
        default=[],
        metavar="PATH",
        help="file or folder to ask about; can be given several times",
    )
    asking.add_argument(
        "--storage-dir",
        metavar="FOLDER",
        help="keep the index in this folder; without --docs, ask about what is in it",
    )
    model = _Parser(add_help=False)
    model.add_argument(
        "--model",
        type=as_argument(parse_model),
        default=config.model,
        metavar="ID",
        help="Hub id, local folder or openai:NAME (%(default)s)",
    )
    asking.add_argument(
        "--top-k",
        type=as_argument(parse_positive),
        metavar="N",
        help=f"passages that are searched ({config.top_k})",
    )
    asking.add_argument(
        "--mode",
        choices=get_args(ResponseMode),
        default=config.response_mode,
        help="how an answer is made of them (%(default)s)",
    )
    parser = _Parser("python -m rag", description="Ask your documents in a terminal.")
    commands = parser.add_subparsers(dest="command", required=True)
    ask = commands.add_parser("ask", parents=[asking, model], help="answer one question")
    ask.add_argument("question")
    commands.add_parser("chat", parents=[asking, model], help="answer in a conversation")
    _add_eval(commands.add_parser("eval", parents=[model], help="measure search and answers"))
    again = commands.add_parser("reembed", help="embed what is stored again, by the model now set")
    again.add_argument(
        "--storage-dir", metavar="FOLDER", help="the index in this folder, not those of the page"
    )
    password = commands.add_parser("password", help="make a line of a file of hashed passwords")
    password.add_argument("user", help="the user's name")
    _add_upkeep(commands, config)
    options = parser.parse_args(arguments)
    if options.command in ("ask", "chat") and not (options.docs or options.storage_dir):
        raise ConfigurationError("What shall be asked about? Name a file or folder by --docs.")
    if options.command == "ask" and not options.question.strip():
        raise ConfigurationError("The question is empty. Ask something.")
    return options


def _add_upkeep(commands: "argparse._SubParsersAction[_Parser]", config: Config) -> None:
    folder = _Parser(add_help=False)
    folder.add_argument(
        "--data-dir",
        type=Path,
        default=config.data_dir,
        metavar="FOLDER",
        help="folder of all data (%(default)s)",
    )
    check = commands.add_parser(
        "check", parents=[folder], help="look over the data folder and mend what can be mended"
    )
    check.add_argument(
        "--storage-dir", metavar="FOLDER", help="the index in this folder, not the data of the page"
    )
    for command, says in (
        ("backup", "copy what people have stored to a file"),
        ("restore", "bring it back into an empty data folder"),
    ):
        parser = commands.add_parser(command, parents=[folder], help=says)
        parser.add_argument("file", type=Path, metavar="FILE")


def _add_eval(parser: argparse.ArgumentParser) -> None:
    for name, lines in (("corpus", "texts"), ("questions", "questions about them")):
        parser.add_argument(
            f"--{name}", required=True, metavar="FILE", help=f"{lines}, as in docs/evaluation.md"
        )
    parser.add_argument(
        "--retriever",
        choices=get_args(RetrieverMode),
        default="hybrid",
        help="what is compared: vectors and words, vectors, words (%(default)s)",
    )
    parser.add_argument(
        "--limit", type=as_argument(parse_positive), metavar="N", help="the first N questions only"
    )
    parser.add_argument("--answers", action="store_true", help="let the model answer them, too")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object")
    parser.add_argument(
        "--storage-dir", metavar="FOLDER", help="keep the index of the corpus in this folder"
    )


if __name__ == "__main__":
    sys.exit(main())
