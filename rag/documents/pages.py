"""A page of a PDF as a picture, with where a sentence stands on it.

The file is as hostile here as when it was read: it is drawn in a process of its own, with a time
and a memory limit, which answers with a line of JSON.
"""

import base64
import io
import json
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from ctypes import byref, c_int
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rag.documents.isolation import LATE, confined, next_answer, process
from rag.errors import DocumentError

WIDTH = 1200
"""Pixels across a page: its text is sharp in a column of half of that."""
PIXELS = 6_000_000
"""In a picture, at most: three pages of A4."""
SIDE = 16_000
"""Pixels along a side, at most; WebP's own limit is a little above."""
COLOURS = 4_096
"""In a picture without loss, at most: text and drawings. What has more has photographs in it, in
which loss does not show, and without it would be ten times as heavy."""
QUALITY = 75
JOINED = 3.0
"""Times their height two letters of a line may be apart for what is between them to be marked."""
FINE = 64
"""Steps to a point in which places on a page are told."""
TIMEOUT = 20.0
"""Seconds that drawing a page may take."""
HYPHEN = 0xFFFE
"""What pdfium gives for one at the end of a line."""

BROKEN = "the page cannot be shown: it is damaged, or takes more memory than it may."
TOO_LONG = "the page cannot be shown: drawing it takes too long."


class Box(NamedTuple):
    """A rectangle on a page, in fractions of its width and height, from its upper left corner."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Picture:
    """A page as it would be printed."""

    data: bytes
    """WebP."""
    width: int
    height: int
    boxes: tuple[Box, ...] = ()
    """Where the text stands that was asked for, line by line; empty where it is not found."""


def render_isolated(
    path: Path, file_name: str, page: int, text: str = "", lead: str = "", timeout: float = TIMEOUT
) -> Picture:
    """The page (from 1) of the PDF at `path`, with where `text` stands on it.

    `lead` is what the document has on this page before it, by which the right one is known of
    several. Raises DocumentError where the page cannot be shown, or not within `timeout` seconds.
    """
    asked = {"path": str(path.resolve()), "page": page, "text": text, "lead": len(_letters(lead))}
    with process(__name__) as drawing:
        told = next_answer(drawing, timeout, json.dumps(asked).encode() + b"\n")
    try:
        boxes = tuple(Box(*map(float, box)) for box in told["boxes"])
        data = base64.b64decode(told["data"], validate=True)
        return Picture(data, int(told["width"]), int(told["height"]), boxes)
    except (KeyError, TypeError, ValueError) as error:
        raise DocumentError(file_name, TOO_LONG if told == LATE else BROKEN) from error


def render(path: Path, page: int, text: str = "", lead: int = 0) -> Picture:
    """`render_isolated` in this process; `lead` counts letters. Raises what pdfium raises."""
    import pypdfium2

    with pypdfium2.PdfDocument(path) as pdf:
        drawn = pdf[page - 1]
        width, height = (max(side, 1.0) for side in drawn.get_size())
        scale = min(
            WIDTH / width, (PIXELS / (width * height)) ** 0.5, SIDE / max(width, height)
        )  # fmt: skip
        image = drawn.render(scale=scale).to_pil()
        boxes = tuple(_boxes(drawn, text, lead))
        return Picture(_encoded(image), image.width, image.height, boxes)


def _encoded(image: Any) -> bytes:
    def as_webp(**options: Any) -> bytes:
        file = io.BytesIO()
        image.save(file, "WEBP", **options)
        return file.getvalue()

    if image.getcolors(COLOURS) is None:
        return as_webp(quality=QUALITY, method=2)
    return as_webp(lossless=True, quality=60, method=1)


def _letters(text: str) -> str:
    """What `text` is known by, however it was joined, trimmed and made readable: without white
    space, hyphens and what cannot be seen."""
    return "".join(
        letter
        for char in text
        if char <= "\uffff"  # others may be two characters to pdfium
        for letter in unicodedata.normalize("NFKD", char).casefold()
        if unicodedata.category(letter) != "Pd" and unicodedata.category(letter)[0] not in "CZ"
    )


def _boxes(page: Any, text: str, lead: int) -> Iterator[Box]:
    """Where `text` stands on the page; of several places the one that has about `lead` letters
    before it."""
    from pypdfium2 import raw

    sought = _letters(text)
    textpage = page.get_textpage()
    codes = [raw.FPDFText_GetUnicode(textpage, n) for n in range(textpage.count_chars())]
    found = [(letter, n) for n, code in enumerate(codes) for letter in _letters(chr(code))]
    there = "".join(letter for letter, _ in found)
    starts = _places(there, sought)
    if not starts:
        return
    start = min(starts, key=lambda place: abs(place - lead))
    first, last = found[start][1], found[start + len(sought) - 1][1]
    chars = [n for n in range(first, last + 1) if _letters(chr(codes[n])) or codes[n] == HYPHEN]
    width, height = (max(round(side * FINE), 1) for side in page.get_size())

    def place(x: float, y: float) -> tuple[int, int]:
        """A point on the page as it is seen: turned and cropped."""
        across, down = c_int(), c_int()
        raw.FPDF_PageToDevice(page, 0, 0, width, height, 0, x, y, byref(across), byref(down))
        return across.value, down.value

    def box(char: int) -> Box:
        left, bottom, right, top = textpage.get_charbox(char, loose=True)
        (x1, y1), (x2, y2) = place(left, bottom), place(right, top)
        return Box(min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))

    for line in _lines(map(box, chars)):
        left, right = (min(max(x / width, 0.0), 1.0) for x in (line.left, line.right))
        top, bottom = (min(max(y / height, 0.0), 1.0) for y in (line.top, line.bottom))
        if left < right and top < bottom:  # or it is cut off
            yield Box(left, top, right, bottom)


def _places(text: str, sought: str) -> list[int]:
    """Where `sought` begins in `text`; an empty one nowhere."""
    places, place = [], text.find(sought) if sought else -1
    while place >= 0:
        places.append(place)
        place = text.find(sought, place + 1)
    return places


def _lines(boxes: Iterable[Box]) -> Iterator[Box]:
    """One box around what follows one another on a line."""
    line: Box | None = None
    for box in boxes:
        if box.left == box.right or box.top == box.bottom:
            continue
        if line and _on_a_line(line, box):
            line = Box(*map(min, line[:2], box[:2]), *map(max, line[2:], box[2:]))
            continue
        if line:
            yield line
        line = box
    if line:
        yield line


def _on_a_line(one: Box, other: Box) -> bool:
    height = min(one.bottom - one.top, other.bottom - other.top)
    shared = min(one.bottom, other.bottom) - max(one.top, other.top)
    apart = max(one.left, other.left) - min(one.right, other.right)
    return shared > height / 2 and apart < JOINED * height


def main() -> None:
    """The drawing process: one line of JSON says which page, another one has it."""
    asked = json.loads(sys.stdin.readline())
    tell = confined()
    drawn = render(Path(asked["path"]), asked["page"], asked["text"], asked["lead"])
    data = base64.b64encode(drawn.data).decode()
    tell({"data": data, "width": drawn.width, "height": drawn.height, "boxes": drawn.boxes})


if __name__ == "__main__":
    main()
