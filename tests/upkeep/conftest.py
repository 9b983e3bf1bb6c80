"""A data folder as the page leaves it."""

from pathlib import Path

import pytest

from rag.config import VARIABLES, Config
from rag.index.embedding import HashEmbedding
from rag.index.ingestion import ingest_file
from rag.ui.conversations import Answer, Turn
from rag.ui.jobs import Job
from rag.ui.sessions import Session, Sessions
from tests.documents.makers import pdf

WHO = ("one", "two")


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of this machine's; the embedding model is that of the folder."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAG_EMBED_MODEL", "hash")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(embed_model="hash", data_dir=tmp_path / "data")


@pytest.fixture
def folders(config: Config, tmp_path: Path) -> list[Path]:
    """Two sessions with a PDF, a conversation, settings and a file on its way each."""
    sessions = Sessions(config.data_dir / "sessions", "hash")
    made = []
    for who in WHO:
        session = sessions.get(who)
        file = tmp_path / f"{who}.pdf"
        file.write_bytes(pdf(f"The pears of {who} are in the cellar."))
        with sessions.store(session) as store:
            list(
                ingest_file(
                    *(file, file.name, store, HashEmbedding()),
                    max_bytes=10**7,
                    read_timeout=60,
                    originals=session.originals,
                )
            )
        conversation = session.begin()
        conversation.turns.append(Turn(f"Where are {who}'s pears?", [Answer(text="There.")]))
        session.keep(conversation)
        session.prefer(session.preferences)
        Job.of_file(session.incoming, file, f"next of {who}.pdf")
        made.append(session.folder)
    sessions.close()
    (config.data_dir / "feedback.jsonl").write_text('{"rating": 1}\n')
    return made


def kept(config: Config, who: str) -> tuple[list[str], list[str], list[str], bool]:
    """What a session has: the texts that are found, the names of its conversations, the files on
    their way, and whether the original of its PDF is there."""
    sessions = Sessions(config.data_dir / "sessions", "hash")
    session: Session = sessions.get(who)
    texts, originals = [], []
    for record in sessions.documents(session):
        with sessions.store(session) as store:
            texts += [
                hit.text for hit in store.query(HashEmbedding().embed_query("pears").vector, 9)
            ]
        originals.append(session.originals.of(record))
    names = [entry.name for entry in session.conversations]
    jobs = [job.name for job in session.jobs]
    sessions.close()
    return texts, names, jobs, bool(originals) and all(originals)
