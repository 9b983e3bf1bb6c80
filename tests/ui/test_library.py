"""A document's way through the page: the handlers, driven as Gradio drives them."""

import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from bs4 import BeautifulSoup

from rag.index import ingestion
from rag.index.embedding import HashEmbedding
from rag.preparation import Preparation
from rag.ui.backend import Backend
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
    return [(p["class"][-1], p.text) for p in soup.find_all("p")]


def rows(markup: str, label: str = "My documents") -> list[tuple[str, str]]:
    """Name and state of each document in a list."""
    found = BeautifulSoup(markup, "html.parser").find("ul", attrs={"aria-label": label})
    return [
        (li.find(class_="name").text, li.find(class_="state").text)
        for li in (found.find_all("li") if found else ())
    ]


def add(library: Library, me: gr.Request, *files: str) -> tuple[Any, ...]:
    """The last update of an upload."""
    *_, last = library.upload(list(files), me)
    return last


def names(library: Library, me: gr.Request) -> list[str]:
    """The documents in the index, the oldest first."""
    documents = library.backend.sessions.documents(library.session(me))
    return [document.name for document in reversed(documents)]


def remove(library: Library, me: gr.Request, id_: str) -> tuple[str, str, Any]:
    return library.remove(gr.EventData(None, {"id": id_}), me)


def holding(folder: Path, text: str) -> list[Path]:
    return [f for f in folder.rglob("*") if f.is_file() and text.encode() in f.read_bytes()]


def test_a_file_goes_in(library: Library, me: gr.Request, upload: Upload) -> None:
    update = add(library, me, upload("fruit.md", "# Fruit\n\nThe apple is red."))
    assert notes(update) == [("good", "fruit.md is ready.")]
    assert rows(update[0]) == [("fruit.md", "1 passage")]
    assert update[2]["value"] == "mine"  # what was added is what is searched next
    hits = library.backend.retrieve(library.session(me), "mine", "apple")
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
    said = notes(update)
    assert [kind for kind, _ in said] == ["good", "bad", "bad", "same", "same", "bad", "good"]
    for (_, text), file in zip(said, files, strict=True):
        assert text.startswith(Path(file).name)
    assert "empty" in said[1][1]
    assert "no PDF" in said[2][1]
    assert "the same text, as one.txt, is here already" in said[3][1]
    assert "it is here already" in said[4][1]
    assert "cannot be read" in said[5][1]
    assert names(library, me) == ["one.txt", "two.html"]


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


def test_a_closed_tab_leaves_nothing_on_its_way(
    library: Library, me: gr.Request, upload: Upload
) -> None:
    files = [upload(f"{n}.txt", f"The apple {n} is red.") for n in range(3)]
    updates = library.upload(files, me)
    next(updates)
    updates.close()  # type: ignore[attr-defined]
    assert library.session(me).on_the_way == {}
    assert rows(library.show(library.session(me))) == []


def test_a_file_on_its_way_can_be_stopped_and_the_others_go_in(
    library: Library, me: gr.Request, upload: Upload
) -> None:
    files = [upload("a.txt", "The apple is red."), upload("b.txt", "The banana is yellow.")]
    updates = library.upload(files, me)
    next(updates)
    key = next(iter(library.session(me).on_the_way))
    library.stop(gr.EventData(None, {"key": key}), me)
    *_, last = updates
    assert notes(last) == [
        ("same", "a.txt: stopped; nothing was added."),
        ("good", "b.txt is ready."),
    ]
    assert names(library, me) == ["b.txt"]


def test_each_file_is_shown_on_its_way(library: Library, me: gr.Request, upload: Upload) -> None:
    text = "\n\n".join(f"This is paragraph {n}. " + "word " * 100 for n in range(80))
    files = [upload("long.txt", text), upload("short.txt", "The apple is red.")]
    seen = [dict(rows(update[0])) for update in library.upload(files, me)]
    states = [row["long.txt"] for row in seen if "long.txt" in row]
    steps = list(dict.fromkeys(state.split()[0] for state in states))
    assert steps[:4] == ["reading", "splitting", "embedding", "storing"]
    assert any(state.startswith("embedding 32 of ") for state in states)
    assert states[-1].endswith("passages")
    assert seen[0]["short.txt"] == "waiting"
    assert seen[-1]["short.txt"] == "1 passage"


