"""A document's way through the page: the handlers, driven as Gradio drives them."""

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from bs4 import BeautifulSoup

from rag.errors import ModelUnavailableError
from rag.index import ingestion
from rag.index.embedding import HashEmbedding, Vector
from rag.preparation import Preparation
from rag.types import Document
from rag.ui.backend import Backend
from rag.ui.jobs import Job, left_behind
from rag.ui.library import Library
from rag.ui.sessions import Sessions
from tests.documents.makers import archive, mail

GUARD = 20
Upload = Callable[[str, str | bytes], str]


@pytest.fixture
def library(backend: Backend) -> Library:
    return Library(backend)


@pytest.fixture
def me(request_of: Callable[..., gr.Request]) -> gr.Request:
    return request_of(1)


def notes(update: tuple[Any, ...]) -> list[tuple[str, str]]:
    """Kind and text of each note."""
    soup = BeautifulSoup(update[1], "html.parser")
    return [(p["class"][-1], p.text) for p in soup.find_all("p", class_="note")]


def rows(markup: str, label: str = "My documents") -> list[tuple[str, str]]:
    """Name and state of each document in a list."""
    found = BeautifulSoup(markup, "html.parser").find("ul", attrs={"aria-label": label})
    return [
        (li.find(class_="name").text, li.find(class_="state").text)
        for li in (found.find_all("li") if found else ())
    ]


def add(library: Library, me: gr.Request, *files: str) -> tuple[Any, ...]:
    """What a page shows that was open meanwhile, when all files are in or not."""
    seen = library.look(me).session.arrived
    library.upload(list(files), me)
    return ended(library, me, seen)


def ended(library: Library, me: gr.Request, seen: int = 0) -> tuple[Any, ...]:
    """What the next tick shows, once nothing is on its way any more."""
    until(lambda: not library.look(me).session.jobs)
    return library.tick(seen, me)[:4]


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + GUARD
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def press(library: Library, me: gr.Request, do: str, key: str = "") -> tuple[Any, ...]:
    return library.press(gr.EventData(None, {"do": do, "key": key}), me)


