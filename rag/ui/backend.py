"""The parts behind the page: models, embedding, samples, sessions, and the intake of documents.

Knows nothing of gradio.
"""

import gc
import logging
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from rag.answering.engine import Postprocessor, load_rerank, searched
from rag.config import Config
from rag.documents.loading import ENDINGS
from rag.errors import DamagedIndexError, OutdatedIndexError, RivuletError, StoreError
from rag.index.chroma_server import ChromaServer
from rag.index.embedding import Embedding
from rag.index.ingestion import Ingested, Progress, Room, ingest_file
from rag.index.retrieval import VectorIndexRetriever
from rag.index.store import ChromaStore, StoredDocument, destroy
from rag.llms.catalog import Catalog, label
from rag.preparation import Preparation
from rag.types import Node, NodeWithScore
from rag.ui.disk import Disk
from rag.ui.guarding import as_line
from rag.ui.intake import Intake, Page
from rag.ui.jobs import Event
from rag.ui.language import english
from rag.ui.limits import full
from rag.ui.metrics import Metrics
from rag.ui.sessions import OPEN_STORES, UNUSED, Session, Sessions
from rag.ui.views import HERE, PageView, Place, Shelf, TextView, as_kept, draw, locate
from rag.weights import Report

logger = logging.getLogger(__name__)

DRAWN = 2
"""Pages that are drawn at the same time; each may take `isolation.MEMORY_LIMIT`."""
SAMPLES = Path(__file__).resolve().parents[2] / "data" / "samples"
NONE_CHOSEN = "No document is chosen to be searched. Choose some, or search in all."
GONE = "None of the chosen documents is here any more. Choose others, or search in all."


