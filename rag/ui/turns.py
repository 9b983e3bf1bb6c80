"""A conversation as what the page shows of it: a tree of parts, each with HTML of its own.

The page changes only the parts that differ, so what is sent of a growing answer is its last
paragraph. Everything from a document, a model or a person is escaped here or in `markdown`.
Pure functions, no state.
"""

import html
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from rag.answering.events import Status
from rag.answering.prompts import OURS
from rag.llms.catalog import label
from rag.preparation import Preparation
from rag.types import Citation, Node, NodeWithScore
from rag.ui.blocks import blocks, left_open
from rag.ui.buttons import button, edited
from rag.ui.conversations import Answer, Conversation, Entry, Turn
from rag.ui.jobs import Job
from rag.ui.language import Say
from rag.ui.line import Waiting
from rag.ui.rendering import preparing

Doing = Status | Preparation[Any] | Job | Waiting
"""What an answer waits for: a step of its own, a model, a file, or those who asked before."""
Part = dict[str, Any]
"""`k`: its key among its neighbours; `c`: its classes; then either `h`: HTML, or `n`: parts. Or a
part as `j`, its JSON: Gradio walks over all that it is given, three times for each state.

A block of what is said has its marks in `m` instead of its HTML, so that of a growing answer only
what is new is sent. Each is a line: the number of its citation, where its sentence begins and ends
in the block's text, the number of its title in `t` of the answer, and what is said beside that.
"""
Title = tuple[str, str, str]
"""What many marks share: their class, the sign that is shown, and what it means."""
Said = tuple[list[Part], list[Title]]
"""The blocks of an answer, and the titles of their marks."""

QUESTIONS = (
    "Where do my documents stay?",
    "How does streaming work?",
    "How do I share Rivulet with other people?",
    "Which models can I use?",
)
"""Suggested at first: the sample documents answer them."""


@dataclass(frozen=True)
class Made:
    """What has been made already for who looks on, by keys."""

    said: dict[str, Said] = field(default_factory=dict)
    """Of each finished answer, what it says."""
    turns: dict[str, tuple[object, Part]] = field(default_factory=dict)
    """Of each turn before the last one, what can change in it, and the turn."""


@dataclass(frozen=True)
class Shown:
    """What a conversation is shown with, beside what is in it."""

    say: Say
    models: Sequence[tuple[str, str]] = ()
    """Label and name of the models that an answer can be compared with."""
    any_model: bool = True
    """Whether the name of another one can be typed."""
    feedback: bool = True
    """Whether answers can be rated."""
    made: Made = field(default_factory=Made)


def parts(
    conversation: Conversation,
    shown: Shown,
    writing: Answer | None = None,
    doing: Doing | None = None,
) -> list[Part]:
    """The whole conversation. `doing` is what is being done for the answer that is `writing`."""
    turns = list(conversation.turns)
    if not turns:
        return [_part("welcome", "welcome", _welcome(shown.say))]
    before = [_turn_before(turn, shown, writing, doing) for turn in turns[:-1]]
    return [*before, _turn(turns[-1], shown, writing, doing, True)]


def _part(key: str, classes: str, markup: str) -> Part:
    return {"k": key, "c": classes, "h": markup}


def _welcome(say: Say) -> str:
    asked = "".join(button(question, "suggested", question, on="ask") for question in QUESTIONS)
    texts = (
        say(
            "Add files to the list on the left, or by the paper clip below, and ask about them. "
            "The answer is written as you watch, and each sentence is marked with the place in "
            "your documents that bears it out. With the local model nothing leaves this computer."
        ),
        say("Or ask the sample documents:"),
    )
    shown = "".join(f"<p>{html.escape(text)}</p>" for text in texts)
    title = html.escape(say("Ask your documents"))
    return f'<h2>{title}</h2>{shown}<p class="suggestions">{asked}</p>'


def _turn_before(turn: Turn, shown: Shown, writing: Answer | None, doing: Doing | None) -> Part:
    """A turn that others have followed. Where nothing is written in it, it is made once."""
    if any(answer is writing for answer in turn.answers):
        return _turn(turn, shown, writing, doing, False)
    now = [(answer.key, answer.rating, answer.finish_reason) for answer in turn.answers]
    known = shown.made.turns.get(turn.key)
    if not known or known[0] != now:
        made = json.dumps(_turn(turn, shown, None, None, False), ensure_ascii=False)
        known = shown.made.turns[turn.key] = now, {"k": turn.key, "j": made}
    return known[1]


def _turn(
    turn: Turn, shown: Shown, writing: Answer | None, doing: Doing | None, last: bool
) -> Part:
    answers = []
    for answer in turn.answers:
        said, titles = _said(answer, shown)
        now = doing if answer is writing else None
        answers.append(
            {
                "k": answer.key,
                "c": "answer" + (" writing" if answer is writing else ""),
                "t": titles,
                "n": list(_answer(turn, answer, said, shown, now, last)),
            }
        )
    return {
        "k": turn.key,
        "c": "turn",
        "n": [
            _part("question", "question", _question(turn, shown.say)),
            {
                "k": "answers",
                "c": "answers" + (" several" if len(answers) > 1 else ""),
                "n": answers,
            },
        ],
    }