class Gate(HashEmbedding):
    """Embeds files when it is open; questions, which are short, always."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.reached = threading.Event()

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        if len(texts) > 1 or "gated" in texts[0]:
            self.reached.set()
            assert self.open.wait(GUARD)
        return super().embed(texts)


@pytest.fixture
def gate(backend: Backend) -> Iterator[Gate]:
    gate = Gate()
    backend.embedding = Preparation("gate", lambda _: gate).start()
    yield gate
    gate.open.set()


def names(library: Library, me: gr.Request) -> list[str]:
    """The documents in the index, the oldest first."""
    documents = library.backend.sessions.documents(library.look(me).session)
    return [document.name for document in reversed(documents)]


def remove(library: Library, me: gr.Request, id_: str) -> tuple[Any, ...]:
    return press(library, me, "remove", id_)


def holding(folder: Path, text: str) -> list[Path]:
    return [f for f in folder.rglob("*") if f.is_file() and text.encode() in f.read_bytes()]


def test_a_file_goes_in(library: Library, me: gr.Request, upload: Upload) -> None:
    update = add(library, me, upload("fruit.md", "# Fruit\n\nThe apple is red."))
    assert notes(update) == [("good", "fruit.md is ready.")]
    assert rows(update[0]) == [("fruit.md", "ready, 1 passage")]
    assert update[3].active is False
    assert update[2]["value"] == "mine"  # what was added is what is searched next
    hits = library.backend.retrieve(library.look(me).session, "mine", "apple")
    assert [(hit.node.text, hit.node.headings) for hit in hits] == [
        ("The apple is red.", ("Fruit",))
    ]


def test_of_a_mixed_batch_the_good_ones_go_in(
    library: Library, me: gr.Request, upload: Upload
) -> None:
    files = [
        upload("one.txt", "The apple is red."),
        upload("empty.txt", "  "),
        upload("fake.pdf", "This is no PDF."),
        upload("same.md", "The apple is red."),
        upload("one.txt", "The apple is red."),
        upload("picture.png", b"\x89PNG"),
        upload("two.html", "<p>The banana is yellow.</p>"),
    ]
    update = add(library, me, *files)
    said = {text.partition(":")[0]: (kind, text) for kind, text in notes(update)}
    assert {name: kind for name, (kind, _) in said.items()} == {
        "one.txt is ready.": "good",
        "empty.txt": "bad",
        "fake.pdf": "bad",
        "same.md": "same",
        "one (2).txt": "same",
        "picture.png": "bad",
        "two.html is ready.": "good",
    }
    assert "empty" in said["empty.txt"][1]
    assert "no PDF" in said["fake.pdf"][1]
    assert "the same text, as one.txt, is here already" in said["same.md"][1]
    assert "cannot be read" in said["picture.png"][1]
    assert sorted(names(library, me)) == ["one.txt", "two.html"]


def test_an_upload_does_not_take_the_file_from_another_browser(
    library: Library, request_of: Callable[..., gr.Request], upload: Upload
) -> None:
    """Gradio keeps a file that two browsers upload only once."""
    file = upload("shared.txt", "The apple is red.")
    add(library, request_of(1), file)
    assert notes(add(library, request_of(2), file)) == [("good", "shared.txt is ready.")]


def test_the_originals_go_when_everything_is_forgotten(
    library: Library, me: gr.Request, upload: Upload, tmp_path: Path
) -> None:
    add(library, me, upload("good.txt", "The apple is red."), upload("bad.pdf", "no"))
    library.forget(me)
    assert not [file for file in (tmp_path / "uploads").rglob("*") if file.is_file()]


def test_what_is_on_its_way_is_shown_in_every_tab_and_can_be_cancelled(
    library: Library, me: gr.Request, upload: Upload, gate: Gate
) -> None:
    update = library.upload([upload("a.txt", "gated " * 9), upload("b.txt", "gated " * 8)], me)
    assert [name for name, _ in rows(update[0])] == ["a.txt", "b.txt"]
    assert update[3].active is True
    assert gate.reached.wait(GUARD)
    *shelf, arrived = library.tick(0, me)
    assert rows(shelf[0]) == [
        ("a.txt", "searchable, 0 of 1 passage embedded"),
        ("b.txt", "searchable, 0 of 1 passage embedded"),
    ]
    assert shelf[2]["value"] == "mine"  # what can be searched is searched next
    assert library.tick(arrived, me)[2] == gr.skip()  # until the person chooses otherwise
    assert shelf[3].active is True
    buttons = BeautifulSoup(shelf[0], "html.parser").find_all("button")
    assert [button.get("aria-label") or button.text for button in buttons] == [
        "Cancel all",
        "Cancel a.txt",
        "Cancel b.txt",
    ]
    press(library, me, "cancel", buttons[2]["data-key"])
    gate.open.set()
    update = ended(library, me)
    assert sorted(notes(update)) == [
        ("cancelled", "b.txt: cancelled; nothing was added."),
        ("good", "a.txt is ready."),
    ]
    assert rows(update[0]) == [("a.txt", "ready, 1 passage")]
    assert update[3].active is False
    assert notes(press(library, me, "dismiss")) == []


def test_what_arrives_while_the_list_is_made_is_turned_to_at_once(
    library: Library, me: gr.Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = library.look(me).session

    def show(_: Any) -> str:
        session.arrived = 1
        return "it is embedded"

    monkeypatch.setattr(library, "show", show)
    assert library.tick(0, me)[2] == gr.update(value="mine")


def test_a_document_that_is_not_wholly_in_has_one_line(
    library: Library, me: gr.Request, upload: Upload, gate: Gate
) -> None:
    """Whether the index has it already, so that its words can be searched, or not."""
    library.upload([upload("a.txt", "gated " * 9)], me)
    assert gate.reached.wait(GUARD)
    (job,) = library.look(me).session.jobs
    with library.backend.sessions.store(library.look(me).session) as store:
        store.add(Document("half", {}, job.half_in), [], [])
    assert [name for name, _ in rows(library.show(library.look(me)))] == ["a.txt"]


def test_what_was_interrupted_is_offered(library: Library, me: gr.Request, upload: Upload) -> None:
    session = library.look(me).session
    for name in ("a.txt", "b.txt", "c.txt"):
        Job.of_file(session.incoming, Path(upload(name, f"The {name} is red.")), name)
    session.jobs = left_behind(session.incoming)
    update = library.shelf(library.look(me))
    assert rows(update[0]) == [(f"{name}.txt", "interrupted") for name in "abc"]
    assert update[3].active is False  # nothing changes by itself
    buttons = BeautifulSoup(update[0], "html.parser").find_all("button")
    assert [button.get("aria-label") or button.text for button in buttons[:4]] == [
        *("Add all again", "Remove all interrupted", "Add a.txt again", "Remove a.txt"),
    ]
    press(library, me, "discard", buttons[3]["data-key"])
    assert press(library, me, "again", buttons[4]["data-key"])[3].active is True
    until(lambda: session.notes)
    assert names(library, me) == ["b.txt"]
    assert rows(library.show(library.look(me)))[0] == ("c.txt", "interrupted")
    press(library, me, "discard")
    assert rows(library.show(library.look(me))) == [("b.txt", "ready, 1 passage")]
    assert list(session.incoming.iterdir()) == []


def test_a_web_page_by_its_address(library: Library, me: gr.Request) -> None:
    @dataclasses.dataclass
    class Fetched:
        path: Path
        name: str
        url: str

    gate = threading.Event()

    def fetch(address: str, folder: Path) -> Fetched:
        assert gate.wait(GUARD)
        (folder / "page.html").write_text("<h1>Herons</h1><p>They are grey.</p>")
        return Fetched(folder / "page.html", "example.com › herons.html", address)

    library.backend.intake._fetch = fetch
    assert rows(library.add_page("  ", me)[0]) == []
    update = library.add_page(" https://example.com/herons ", me)
    assert rows(update[0])[0][0] == "https://example.com/herons"
    gate.set()
    assert notes(ended(library, me)) == [("good", "example.com › herons.html is ready.")]
    assert names(library, me) == ["example.com › herons.html"]


def test_the_files_of_an_archive_are_summed_up_and_the_bad_ones_named(
    library: Library, me: gr.Request, upload: Upload
) -> None:
    members = {"a.md": "The apple is red.", "bad.pdf": "x", "b.md": "The banana is yellow."}
    file = upload("all.zip", archive({**members, "c.md": "The apple is red."}))
    update = add(library, me, file)
    (bad, why), *others = notes(update)
    assert bad == "bad"
    assert why.startswith("all.zip/bad.pdf: it is named .pdf")
    assert others == [
        ("good", "all.zip: 2 documents of it can be searched."),
        ("same", "all.zip: 1 document of it had been here."),
    ]
    assert names(library, me) == ["all.zip/a.md", "all.zip/b.md"]
    assert update[2]["value"] == "mine"


def test_what_was_in_before_an_archive_was_cancelled_stays(
    library: Library, me: gr.Request, upload: Upload, gate: Gate
) -> None:
    members = {"0.md": "The apple is red.", "1.md": "gated " * 5, "2.md": "The plum is blue."}
    library.upload([upload("all.zip", archive(members))], me)
    assert gate.reached.wait(GUARD)
    shown = library.show(library.look(me))
    assert rows(shown) == [
        ("all.zip", "1.md: searchable, 0 of 1 passage embedded"),
        ("all.zip/0.md", "ready, 1 passage"),
    ]
    press(library, me, "cancel", library.look(me).session.jobs[0].key)
    gate.open.set()
    update = ended(library, me)
    assert notes(update) == [("cancelled", "all.zip: cancelled; 1 document of it stayed.")]
    assert names(library, me) == ["all.zip/0.md"]
    assert update[2]["value"] == "mine"


def test_a_mail_is_one_note_and_its_attachments_another(
    library: Library, me: gr.Request, upload: Upload
) -> None:
    message = bytes(mail("The apple is red.", note__txt=b"The banana is yellow."))
    assert notes(add(library, me, upload("a.eml", message))) == [
        ("good", "a.eml is ready."),
        ("good", "a.eml: 1 document of it can be searched."),
    ]


def test_nothing_is_uploaded(library: Library, me: gr.Request) -> None:
    for files in (None, []):
        update = library.upload(files, me)
        assert notes(update) == []
        assert update[2] == gr.skip()
        assert update[3].active is False
    assert not library.look(me).session.folder.exists()


def test_a_file_over_the_limit(
    library: Library, me: gr.Request, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = dataclasses.replace(library.backend.config, max_file_mb=1)
    monkeypatch.setattr(library.backend, "config", small)
    update = add(library, me, upload("big.txt", "x" * 1_000_001), upload("small.txt", "An apple."))
    said = dict(notes(update))
    assert set(said) == {"bad", "good"}
    why = said["bad"]
    assert "RAG_MAX_FILE_MB" in why


def test_rejected_files_alone_leave_no_index(
    library: Library, me: gr.Request, upload: Upload
) -> None:
    """Else one's own, empty, documents would be searched after a reload."""
    update = add(library, me, upload("empty.txt", " "))
    assert notes(update)[0][0] == "bad"
    assert update[2] == gr.skip()
    assert not library.backend.sessions.has_documents(library.look(me).session)


