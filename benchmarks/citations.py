"""How surely the sentences of an answer are told apart: borne out by the passages, or not.

    python -m benchmarks.citations FOLDER [--limit N] [--cost N]

FOLDER has `corpus.jsonl` and `questions.jsonl` of SQuAD (docs/evaluation.md). Its answers are made
by rule from its sentences. The cut-off is chosen on the odd articles, and the table is of the
even ones. `--cost N` answers N questions with the default local model, with and without citations.
"""

import argparse
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rag.answering.sentences import sentences
from rag.evaluation.files import Entry, Question, read_corpus, read_questions

BORNE_OUT = ("gold", "shortened", "named", "statement", "short")
"""Sentences that a passage bears out: as they stand there; without a clause; with the subject in
place of a pronoun; the question as a statement with its answer; the answer alone."""
NOT = ("other article", "same article", "wrong statement", "wrong short")
"""That none does: sentences of passages that were not found; and with another question's answer."""
CHANGED = ("number", "name", "number, same passage", "name, same passage")
"""Gold sentences with one number or name changed, to one of the corpus or of the same passage."""


@dataclass(frozen=True)
class Case:
    """One sentence of an answer."""

    kind: str
    question: Question
    sentence: str
    was: str = ""
    """What was changed."""


_NAME = re.compile(r"(?<=[a-z,] )[A-Z][a-z]+(?: [A-Z][a-z]+)*")
_NUMBER = re.compile(r"(?<![\w.,])\d+(?:[.,]\d+)*(?![\w,.]*\d)")
_CLAUSE = re.compile(
    r", (?:which|who|where|whose|including|such as|with|while|although|and) [^,]+,"
)
_BRACKETS = re.compile(r" \([^)]*\)")
_PRONOUN = re.compile(r"^(?:He|She|It|They|This|These)\b")
_STATEMENTS = (
    (r"Who (was|is|were|are) (.+)\?", r"{a} \1 \2."),
    (r"Who (\w+(?:ed|ew|ote|uilt|ave|ook|on|ade|an|aid|ought|ound)) (.+)\?", r"{a} \1 \2."),
    (r"What (was|is|were|are) (.+)\?", r"\2 \1 {a}."),
    (r"(?:What|Which) ([a-z ]+?) (was|is|were|are|did|has|had|does|do) (.+)\?", r"{a} is the \1 that \3."),
    (r"(In|On|At|By|From|To|For|With) (?:what|which) [a-z]+ (?:was|is|were|are|did|do|does) (.+)\?",
     r"\2 \1 {a}."),
    (r"When (was|were|is|are) (.+)\?", r"\2 \1 in {a}."),
    (r"When did (.+)\?", r"\1 in {a}."),
    (r"Where (was|were|is|are|did|do|does) (.+)\?", r"\2 in {a}."),
    (r"How many ([a-z]+) (.+)\?", r"{a} \1 \2."),
    (r"Why (?:did|do|does|was|were|is|are) (.+)\?", r"\1 because {a}."),
)  # fmt: skip


def statement(question: str, answer: str) -> str:
    """The question as a statement with its answer, by simple rules; empty where none applies."""
    for pattern, shape in _STATEMENTS:
        if found := re.fullmatch(pattern, question.strip()):
            text = found.expand(shape.replace("{a}", answer.replace("\\", "").rstrip(".")))
            return text[:1].upper() + text[1:]
    return ""


def gold_of(question: Question, entry: Entry) -> str:
    """The sentence of `entry` that has the answer; empty where none has it whole."""
    for begin, end in sentences(entry.text):
        if question.answers[0] in entry.text[begin:end]:
            return entry.text[begin:end]
    return ""


def cases_of(entries: Sequence[Entry], questions: Sequence[Question]) -> Iterator[Case]:
    """Sentences of answers to `questions`, of each kind that can be made."""
    draw = random.Random(7)
    by_id = {entry.id_: entry for entry in entries}
    pools = {
        pattern: sorted({found for entry in entries for found in pattern.findall(entry.text)})
        for pattern in (_NUMBER, _NAME)
    }
    for question in questions:
        (home, *_) = (by_id[id_] for id_, grade in question.grades.items() if grade > 0)
        if not (gold := gold_of(question, home)):
            continue
        answer, article = question.answers[0], home.id_.split("/")[0]
        yield Case("gold", question, gold)
        shorter = _CLAUSE.sub(",", _BRACKETS.sub("", gold), count=1)
        if shorter != gold:
            yield Case("shortened", question, shorter)
        if _PRONOUN.match(gold):
            yield Case("named", question, _PRONOUN.sub(home.title.replace("_", " "), gold))
        if made := statement(question.text, answer):
            yield Case("statement", question, made)
        if len(answer.split()) <= 4:
            yield Case("short", question, f"{answer[0].upper()}{answer[1:].rstrip('.')}.")
        elsewhere = [e for e in entries if e.id_.split("/")[0] != article]
        nearby = [e for e in entries if e.id_.split("/")[0] == article and e is not home]
        for kind, pool in (("other article", elsewhere), ("same article", nearby)):
            other = draw.choice(pool)
            yield Case(kind, question, _any_sentence(other, draw), other.id_)
        wrong = draw.choice(questions).answers[0]
        if wrong.lower() not in home.text.lower():
            if made := statement(question.text, wrong):
                yield Case("wrong statement", question, made, wrong)
            if len(wrong.split()) <= 4:
                yield Case("wrong short", question, f"{wrong[0].upper()}{wrong[1:].rstrip('.')}.")
        for pattern, name in ((_NUMBER, "number"), (_NAME, "name")):
            if not (found := list(pattern.finditer(gold))):
                continue
            place = draw.choice(found)
            far = [one for one in pools[pattern] if one not in home.text]
            near = sorted({one for one in pattern.findall(home.text) if one not in gold})
            for kind, choices in ((name, far), (f"{name}, same passage", near)):
                if choices:
                    text = gold[: place.start()] + draw.choice(choices) + gold[place.end() :]
                    yield Case(kind, question, text, place[0])


def _any_sentence(entry: Entry, draw: random.Random) -> str:
    begin, end = draw.choice(list(sentences(entry.text)))
    return entry.text[begin:end]