def _question(turn: Turn, say: Say) -> str:
    edits = edited(say("Change the question"), say)
    edit = button(say("Edit"), "edit", turn.key, on="ask", edits=edits)
    back = button(say("Take back"), "undo", turn.key, title=say("Take this question back"))
    return (
        f'<h3 class="asked editable" dir="auto">{html.escape(turn.question)}</h3>'
        f'<div class="actions">{edit}{back}</div>'
    )


def _answer(
    turn: Turn, answer: Answer, said: list[Part], shown: Shown, doing: Doing | None, last: bool
) -> Iterator[Part]:
    say = shown.say
    if len(turn.answers) > 1:
        yield _part("name", "name", f"<h4>{html.escape(label(answer.model))}</h4>")
    if answer.searched_for:
        yield _part("searched", "searched", _searched(turn, answer, say))
    if answer.reasoning:
        yield _part("reasoning", "", _reasoning(answer, say))
    yield from said
    if doing:
        yield _part("status", "status", _doing(doing, say))
    if answer.error:
        error = html.escape(say(answer.error))
        yield _part("error", "", f'<p class="error" role="alert">{error}</p>')
    if answer.finish_reason is None:
        return
    if answer.sources or answer.others:
        yield _part("sources", "sources", _sources(answer, say))
    facts = " · ".join(answer.facts(say))
    yield _part("facts", "facts", html.escape(facts))
    yield _part("actions", "actions", _actions(turn, answer, shown))
    if answer.suggestions and last:
        yield _part("suggestions", "suggestions", _suggestions(answer, say))


def _said(answer: Answer, shown: Shown) -> Said:
    if answer.key in shown.made.said:
        return shown.made.said[answer.key]
    text = shown.say(answer.text) if answer.text in OURS else answer.text
    titles: dict[Title, int] = {}
    parts = []
    for number, block in enumerate(blocks(text, answer.citations)):
        marks = []
        for sentence in block.sentences:
            title, more = mark(answer.citations[sentence.number], answer, shown.say)
            which = titles.setdefault(title, len(titles))
            marks.append(
                f"{sentence.number} {sentence.start} {sentence.end} {which} {more}".rstrip()
            )
        part = _part(f"text{number}", "said", left_open(block.html))
        parts.append({**part, "m": "\n".join(marks)})
    said = parts, list(titles)
    if answer.finish_reason is not None:  # nothing is added to it any more
        shown.made.said[answer.key] = said
    return said


def _searched(turn: Turn, answer: Answer, say: Say) -> str:
    key = f"{turn.key}:{answer.key}"
    edits = edited(say("Search for something else"), say)
    edit = button(say("Edit"), "search", key, on="ask", edits=edits)
    return (
        f"<span>{html.escape(say('searched for:'))} "
        f'<span class="editable" dir="auto">{html.escape(answer.searched_for)}</span></span> {edit}'
    )


def _reasoning(answer: Answer, say: Say) -> str:
    """The model's reasoning: open while it is all there is, folded once the answer begins."""
    text = html.escape(answer.reasoning.strip())
    thinking = not (answer.text or answer.finish_reason)
    return (
        f'<details class="reasoning" {"open" if thinking else ""}>'
        f"<summary>{html.escape(say('Thinking') if thinking else say('Thoughts'))}</summary>"
        f'<div dir="auto">{text}</div></details>'
    )


def _doing(doing: Doing, say: Say) -> str:
    """What is being done, how far it is, and (counted by the page) for how long."""
    return (
        f'<span role="status">{html.escape(told(doing, say))}</span>'
        f'<span class="seconds" aria-hidden="true"></span>'
    )


def told(doing: Doing, say: Say) -> str:
    """What is being done, and how far it is."""
    if isinstance(doing, Preparation):
        return preparing(doing, say)
    if isinstance(doing, Job):
        return say("Reading {name}", name=doing.name)
    if isinstance(doing, Waiting):
        if doing.seconds is None:
            return say("Number {number} in the line", number=doing.number)
        values = {"number": doing.number, "seconds": doing.seconds}
        return say("Number {number} in the line, some {seconds} s", **values)
    if doing.done:
        return say(
            "{doing} {done} of {total}", doing=say(doing.text), done=doing.done, total=doing.total
        )
    if doing.total:
        return say("{doing}: {total}", doing=say(doing.text), total=doing.total)
    return say(doing.text)


def mark(citation: Citation, answer: Answer, say: Say) -> tuple[Title, str]:
    """The mark behind a sentence: the number of the passage that bears it out, or a quiet "?"; and
    what the passage lacks."""
    if citation.node is None:
        return ("none", "?", say("not found in your documents")), ""
    number = str(answer.number_of(citation.node) or "·")
    title = say("Source {number}: {place}", number=number, place=_label(citation.node, say))
    more = partly(citation, say) if citation.support == "partly" else ""
    return (citation.support, number, title), " ".join(more.splitlines())


def partly(citation: Citation, say: Say) -> str:
    """What the passage lacks that nearly bears a sentence out."""
    return say("Partly: it does not say {missing}", missing=", ".join(citation.missing))


