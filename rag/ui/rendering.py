"""The list of documents as what the page shows. Pure functions, no state.

Everything from a document or a person is escaped here: it is text, never HTML.
"""

import html
from collections.abc import Sequence
from typing import Any

from rag.index.store import StoredDocument
from rag.preparation import Preparation
from rag.types import counted
from rag.ui.jobs import Job, Note
from rag.ui.language import Say

MANY = 5
"""Notes of a kind that are shown one by one; more are summed up."""
SUMS = {
    "good": "{} files are ready.",
    "same": "{} files were here already.",
    "cancelled": "{} files were cancelled.",
    "bad": "{} files could not be added.",
}


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


def preparing(preparation: Preparation[Any], say: Say) -> str:
    """What is being prepared, and how far it is; or why it failed."""
    if preparation.error:
        return str(preparation.error)
    percent = f"{100 * preparation.done:.0f}"
    return say("Preparing {name}, {percent} %", name=say(preparation.name), percent=percent)


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
