"""A conversation as a file to take along: Markdown for a person, JSON for a program.

Knows nothing of gradio. Pure functions.
"""

import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from rag.types import Citation, well_formed
from rag.ui.conversations import Answer, Conversation, Turn, as_name
from rag.ui.markdown import as_text, closed, escaped, marked

FORMAT = "rivulet conversation 1"
"""What a JSON file says it is; another number where one has to be read in another way."""
LONGEST_FILE_NAME = 120
"""Bytes of a file's name in UTF-8, without its ending."""

_FORBIDDEN = re.compile(r'[<>:"/\\|?*]')
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.I)
"""Names that Windows gives to no file."""


def to_markdown(conversation: Conversation) -> str:
    """Questions as headings; each answer with a mark at the end of each sentence, and its sources
    with what they say. What a model wrote before its answers is left out."""
    head = f"# {escaped(conversation.name) or 'Conversation'}"
    last = f"Last changed {_time(conversation.changed):%Y-%m-%d %H:%M} UTC."
    turns = (part for turn in conversation.turns for part in _turn(turn))
    return well_formed("\n\n".join((head, last, *turns))) + "\n"


def to_json(conversation: Conversation) -> str:
    """Everything that is kept of it; offsets are in characters of the answer."""
    turns = [
        {
            "question": turn.question,
            "scope": turn.scope,
            "documents": turn.documents,
            "options": asdict(turn.options),
            "answers": [described(answer) for answer in turn.answers],
        }
        for turn in conversation.turns
    ]
    whole = {
        "format": FORMAT,
        "title": conversation.name,
        "changed": _time(conversation.changed).isoformat(timespec="seconds"),
        "turns": turns,
    }
    return well_formed(json.dumps(whole, ensure_ascii=False, indent=2, default=str)) + "\n"


def described(answer: Answer) -> dict[str, Any]:
    """An answer for a program, with its passages and citations."""
    hits = (*answer.sources, *answer.others)
    sources = [
        {
            "number": number,
            "given": number <= len(answer.sources),
            "file": hit.node.file_name,
            "page": hit.node.page,
            "headings": hit.node.headings,
            "document": hit.node.document_id,
            "start": hit.node.start,
            "score": hit.score,
            "text": hit.node.text,
        }
        for number, hit in enumerate(hits, 1)
    ]
    citations = [
        {
            "start": citation.start,
            "end": citation.end,
            "sentence": answer.text[citation.start : citation.end],
            "support": citation.support,
            "source": citation.node and answer.number_of(citation.node),
            "quote": _quote(citation),
            "missing": citation.missing,
        }
        for citation in answer.citations
    ]
    return {
        "model": answer.model,
        "searched_for": answer.searched_for,
        "text": answer.text,
        "citations": citations,
        "sources": sources,
        "reasoning": answer.reasoning,
        "finish_reason": answer.finish_reason,
        "error": answer.error,
        "usage": answer.usage and asdict(answer.usage),
        "timings": asdict(answer.timings),
        "suggestions": answer.suggestions,
        "rating": answer.rating,
    }


def file_name(name: str, ending: str) -> str:
    """A file's name from that of a conversation, in any script, that every system takes."""
    plain = _FORBIDDEN.sub(" ", as_name(unicodedata.normalize("NFC", name)))
    cut = " ".join(plain.split()).encode()[:LONGEST_FILE_NAME].decode(errors="ignore")
    stem = cut.lstrip(" .-~").rstrip(" .") or "conversation"
    return f"_{stem}.{ending}" if _DEVICES.match(stem) else f"{stem}.{ending}"


def _turn(turn: Turn) -> Iterator[str]:
    name = as_name(turn.question)
    yield f"## {escaped(name)}"
    if name != turn.question.strip():
        lines = as_text(closed(turn.question.strip())).splitlines()
        yield "\n".join(f"> {line}".rstrip() for line in lines)
    for answer in turn.answers:
        if len(turn.answers) > 1:
            yield f"### {escaped(answer.model) or 'Answer'}"
        yield from _answer(answer)


def _answer(answer: Answer) -> Iterator[str]:
    if answer.searched_for:
        yield f"Searched for: {escaped(answer.searched_for)}"
    if answer.text.strip():
        cited = marked(closed(answer.text), answer.citations, lambda each: _mark(answer, each))
        yield as_text(cited).strip("\n")
    if answer.error:
        yield f"**Error:** {escaped(answer.error)}"
    if sources := list(_sources(answer)):
        yield "**Sources**"
        yield "\n".join(sources)
    if facts := answer.facts():
        yield escaped(" · ".join(facts))


def _mark(answer: Answer, citation: Citation) -> str:
    if citation.support == "none" or not citation.node:
        return " [not found in your documents]"
    number = answer.number_of(citation.node) or escaped(citation.node.label)
    if citation.support == "supported":
        return f" [{number}]"
    missing = ", ".join(map(escaped, citation.missing))
    verb = "is" if len(citation.missing) == 1 else "are"
    return f" [{number}, partly: {missing} {verb} not in it]" if missing else f" [{number}, partly]"


def _sources(answer: Answer) -> Iterator[str]:
    """The passages that were given to the model and those that are cited, with what is quoted."""
    quotes: dict[int, list[str]] = {number + 1: [] for number in range(len(answer.sources))}
    for citation in answer.citations:
        if citation.node and (number := answer.number_of(citation.node)):
            quotes.setdefault(number, []).append(_quote(citation))
    hits = (*answer.sources, *answer.others)
    for number in sorted(quotes):
        node = hits[number - 1].node
        # Both: the label of a passage has headings only where there is no page.
        path = f" ({escaped(' › '.join(node.headings))})" if node.page and node.headings else ""
        yield f"- [{number}] {escaped(node.label)}{path}"
        for quote in dict.fromkeys(quotes[number]):
            if quote.strip():
                yield f"  - “{escaped(quote)}”"


def _quote(citation: Citation) -> str:
    """The sentence that bears it out; empty where none does."""
    return citation.node.text[citation.node_start : citation.node_end] if citation.node else ""


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
