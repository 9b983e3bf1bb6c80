"""The log: its lines, and what is not in them."""

import json
import logging
import sys

import pytest

from rag.config import Config
from rag.errors import ModelError
from rag.logs import SERVERS, Formatter, adopt_servers, set_up

SECRETS = Config(openai_api_key="sk-planted", chroma_token="tok-planted", auth=(("ann", "plum"),))


def line(config: Config, message: str, *values: object, error: bool = False) -> str:
    info = sys.exc_info() if error else None
    record = logging.LogRecord("rag.x", logging.INFO, "x.py", 1, message, values, info)
    return Formatter(config).format(record)


def test_a_line_for_people_and_one_for_programs() -> None:
    assert line(Config(), "Read %s", "a.txt") == "INFO Read a.txt"
    told = json.loads(line(Config(log="json"), "Read %s", "a.txt"))
    assert told.pop("time").endswith("+00:00")
    assert told == {"level": "info", "logger": "rag.x", "message": "Read a.txt"}


@pytest.mark.parametrize("log", ["text", "json"])
def test_keys_and_passwords_are_not_in_it(log: str) -> None:
    config = Config(
        log=log,  # type: ignore[arg-type]
        openai_api_key=SECRETS.openai_api_key,
        chroma_token=SECRETS.chroma_token,
        auth=SECRETS.auth,
    )
    try:
        raise ModelError("The key sk-planted is wrong")
    except ModelError:
        told = line(config, "With sk-planted, %s and plum", "tok-planted", error=True)
    assert "planted" not in told
    assert "plum" not in told
    assert told.count("***") >= 4


@pytest.mark.parametrize("log", ["text", "json"])
def test_what_an_error_quotes_is_not_in_it_unless_asked(log: str) -> None:
    said = "what a document says", "what a person asks"  # not in the lines of the traceback

    def told(**settings: bool) -> str:
        try:
            try:
                raise KeyError(said[0])
            except KeyError as error:
                raise ValueError(said[1]) from error
        except ValueError:
            return line(Config(log=log, **settings), "Error 1", error=True)  # type: ignore[arg-type]

    assert "what a" not in told()
    assert "builtins.KeyError" in told()
    assert "builtins.ValueError" in told()
    assert "ValueError: what a person asks" in told(log_text=True)


def test_the_name_of_a_file_is_not_another_event() -> None:
    told = line(Config(), "Rejected %s", "a\nINFO All is well\x1b[2J\x9b")
    assert "\n" not in told
    assert told == "INFO Rejected a\\x0aINFO All is well\\x1b[2J\\x9b"
    assert len(line(Config(log="json"), "Rejected %s", "a\nb").splitlines()) == 1


def test_all_that_is_logged_is_written_so(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        set_up(Config(log="json"))
        for name in SERVERS:
            logging.getLogger(name).addHandler(logging.StreamHandler())
        adopt_servers()
        logging.getLogger("uvicorn.error").warning("From the server")
        logging.getLogger("httpx").info("Too much")
    finally:
        root.handlers[:], root.level = before
    lines = capsys.readouterr().err.splitlines()
    assert [json.loads(each)["message"] for each in lines] == ["From the server"]
