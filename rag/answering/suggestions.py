"""An answer -> further questions that the documents can answer, each checked by a search.

They are made from passages near those that were found: of headings that are questions or can be
asked about, and of sentences that say what something is. The rule knows English; elsewhere a
heading is suggested as it stands. A model that is not small is asked to write some first.
"""

import logging
import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from itertools import zip_longest

from rag.answering.budget import Passages
from rag.answering.calls import Calls
from rag.answering.events import Sources
from rag.answering.follow_ups import points_back
from rag.answering.prompts import passage
from rag.answering.relevance import RelevancePostprocessor
from rag.config import Config
from rag.errors import ModelError
from rag.index.embedding import Embedding
from rag.index.retrieval import Retriever
from rag.index.words import STOP, spaced
from rag.llms.protocol import LLM
from rag.types import ChatMessage, Node, NodeWithScore

logger = logging.getLogger(__name__)

MOST = 3
"""Questions that are suggested."""
TRIED = 16
"""Questions that are searched for at most; each takes as long as a search."""
WRITTEN = 120
"""Tokens that a model may write."""
BEGINNING = 500
"""Characters of the passage that was answered from, to which others are sought."""
LONG = 100
"""Characters of a question that nobody reads before clicking."""
ALIKE = 0.6
"""Share of words from which on two questions ask the same."""
ENGLISH = 0.2
"""Share of words that are everywhere in English, from which on a text is English."""

WRITE = (
    "Passages from my documents:\n-----\n{context_str}\n-----\n"
    "I have asked: {asked}\n"
    "Write three other short questions that these passages answer, in the language of my question. "
    "Each has to be understood by itself. Write one question a line, and nothing else."
)

_NUMBERING = re.compile(
    r"^\W*(\d+(\.\d+)*[.):]?\s+|[-*•]\s*|(chapter|section|part)\s+\w+\W+)", re.I
)
_NO_SUBJECT = re.compile(
    r"(table of )?contents|(general )?introduction|intro|overview|summary|abstract|conclusions?"
    r"|references|bibliography|appendix( \w+)?|index|notes?|examples?|about|preface|foreword"
    r"|background|discussion|results?|methods?|faqs?|misc(ellaneous)?|other|see also|sources"
    r"|external links|further reading|acknowledge?ments?|untitled|readme|home|page \w+|sheet ?\d*",
    re.I,
)
_BRACKETS = re.compile(r"\s*\([^()]*\)|\s*\[[^\[\]]*\]")
_WHAT = re.compile(
    r"(?:^|(?<=[.!?] )|(?<=\n))"
    r"(?P<subject>(?:(?:An?|The) )?[\w’'-]+(?: [\w’'-]+){0,4}?)"
    r",? (?P<verb>is|are|was|were) "
    r"(?:(?:an?|one of the|the (?:name|process|study|practice|people|first|only|largest|most))\s)"
    r"(?P<rest>[^.!?\n]{12,})"
)
_NAME = re.compile(
    r"(?P<the>\b[Tt]he )?(?<![\w’'-])(?P<name>[A-Z][\w-]+"
    r"(?:(?: (?:of|de|la|von|van|du|for)(?: the)?)? [A-Z][\w-]*)+)"
    r"(?=[.,;:!?]|$| (?P<next>[a-z]+))"
)
_ADJECTIVE = re.compile(r"(ian|ean|can|ese|ish|ern|ist|ic)$")
_DATE = re.compile(
    r"\b(Jan|Febr)uary|\b(March|April|May|June|July|August|(\w+)day|\w+ember|October)\b"
)
_PERSON = re.compile(
    r"\b\w*(king|queen|duke|emperor|prince(ss)?|poet|author|writer|artist|president|minister|monk"
    r"|mathematician|scientist|physicist|chemist|engineer|composer|player|politician|general"
    r"|philosopher|historian|inventor|leader|bishop|pope|theologian|businessman|officer|lawyer"
    r"|professor|surgeon|explorer|noble\w*|knight|actor|actress|singer|painter|architect)\b"
)
_POINTING = re.compile(
    r"(this|that|these|those|it|he|she|they|we|you|i|there|here|what|which|who|one|another|other"
    r"|his|her|their|its|our|my|your|each|some|many|most|all|both|such|if|when|while|since|as|in"
    r"|on|at|by|for|with|after|before|during|also|however|but|and|or|not|so|then|an? (?:result"
    r"|example|number|part|similar|second|third|further|key|more|common|major|reason|way|person))\b"
    r"|(.* )?(it|this|that|these|those|they|he|she|which|who|there|other|another|latter|former"
    r"|same|first|second|third|following|only|main|result|reason|example|purpose|aim|goal)\b",
    re.I,
)


def suggest(
    asked: Sequence[str],
    sources: Sources,
    retriever: Retriever,
    config: Config,
    embed_model: Embedding,
    llm: LLM | None = None,
) -> Generator[str, None, None]:
    """At most `MOST` questions, one by one; empty texts between, at which the reader can stop.

    `asked` are the questions of the conversation, at least one, that of the answer last, as it was
    searched for; `sources` are that answer's. None leads to the passages of the answer, nor two to
    the same passage. `llm` writes some where it is not small; the rest is made by rule. Raises what
    the search raises.
    """
    given = [hit.node for hit in sources.nodes]
    found = list(sources.others)
    for text in (asked[-1], *(node.embedded_text[:BEGINNING] for node in given[:1])):
        yield ""
        found += retriever.retrieve(text)
    near = {hit.node.id_: hit for hit in found if not _among(hit.node, given)}
    if not near:
        return
    cutoff = RelevancePostprocessor(embed_model, config.relevance_cutoff).cutoff
    known, leads_to = list(asked), given
    tried = 0
    with closing(_candidates(asked, list(near.values()), llm)) as candidates:
        for question in candidates:
            yield ""
            if not question or any(_alike(question, other) for other in known):
                continue
            tried += 1
            hits = retriever.retrieve(question)
            if hits and hits[0].get_score() >= cutoff and not _among(hits[0].node, leads_to):
                known.append(question)
                leads_to.append(hits[0].node)
                yield question
            if tried == TRIED or len(known) == len(asked) + MOST:
                return


