"""How surely the sentences of an answer are told apart: borne out by the passages, or not.

    python -m benchmarks.citations --data FOLDER [--limit N] [--cost N]

FOLDER/squad has `corpus.jsonl` and `questions.jsonl` (docs/evaluation.md). Its answers are made by
rule from its sentences. The cut-off is chosen on every other article; the first tables are of
those that are left. `--cost N` answers N questions without and with citations, by a scripted model
and by the default local one.
"""

import argparse
import random
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from benchmarks import takes_data
from benchmarks.retrieval import machine
from rag.answering.citations import CUTOFFS, WORDS, Checker
from rag.answering.defaults import Settings
from rag.answering.engine import usual_postprocessors
from rag.answering.response import Response
from rag.answering.sentences import sentences
from rag.answering.vector_store_index import VectorStoreIndex
from rag.config import DEFAULT_MODEL, Config
from rag.evaluation.files import Entry, Question, read_corpus, read_questions
from rag.evaluation.measuring import put_in
from rag.index.embedding import Embedding
from rag.llms.catalog import load
from rag.llms.protocol import LLM
from rag.llms.scripted import ScriptedLLM
from rag.types import NodeWithScore

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
    (r"(?:What|Which) ([a-z ]+?) (?:was|is|were|are|did|has|had|does|do) (.+)\?",
     r"{a} is the \1 that \2."),
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


@dataclass(frozen=True)
class Judged:
    """What became of a case."""

    case: Case
    score: float
    lacking: bool
    """Whether the passage lacks a number, date or name of it."""

    def supported(self, cutoff: float) -> bool:
        return self.score >= cutoff and not self.lacking


def judge(
    cases: Sequence[Case],
    found: Mapping[str, Sequence[NodeWithScore]],
    embed_model: Embedding,
) -> list[Judged]:
    """Each case, checked against what was `found` for its question. Left out are those whose
    passage was not found, and foreign sentences whose passage was."""
    judged = []
    for question, group in groupby(cases, key=lambda case: case.question):
        nodes = found[question.id_]
        ids = {hit.node.document_id for hit in nodes}
        if not any(grade > 0 and id_ in ids for id_, grade in question.grades.items()):
            continue
        checker = Checker(question.text, embed_model, nodes, cutoff=0.0)
        for case in group:
            if case.was not in ids:
                seen = checker.check(case.sentence, 0)
                judged.append(Judged(case, seen.score, bool(seen.missing)))
    return judged


def choose(judged: Sequence[Judged]) -> float:
    """The cut-off with the best F1 of "supported" over all kinds but those changed within a
    passage."""
    kinds = (*BORNE_OUT, *NOT, *CHANGED[:2])
    some = [each for each in judged if each.case.kind in kinds]

    def f1(cutoff: float) -> float:
        precision, recall = rates(some, cutoff, BORNE_OUT)
        return 2 * precision * recall / ((precision + recall) or 1)

    return max((n / 100 for n in range(30, 100)), key=f1)


def rates(judged: Sequence[Judged], cutoff: float, borne_out: Sequence[str]) -> tuple[float, float]:
    """Precision and recall of "supported", where cases of the kinds `borne_out` should be."""
    right = [each.case.kind in borne_out for each in judged]
    told = [each.supported(cutoff) for each in judged]
    both = sum(a and b for a, b in zip(right, told, strict=True))
    return both / (sum(told) or 1), both / (sum(right) or 1)


def report(judged: Sequence[Judged], cutoff: float) -> str:
    """Two tables: of the kinds together, and of each."""
    lines = ["| at cut-off | precision | recall |", "| --- | --- | --- |"]
    easy = ("gold", *NOT[:2], *CHANGED[:2])
    for name, kinds, borne_out in (
        ("gold, foreign and changed sentences", easy, ("gold",)),
        ("with rewrites and wrong answers", (*BORNE_OUT, *NOT, *CHANGED[:2]), BORNE_OUT),
    ):
        some = [each for each in judged if each.case.kind in kinds]
        precision, recall = rates(some, cutoff, borne_out)
        lines.append(f"| {name} ({cutoff:.2f}) | {precision:.3f} | {recall:.3f} |")
    lines += [
        "",
        "| sentences | number | supported | partly | not found |",
        "| --- |" + " --- |" * 4,
    ]
    for kind in (*BORNE_OUT, *NOT, *CHANGED):
        some = [each for each in judged if each.case.kind == kind]
        total = len(some) or 1
        supported = sum(each.supported(cutoff) for each in some) / total
        partly = sum(each.score >= cutoff and each.lacking for each in some) / total
        lines.append(
            f"| {kind} | {len(some)} | {supported:.3f} | {partly:.3f} | "
            f"{1 - supported - partly:.3f} |"
        )
    return "\n".join(lines)