def _sources(answer: Answer, say: Say) -> str:
    """A line of buttons: the passages the model was given, then what else was found."""
    count = len(answer.sources)
    given = "".join(
        _source(answer, number, hit, say) for number, hit in enumerate(answer.sources, start=1)
    )
    others = "".join(
        _source(answer, number, hit, say)
        for number, hit in enumerate(answer.others, start=count + 1)
    )
    shown = ""
    if given:
        shown += f'<ul aria-label="{html.escape(say("Sources"))}">{given}</ul>'
    if others:
        title = say("Also found") if given else say("The nearest passages")
        shown += (
            f"<details {'' if given else 'open'}><summary>{html.escape(title)}</summary>"
            f'<ul start="{count + 1}" aria-label="{html.escape(title)}">{others}</ul></details>'
        )
    return shown


def _source(answer: Answer, number: int, hit: NodeWithScore, say: Say) -> str:
    node = hit.node
    place = say("page {page}", page=str(node.page)) if node.page else " › ".join(node.headings)
    name = html.escape(say("Show source {number}: {place}", number=number, place=_label(node, say)))
    return (
        f'<li><button type="button" class="source" data-on="open" data-do="source" '
        f'data-key="{answer.key}:{number - 1}" aria-label="{name}">'
        f'<span class="number">{number}</span> <b dir="auto">{html.escape(node.file_name)}</b> '
        f'<small dir="auto">{html.escape(place)}</small></button></li>'
    )


def _label(node: Node, say: Say) -> str:
    """`node.label` in a person's language."""
    if not node.page:
        return node.label
    return say("{name}, page {page}", name=node.file_name, page=str(node.page))


def _actions(turn: Turn, answer: Answer, shown: Shown) -> str:
    say = shown.say
    key = f"{turn.key}:{answer.key}"
    buttons = [
        button(say("Copy"), "copy", key, on="copy"),
        button(say("Retry"), "retry", key, on="ask"),
        _compare(key, shown),
    ]
    if len(turn.answers) > 1:
        buttons.append(button(say("Keep only this"), "choose", key))
    if shown.feedback:
        for sign, rating, title in (("👍", 1, "Good answer"), ("👎", -1, "Bad answer")):
            told = f"{say(title)}: {say('tell whoever runs this page')}"
            pressed = answer.rating == rating
            buttons.append(button(sign, "rate", f"{key}:{rating}", title=told, pressed=pressed))
        if answer.rating:
            why = say("Say why, to whoever runs this page")
            buttons.append(_field(button(say("Say why"), "comment", key, edits=edited(why, say))))
    return "".join(buttons)


def _compare(key: str, shown: Shown) -> str:
    """A list of the models that can be asked the same."""
    say = shown.say
    name = html.escape(say("Compare with another model"))
    choices = "".join(
        f'<option value="{html.escape(model)}">{html.escape(title)}</option>'
        for title, model in shown.models
    )
    if shown.any_model:
        choices += f'<option value="…">{html.escape(say("another model…"))}</option>'
    return _field(
        f'<select data-on="ask" data-do="compare" data-key="{key}" aria-label="{name}"'
        f"{edited(say('Name of the model'), say)}>"
        f'<option value="" selected>{html.escape(say("Compare with…"))}</option>{choices}'
        f"</select>"
    )


def _suggestions(answer: Answer, say: Say) -> str:
    asked = "".join(
        button(question, "follow-up", question, on="ask") for question in answer.suggestions
    )
    return f"<p>{html.escape(say('You could ask next:'))}</p>{asked}"


def _field(control: str) -> str:
    """A control with an empty text of its own to be changed."""
    return f'<span class="field">{control}<span class="editable" data-empty hidden></span></span>'


def conversations(shown: Sequence[Entry], current: str, say: Say) -> str:
    """The list of conversations, the one that is open marked."""
    rows = "".join(_row(each, each.key == current, say) for each in shown)
    new = button(say("New conversation"), "new", "")
    named = html.escape(say("Conversations"))
    return f'<p>{new}</p><ul class="conversations" aria-label="{named}">{rows}</ul>'


def _row(entry: Entry, current: bool, say: Say) -> str:
    key, name = html.escape(entry.key), html.escape(entry.name)
    rename = say("Rename {name}", name=entry.name)
    delete = say("Delete {name}", name=entry.name)
    save = html.escape(say("Save {name}", name=entry.name))
    return (
        f'<li class="{"current" if current else ""}">'
        f'<button type="button" class="name editable" dir="auto" data-on="click" data-do="show" '
        f'data-key="{key}" title="{name}" aria-current="{str(current).lower()}">{name}</button>'
        f'<span class="buttons">'
        f"{button('✎', 'rename', key, title=rename, edits=edited(rename, say))}"
        f'<select class="icon" data-on="save" data-do="save" data-key="{key}" aria-label="{save}" '
        f'title="{save}"><option value="" selected>↓</option>'
        f'<option value="md">Markdown</option><option value="json">JSON</option></select>'
        f"{button('×', 'delete', key, title=delete)}</span></li>"
    )
