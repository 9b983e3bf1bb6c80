"""The panel beside the answer: the source that was clicked, in its place."""

import html

import gradio as gr

from rag.ui.backend import Backend
from rag.ui.chat import find, look_of
from rag.ui.turns import button


class Panel:
    """The handlers, over the backend they share."""

    def __init__(self, backend: Backend):
        self.backend = backend

    def open(self, event: gr.EventData, request: gr.Request) -> str:
        look = look_of(self.backend, request)
        if event.do == "close":
            return ""
        turn, answer = find(look.conversation, str(event.key))
        if not answer:
            return ""
        number = int(str(event.key).split(":")[1])
        close = button("×", "close", "", on="open", title=look.say("Close"))
        if event.do == "cite":
            citation = answer.citations[number]
            node = citation.node
            if node is None:
                return f'<div data-view="{event.key}">{close}<p>not found</p></div>'
            text = node.text
            a, b = citation.node_start, citation.node_end
        else:
            node = (*answer.sources, *answer.others)[number].node
            text, a, b = node.text, 0, len(node.text)
        e = html.escape
        return (
            f'<div data-view="{event.key}">{close}<h2>{e(node.label)}</h2><div class="page">{e(text[:a])}'
            f'<mark class="spot" data-cite="{event.key}">{e(text[a:b])}</mark>{e(text[b:])}</div></div>'
        )
