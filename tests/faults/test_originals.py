"""A process that is killed while a PDF takes the place of another never leaves one's text with the
other's pages."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rag.index.embedding import HashEmbedding
from rag.ui.sessions import Sessions
from tests.documents.makers import pdf

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="nothing kills there like this")

WORK = """
import os, signal, sys
from pathlib import Path
from rag.index import originals
from rag.index.embedding import HashEmbedding
from rag.index.ingestion import Searchable, ingest_file
from rag.ui.sessions import Sessions

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

folder, file, moment = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
if moment == "put in":
    originals.Originals.settle = die
sessions = Sessions(folder, "hash")
session = sessions.get("one")
with sessions.store(session) as store:
    for event in ingest_file(
        file, "a.pdf", store, HashEmbedding(), max_bytes=10**7, read_timeout=60,
        originals=session.originals,
    ):
        if moment == "searchable" and isinstance(event, Searchable):
            die()
sessions.close()
"""


@pytest.mark.parametrize(
    ("moment", "left"), [("searchable", "First"), ("put in", "Second"), ("never", "Second")]
)
def test_killed_while_a_pdf_is_replaced(tmp_path: Path, moment: str, left: str) -> None:
    contents = {text: pdf(text) for text in ("First", "Second")}
    for text, when in (("First", "never"), ("Second", moment)):
        (tmp_path / text).write_bytes(contents[text])
        command = [sys.executable, "-c", WORK, str(tmp_path / "s"), str(tmp_path / text), when]
        done = subprocess.run(command, cwd=Path(__file__).parents[2])
        assert done.returncode == (0 if when == "never" else -signal.SIGKILL)
    sessions = Sessions(tmp_path / "s", HashEmbedding.name)
    session = sessions.get("one")
    (record,) = sessions.documents(session)
    with sessions.store(session) as store:
        assert [node.text for node in store.nodes(record.id_)] == [left]
    file = session.originals.of(record)
    assert file
    assert file.read_bytes() == contents[left]
    assert list((session.folder / "originals").iterdir()) == [file]
    sessions.close()
