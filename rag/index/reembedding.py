"""An index made with one embedding model -> the same with another.

The passages stay as they are; only their vectors are computed again. The new index is made beside
the old one and takes its place when it is whole.
"""

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from rag.errors import EmbeddingMismatchError
from rag.index.embedding import Embedding
from rag.index.ingestion import EMBED_STEP
from rag.index.store import ChromaStore


def reembed(folder: Path, embed_model: Embedding) -> Iterator[tuple[int, int]]:
    """Embed the index in `folder` again with `embed_model`.

    Yields how many passages are done, and how many there are; nothing where the index was made with
    this model. Whoever stops reading leaves the old index. Raises StoreError where it is in use.
    """
    finish_renaming(folder)
    beside, before = _beside(folder)
    try:
        ChromaStore(folder, embed_model.name).close()
    except EmbeddingMismatchError as error:
        made_with = error.made_with
    else:
        return
    try:
        with (
            closing(ChromaStore(folder, made_with)) as old,
            closing(ChromaStore(beside, embed_model.name)) as new,
        ):
            documents = old.documents()
            total = sum(document.passages for document in documents)
            done = 0
            for document in documents:
                nodes = old.nodes(document.id_)
                with new.adding(document, nodes) as adding:
                    for begin in range(0, len(nodes), EMBED_STEP):
                        yield done, total
                        batch = nodes[begin : begin + EMBED_STEP]
                        adding.take(embed_model.embed([node.embedded_text for node in batch]))
                        done += len(batch)
                    adding.commit()
        yield total, total
        folder.rename(before)
        beside.rename(folder)
        shutil.rmtree(before)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def finish_renaming(folder: Path) -> bool:
    """Put in order what embedding again has left where it was cut off; whether there was any."""
    beside, before = _beside(folder)
    if not (beside.exists() or before.exists()):
        return False
    if before.exists() and not folder.exists():  # a crash between the two renamings
        before.rename(folder)
    shutil.rmtree(beside, ignore_errors=True)
    shutil.rmtree(before, ignore_errors=True)
    return True


def _beside(folder: Path) -> tuple[Path, Path]:
    """Where the new index is made, and where the old one is until the new one is in its place."""
    return folder.with_name(f"{folder.name}.new"), folder.with_name(f"{folder.name}.old")