def test_the_files_of_an_archive_are_summed_up_and_the_bad_ones_named(
    library: Library, me: gr.Request, upload: Upload
) -> None:
    members = {"a.md": "The apple is red.", "bad.pdf": "x", "b.md": "The banana is yellow."}
    file = upload("all.zip", archive({**members, "c.md": "The apple is red."}))
    updates = list(library.upload([file], me))
    states = [rows(update[0])[0] for update in updates if rows(update[0])]
    assert ("all.zip", "b.md: embedding 0 of 1") in states
    (bad, why), *others = notes(updates[-1])
    assert bad == "bad"
    assert why.startswith("all.zip/bad.pdf: it is named .pdf")
    assert others == [
        ("good", "all.zip: 2 documents of it can be searched."),
        ("same", "all.zip: 1 document of it had been here already."),
    ]
    assert names(library, me) == ["all.zip/a.md", "all.zip/b.md"]
    assert updates[-1][2]["value"] == "mine"


def test_what_was_in_before_an_archive_was_stopped_stays(
    library: Library, me: gr.Request, upload: Upload
) -> None:
    members = {f"{n}.md": f"The apple {n} is red." for n in range(9)}
    updates = library.upload([upload("all.zip", archive(members))], me)
    for update in updates:
        if "1.md: " in update[0]:
            break
    library.stop(gr.EventData(None, {"key": next(iter(library.session(me).on_the_way))}), me)
    *_, last = updates
    assert notes(last) == [("good", "all.zip: stopped; 1 document of it stayed.")]
    assert names(library, me) == ["all.zip/0.md"]
    assert last[2]["value"] == "mine"


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
        (update,) = library.upload(files, me)
        assert notes(update) == []
        assert update[2] == gr.skip()
    assert not library.session(me).folder.exists()