def _candidates(
    asked: Sequence[str], near: Sequence[NodeWithScore], llm: LLM | None
) -> Generator[str, None, None]:
    """What could be asked, and empty texts while a model writes it."""
    if llm and not llm.is_small:
        try:
            yield from _written(asked, near, llm)
        except ModelError as error:
            logger.info("No questions were written: %s", error)
    by_rule = [list(questions_of(hit.node)) for hit in near]
    for of_each in zip_longest(*by_rule, fillvalue=""):  # the best of each passage first
        yield from of_each


def _written(asked: Sequence[str], near: Sequence[NodeWithScore], llm: LLM) -> Iterator[str]:
    """What a model writes; empty texts meanwhile."""

    def render(context: str) -> list[ChatMessage]:
        text = WRITE.format(context_str=context, asked=" / ".join(asked[-MOST:]))
        return [ChatMessage("user", text)]

    calls = Calls(llm, WRITTEN)
    context = Passages(passage(hit) for hit in near[: 2 * MOST]).take(llm, render, WRITTEN)
    text = ""
    with closing(calls.write(render(context))) as events:
        for event in events:
            if isinstance(event, str):
                text += event
            yield ""
    lines = text.splitlines()
    if calls.ended != "stop":  # the last one is not whole
        lines = lines[:-1]
    for line in lines:
        question = _NUMBERING.sub("", line).strip(" *_\"'“”")
        if (
            question.endswith(("?", "？", "؟"))
            and len(question) <= LONG
            and not points_back(question)
        ):
            yield question


def questions_of(node: Node) -> Iterator[str]:
    """What can be asked of a passage, the best first; none where nothing reads well."""
    english = _is_english(node.text)
    heading = _NUMBERING.sub("", " ".join(node.headings[-1].split())) if node.headings else ""
    if 2 < len(heading) <= LONG and not _NO_SUBJECT.fullmatch(heading.strip(" .:")):
        if heading.endswith(("?", "？", "؟")):
            if not points_back(heading):
                yield heading
        elif not english:
            yield heading
        elif re.search(r"[A-Za-z]{3}", heading) and len(heading.split()) <= 8:
            yield f"What do the documents say about {_in_a_sentence(heading, node.text)}?"
    if english:
        yield from _definitions(node.text)
        yield from _names(node.text)


def _definitions(text: str) -> Iterator[str]:
    for match in _WHAT.finditer(_BRACKETS.sub("", text)):
        subject, verb = match["subject"], match["verb"]
        if _POINTING.match(subject) or not re.search(r"[A-Za-z]{3}", subject):
            continue
        named = any(word[0].isupper() for word in subject.split()[1:])
        the = subject.startswith("The ")
        if "'" in subject or "’" in subject or (the and not named):  # it was spoken of before
            continue
        told = match["rest"][:60]
        person = named and (
            re.search(r"\bwho\b", told)
            or (not subject.startswith(("The ", "A ", "An ")) and _PERSON.search(told))
        )
        who = "Who" if person else "What"
        yield f"{who} {verb} {_in_a_sentence(subject, text)}?"


def _names(text: str) -> Iterator[str]:
    """Of what has a name of several words. One before a noun is a part of another name."""
    text = _BRACKETS.sub("", text)
    for match in _NAME.finditer(text):
        words = match["name"].split()
        after = match["next"]
        if (
            (after and after not in STOP)
            or (after == "and" and _ADJECTIVE.search(words[-1]))
            or re.search(r"[A-Z][\w-]+,? (and|or|&) $", text[: match.start()])
            or words[0].lower() in STOP
            or re.fullmatch("[A-HJ-UWYZ]", words[-1])  # an initial; the others may be numbers
            or _DATE.search(match["name"])
            or (not match["the"] and _ADJECTIVE.search(words[-1]))
        ):
            continue
        the = "the " if match["the"] else ""
        yield f"What do the documents say about {the}{' '.join(words)}?"


def _in_a_sentence(text: str, around: str) -> str:
    """`text` without its first capital, unless that is a name's."""
    text = text.strip(" .:")
    first = text.split()[0]
    small = first.lower()
    common = small in STOP or re.search(rf"\b{re.escape(small)}\b", around)
    if (common and first[1:].islower()) or small == "a":
        return text[0].lower() + text[1:]
    return text


def _is_english(text: str) -> bool:
    words = re.findall(r"\w+", text.lower())
    return sum(word in STOP for word in words) >= ENGLISH * max(len(words), 1)


def _among(node: Node, others: Sequence[Node]) -> bool:
    return any(node.holds(other) or other.holds(node) for other in others)


def _words(question: str) -> set[str]:
    words = set(re.findall(r"\w+", spaced(question)))
    return words - STOP - {"documents", "say"} or words


def _alike(one: str, other: str) -> bool:
    """Whether they ask the same, by their words."""
    words, others = _words(one), _words(other)
    return len(words & others) >= ALIKE * max(len(words), len(others))
