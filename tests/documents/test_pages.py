"""A page as a picture: what is marked on it is the sentence, and nothing else.

The sentence is red in these files, all else is black: so the picture itself tells.
"""

import io
import json
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pypdfium2
import pytest
from numpy.typing import NDArray
from PIL import Image
from reportlab.lib.pagesizes import A4
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfgen.canvas import Canvas

from rag.documents import pages
from rag.documents.loading import load
from rag.documents.pages import PIXELS, SIDE, WIDTH, Picture, render_isolated
from rag.errors import DocumentError
from rag.types import Document
from tests.documents.makers import pdf

Line = tuple[float, float, str]
"""Where a line begins, in points, and its text; what is in {} is of the sentence."""


def made(
    path: Path,
    *sheets: Sequence[Line],
    size: tuple[float, float] = A4,
    rotate: int = 0,
    crop: tuple[float, float, float, float] | None = None,
    font: str = "Helvetica",
    font_size: float = 12,
    before: Callable[[Canvas], object] = lambda canvas: None,
) -> Path:
    canvas = Canvas(str(path), pagesize=size, cropBox=crop)
    for sheet in sheets:
        before(canvas)
        for x, y, marked in sheet:
            text = canvas.beginText(x, y)
            text.setFont(font, font_size)
            for n, piece in enumerate(marked.replace("}", "{").split("{")):
                text.setFillColorRGB(n % 2, 0, 0)
                text.textOut(piece)
            canvas.drawText(text)
        canvas.showPage()
    canvas.save()
    if rotate:
        document = pypdfium2.PdfDocument(path)
        for page in document:
            page.set_rotation(rotate)
        document.save(path.with_suffix(".turned.pdf"))
        path.with_suffix(".turned.pdf").replace(path)
    return path


def read(path: Path) -> Document:
    (document,) = load(path)
    assert isinstance(document, Document)
    return document


def seen(path: Path, sentence: str, page: int = 1, nth: int = 0) -> Picture:
    """The page with the `nth` of the places marked where its text has `sentence`."""
    document = read(path)
    start = (*document.page_starts, len(document.text))[page - 1]
    found = re.finditer(r"\s+".join(map(re.escape, sentence.split())), document.text[start:])
    place = list(found)[nth]
    lead = document.text[start:][: place.start()]
    return render_isolated(path, path.name, page, place[0], lead)


def pixels(picture: Picture) -> NDArray[np.int16]:
    image = Image.open(io.BytesIO(picture.data)).convert("RGB")
    assert image.size == (picture.width, picture.height)
    return np.asarray(image).astype(np.int16)


def shares(picture: Picture) -> tuple[float, float]:
    """What part of the sentence's ink is in the boxes, and what part of all other."""
    image = pixels(picture)
    marked = np.zeros(image.shape[:2], bool)
    height, width = marked.shape
    for left, top, right, bottom in picture.boxes:
        rows = slice(int(top * height), int(np.ceil(bottom * height)))
        marked[rows, int(left * width) : int(np.ceil(right * width))] = True
    red = (image[..., 0] > 180) & (image[..., 1] < 90)
    black = image.max(2) < 90
    assert red.sum() > 100, "the sentence is not to be seen"
    return float((red & marked).sum() / red.sum()), float((black & marked).sum() / black.sum())


def assert_marked(picture: Picture, lines: int | None = None) -> None:
    inside, others = shares(picture)
    assert inside > 0.99
    assert others < 0.02
    if lines is not None:
        assert len(picture.boxes) == lines


TEXT: tuple[Line, ...] = (
    (72, 700, "The Rhine flows north. {The Danube flows}"),
    (72, 685, "{east, through ten countries.} The Po flows"),
    (72, 670, "east as well, but through one country only."),
)
SENTENCE = "The Danube flows east, through ten countries."


def test_a_sentence_on_two_lines(tmp_path: Path) -> None:
    picture = seen(made(tmp_path / "a.pdf", TEXT), SENTENCE)
    assert_marked(picture, lines=2)
    assert picture.width == WIDTH


def test_a_picture_of_a_page_of_text_is_light(tmp_path: Path) -> None:
    words = "the quick river flows past quiet towns while people talk of contracts and of dates"
    dense = [(50.0, 800 - 13.5 * n, f"{n} {words}"[n % 7 :]) for n in range(56)]
    path = made(tmp_path / "a.pdf", dense, font="Times-Roman", font_size=11)
    picture = render_isolated(path, "a.pdf", 1)
    assert len(picture.data) < 50_000
    assert picture.boxes == ()
    black = pixels(picture).max(2) < 90
    assert 0.02 < black.mean() < 0.2


