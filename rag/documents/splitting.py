"""Document -> [Node]: passages along headings, paragraphs and sentences.

The library `semantic-text-splitter` finds the largest unit that fits; lengths are counted with
the embedding model's own tokenizer, so that no passage is longer than what the embedder reads.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import pairwise

from semantic_text_splitter import MarkdownSplitter, TextSplitter
from tokenizers import Tokenizer
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from rag.types import Document, Node

PASSAGE_TOKENS = 220
"""Length limit of a passage: of 64 to 256 tokens what was found most surely (docs/decisions.md)."""
LEAST_TOKENS = 64
"""What is left of it below long headings, where the embedding model reads no more than both."""

STRETCH = 20_000
"""Characters the splitter is given at once. Where it finds no words, its time grows with the square
of them: 43 s for 200,000 characters of Chinese without a full stop."""

WORDS = 50_000
"""Words whose tokens are kept counted."""

_HEADING = re.compile(r"^(#{1,6})[ \t]+(.+?)[ \t]*#*$")
_FENCE = re.compile(r"^ {0,3}(`{3,}(?=[^`]*$)|~{3,})")  # ```x``` is code within a line


def split(
    document: Document,
    tokenizer: Tokenizer | Callable[[str], int],
    max_tokens: int = PASSAGE_TOKENS,
    window: int | None = None,
) -> list[Node]:
    """The passages of `document` in their order, each at most `max_tokens` long.

    `tokenizer` is a Hugging Face tokenizer without truncation, or a function that counts. With
    `window`, the tokens that the embedding model reads, a passage is so much shorter that it fits
    below its headings, if at all.
    No passage reaches over a heading or a page's end. Passages keep their offset in the text:
    `document.text[node.start:node.end] == node.text`.
    """
    # Pages have no Markdown in them; a line that begins with # is no heading there.
    plain = document.plain or document.page_starts
    splitter = TextSplitter if plain else MarkdownSplitter
    nodes: list[Node] = []
    sections = _pages(document) if plain else _sections(document)
    end_before = 0
    for begin, end, headings in _stretches(document.text, sections):
        limit = max_tokens
        if window and headings:
            left = window - _count(tokenizer, "\n".join((*headings, "")))
            limit = max(min(limit, left), min(limit, LEAST_TOKENS))
        chunks = _splitter(splitter, tokenizer, limit)
        for offset, text in chunks.chunk_indices(document.text[begin:end]):
            if not plain and _FENCE.match(text) and "\n" not in text:
                continue  # the mere edge of a block of code that is longer than a passage
            start = begin + offset
            page = document.page_at(start)
            metadata = dict(document.metadata) | ({"page_label": str(page)} if page else {})
            nodes.append(
                Node(
                    text,
                    document.id_,
                    len(nodes),
                    start,
                    document.name,
                    page,
                    headings,
                    metadata,
                    document.text[end_before:start],
                )
            )
            end_before = start + len(text)
    return nodes


@lru_cache(maxsize=2)
def _by_words(tokenizer: Tokenizer) -> Callable[[str], int] | None:
    """Counts like `tokenizer`, each word once: the splitter asks for the same words many times.

    None where what a word becomes hangs on what is before it, as in a vocabulary that has spaces.
    """
    normalizer = tokenizer.normalizer
    if not isinstance(tokenizer.pre_tokenizer, BertPreTokenizer) or not (
        normalizer is None or isinstance(normalizer, BertNormalizer)
    ):
        return None

    @lru_cache(WORDS)
    def count(word: str) -> int:
        return len(tokenizer.encode(word, add_special_tokens=False).ids)

    return lambda text: sum(map(count, text.split()))


@lru_cache(maxsize=64)
def _splitter(
    kind: type[TextSplitter] | type[MarkdownSplitter],
    tokenizer: Tokenizer | Callable[[str], int],
    max_tokens: int,
) -> TextSplitter | MarkdownSplitter:
    """Kept, because making one takes longer than splitting a page."""
    if not isinstance(tokenizer, Tokenizer):
        return kind.from_callback(tokenizer, max_tokens)
    if count := _by_words(tokenizer):
        return kind.from_callback(count, max_tokens)
    return kind.from_huggingface_tokenizer(tokenizer, max_tokens)


def _count(tokenizer: Tokenizer | Callable[[str], int], text: str) -> int:
    """The tokens of `text`, special ones included."""
    return len(tokenizer.encode(text).ids) if isinstance(tokenizer, Tokenizer) else tokenizer(text)


Section = tuple[int, int, tuple[str, ...]]
"""Where a section begins and ends, in characters, and its headings, outermost first."""


def _stretches(text: str, sections: Iterable[Section]) -> Iterator[Section]:
    """The sections, the long ones in several stretches, each ended where the text has a break."""
    for begin, end, headings in sections:
        while end - begin > STRETCH:
            middle, limit = begin + STRETCH // 2, begin + STRETCH
            breaks = (
                text.rfind(mark, middle, limit) + 1 for mark in ("\n\n", "\n", ". ", "。", " ")
            )
            stop = next(filter(None, breaks), limit)
            yield begin, stop, headings
            begin = stop
        yield begin, end, headings


def _pages(document: Document) -> Iterator[Section]:
    for begin, end in pairwise((*(document.page_starts or (0,)), len(document.text))):
        yield begin, end, ()


def _sections(document: Document) -> Iterator[Section]:
    """The text between the Markdown headings, which are told from comments in code blocks."""
    path: list[tuple[int, str]] = []
    title = begin = offset = 0
    fence = ""

    def section(next_level: int) -> Section:
        titles = tuple(text for _, text in path)
        # A heading with nothing below it, not even another one, is the text itself.
        if path and next_level <= path[-1][0] and not document.text[begin:offset].strip():
            return title, offset, titles[:-1]
        return begin, offset, titles

    for line in document.text.splitlines(keepends=True):
        marks = _FENCE.match(line)
        if marks and not fence:
            fence = marks[1]
        elif marks and marks[1].startswith(fence) and not line[marks.end() :].strip():
            fence = ""
        elif not fence and (heading := _HEADING.match(line.rstrip("\r\n"))):
            level = len(heading[1])
            yield section(level)
            path = [(above, text) for above, text in path if above < level]
            path.append((level, re.sub(r"\*\*|`", "", heading[2])))
            title, begin = offset, offset + len(line)
        offset += len(line)
    yield section(0)
