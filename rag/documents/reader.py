"""Files on disk -> [Document], under LlamaIndex's name. Every file is read in isolation."""

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rag.documents.isolation import load_isolated
from rag.documents.loading import LOADERS
from rag.errors import ConfigurationError, DocumentError
from rag.types import Document

logger = logging.getLogger(__name__)

AnyPath = str | os.PathLike[str]


class SimpleDirectoryReader:
    """Reads the files of a folder, or the files that are named.

    `input_dir` is a folder, a file, or a list of files. Of a folder those files are read whose
    type is known (`required_exts`: only those with these endings) and whose name does not begin
    with a dot; with `recursive` also those of the folders in it. Raises ConfigurationError where
    there is no such folder or file, or nothing in the folder to read.
    """

    def __init__(
        self,
        input_dir: AnyPath | Sequence[AnyPath] | None = None,
        input_files: Sequence[AnyPath] | None = None,
        *,
        recursive: bool = False,
        required_exts: Sequence[str] | None = None,
        read_timeout: float = 120,
    ):
        if isinstance(input_dir, str | os.PathLike):
            place = Path(input_dir).expanduser()
            self._folder = place if place.is_dir() else None
            named: Sequence[AnyPath] = [] if place.is_dir() else [place]
        else:
            self._folder, named = None, input_dir or []
        self._read_timeout = read_timeout
        self.input_files = [Path(path).expanduser() for path in (*named, *(input_files or ()))]
        for file in self.input_files:
            if file.is_dir():
                raise ConfigurationError(
                    f"{file} is a folder, in a list of files. Read a folder by itself."
                )
            if not file.is_file():
                raise ConfigurationError(f"There is no file or folder {file}. Check the path.")
        if self._folder:
            wanted = {ending.lower() for ending in required_exts or LOADERS}
            self.input_files += _files(self._folder, wanted, recursive)
        if not self.input_files:
            raise ConfigurationError(
                f"There is nothing to read in {self._folder or 'an empty list'}. "
                f"Files of these types are read: {', '.join(sorted(LOADERS))}."
            )

    def load_data(self) -> list[Document]:
        """The documents, in the order of their files.

        A file of a folder that cannot be read is logged and left out; one that was named raises
        DocumentError, and so does a folder of which nothing could be read.
        """
        documents: list[Document] = []
        failed: DocumentError | None = None
        for file in self.input_files:
            try:
                document = load_isolated(file, file.name, self._read_timeout)
                metadata = {**document.metadata, "file_path": str(file)}
                documents.append(replace(document, metadata=metadata))
            except DocumentError as error:
                if not (self._folder and self._folder in file.parents):
                    raise
                logger.warning("Left out %s", error)
                failed = error
        if failed and not documents:
            raise failed
        return documents


def _files(folder: Path, endings: set[str], recursive: bool) -> Iterator[Path]:
    for path in sorted(folder.rglob("*") if recursive else folder.iterdir()):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and path.suffix.lower() in endings and not hidden:
            yield path