@pytest.mark.parametrize("rotate", [90, 180, 270])
def test_a_page_that_is_turned(tmp_path: Path, rotate: int) -> None:
    """As of a scanner, or a wide table in a report: it is drawn sideways, and shown upright."""

    def sideways(canvas: Canvas) -> None:
        width, height = A4
        canvas.translate(*{90: (width, 0), 180: (width, height), 270: (0, height)}[rotate])
        canvas.rotate(rotate)

    lines = [(x, y - 200, text) for x, y, text in TEXT]
    picture = seen(made(tmp_path / "a.pdf", lines, rotate=rotate, before=sideways), SENTENCE)
    assert_marked(picture, lines=2)
    assert (picture.width > picture.height) == (rotate != 180)


@pytest.mark.parametrize("rotate", [90, 180, 270])
def test_a_page_that_lies_on_its_side(tmp_path: Path, rotate: int) -> None:
    path = made(tmp_path / "a.pdf", [(72, 700, "{The Danube flows east.} The Po, too.")])
    document = pypdfium2.PdfDocument(path)
    document[0].set_rotation(rotate)
    document.save(tmp_path / "b.pdf")
    assert_marked(render_isolated(tmp_path / "b.pdf", "b.pdf", 1, "The Danube flows east."))


@pytest.mark.parametrize("rotate", [0, 90])
def test_a_page_that_is_cropped(tmp_path: Path, rotate: int) -> None:
    path = made(tmp_path / "a.pdf", TEXT, rotate=rotate, crop=(60, 600, 400, 750))
    picture = seen(path, SENTENCE)
    assert_marked(picture)
    sides = (picture.width, picture.height) if not rotate else (picture.height, picture.width)
    assert sides[0] / sides[1] == pytest.approx(340 / 150, rel=0.01)


def test_a_page_whose_corner_is_not_the_origin(tmp_path: Path) -> None:
    path = made(tmp_path / "a.pdf", TEXT)
    document = pypdfium2.PdfDocument(path)
    document[0].set_mediabox(50, 500, 500, 800)
    document[0].set_cropbox(60, 640, 450, 760)
    document.save(tmp_path / "b.pdf")
    assert_marked(seen(tmp_path / "b.pdf", SENTENCE), lines=2)


def test_what_the_page_cuts_off_is_not_marked(tmp_path: Path) -> None:
    path = made(tmp_path / "a.pdf", TEXT, crop=(60, 600, 400, 680))
    assert seen(path, SENTENCE).boxes == ()


def test_two_columns(tmp_path: Path) -> None:
    left = [(60.0, 700.0 - 15 * n, f"Left line {n} tells of the river") for n in range(4)]
    right = [(320.0, 700.0 - 15 * n, f"Right line {n} tells of the hills") for n in range(1, 4)]
    across = (60.0, 640.0, "and {here begins what}"), (320.0, 700.0, "{ends over there.} Then")
    path = made(tmp_path / "a.pdf", [*left, *across, *right])
    assert_marked(seen(path, "here begins what ends over there."), lines=2)


def test_a_word_that_is_hyphenated(tmp_path: Path) -> None:
    lines = (
        (72, 700, "Before it. {The riverbank is very beau-}"),
        (72, 685, "{tiful in spring.} After it."),
    )
    path = made(tmp_path / "a.pdf", lines)
    text = read(path).text
    sentence = text[text.index("The") : text.index(" After")]
    assert_marked(seen(path, sentence), lines=2)
    assert_marked(render_isolated(path, "a.pdf", 1, "The riverbank is very beautiful in spring."))


def test_ligatures(tmp_path: Path, ligatures: Path) -> None:
    picture = render_isolated(ligatures, "a.pdf", 1, "The first \ufb01sh \ufb02oats")
    assert len(picture.boxes) == 1
    assert render_isolated(ligatures, "a.pdf", 1, "The first fish floats").boxes == picture.boxes


@pytest.fixture
def ligatures(tmp_path: Path) -> Path:
    """A file in whose text two letters are one."""
    return made(tmp_path / "a.pdf", [(72, 700, "The first fish floats down the Rhine.")])


