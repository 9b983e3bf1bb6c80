"""`SimpleDirectoryReader`: a folder or a list of files -> [Document]."""

import logging
from collections.abc import Iterable
from pathlib import Path

from rag.config import Config
from rag.documents.isolation import load_isolated
from rag.documents.loading import LOADERS
from rag.errors import ConfigurationError, DocumentError
from rag.types import Document

logger = logging.getLogger(__name__)


class SimpleDirectoryReader:
    """Reads every readable file below a folder, or exactly the files that are given.

    Follows LlamaIndex's class of the same name, but makes one document of a file (a PDF's
    pages are in its `page_starts`) instead of one of each page.
    """

    def __init__(self, path_or_files: str | Path | Iterable[str | Path]):
        if isinstance(path_or_files, str | Path):
            folder = Path(path_or_files)
            if not folder.exists():
                raise ConfigurationError(f"There is no file or folder {folder}.")
            self.lenient = folder.is_dir()
            self.files = (
                sorted(p for p in folder.rglob("*") if p.suffix.lower() in LOADERS)
                if self.lenient
                else [folder]
            )
        else:
            self.lenient = False
            self.files = [Path(file) for file in path_or_files]

    def load_data(self) -> list[Document]:
        """The documents, in the order of their files.

        Below a folder a file that cannot be read is logged and left out; of files that were
        named one by one it raises DocumentError. Raises ConfigurationError when there are none.
        """
        timeout = Config().read_timeout
        documents = []
        for file in self.files:
            try:
                documents.append(load_isolated(file, file.name, timeout))
            except DocumentError as error:
                if not self.lenient:
                    raise
                logger.warning("Left out: %s", error)
        if not documents:
            raise ConfigurationError("There are no readable documents in what was given.")
        return documents
