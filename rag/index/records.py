"""Passages as flat records, which both Chroma and SQLite can hold."""

import json
from collections.abc import Mapping
from typing import Any

from rag.types import Node


def from_node(node: Node) -> dict[str, Any]:
    """All of a passage but its text: names and texts, numbers."""
    return {
        "document_id": node.document_id,
        "ordinal": node.ordinal,
        "start": node.start,
        "file_name": node.file_name,
        "page": node.page or 0,
        "headings": "\n".join(node.headings),
        "metadata": to_json(node.metadata),
        "before": node.before,
    }


def to_node(text: str, record: Mapping[str, Any]) -> Node:
    headings = record["headings"]
    return Node(
        text,
        record["document_id"],
        record["ordinal"],
        record["start"],
        record["file_name"],
        record["page"] or None,
        tuple(headings.split("\n")) if headings else (),
        json.loads(record["metadata"]),
        record["before"],
    )


def to_json(metadata: Mapping[Any, Any], **options: Any) -> str:
    """`metadata` as JSON; what that does not know becomes text."""
    try:
        return json.dumps(dict(metadata), default=str, **options)
    except (TypeError, ValueError, RecursionError):  # keys such as tuples; what contains itself
        as_text = {str(key): str(value) for key, value in metadata.items()}
        return json.dumps(as_text, **options)