def test_accents(tmp_path: Path) -> None:
    path = made(tmp_path / "a.pdf", [(72, 700, "Él duerme. {Où est l’été, Jürgen Ørsted?} Là.")])
    assert_marked(seen(path, "Où est l’été, Jürgen Ørsted?"), lines=1)
    apart = "Ou\u0300 est l’e\u0301te\u0301, Ju\u0308rgen Ørsted?"
    assert_marked(render_isolated(path, "a.pdf", 1, apart), lines=1)


def test_chinese_and_japanese(tmp_path: Path) -> None:
    """The machine may have no font for them; where they stand is known all the same."""
    pdfmetrics.registerFont(UnicodeCIDFont("HeiseiMin-W3"))
    lines = ((72, 700, "川は北へ流れる。ドナウ川は"), (72, 680, "東へ流れる。ポー川も東へ。"))
    path = made(tmp_path / "a.pdf", lines, font="HeiseiMin-W3")
    picture = seen(path, "ドナウ川は 東へ流れる。")
    first, second = picture.boxes
    assert first.left == pytest.approx((72 + 8 * 12) / A4[0], abs=0.01)
    assert first.right == pytest.approx((72 + 13 * 12) / A4[0], abs=0.01)
    assert second.left == pytest.approx(72 / A4[0], abs=0.01)
    assert second.right == pytest.approx((72 + 6 * 12) / A4[0], abs=0.01)
    assert first.bottom <= second.top + 0.005


def test_of_a_sentence_that_is_repeated_the_right_one(tmp_path: Path) -> None:
    def lines(red: int) -> list[Line]:
        texts = ["See above." if n != red else "{See above.}" for n in range(5)]
        return [(72.0, 700.0 - 20 * n, f"Line {n}. {text}") for n, text in enumerate(texts)]

    for n in range(5):
        assert_marked(seen(made(tmp_path / f"{n}.pdf", lines(n)), "See above.", nth=n), lines=1)


def test_a_sentence_that_is_a_part_of_another(tmp_path: Path) -> None:
    path = made(tmp_path / "a.pdf", [(72, 700, "Not so. It was not so. {So.} So it was.")])
    text = read(path).text
    lead = text[: text.index("So.")]
    assert_marked(render_isolated(path, "a.pdf", 1, "So.", lead), lines=1)


def test_a_line_that_runs_upwards(tmp_path: Path) -> None:
    def upright(canvas: Canvas) -> None:
        canvas.saveState()
        canvas.rotate(90)
        canvas.setFillColorRGB(1, 0, 0)
        canvas.drawString(300, -100, "Written upwards.")
        canvas.restoreState()

    path = made(tmp_path / "a.pdf", [(200, 700, "And this is not.")], before=upright)
    assert_marked(seen(path, "Written upwards."))


def test_what_is_not_on_the_page_is_not_marked(tmp_path: Path) -> None:
    path = made(tmp_path / "a.pdf", TEXT)
    for text in ("The Elbe flows north-west.", "", " \n", "\U0001f600"):
        assert render_isolated(path, "a.pdf", 1, text).boxes == ()


def test_text_after_what_cannot_be_seen(tmp_path: Path) -> None:
    """Spaces without width and the like are left out of a document's text."""
    path = made(tmp_path / "a.pdf", [(72, 700, "A soft\u00adhyphen. {The mark is here.} Not.")])
    assert_marked(seen(path, "The mark is here."), lines=1)


# Pages of any size


@pytest.mark.parametrize(
    "size", [(5000, 5000), (14000, 200), (200, 14000), (20, 20), (3, 3)], ids=str
)
def test_a_page_of_any_size(tmp_path: Path, size: tuple[float, float]) -> None:
    height = size[1]
    letters = max(min(size) / 12, 1)
    lines = [(size[0] / 10, height / 2, "{Red} black")]
    path = made(tmp_path / "a.pdf", lines, size=size, font_size=letters)
    picture = render_isolated(path, "a.pdf", 1, "Red")
    assert len(picture.boxes) == 1
    assert picture.width * picture.height < 1.01 * PIXELS
    assert max(picture.width, picture.height) <= SIDE + 1
    if size == (5000, 5000):
        assert_marked(picture, lines=1)


def test_a_photograph_is_not_kept_without_loss(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (400, 300, 3), np.uint8)
    soft = Image.fromarray(noise).resize((1200, 1600), Image.Resampling.BICUBIC)
    soft.save(tmp_path / "photo.jpg", quality=95)
    photo = str(tmp_path / "photo.jpg")
    path = made(tmp_path / "a.pdf", (), before=lambda canvas: canvas.drawImage(photo, 0, 0, *A4))
    picture = render_isolated(path, "a.pdf", 1)
    exact = io.BytesIO()
    Image.open(io.BytesIO(picture.data)).save(exact, "WEBP", lossless=True)
    assert len(picture.data) < len(exact.getvalue()) / 2
    assert abs(pixels(picture).mean() - np.asarray(soft).mean()) < 5


