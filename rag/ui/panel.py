"""The panel beside the answer: what was clicked, in its place in the document."""

import html
import re
from dataclasses import replace
from typing import TypeVar

import gradio as gr

from rag.types import Citation, NodeWithScore
from rag.ui import viewer
from rag.ui.backend import Backend
from rag.ui.buttons import button
from rag.ui.chat import Look, find, look_of
from rag.ui.conversations import Answer
from rag.ui.turns import partly

T = TypeVar("T")


class Panel:
    """The handler, over the backend it shares."""

    def __init__(self, backend: Backend):
        self.backend = backend

    def open(self, event: gr.EventData, request: gr.Request) -> str:
        """Show what a mark, a source or a button of the panel asks for; nothing closes it."""
        look = look_of(self.backend, request)
        name = str(event.key) if event.do == "view" else f"{event.do}:{event.key}"
        key, place = viewer.asked(name)
        kind, _, rest = key.partition(":")
        _, answer = find(look.conversation, rest)
        number = rest.rpartition(":")[2]
        if not answer or not re.fullmatch("[0-9]{1,6}", number):
            return ""
        citation = _nth(answer.citations, int(number)) if kind == "cite" else None
        if kind == "cite" and citation is None:
            return ""
        if citation and citation.node is None:
            return _unfound(answer, citation, key, look)
        hits = (*answer.sources, *answer.others)
        if citation and citation.node:
            node, begin, end = citation.node, citation.node_start, citation.node_end
            place_of = answer.number_of(citation.node) or 1
            hit = _nth(hits, place_of - 1) or NodeWithScore(node)
        else:
            place_of = int(number) + 1
            chosen = _nth(hits, int(number))
            if not chosen:
                return ""
            hit = chosen
            node, begin, end = hit.node, 0, len(hit.node.text)
        view = self.backend.view(look.session, node, begin, end, place)
        if citation and citation.support == "partly" and not view.note:
            view = replace(view, note=partly(citation, look.say))
        cite = rest if citation else ""
        shown = viewer.source(view, hit, place_of, key=key, cite=cite, say=look.say)
        return f'<div data-view="{html.escape(name)}">{shown}</div>'


def _nth(of: tuple[T, ...], number: int) -> T | None:
    return of[number] if 0 <= number < len(of) else None


def _unfound(answer: Answer, citation: Citation, key: str, look: Look) -> str:
    """That nothing bears a sentence out."""
    say = look.say
    close = button("×", "close", "", title=say("Close the source"))
    sentence = html.escape(answer.text[citation.start : citation.end])
    cite = html.escape(key.partition(":")[2])
    told = say(
        "No passage that was found for this question says so. It may be what the model knows, or "
        "made up."
    )
    return (
        f'<div data-view="{html.escape(key)}"><section class="viewer">'
        f'<header class="viewer-head"><span class="where"><b>'
        f"{html.escape(say('not found in your documents'))}</b></span>{close}</header>"
        f'<blockquote class="viewer-quote" dir="auto" data-cite="{cite}">{sentence}</blockquote>'
        f"<p>{html.escape(told)}</p></section></div>"
    )
