"""Files on disk and web pages -> [Document], under LlamaIndex's names.

Every file is read in isolation, and so is every page.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from rag.documents.isolation import load_isolated
from rag.documents.loading import ENDINGS, FORMATS
from rag.errors import ConfigurationError, DocumentError
from rag.types import Document

if TYPE_CHECKING:
    from rag.documents.web import Allowed

logger = logging.getLogger(__name__)

AnyPath = str | os.PathLike[str]
READABLE = ", ".join(sorted(ENDINGS))


class SimpleDirectoryReader:
    """Reads the files of a folder, or the files that are named.

    `input_dir` is a folder, a file, or a list of files. Of a folder those files are read whose
    type is known (`required_exts`: only those with these endings) and whose name does not begin
    with a dot; with `recursive` also those of the folders in it. Raises ConfigurationError where
    there is no such folder or file, nothing in the folder to read, or a type that cannot be read
    is asked for.
    """

    def __init__(
        self,
        input_dir: AnyPath | Sequence[AnyPath] | None = None,
        input_files: AnyPath | Sequence[AnyPath] | None = None,
        *,
        recursive: bool = False,
        required_exts: str | Sequence[str] | None = None,
        read_timeout: float = 120,
    ):
        places = _paths(input_dir)
        alone = isinstance(input_dir, str | os.PathLike)
        self._folder = places.pop() if alone and places[0].is_dir() else None
        self._read_timeout = read_timeout
        self.input_files = places + _paths(input_files)
        wanted = _endings(required_exts)
        for file in self.input_files:
            if file.is_dir():
                raise ConfigurationError(
                    f"{file} is a folder, in a list of files. Read a folder by itself."
                )
            if not file.is_file():
                raise ConfigurationError(f"There is no file or folder {file}. Check the path.")
        if self._folder:
            self.input_files += _files(self._folder, wanted, recursive)
        if not self.input_files:
            raise ConfigurationError(
                f"There is nothing to read in {self._folder or 'an empty list'}. "
                f"Files of these types are read: {', '.join(FORMATS)}."
            )

    def load_data(self) -> list[Document]:
        """The documents, in the order of their files.

        An archive gives a document for each file in it, an e-mail one for each attachment. A file
        of a folder that cannot be read is logged and left out, and so is one in an archive; one
        that was named raises DocumentError, and so does a folder of which nothing could be read.
        """
        documents: list[Document] = []
        failed: DocumentError | None = None
        for file in self.input_files:
            try:
                name = os.fsencode(file.name).decode("utf-8", "replace")
                for item in load_isolated(file, name, self._read_timeout):
                    if isinstance(item, DocumentError):
                        logger.warning("Left out %s", item)
                        failed = item
                    else:
                        metadata = {**item.metadata, "file_path": str(file)}
                        documents.append(replace(item, metadata=metadata))
            except DocumentError as error:
                if not (self._folder and self._folder in file.parents):
                    raise
                logger.warning("Left out %s", error)
                failed = error
        if failed and not documents:
            raise failed
        return documents


class SimpleWebPageReader:
    """Reads pages of the web by their addresses: the main text of HTML, PDF files, and the rest.

    `timeout` is the seconds within which a page has to be here, `read_timeout` those within which
    it has to be read, `max_bytes` its size at most. `allowed` says which IP addresses may be
    connected to; public ones only when None. With `fail_on_error` False a page that cannot be
    fetched or read is logged and left out. `html_to_text` is LlamaIndex's, and always true.
    """

    def __init__(
        self,
        html_to_text: bool = True,
        *,
        timeout: float = 30,
        read_timeout: float = 120,
        max_bytes: int = 50_000_000,
        fail_on_error: bool = True,
        allowed: "Allowed | None" = None,
    ):
        if not html_to_text:
            raise ConfigurationError("Pages are always read as text. Leave html_to_text out.")
        self._timeout = timeout
        self._read_timeout = read_timeout
        self._max_bytes = max_bytes
        self._fail_on_error = fail_on_error
        self._allowed = allowed

    def load_data(self, urls: str | Sequence[str]) -> list[Document]:
        """The documents at these addresses, in their order; `metadata["url"]` is where each was.

        Raises DocumentError where a page cannot be had or read. Of an archive, what can be read of
        it is read.
        """
        documents: list[Document] = []
        for url in [urls] if isinstance(urls, str) else urls:
            try:
                documents += self._read(url)
            except DocumentError as error:
                if self._fail_on_error:
                    raise
                logger.warning("Left out %s", error)
        return documents

    def _read(self, url: str) -> Iterator[Document]:
        from rag.documents.web import fetch, load_page

        with TemporaryDirectory() as folder:
            page = fetch(
                url,
                Path(folder),
                max_bytes=self._max_bytes,
                timeout=self._timeout,
                allowed=self._allowed,
            )
            with closing(load_page(page, self._read_timeout)) as items:
                for item in items:
                    if isinstance(item, DocumentError):
                        logger.warning("Left out %s", item)
                    else:
                        yield item


def _paths(given: AnyPath | Sequence[AnyPath] | None) -> list[Path]:
    paths = [given] if isinstance(given, str | os.PathLike) else given or []
    if not all(os.fspath(path) for path in paths):
        raise ConfigurationError("A path is empty. The folder you are in is '.'.")
    return [Path(path).expanduser() for path in paths]


def _endings(required: str | Sequence[str] | None) -> set[str]:
    """The endings as they are in `ENDINGS`, whether they were given with their dot or without."""
    given = [required] if isinstance(required, str) else required or ENDINGS
    endings = {f".{ending.lower().removeprefix('.')}" for ending in given}
    if unknown := endings - ENDINGS:
        raise ConfigurationError(
            f"Files of these types cannot be read: {', '.join(sorted(unknown))}. "
            f"Possible are {READABLE}."
        )
    return endings


def _files(folder: Path, endings: set[str], recursive: bool) -> Iterator[Path]:
    for path in sorted(folder.rglob("*") if recursive else folder.iterdir()):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and path.suffix.lower() in endings and not hidden:
            yield path