@dataclass
class Cost:
    """What answers cost, in seconds."""

    wall: float = 0.0
    processor: float = 0.0
    checking: float = 0.0
    """Of the processor, for checking their sentences once more by themselves."""
    sentences: int = 0
    gaps: list[float] = field(default_factory=list)
    """Between two pieces of text."""


def answer(
    index: VectorStoreIndex, question: Question, llm: LLM, cost: Cost, *, citations: bool
) -> None:
    """Add to `cost` that of one answer, by the settings' defaults."""
    usual = usual_postprocessors(llm, Config(), index.embed_model)
    engine = index.as_query_engine(True, Config().top_k, llm, "compact", usual, citations)
    wall, used, last, response = time.monotonic(), time.process_time(), 0.0, Response()
    for event in engine.events(question.text):
        response.take(event)
        if isinstance(event, str) and event:
            now = time.monotonic()
            cost.gaps += [now - last] if last else []
            last = now
    cost.wall += time.monotonic() - wall
    cost.processor += time.process_time() - used
    cost.sentences += len(response.citations)
    used = time.process_time()
    found = response.source_nodes, response.other_nodes
    checker = Checker(question.text, index.embed_model, *found) if citations else None
    for each in response.citations:
        if checker:
            checker.check(response.response[each.start : each.end], each.start)
    cost.checking += time.process_time() - used


def costs(index: VectorStoreIndex, questions: Sequence[Question], llm: LLM) -> str:
    """A table of answers without and with citations, in turn so that the machine is the same."""
    sums = {False: Cost(), True: Cost()}
    answer(index, questions[0], llm, Cost(), citations=True)
    for number, question in enumerate(questions):
        for citations in (False, True) if number % 2 else (True, False):
            answer(index, question, llm, sums[citations], citations=citations)
    lines = [
        f"| {llm.model_name} | wall s | processor s | checking s | sentences | gap p50 ms | p95 |",
        "| --- |" + " --- |" * 6,
    ]
    for citations, cost in sums.items():
        p50, p95 = np.percentile([1000 * gap for gap in cost.gaps], (50, 95))
        lines.append(
            f"| {'with' if citations else 'without'} | {cost.wall:.1f} | {cost.processor:.1f} | "
            f"{cost.checking:.2f} | {cost.sentences} | {p50:.1f} | {p95:.1f} |"
        )
    return "\n".join(lines)


def _any_sentence(entry: Entry, draw: random.Random) -> str:
    begin, end = draw.choice(list(sentences(entry.text)))
    return entry.text[begin:end]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.citations", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    takes_data(parser)
    parser.add_argument("--limit", type=int, metavar="N", help="N questions only, drawn at random")
    parser.add_argument("--cost", type=int, metavar="N", help="answer N questions; it is slow")
    options = parser.parse_args(arguments)
    squad = options.data / "squad"
    entries = read_corpus(squad / "corpus.jsonl")
    questions = read_questions(squad / "questions.jsonl", {each.id_ for each in entries})
    questions = [each for each in questions if each.is_searchable and each.answers]
    random.Random(7).shuffle(questions)
    questions = questions[: options.limit]
    embed_model = Settings.embed_model
    index = VectorStoreIndex(embed_model=embed_model)
    put_in(index, entries, lambda *_: None)
    retriever = index.as_retriever(Config().top_k)
    found = {question.id_: retriever.retrieve(question.text) for question in questions}
    judged = judge(list(cases_of(entries, questions)), found, embed_model)
    articles = sorted({article_of(each.case) for each in judged})
    tuning = [each for each in judged if articles.index(article_of(each.case)) % 2]
    held_out = [each for each in judged if not articles.index(article_of(each.case)) % 2]
    best, ours = choose(tuning), CUTOFFS.get(embed_model.name, WORDS)
    print(f"{machine()}\n\n{report(held_out, ours)}")
    print(f"\nBest F1 on the other half: {best:.2f}\n\n{report(tuning, ours)}")
    if options.cost:
        asked = questions[: options.cost]
        print(f"\n{costs(index, asked, ScriptedLLM(_script(entries), tokens_per_second=50))}")
        print(f"\n{costs(index, asked, load(DEFAULT_MODEL, Config.from_env(), lambda *_: None))}")
    index.close()


def article_of(case: Case) -> str:
    return min(case.question.grades).split("/")[0]


def _script(entries: Sequence[Entry]) -> str:
    """Some sentences, none of which is quite one of the corpus."""
    texts = [_BRACKETS.sub("", _CLAUSE.sub(",", entry.text)) for entry in entries[:200:40]]
    return " ".join(text.partition(". ")[0] + "." for text in texts)


if __name__ == "__main__":
    main()
