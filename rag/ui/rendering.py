"""Turns, sources and documents as what the page shows. Pure functions, no state.

Everything from a document, a model or a person is escaped here: it is text, never HTML.
"""

import html
import re
from collections.abc import Iterable, Sequence
from textwrap import shorten
from typing import Any

from rag.answering.events import ENDINGS
from rag.answering.prompts import NOTHING_FOUND, NOTHING_LEFT
from rag.index.store import StoredDocument
from rag.types import NodeWithScore, counted
from rag.ui.jobs import Job, Note
from rag.ui.sessions import Turn

Message = dict[str, Any]
MANY = 5
"""Notes of a kind that are shown one by one; more are summed up."""
SUMS = {
    "good": "{} files are ready.",
    "same": "{} files were here already.",
    "cancelled": "{} files were cancelled.",
    "bad": "{} files could not be added.",
}


def messages(turns: Sequence[Turn], status: str = "") -> list[Message]:
    """Two messages for each turn: question and answer. `status` stands in for a missing text."""
    shown: list[Message] = []
    for number, turn in enumerate(turns):
        last = number == len(turns) - 1
        shown.append(_message("user", [as_text(turn.question)]))
        shown.append(_message("assistant", list(_answer(turn, status if last else ""))))
    return shown


def _message(role: str, texts: list[str]) -> Message:
    # As a list of parts: Gradio strips the indent of a plain string, and with it of code.
    return {"role": role, "content": [{"type": "text", "text": text} for text in texts]}


def _answer(turn: Turn, status: str) -> Iterable[str]:
    if turn.searched_for:
        yield f'<span class="facts">searched for: {html.escape(turn.searched_for)}</span>'
    if turn.reasoning:
        yield _reasoning(turn)
    if turn.answer:
        yield as_text(turn.answer)
    if status:
        yield f'<span class="status" role="status">{html.escape(status)}</span>'
    if turn.error:
        yield f'<span class="error" role="alert">{html.escape(turn.error)}</span>'
    if turn.finish_reason and (facts := _facts(turn)):
        yield f'<span class="facts">{html.escape(" · ".join(facts))}</span>'


def _reasoning(turn: Turn) -> str:
    """The model's reasoning: open while it is all there is, folded once the answer begins."""
    # Markdown would end the element at a blank line.
    text = html.escape(turn.reasoning.strip()).replace("\n", "<br>")
    thinking = not (turn.answer or turn.finish_reason)
    return (
        f'<details class="reasoning" {"open" if thinking else ""}>'
        f"<summary>{'Thinking' if thinking else 'Thoughts'}</summary>{text}</details>"
    )


_MARKUP = re.compile(
    r"(?P<code>"
    r"^ {0,3}(?P<fence>`{3,}|~{3,})[^`\n]*$.*?(?:^ {0,3}(?P=fence)[`~]*[ \t]*$|\Z)"
    r"|(?<![\\`])(?P<ticks>`+)(?!`)[^\n]*?(?<!`)(?P=ticks)(?!`)"
    r")|(?P<tag><(?=[a-zA-Z/!?]))|(?P<picture>!+(?=\[))",
    re.S | re.M,
)


def as_text(markdown: str) -> str:
    """`markdown` with its tags shown instead of obeyed, and its pictures as links.

    Only for the reader's sake: what makes a tag or a picture harmless is that Gradio sanitizes
    the page and the page's policy lets nothing load from elsewhere.
    """
    return _MARKUP.sub(lambda found: found["code"] or ("&lt;" if found["tag"] else ""), markdown)


def _facts(turn: Turn) -> Iterable[str]:
    """The quiet line under an answer: model, first token, speed, passages, how it ended."""
    if turn.answer in (NOTHING_FOUND, NOTHING_LEFT):
        facts = ["no model was asked"]
    else:
        facts = [turn.model] if turn.model else []
    if turn.timings.first_token is not None:
        facts.append(f"first token {turn.timings.first_token:.1f} s")
    if turn.timings.tokens_per_second is not None:
        facts.append(f"{turn.timings.tokens_per_second:.0f} tokens/s")
    if turn.sources:
        facts.append(counted(len(turn.sources), "passage"))
    if turn.finish_reason in ENDINGS:
        facts.append(ENDINGS[turn.finish_reason])
    return facts


def sources(turn: Turn | None) -> str:
    """The passages behind an answer, each with file, place and score; then what else was found."""
    if turn is None or not (turn.sources or turn.others):
        return '<p class="hint">The passages behind an answer are shown here.</p>'
    asked = shorten(turn.question, 80, placeholder=" …")
    shown = f'<p class="hint">for “{html.escape(asked)}”</p>'
    if turn.sources:
        shown += _sources(turn.sources, 1)
    if turn.others:
        title = "Also found" if turn.sources else "The nearest passages"
        shown += f"<h3>{title}</h3>{_sources(turn.others, 1 + len(turn.sources))}"
    return shown


def _sources(hits: Sequence[NodeWithScore], first: int) -> str:
    cards = "".join(_source(number, hit) for number, hit in enumerate(hits, start=first))
    return f'<ol class="sources" start="{first}">{cards}</ol>'


