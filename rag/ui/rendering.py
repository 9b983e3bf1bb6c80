"""The list of documents as what the page shows. Pure functions, no state.

Everything from a document or a person is escaped here: it is text, never HTML.
"""

import html
from collections.abc import Sequence
from typing import Any

from rag.index.ingestion import Progress
from rag.index.store import StoredDocument
from rag.preparation import Preparation
from rag.ui.buttons import button
from rag.ui.jobs import Job, Note
from rag.ui.language import Say

WAITING = "waiting for the search model"
MANY = 5
"""Notes of a kind that are shown one by one; more are summed up."""
SUMS = {
    "good": "{number} files are ready.",
    "same": "{number} files were here already.",
    "cancelled": "{number} files were cancelled.",
    "bad": "{number} files could not be added.",
}


def library(
    own: Sequence[StoredDocument],
    samples: Sequence[StoredDocument],
    sample_names: Sequence[str],
    jobs: Sequence[Job],
    say: Say,
    problem: str = "",
) -> str:
    """The list of documents: what is on its way, the session's own, the samples.

    `problem` is why the session's own cannot be shown.
    """
    parts = [_note(Note("bad", problem), say)] if problem else []
    left = [job for job in jobs if job.interrupted]
    if len(jobs) - len(left) > 1:
        parts.append(_for_all(button(say("Cancel all"), "cancel")))
    if len(left) > 1:
        again = button(say("Add all again"), "again")
        parts.append(_for_all(again, button(say("Remove all interrupted"), "discard")))
    rows = [_job(job, say) for job in jobs]
    rows += [_document(document, say) for document in own]
    if rows:
        label = html.escape(say("My documents"))
        parts.append(f'<ul class="documents" aria-label="{label}">{"".join(rows)}</ul>')
    elif not problem:
        hint = html.escape(say("None yet. The samples below are searched until then."))
        parts.append(f'<p class="hint">{hint}</p>')
    ready = {document.name: document for document in samples}
    rows = [
        _row(name, _size(ready[name], say) if name in ready else say(WAITING))
        for name in sample_names
    ]
    label = html.escape(say("Sample documents"))
    parts.append(
        f'<h3>{label}</h3><ul class="documents samples" aria-label="{label}">{"".join(rows)}</ul>'
    )
    return "".join(parts)


def notes(told: Sequence[Note], say: Say) -> str:
    """What became of what was added, and a button that takes it away."""
    kinds = dict.fromkeys(note.kind for note in told)
    parts = [_notes_of(kind, [note for note in told if note.kind == kind], say) for kind in kinds]
    if parts:
        label = say("Dismiss these messages")
        parts.append(_for_all(button(say("Dismiss"), "dismiss", title=label)))
    return "".join(parts)


def _notes_of(kind: str, told: Sequence[Note], say: Say) -> str:
    each = "".join(_note(note, say) for note in told)
    if len(told) <= MANY:
        return each
    return (
        f'<details class="note {kind}"><summary role="{_role(kind)}">'
        f"{html.escape(say(SUMS[kind], number=len(told)))}</summary>{each}</details>"
    )


def _note(note: Note, say: Say) -> str:
    text = html.escape(note.said(say))
    return f'<p class="note {note.kind}" role="{_role(note.kind)}">{text}</p>'


def _role(kind: str) -> str:
    return "alert" if kind == "bad" else "status"


def preparing(preparation: Preparation[Any], say: Say) -> str:
    """What is being prepared, and how far it is; or why it failed."""
    if preparation.error:
        return say(str(preparation.error))
    percent = round(100 * preparation.done)
    return say("Preparing {name}, {percent} %", name=say(preparation.name), percent=percent)


def _job(job: Job, say: Say) -> str:
    """One line for what is on its way, or was when the process before ended."""
    if job.interrupted:
        again = say("Add {name} again", name=job.name)
        buttons = (
            button(say("Add again"), "again", job.key, title=again),
            button("×", "discard", job.key, title=say("Remove {name}", name=job.name)),
        )
        return _row(job.name, say("interrupted"), *buttons)
    cancel = button("×", "cancel", job.key, title=say("Cancel {name}", name=job.name))
    return _row(job.name, state(job, say), cancel, busy=bool(job.steps))


def state(job: Job, say: Say) -> str:
    """What is being done for it."""
    now = job.progress
    if job.cancelled:
        return say("cancelling")
    if not job.steps or not now:
        return say("waiting")
    state = _embedding(now, job, say) if now.step == "embedding" else say(now.step)
    inner = now.file_name.removeprefix(f"{job.name}/")
    return state if inner == job.name else say("{name}: {state}", name=inner, state=state)


def _embedding(now: Progress, job: Job, say: Say) -> str:
    if now.total == 1:
        state = say("searchable, {done} of 1 passage embedded", done=now.done)
    else:
        state = say(
            "searchable, {done} of {total} passages embedded", done=now.done, total=now.total
        )
    if not (speed := job.per_second):
        return state
    seconds = job.unembedded / speed
    if seconds < 100:
        left = say("{number} s left", number=round(seconds))
    else:
        left = say("{number} min left", number=round(seconds / 60))
    return say("{state}, {number} a second, {left}", state=state, number=round(speed), left=left)


def _document(document: StoredDocument, say: Say) -> str:
    remove = button("×", "remove", document.id_, title=say("Remove {name}", name=document.name))
    return _row(document.name, say("ready, {size}", size=_size(document, say)), remove)


def _row(name: str, state: str, *buttons: str, busy: bool = False) -> str:
    """One line of the list; all but the buttons is escaped here."""
    shown = html.escape(name)
    return (
        f'<li class="{"busy" if busy else ""}">'
        f'<span class="name" dir="auto" title="{shown}">{shown}</span>'
        f'<span class="state">{html.escape(state)}</span>'
        f'<span class="buttons">{"".join(buttons)}</span></li>'
    )


def _for_all(*buttons: str) -> str:
    return f'<p class="for-all">{"".join(buttons)}</p>'


def _size(document: StoredDocument, say: Say) -> str:
    number = document.passages
    passages = say("1 passage") if number == 1 else say("{number} passages", number=number)
    if not document.pages:
        return passages
    number = document.pages
    pages = say("1 page") if number == 1 else say("{number} pages", number=number)
    return say("{pages}, {passages}", pages=pages, passages=passages)
