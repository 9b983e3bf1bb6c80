"""The PDFs of an index, kept so that their pages can be shown.

A file is named after its document and that document's text. So what an index says of a document
names the one file that its pages are in, whatever a crash has left beside it.
"""

import logging
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rag.errors import RivuletError
from rag.index.store import ChromaStore, StoredDocument
from rag.types import Document

logger = logging.getLogger(__name__)


class Originals:
    """The files of one index, in `folder`, which is there only while one of them is."""

    def __init__(self, folder: Path):
        self._folder = folder

    def of(self, record: StoredDocument) -> Path | None:
        """The file of a document; None where it has none, or none here."""
        file = self._folder / _name(record)
        return file if file.is_file() and not file.is_symlink() else None

    @contextmanager
    def receiving(self) -> Iterator[Path | None]:
        """A folder for files that are being read; what is still in it at the end is removed. None
        where there can be none: a document without its file is better than none."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(dir=self._folder))
        except OSError as error:
            logger.warning("PDFs cannot be kept in %s: %s", self._folder, error)
            yield None
            return
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            self._drop_empty()

    @contextmanager
    def adding(self, document: Document, received: Path, store: ChromaStore) -> Iterator[None]:
        """Keep the file of `document` that is in the folder `received`, if one is, while it is put
        into `store`: afterwards what belongs to the version that is there."""
        with suppress(OSError):  # it is no PDF, or was not kept
            (received / f"{document.text_hash}.pdf").replace(self._folder / _name(document))
        try:
            yield
        finally:
            with suppress(RivuletError):  # or when the index is next opened
                self.settle(document.id_, store.document(document.id_))

    def settle(self, document_id: str, record: StoredDocument | None) -> None:
        """Remove all files of a document but that of its record."""
        self._keep(f"{document_id}-*", {_name(record)} if record else set())

    def sweep(self, records: Iterable[StoredDocument]) -> None:
        """Remove what belongs to none of `records`, such as what a crash has left. Not while
        something is being added."""
        self._keep("*", {_name(record) for record in records})

    def _keep(self, pattern: str, names: set[str]) -> None:
        for file in self._folder.glob(pattern):
            if file.name not in names:
                with suppress(OSError):
                    shutil.rmtree(file) if file.is_dir() else file.unlink()
        self._drop_empty()

    def _drop_empty(self) -> None:
        with suppress(OSError):  # there is something in it, or it is not there
            self._folder.rmdir()


def _name(document: Document | StoredDocument) -> str:
    return f"{document.id_}-{document.text_hash}.pdf"