def _source(number: int, hit: NodeWithScore) -> str:
    node = hit.node
    # A PDF's lines end where its page did, which is narrower or wider than this one.
    text = re.sub(r"(?<!\n)\n(?!\n)", " ", node.text) if node.page else node.text
    place = f"page {node.page}" if node.page else " › ".join(node.headings)
    score = "" if hit.score is None else _score(hit.score)
    return (
        f'<li class="source"><details {"open" if number == 1 else ""}><summary>'
        f'<span class="number">{number}</span>'
        f'<span class="where"><b>{html.escape(node.file_name)}</b>'
        f"<small>{html.escape(place)}</small></span>{score}"
        f"</summary><blockquote>{html.escape(text)}</blockquote></details></li>"
    )


def _score(score: float) -> str:
    return f'<span class="score" title="How well it fits the question">{max(score, 0):.2f}</span>'


def library(
    own: Sequence[StoredDocument],
    samples: Sequence[StoredDocument],
    sample_names: Sequence[str],
    jobs: Sequence[Job],
    problem: str = "",
) -> str:
    """The list of documents: what is on its way, the session's own, the samples.

    `problem` is why the session's own cannot be shown.
    """
    parts = [_note(Note("bad", problem))] if problem else []
    left = [job for job in jobs if job.interrupted]
    if len(jobs) - len(left) > 1:
        parts.append(_for_all(_button("cancel", "Cancel all")))
    if len(left) > 1:
        buttons = _button("again", "Add all again"), _button("discard", "Remove all interrupted")
        parts.append(_for_all(*buttons))
    rows = [_job(job) for job in jobs]
    rows += [_document(document) for document in own]
    if rows:
        parts.append(f'<ul class="documents" aria-label="My documents">{"".join(rows)}</ul>')
    elif not problem:
        parts.append('<p class="hint">None yet. The samples below are searched until then.</p>')
    ready = {document.name: document for document in samples}
    rows = [
        _row(name, _size(ready[name]) if name in ready else "waiting for the search model")
        for name in sample_names
    ]
    parts.append(
        f'<h3>Sample documents</h3><ul class="documents samples" aria-label="Sample documents">'
        f"{''.join(rows)}</ul>"
    )
    return "".join(parts)


def notes(said: Sequence[Note]) -> str:
    """What became of what was added, and a button that takes it away."""
    kinds = dict.fromkeys(note.kind for note in said)
    parts = [_notes_of(kind, [note for note in said if note.kind == kind]) for kind in kinds]
    if parts:
        parts.append(_for_all(_button("dismiss", "Dismiss", label="Dismiss these messages")))
    return "".join(parts)


def _notes_of(kind: str, said: Sequence[Note]) -> str:
    each = "".join(map(_note, said))
    if len(said) <= MANY:
        return each
    return (
        f'<details class="note {kind}"><summary role="{_role(kind)}">'
        f"{SUMS[kind].format(len(said))}</summary>{each}</details>"
    )


def _note(note: Note) -> str:
    return f'<p class="note {note.kind}" role="{_role(note.kind)}">{html.escape(note.text)}</p>'


def _role(kind: str) -> str:
    return "alert" if kind == "bad" else "status"


def preparing(status: str) -> str:
    """The line above the question box while models are prepared; empty when `status` is."""
    return f'<p class="preparing" role="status">{html.escape(status)}</p>' if status else ""


def _job(job: Job) -> str:
    """One line for what is on its way, or was when the process before ended."""
    if job.interrupted:
        buttons = (
            _button("again", "Add again", job.key, f"Add {job.name} again"),
            _button("discard", "×", job.key, f"Remove {job.name}"),
        )
        return _row(job.name, "interrupted", *buttons)
    button = _button("cancel", "×", job.key, f"Cancel {job.name}")
    return _row(job.name, _state(job), button, busy=bool(job.steps))


def _state(job: Job) -> str:
    """What is being done for it."""
    now = job.progress
    if job.cancelled:
        return "cancelling"
    if not job.steps or not now:
        return "waiting"
    state = now.step
    if now.step == "embedding":
        state = f"searchable, {now.done:,} of {counted(now.total, 'passage')} embedded"
        if speed := job.per_second:
            state += f", {speed:.0f} a second, {_left(job.unembedded / speed)}"
    inner = now.file_name.removeprefix(f"{job.name}/")
    return state if inner == job.name else f"{inner}: {state}"


def _left(seconds: float) -> str:
    return f"{seconds:.0f} s left" if seconds < 100 else f"{seconds / 60:.0f} min left"


def _document(document: StoredDocument) -> str:
    button = _button("remove", "×", document.id_, f"Remove {document.name}")
    return _row(document.name, f"ready, {_size(document)}", button)


def _row(name: str, state: str, *buttons: str, busy: bool = False) -> str:
    """One line of the list; all but the buttons is escaped here."""
    shown = html.escape(name)
    return (
        f'<li class="{"busy" if busy else ""}"><span class="name" title="{shown}">{shown}</span>'
        f'<span class="state">{html.escape(state)}</span>'
        f'<span class="buttons">{"".join(buttons)}</span></li>'
    )


def _for_all(*buttons: str) -> str:
    return f'<p class="for-all">{"".join(buttons)}</p>'


def _button(do: str, text: str, key: str = "", label: str = "") -> str:
    """A button that does `do` with what `key` names, or with all. `label` says in full what."""
    said = f' aria-label="{html.escape(label)}" title="{html.escape(label)}"' if label else ""
    return (
        f'<button type="button" class="{"icon" if text == "×" else "text"}" data-do="{do}" '
        f'data-key="{html.escape(key)}"{said}>{text}</button>'
    )


def _size(document: StoredDocument) -> str:
    pages = f"{counted(document.pages, 'page')}, " if document.pages else ""
    return f"{pages}{counted(document.passages, 'passage')}"