class Backend:
    """Nothing is loaded before `start`, which returns at once and works in the background."""

    def __init__(self, config: Config, embedding: Embedding | None = None):
        self.config = config
        self.metrics = Metrics()
        self.disk = Disk.of(config)
        self.catalog = Catalog(config)
        self.server = ChromaServer.of(config)
        self.sessions = Sessions(
            config.data_dir / "sessions",
            config.embed_model,
            self.server,
            # Who lets so many ask at once has the memory for their indexes.
            max(OPEN_STORES, config.max_answers),
        )
        self.intake = Intake(self._take_in, self._fetch, self.told)
        self.sample_files = sorted(f for f in SAMPLES.iterdir() if f.suffix in ENDINGS)
        self._closed = threading.Event()
        self._drawing = threading.Semaphore(DRAWN)
        self.embedding = Preparation(
            "the search model",
            lambda report: embedding or self._load_embedding(report),
        )
        self.samples = Preparation("the sample documents", self._ingest_samples)
        self.reranking = (
            Preparation("the re-ranking model", lambda report: load_rerank(config, report))
            if config.rerank_model
            else None
        )

    def start(self) -> None:
        self.embedding.start()
        self.samples.start()
        if self.reranking:
            self.reranking.start()
        self.catalog.prepare(self.config.model)
        self.refresh_models()
        threading.Thread(target=self._close_unused, name="close unused", daemon=True).start()
        if self.config.forget_after:
            threading.Thread(target=self._forget_idle, name="forget idle", daemon=True).start()

    def settle(self) -> None:
        """Wait until all is prepared, then have Python's collector of garbage leave alone what is
        there: it stays. Else each time that it goes through all of it, everything waits."""
        model = self.catalog.prepare(self.config.model, again=False)  # waiting is not asking
        for preparation in (*self._searching, model):
            preparation.wait()
        gc.collect()
        gc.freeze()

    def _close_unused(self) -> None:
        while not self._closed.wait(UNUSED / 2):
            self.sessions.close_unused()

    def _forget_idle(self) -> None:
        hours = self.config.forget_after or 0
        while not self._closed.wait(min(3600, hours * 360)):
            try:
                if number := self.sessions.forget_idle(hours):
                    logger.info("Removed what %d browsers had stored: not here for long", number)
            except RivuletError as error:
                logger.warning("What is idle could not be removed: %s", error)

    def refresh_models(self) -> None:
        """Ask the server for its models, in the background: it may have come up only now."""
        threading.Thread(target=self.catalog.refresh, name="list models", daemon=True).start()

    def close(self) -> None:
        """End what is going on; what was on its way in is offered again at the next start."""
        self._closed.set()
        self.intake.close()
        self.sessions.close()

    def told(self, error: Exception) -> str:
        """What a person is told of an error."""
        return as_line(error, self.config.strangers)

    @property
    def max_bytes(self) -> int:
        """Size limit of one file."""
        return self.config.max_file_mb * 1_000_000

    def sample_documents(self) -> list[StoredDocument]:
        """The records of the samples that can be searched already."""
        with suppress(StoreError):  # a search in them will tell
            return self.samples.result().documents() if self.samples.ready else []
        return []

    def retrieve(
        self,
        session: Session,
        scope: str,
        question: str,
        top_k: int | None = None,
        documents: Collection[str] = (),
    ) -> list[NodeWithScore]:
        """Search in "mine", "samples" or "all": the session's documents, the samples, both; in
        "chosen": those of both with the identities `documents`; in "none": nowhere.

        Finds so many passages that `top_k` are left (of the settings when None). Raises
        RivuletError where none of the chosen documents is there.
        """
        if scope == "none":
            return []
        with ExitStack() as stack:
            stores: list[ChromaStore] = []
            if scope != "samples" and self.sessions.has_documents(session):
                stores.append(stack.enter_context(self.sessions.store(session)))
            if scope != "mine":
                stores.append(self.samples.result())
            chosen = None
            if scope == "chosen":
                chosen = {doc.id_ for store in stores for doc in store.documents()} & set(documents)
                if not chosen:
                    raise RivuletError(GONE if documents else NONE_CHOSEN)
            return VectorIndexRetriever(
                stores, self.embedding.result(), searched(self.config, top_k), doc_ids=chosen
            ).retrieve(question)

    def view(
        self,
        session: Session,
        node: Node,
        begin: int = 0,
        end: int | None = None,
        place: Place = HERE,
    ) -> PageView | TextView:
        """The passage `node` in its place, its text from `begin` to `end` marked.

        Only what the session may see is looked at. Where the document is not there any more, or
        not as it was, or cannot be read, what was found of it is shown with a note that says so.
        """
        if end is None:
            end = len(node.text)
        try:
            with ExitStack() as stack:
                shelves: list[Shelf] = []
                if self.sessions.has_documents(session):
                    own = stack.enter_context(self.sessions.store(session))
                    shelves.append((own, session.originals.of))
                if self.samples.ready:
                    shelves.append((self.samples.result(), self._sample))
                found = locate(node, begin, end, place, shelves)
        except RivuletError as error:
            return as_kept(node, begin, end, self.told(error))
        if isinstance(found, TextView):
            return found
        with self._drawing:
            return draw(found)

    def _sample(self, record: StoredDocument) -> Path | None:
        return next((file for file in self.sample_files if file.name == record.name), None)

    @property
    def rerank(self) -> Postprocessor | None:
        """What puts the passages in order that were found, where a model for it is set."""
        return self.reranking.result() if self.reranking else None

    def waiting_for(self, model: str, scope: str = "all") -> Sequence[Preparation[Any]]:
        """What has to be ready before a question to `model` can be answered: the model last. What
        has failed is tried again."""
        searching: Sequence[Preparation[Any]] = () if scope == "none" else self._searching
        if scope == "mine":
            searching = [part for part in searching if part is not self.samples]
        for part in searching:
            part.again()
        return (*searching, self.catalog.prepare(model))

    def pending(self) -> Preparation[Any] | None:
        """What is being prepared, or could not be; None once all is ready."""
        model = self.catalog.prepare(self.config.model, again=False)  # looking is not asking
        return next((p for p in (model, *reversed(self._searching)) if not p.ready), None)

    @property
    def _searching(self) -> Sequence[Preparation[Any]]:
        parts = (self.embedding, self.samples, self.reranking)
        return [part for part in parts if part]

    def _take_in(self, session: Session, path: Path, name: str, url: str) -> Iterator[Event]:
        while not self.embedding.wait(0.2):
            yield Progress(name, "waiting for the search model")
        config = self.config
        if refusal := full(session, config):
            text, values = refusal
            raise RivuletError(english(text, **values))
        if reason := self.disk.refuses(0):
            raise RivuletError(reason)
        try:
            with self.sessions.store(session) as store:
                events = ingest_file(
                    path,
                    name,
                    store,
                    self.embedding.result(),
                    max_bytes=self.max_bytes,
                    read_timeout=self.config.read_timeout,
                    metadata={"url": url} if url else None,
                    originals=session.originals,
                    room=Room(config.max_pages, config.max_files, config.max_passages),
                )
                yield from self.metrics.ingesting(events)
        finally:
            with suppress(RivuletError):
                self.sessions.drop_empty(session)  # it was rejected or cancelled

    def _fetch(self, address: str, folder: Path) -> Page:
        from rag.documents.web import fetch

        timeout = self.config.read_timeout
        return fetch(address, folder, max_bytes=self.max_bytes, timeout=timeout)

    def _load_embedding(self, report: Report) -> Embedding:
        from rag.index.embedding_huggingface import HuggingFaceEmbedding

        return HuggingFaceEmbedding(
            self.config.embed_model, models_dir=self.config.models_dir, report=report
        )

    def _ingest_samples(self, report: Report) -> ChromaStore:
        embedding = self.embedding.result()
        place = "samples-words" if self.server else "samples"
        folder = self.config.data_dir / place / label(embedding.name)
        name = f"samples-{label(embedding.name)}"
        try:
            store = ChromaStore(folder, embedding.name, server=self.server, name=name)
        except (DamagedIndexError, OutdatedIndexError):  # it is ours, and can be made again
            destroy(folder, self.server, name)
            store = ChromaStore(folder, embedding.name, server=self.server, name=name)
        current = set()
        for number, file in enumerate(self.sample_files):
            report("Reading the sample documents", number / len(self.sample_files))
            for event in ingest_file(
                file, file.name, store, embedding, max_bytes=10**9, read_timeout=60
            ):
                if isinstance(event, Ingested):
                    current.add(event.document_id)
        for document in store.documents():
            if document.id_ not in current:  # of an older version of Rivulet
                store.delete(document.id_)
        return store
