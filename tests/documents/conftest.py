"""What the tests of the formats need: a file is written, then read."""

from collections.abc import Callable
from pathlib import Path

import pytest

from rag.documents.loading import load
from rag.types import Document

Read = Callable[[str, bytes], Document]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """The one document in a file of this name and content."""

    def read(name: str, data: bytes) -> Document:
        path = tmp_path / "stored"
        path.write_bytes(data)
        (document,) = load(path, name)
        assert isinstance(document, Document)
        return document

    return read