def test_a_file_over_the_limit(
    library: Library, me: gr.Request, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = dataclasses.replace(library.backend.config, max_file_mb=1)
    monkeypatch.setattr(library.backend, "config", small)
    update = add(library, me, upload("big.txt", "x" * 1_000_001), upload("small.txt", "An apple."))
    (bad, why), (good, _) = notes(update)
    assert (bad, good) == ("bad", "good")
    assert "RAG_MAX_FILE_MB" in why


def test_rejected_files_alone_leave_no_index(
    library: Library, me: gr.Request, upload: Upload
) -> None:
    """Else one's own, empty, documents would be searched after a reload."""
    update = add(library, me, upload("empty.txt", " "))
    assert notes(update)[0][0] == "bad"
    assert update[2] == gr.skip()
    assert not library.backend.sessions.has_documents(library.session(me))


def test_an_unexpected_error_does_not_stop_the_batch(
    library: Library,
    me: gr.Request,
    upload: Upload,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    load = ingestion.load_isolated

    def failing(path: Path, name: str, timeout: float) -> Any:
        if name == "odd.txt":
            raise RuntimeError("internal detail")
        return load(path, name, timeout)

    monkeypatch.setattr(ingestion, "load_isolated", failing)
    update = add(library, me, upload("odd.txt", "x"), upload("good.txt", "The apple is red."))
    assert [kind for kind, _ in notes(update)] == ["bad", "good"]
    assert "internal detail" not in str(update)
    assert "internal detail" in caplog.text
    assert names(library, me) == ["good.txt"]


def test_removing(library: Library, me: gr.Request, upload: Upload) -> None:
    add(library, me, upload("a.txt", "The apple is red."), upload("b.txt", "The banana is not."))
    first, second = reversed(library.backend.sessions.documents(library.session(me)))
    update = remove(library, me, first.id_)
    assert rows(update[0]) == [("b.txt", "1 passage")]
    assert update[2] == gr.skip()
    hits = library.backend.retrieve(library.session(me), "mine", "apple")
    assert [hit.node.file_name for hit in hits] == ["b.txt"]
    update = remove(library, me, second.id_)
    assert rows(update[0]) == []
    assert update[2]["value"] == "samples"
    assert notes(update) == []


def test_removing_the_last_leaves_no_byte(
    library: Library, me: gr.Request, upload: Upload, tmp_path: Path
) -> None:
    files = [upload(f"{n}.txt", f"The zanzibarquince {n} is red.") for n in range(2)]
    add(library, me, *files)
    assert holding(tmp_path, "zanzibarquince")
    for document in library.backend.sessions.documents(library.session(me)):
        remove(library, me, document.id_)
    assert holding(library.session(me).folder, "zanzibarquince") == []


def test_removing_the_last_while_a_bad_file_is_on_its_way_leaves_no_byte(
    library: Library, me: gr.Request, upload: Upload, tmp_path: Path
) -> None:
    add(library, me, upload("a.txt", "The zanzibarquince is red."))
    (document,) = library.backend.sessions.documents(library.session(me))
    updates = library.upload([upload("bad.pdf", "no PDF")], me)
    next(updates)
    remove(library, me, document.id_)
    *_, last = updates
    assert notes(last)[0][0] == "bad"
    assert holding(library.session(me).folder, "zanzibarquince") == []


@pytest.mark.parametrize("id_", ["", "nothing", "../..", "'; drop table"])
def test_removing_what_is_not_there(
    library: Library, me: gr.Request, upload: Upload, id_: str
) -> None:
    remove(library, me, id_)
    add(library, me, upload("a.txt", "The apple is red."))
    assert rows(remove(library, me, id_)[0]) == [("a.txt", "1 passage")]


def test_nobody_can_remove_what_is_anothers(
    library: Library, request_of: Callable[..., gr.Request], upload: Upload
) -> None:
    one, two = request_of(1), request_of(2)
    add(library, one, upload("a.txt", "The apple is red."))
    add(library, two, upload("b.txt", "The banana is yellow."))
    (document,) = library.backend.sessions.documents(library.session(one))
    remove(library, two, document.id_)
    assert names(library, one) == ["a.txt"]
    assert names(library, two) == ["b.txt"]


def test_forgetting(library: Library, me: gr.Request, upload: Upload, tmp_path: Path) -> None:
    add(library, me, upload("a.txt", "The zanzibarquince is red."))
    library.forget(me)
    assert holding(tmp_path, "zanzibarquince") == []
    assert rows(library.show(library.session(me))) == []


def test_forgetting_during_an_upload(
    library: Library, me: gr.Request, upload: Upload, tmp_path: Path
) -> None:
    files = [upload(f"{n}.txt", f"The zanzibarquince {n} is red.") for n in range(3)]
    updates = library.upload(files, me)
    for update in updates:
        if notes(update):
            break  # one is in, one is next
    library.forget(me)
    *_, last = updates
    assert [kind for kind, _ in notes(last)].count("good") == 1  # and no word of the others
    assert len(notes(last)) == 1
    assert names(library, me) == []
    assert holding(tmp_path, "zanzibarquince") == []


def test_the_list_has_ones_own_and_the_samples(
    library: Library, request_of: Callable[..., gr.Request], upload: Upload
) -> None:
    add(library, request_of(1), upload("a.txt", "The apple is red."))
    mine = library.show(library.session(request_of(1)))
    others = library.show(library.session(request_of(2)))
    assert rows(mine) == [("a.txt", "1 passage")]
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
    shown = BeautifulSoup(library.show(library.session(me)), "html.parser")
    assert "RAG_EMBED_MODEL=hash" in shown.find(role="alert").text
    assert rows(str(shown), "Sample documents")
    ((kind, text),) = notes(add(library, me, upload("b.txt", "The banana is yellow.")))
    assert kind == "bad"
    assert "RAG_EMBED_MODEL=hash" in text
    ((kind, text),) = notes(remove(library, me, "x"))
    assert kind == "bad"
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
    updates = Library(unstarted).upload([upload("a.txt", "The apple is red.")], me)
    first = next(updates)
    assert "Preparing the search model" in rows(first[0])[0][1]
    assert rows(first[0], "Sample documents") == [("sample.txt", "waiting for the search model")]
    go.set()
    *_, last = updates
    assert notes(last) == [("good", "a.txt is ready.")]
    unstarted.samples.result()


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
        assert names(library, request_of(number)) == [f"{number}-0.txt", f"{number}-1.txt"]