# What is wrong with a file


@pytest.mark.parametrize(
    "data",
    [b"", b"%PDF-1.4 cut", b"<html>", pdf("Secret", password="x"), pdf("First")[:400]],
    ids=["empty", "damaged", "no PDF", "encrypted", "cut"],
)
def test_a_file_that_cannot_be_shown(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.pdf").write_bytes(data)
    with pytest.raises(DocumentError, match=r"^b\.pdf: the page cannot be shown: it is damaged"):
        render_isolated(tmp_path / "a.pdf", "b.pdf", 1, "First")


@pytest.mark.parametrize("page", [0, 3, -1, 10**12])
def test_a_page_that_is_not_there(tmp_path: Path, page: int) -> None:
    (tmp_path / "a.pdf").write_bytes(pdf("First", "Second"))
    with pytest.raises(DocumentError, match="cannot be shown"):
        render_isolated(tmp_path / "a.pdf", "a.pdf", page)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="cannot be shown"):
        render_isolated(tmp_path / "gone.pdf", "gone.pdf", 1)


@pytest.fixture
def parser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The source of what draws pages; to be written by the test."""
    (tmp_path / "parsers").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "parsers"))
    return tmp_path / "parsers" / "pypdfium2.py"


@pytest.mark.parametrize(
    "code",
    [
        "import os; os.abort()",
        "bytearray(4_000_000_000)",
        "print('[1,')",
        "import os; os.write(1, b'{}\\n')",
    ],
)
def test_a_parser_that_breaks_off(parser: Path, tmp_path: Path, code: str) -> None:
    parser.write_text(code)
    (tmp_path / "a.pdf").write_bytes(pdf("First"))
    with pytest.raises(DocumentError, match="it is damaged, or takes more memory than it may"):
        render_isolated(tmp_path / "a.pdf", "a.pdf", 1, "First")


@pytest.mark.parametrize("told", [{"data": "?"}, {"boxes": [[1]]}, {"boxes": [[1] * 4]}, []])
def test_a_process_that_tells_nonsense(parser: Path, tmp_path: Path, told: object) -> None:
    line = json.dumps(told)
    parser.write_text(
        f"import gc, io, os\n"
        f"[out] = [f for f in gc.get_objects() if isinstance(f, io.BufferedWriter)"
        f" and f.fileno() > 2] or [None]\n"
        f"out.write({line.encode()!r} + b'\\n'); out.flush(); os._exit(0)\n"
    )
    (tmp_path / "a.pdf").write_bytes(pdf("First"))
    with pytest.raises(DocumentError, match="it is damaged"):
        render_isolated(tmp_path / "a.pdf", "a.pdf", 1, "First")


def test_a_parser_that_hangs_is_stopped(parser: Path, tmp_path: Path) -> None:
    parser.write_text("import time; time.sleep(600)")
    (tmp_path / "a.pdf").write_bytes(pdf("First"))
    begun = time.monotonic()
    with pytest.raises(DocumentError, match="drawing it takes too long"):
        render_isolated(tmp_path / "a.pdf", "a.pdf", 1, "First", timeout=2)
    assert time.monotonic() - begun < 10


def test_a_process_that_does_not_listen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A question longer than a pipe holds does not wait for it."""
    popen = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda command, **options: popen(["sleep", "600"], **options)
    )
    with pytest.raises(DocumentError, match="takes too long"):
        render_isolated(tmp_path / "a.pdf", "a.pdf", 1, "x" * 1_000_000, timeout=1)


def test_what_is_asked_is_in_no_list_of_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = []
    popen = subprocess.Popen

    def watched(command: list[str], **options: object) -> object:
        commands.append(command)
        return popen(command, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "Popen", watched)
    path = made(tmp_path / "a.pdf", TEXT)
    assert len(render_isolated(path, "a.pdf", 1, SENTENCE).boxes) == 2
    assert not any("Danube" in argument for argument in commands[0])


def test_what_text_is_known_by() -> None:
    assert pages._letters("Beau-\n ti\u00adful \ufb01sh\ufffe \u200bÉté\r\n10‑2") == (
        "beautifulfishe\u0301te\u0301102"
    )