def test_an_unexpected_error_does_not_stop_the_batch(
    library: Library,
    me: gr.Request,
    upload: Upload,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    load = ingestion.load_isolated

    def failing(path: Path, name: str, *rest: Any) -> Any:
        if name == "odd.txt":
            raise RuntimeError("internal detail")
        return load(path, name, *rest)

    monkeypatch.setattr(ingestion, "load_isolated", failing)
    update = add(library, me, upload("odd.txt", "x"), upload("good.txt", "The apple is red."))
    assert {kind for kind, _ in notes(update)} == {"bad", "good"}
    assert "internal detail" not in str(update)
    assert "internal detail" in caplog.text
    assert names(library, me) == ["good.txt"]


def test_removing(library: Library, me: gr.Request, upload: Upload) -> None:
    add(library, me, upload("a.txt", "The apple is red."), upload("b.txt", "The banana is not."))
    first, second = reversed(library.backend.sessions.documents(library.look(me).session))
    update = remove(library, me, first.id_)
    assert rows(update[0]) == [("b.txt", "ready, 1 passage")]
    assert update[2] == gr.skip()
    hits = library.backend.retrieve(library.look(me).session, "mine", "apple")
    assert [hit.node.file_name for hit in hits] == ["b.txt"]
    update = remove(library, me, second.id_)
    assert rows(update[0]) == []
    assert update[2]["value"] == "samples"


def test_removing_the_last_leaves_no_byte(
    library: Library, me: gr.Request, upload: Upload, tmp_path: Path
) -> None:
    files = [upload(f"{n}.txt", f"The zanzibarquince {n} is red.") for n in range(2)]
    add(library, me, *files)
    assert holding(tmp_path, "zanzibarquince")
    for document in library.backend.sessions.documents(library.look(me).session):
        remove(library, me, document.id_)
    assert holding(library.look(me).session.folder, "zanzibarquince") == []


def test_removing_the_last_while_a_bad_file_is_on_its_way_leaves_no_byte(
    library: Library, me: gr.Request, upload: Upload, tmp_path: Path
) -> None:
    add(library, me, upload("a.txt", "The zanzibarquince is red."))
    (document,) = library.backend.sessions.documents(library.look(me).session)
    library.upload([upload("bad.pdf", "no PDF")], me)
    remove(library, me, document.id_)
    assert notes(ended(library, me))[0][0] == "bad"
    assert holding(library.look(me).session.folder, "zanzibarquince") == []


@pytest.mark.parametrize("id_", ["", "nothing", "../..", "'; drop table"])
def test_removing_what_is_not_there(
    library: Library, me: gr.Request, upload: Upload, id_: str
) -> None:
    remove(library, me, id_)
    add(library, me, upload("a.txt", "The apple is red."))
    assert rows(remove(library, me, id_)[0]) == [("a.txt", "ready, 1 passage")]


def test_nobody_can_remove_what_is_anothers(
    library: Library, request_of: Callable[..., gr.Request], upload: Upload
) -> None:
    one, two = request_of(1), request_of(2)
    add(library, one, upload("a.txt", "The apple is red."))
    add(library, two, upload("b.txt", "The banana is yellow."))
    (document,) = library.backend.sessions.documents(library.look(one).session)
    remove(library, two, document.id_)
    assert names(library, one) == ["a.txt"]
    assert names(library, two) == ["b.txt"]


def test_forgetting(library: Library, me: gr.Request, upload: Upload, tmp_path: Path) -> None:
    add(library, me, upload("a.txt", "The zanzibarquince is red."))
    library.forget(me)
    assert holding(tmp_path, "zanzibarquince") == []
    assert rows(library.show(library.look(me))) == []


def test_forgetting_while_files_are_on_their_way(
    library: Library, me: gr.Request, upload: Upload, tmp_path: Path, gate: Gate
) -> None:
    files = [upload(f"{n}.txt", f"The gated zanzibarquince {n} is red.") for n in range(3)]
    session = library.look(me).session
    library.upload(files, me)
    assert gate.reached.wait(GUARD)
    forgetting = threading.Thread(target=library.forget, args=(me,))
    forgetting.start()
    until(lambda: session.forgotten)
    gate.open.set()
    forgetting.join(GUARD)
    until(lambda: not session.jobs)
    assert rows(library.tick(0, me)[0]) == []
    assert notes(library.tick(0, me)) == []
    assert holding(tmp_path, "zanzibarquince") == []


def test_the_list_has_ones_own_and_the_samples(
    library: Library, request_of: Callable[..., gr.Request], upload: Upload
) -> None:
    add(library, request_of(1), upload("a.txt", "The apple is red."))
    mine = library.show(library.look(request_of(1)))
    others = library.show(library.look(request_of(2)))
    assert rows(mine) == [("a.txt", "ready, 1 passage")]
    assert rows(others) == []
    for shown in (mine, others):
        assert rows(shown, "Sample documents") == [("sample.txt", "1 passage")]


def test_documents_of_another_embedding_model_are_told(
    library: Library, me: gr.Request, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(library, me, upload("a.txt", "The apple is red."))
    sessions = library.backend.sessions
    sessions.close()
    monkeypatch.setattr(library.backend, "sessions", Sessions(sessions.folder, "another"))
    shown = BeautifulSoup(library.show(library.look(me)), "html.parser")
    assert "RAG_EMBED_MODEL=hash" in shown.find(role="alert").text
    assert rows(str(shown), "Sample documents")
    ((kind, text),) = notes(add(library, me, upload("b.txt", "The banana is yellow.")))
    assert kind == "bad"
    assert "RAG_EMBED_MODEL=hash" in text
    *_, (kind, text) = notes(remove(library, me, "x"))
    assert kind == "bad"
    assert "RAG_EMBED_MODEL=hash" in text
    library.forget(me)
    assert notes(add(library, me, upload("b.txt", "The banana is yellow.")))[0][0] == "good"
    library.backend.sessions.close()


def test_a_file_waits_for_the_search_model(
    unstarted: Backend, me: gr.Request, upload: Upload
) -> None:
    go = threading.Event()
    unstarted.embedding = Preparation(
        "the search model", lambda _: go.wait(GUARD) and HashEmbedding()
    )
    unstarted.start()
    library = Library(unstarted)
    library.upload([upload("a.txt", "The apple is red.")], me)
    until(lambda: library.look(me).session.jobs[0].progress)
    shown = library.show(library.look(me))
    assert rows(shown) == [("a.txt", "waiting for the search model")]
    assert rows(shown, "Sample documents") == [("sample.txt", "waiting for the search model")]
    go.set()
    assert notes(ended(library, me)) == [("good", "a.txt is ready.")]
    unstarted.samples.result()


def test_without_a_search_model_a_file_is_told_why(
    unstarted: Backend, me: gr.Request, upload: Upload
) -> None:
    def make(report: Any) -> HashEmbedding:
        raise ModelUnavailableError("No weights. Check the connection.")

    unstarted.embedding = Preparation("the search model", make).start()
    library = Library(unstarted)
    library.upload([upload("a.txt", "The apple is red.")], me)
    assert notes(ended(library, me)) == [("bad", "a.txt: No weights. Check the connection.")]


def test_two_browsers_upload_at_the_same_time(
    library: Library, request_of: Callable[..., gr.Request], upload: Upload
) -> None:
    files = {
        number: [upload(f"{number}-{n}.txt", f"This is {n} of {number}.") for n in range(2)]
        for number in (1, 2)
    }
    threads = [
        threading.Thread(target=add, args=(library, request_of(number), *files[number]))
        for number in files
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(GUARD)
    for number in files:
        assert set(names(library, request_of(number))) == {f"{number}-0.txt", f"{number}-1.txt"}


def test_each_is_told_in_their_own_language(
    library: Library, request_of: Callable[..., gr.Request], upload: Upload
) -> None:
    me, german = request_of(1), request_of(1, language="de-AT,en;q=0.5")
    add(library, me, upload("a.txt", "The apple is red."), upload("b.txt", " "))
    shelf = library.shelf(library.look(german))
    assert rows(shelf[0], "Meine Dokumente") == [("a.txt", "fertig, 1 Textstelle")]
    assert sorted(notes(shelf)) == [
        ("bad", "b.txt: die Datei ist leer."),
        ("good", "a.txt ist fertig."),
    ]
    assert ("good", "a.txt is ready.") in notes(library.shelf(library.look(me)))
