"""Side-by-side measurements: `python -m benchmarks.NAME`. The latest are in RESULTS.md."""

import socket
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from statistics import median


def takes_data(parser: ArgumentParser) -> None:
    """Adds `--data`, the one way by which a measurement gets its passages and questions."""
    says = "has squad/ and cranfield/, each with corpus.jsonl and questions.jsonl"
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help=says)


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """The median of `values`, with the least and the most."""
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


RESULTS = Path(__file__).with_name("RESULTS.md")
ROUNDS = 5
"""The fewest of which a median is written down."""


def record(name: str, text: str, rounds: int = ROUNDS) -> None:
    """Print what was measured; of enough rounds it is also written into RESULTS.md, in the place of
    the last one: between the marks of `name`. What is said around them is left.

    Raises ValueError where there are no such marks.
    """
    print(text)
    if rounds < ROUNDS:
        return
    begin, end = f"<!-- {name} -->\n", "<!-- end -->"
    before, mark, after = RESULTS.read_text("utf-8").partition(begin)
    _, ended, rest = after.partition(end)
    if not (mark and ended):
        raise ValueError(f"RESULTS.md has no place for {name}.")
    RESULTS.write_text(f"{before}{begin}\n{text.strip()}\n\n{end}{rest}", "utf-8")


def free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {site}
}}
"""
"""All of nginx but its site: without rights, with all that it writes in one folder."""
