"""An index on a real Chroma server: what several processes see of each other, and what is left
when the server goes away."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rag.errors import EmbeddingMismatchError, StoreError
from rag.index import chroma_server
from rag.index import store as store_module
from rag.index.chroma_server import ChromaServer
from rag.index.embedding import HashEmbedding
from rag.index.ingestion import ingest
from rag.index.retrieval import RetrieverMode, VectorIndexRetriever
from rag.index.store import ChromaStore, destroy
from rag.types import Document, Node
from tests.index.test_store import EAST, WEST, embedded, put
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
CHROMA = Path(sys.executable).with_name("chroma")

pytestmark = pytest.mark.slow

MODES: tuple[RetrieverMode, ...] = ("dense", "keyword", "hybrid")
EMBEDDING = HashEmbedding()


class Running:
    """A Chroma server that can be killed and started again on the same port and folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.port = free_port()
        self.at = ChromaServer(f"http://127.0.0.1:{self.port}")
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        place = ["--path", str(self.folder / "data"), "--port", str(self.port)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [CHROMA, "run", "--host", "127.0.0.1", *place],
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                self.at.connect().close()
                return
            except Exception:
                time.sleep(0.1)
        pytest.fail((self.folder / "log").read_text())

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
        self.process = None


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One server for all tests: each has an index of its own, by name."""
    running = Running(tmp_path_factory.mktemp("chroma"))
    yield running
    running.kill()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Running]:
    """A server of the test's own, to be killed."""
    running = Running(tmp_path)
    yield running
    running.kill()


Opener = Callable[..., ChromaStore]


@pytest.fixture
def opened(running: Running, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Opener]:
    """Opens the test's index on the server, in the folder that is named."""
    stores = []

    def open_(folder: str = "one", server: ChromaServer | None = None) -> ChromaStore:
        place = server or running.at
        store = ChromaStore(
            tmp_path / folder, EMBEDDING.name, server=place, name=request.node.name.split("[")[0]
        )
        stores.append(store)
        return store

    yield open_
    for store in stores:
        store.close()


def texts(store: ChromaStore, mode: RetrieverMode = "dense", question: str = "snow") -> list[str]:
    hits = VectorIndexRetriever([store], EMBEDDING, 50, mode).retrieve(question)
    return sorted(hit.text for hit in hits)


def add(store: ChromaStore, text: str, id_: str = "") -> str:
    """One document; its identity."""
    document = Document(text, {"file_name": f"{id_ or text}.md"}, id_)
    for _ in ingest(document, store, EMBEDDING):
        pass
    return document.id_


# One process


@pytest.mark.parametrize("mode", MODES)
def test_what_is_added_is_found_replaced_and_removed(opened: Opener, mode: RetrieverMode) -> None:
    store = opened(mode)
    other = add(store, f"{mode}: snow is white")
    add(store, "snow falls in winter", "note")
    assert texts(store, mode) == [f"{mode}: snow is white", "snow falls in winter"]
    add(store, "snow melts in spring", "note")
    assert texts(store, mode) == [f"{mode}: snow is white", "snow melts in spring"]
    store.close()
    again = opened(mode)
    assert texts(again, mode) == [f"{mode}: snow is white", "snow melts in spring"]
    assert {record.id_ for record in again.documents()} == {other, "note"}
    again.delete(other)
    again.delete("note")
    assert (texts(again, mode), again.documents()) == ([], [])
    assert again._passages.count() == 0


def test_without_a_folder_the_words_are_in_memory(running: Running) -> None:
    one = ChromaStore(None, EMBEDDING.name, server=running.at, name="no-folder")
    add(one, "snow")
    one.close()
    two = ChromaStore(None, EMBEDDING.name, server=running.at, name="no-folder")
    assert [texts(two, mode) for mode in MODES] == [["snow"]] * 3
    two.close()


def test_indexes_of_other_names_do_not_see_each_other(running: Running, tmp_path: Path) -> None:
    one = ChromaStore(tmp_path / "1", EMBEDDING.name, server=running.at, name="first")
    two = ChromaStore(tmp_path / "2", EMBEDDING.name, server=running.at, name="second")
    add(one, "snow")
    assert [texts(two, mode) for mode in MODES] == [[]] * 3
    one.close()
    two.close()


def test_a_folder_holds_the_words_of_one_index(running: Running, tmp_path: Path) -> None:
    one = ChromaStore(tmp_path, EMBEDDING.name, server=running.at, name="mine")
    with pytest.raises(StoreError, match="another index"):
        ChromaStore(tmp_path, EMBEDDING.name, server=running.at, name="yours")
    one.close()
    two = ChromaStore(tmp_path, EMBEDDING.name, server=running.at, name="yours")
    two.close()


def test_more_passages_than_a_request_holds(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "REQUEST", 3)
    store = opened()
    put(store, "x", *([1.0, float(n)] for n in range(8)))
    for n in range(5):
        put(store, f"other {n}", WEST)
    found = texts_of(opened("two"))
    assert found == texts_of(store) == sorted(found)
    assert len(found) == 13
    assert len(opened("two").query(EAST, 50)) == 3


def texts_of(store: ChromaStore) -> list[str]:
    """All texts that an index of words has."""
    numbers = [n for (n,) in store._words._db.execute("SELECT number FROM passages")]
    store._follow()
    return sorted(passage.node.text for passage in store.passages(numbers))


def test_another_embedding_model_is_refused_and_nothing_is_lost(
    opened: Opener, running: Running, tmp_path: Path
) -> None:
    name = "test_another_embedding_model_is_refused_and_nothing_is_lost"
    store = opened()
    add(store, "snow")
    for folder in ("one", "two"):
        with pytest.raises(EmbeddingMismatchError, match=rf"{running.at.url}.* but other is set"):
            ChromaStore(tmp_path / folder, "other", server=running.at, name=name)
    assert texts(store) == texts(opened("two")) == ["snow"]


def test_an_index_is_destroyed_in_its_folder_and_on_the_server(
    opened: Opener, running: Running, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    store = opened()
    add(store, "snow")
    store.close()
    destroy(tmp_path / "one", running.at, request.node.name)
    assert not (tmp_path / "one").exists()
    client = running.at.connect()
    assert not [one for one in client.list_collections() if request.node.name in one.name]
    client.close()
    destroy(tmp_path / "one", running.at, request.node.name)  # nothing there is no mistake
    assert texts(opened()) == []


# Several processes


SCRIPT = """
import sys
from pathlib import Path
from rag.index.chroma_server import ChromaServer
from rag.index.store import ChromaStore
from tests.integration.test_chroma_server import EMBEDDING, add, texts
store = ChromaStore(Path(sys.argv[1]), EMBEDDING.name, server=ChromaServer(sys.argv[2]), name=sys.argv[3])
print("open", flush=True)
for line in sys.stdin:
    print(repr(eval(line)), flush=True)
"""  # noqa: E501


class Other:
    """Another process that has the test's index open; asked by an expression about `store`."""

    def __init__(self, folder: Path, server: ChromaServer, name: str):
        self.process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(folder), server.url, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert self.answer() == "open"

    def send(self, code: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(code + "\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def ask(self, code: str) -> Any:
        self.send(code)
        return eval(self.answer())


@pytest.fixture
def other(running: Running, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Other]:
    other = Other(tmp_path / "other", running.at, request.node.name.split("[")[0])
    yield other
    other.process.kill()
    other.process.communicate()


def all_modes(other: Other) -> list[list[str]]:
    found: list[list[str]] = other.ask(f"[texts(store, mode) for mode in {MODES!r}]")
    return found


def test_processes_see_what_the_others_write(opened: Opener, other: Other) -> None:
    store = opened()
    add(store, "snow is white", "one")
    assert all_modes(other) == [["snow is white"]] * 3
    other.ask("add(store, 'snow is cold', 'two')")
    both = ["snow is cold", "snow is white"]
    assert [texts(store, mode) for mode in MODES] == [both] * 3
    other.ask("add(store, 'snow is wet', 'one')")
    assert [texts(store, mode) for mode in MODES] == [["snow is cold", "snow is wet"]] * 3
    store.delete("two")
    assert all_modes(other) == [["snow is wet"]] * 3
    other.ask("store.delete('one')")
    assert [texts(store, mode) for mode in MODES] == [[]] * 3
    assert store.documents() == []
    assert store._passages.count() == 0


@pytest.mark.parametrize("what", ["different", "same", "versions"])
def test_two_processes_that_add_at_the_same_time(opened: Opener, other: Other, what: str) -> None:
    store = opened(what)
    ids, other_ids = {
        "different": ([f"a{n}" for n in range(9)], [f"b{n}" for n in range(9)]),
        "same": ([f"{n}" for n in range(9)], [f"{n}" for n in range(9)]),
        "versions": (["a", "b", "c"] * 3, ["a", "b", "c"] * 3),
    }[what]
    own = what == "versions"
    name = what
    text = f"'{name} snow %s' % (id_ + ' theirs' + str(n) if {own} else id_)"
    other.send(f"[add(store, {text}, '{name}' + id_) for n, id_ in enumerate({other_ids})]")
    for n, id_ in enumerate(ids):
        add(store, f"{name} snow {id_}" + (f" ours{n}" if own else ""), name + id_)
    assert other.answer().startswith("[")
    for _ in range(3):  # it stays what it is
        records = [record for record in store.documents() if record.id_.startswith(name)]
        assert sorted(record.id_ for record in records) == sorted(
            {name + id_ for id_ in ids + other_ids}
        )
        found = [text for text in texts(store, "hybrid") if text.startswith(name)]
        assert len(found) == len(records)
        assert [texts(store, mode) for mode in MODES] == all_modes(other)
    assert store._passages.count() == len(store.documents())


def test_a_document_that_one_removes_while_the_other_adds_it_is_in_or_out(
    opened: Opener, other: Other
) -> None:
    store = opened()
    other.send("[(add(store, 'snow', 'x'), store.delete('x')) for _ in range(15)]")
    for _ in range(15):
        add(store, "snow", "x")
        store.delete("x")
    other.answer()
    found = [texts(store, mode) for mode in MODES]
    assert found == all_modes(other)
    assert found in ([[]] * 3, [["snow"]] * 3)
    assert store._passages.count() == len(store.documents()) == len(found[0])


def test_an_index_that_another_process_has_removed_is_empty_and_can_be_used(
    opened: Opener, other: Other, running: Running, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    store = opened()
    add(store, "snow is white", "one")
    assert all_modes(other) == [["snow is white"]] * 3
    store.close()
    destroy(tmp_path / "one", running.at, request.node.name)
    assert all_modes(other) == [[]] * 3
    assert other.ask("store.documents()") == []
    other.ask("add(store, 'snow again', 'two')")
    assert texts(opened(), "keyword") == ["snow again"]


def test_what_was_on_its_way_when_the_index_was_removed_does_not_come_back(
    opened: Opener, running: Running, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    store = opened()
    document = Document("snow")
    with store.adding(document, [Node("snow", document.id_, 0, 0)]) as adding:
        adding.take(embedded(EAST))
        destroy(tmp_path / "elsewhere", running.at, request.node.name)
        with pytest.raises(StoreError, match="removed meanwhile"):
            adding.commit()
    assert (store.documents(), store.query(EAST, 9), store.matching("snow", 9)) == ([], [], {})


def test_a_process_that_dies_on_the_way_leaves_nothing_that_is_found(
    opened: Opener, other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened()
    other.send(
        "(setattr(store, '_replace', lambda *_: __import__('os')._exit(9)), add(store, 'snow'))"
    )
    assert other.answer() == ""
    assert [texts(store, mode) for mode in MODES] == [[]] * 3
    add(store, "snow")
    assert [texts(store, mode) for mode in MODES] == [["snow"]] * 3
    store.close()
    assert opened()._passages.count() == 2  # somebody may still be writing the other one
    monkeypatch.setattr(store_module, "ABANDONED", 0.0)
    store = opened("later")
    assert store._passages.count() == 1
    assert [texts(store, mode) for mode in MODES] == [["snow"]] * 3


# What goes wrong


def test_an_address_with_nothing_behind_it_says_what_to_do(tmp_path: Path) -> None:
    nowhere = ChromaServer(f"http://127.0.0.1:{free_port()}")
    for use in (
        lambda: ChromaStore(tmp_path / "x", "tiny", server=nowhere),
        lambda: destroy(tmp_path / "x", nowhere),
    ):
        with pytest.raises(StoreError, match=rf"{nowhere.url} .*cannot be reached.*CHROMA_URL"):
            use()


def test_a_server_that_does_not_answer_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chroma_server, "ANSWER_WITHIN", 0.3)
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        server = ChromaServer(f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(StoreError, match=r"cannot be reached: .*CHROMA_URL"):
            ChromaStore(tmp_path / "x", "tiny", server=server)


def test_a_folder_of_words_that_another_process_has_says_so(
    other: Other, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "PATIENCE", 0.1)
    with pytest.raises(StoreError, match="in use by process"):
        opened("other")


def test_a_server_that_goes_away_while_it_is_asked_loses_nothing(
    own: Running, tmp_path: Path
) -> None:
    store = ChromaStore(tmp_path / "words", EMBEDDING.name, server=own.at)
    add(store, "snow")
    own.kill()
    for use in (
        lambda: texts(store, "dense"),
        lambda: texts(store, "keyword"),
        lambda: add(store, "rain"),
        lambda: store.delete("x"),
        store.documents,
    ):
        with pytest.raises(StoreError, match=r"cannot be reached.*Start it again.*nothing.*lost"):
            use()
    own.start()
    assert [texts(store, mode) for mode in MODES] == [["snow"]] * 3
    add(store, "rain")
    assert [texts(store, mode) for mode in MODES] == [["rain", "snow"], ["snow"], ["rain", "snow"]]
    store.close()


@pytest.mark.parametrize("write", range(5))
def test_a_server_that_goes_away_while_a_document_goes_in(
    own: Running, tmp_path: Path, write: int
) -> None:
    """Killed before the given write of a replacement, and found whole afterwards: the old version
    before the record is written, the new one after it."""
    store = ChromaStore(tmp_path / "words", EMBEDDING.name, server=own.at)
    add(store, "snow is white", "note")
    add(store, "snow is cold", "kept")
    writes = iter(range(99))
    for collection in (store._documents, store._passages):
        for name in ("upsert", "delete"):
            setattr(collection, name, dying(own, getattr(collection, name), writes, write))
    failed = False
    try:
        add(store, "snow is wet", "note")
    except StoreError as error:
        assert "nothing that was stored is lost" in str(error)  # noqa: PT017
        failed = True
    assert failed == (write < 3)
    own.start()
    version = "snow is white" if failed else "snow is wet"
    again = ChromaStore(tmp_path / "words again", EMBEDDING.name, server=own.at)
    for each in (store, again):
        assert [texts(each, mode) for mode in MODES] == [["snow is cold", version]] * 3
    again.close()
    add(store, "snow is wet", "note")
    assert [texts(store, mode) for mode in MODES] == [["snow is cold", "snow is wet"]] * 3
    store.close()


def dying(running: Running, write: Callable[..., Any], writes: Iterator[int], at: int) -> Any:
    def maybe(*arguments: Any, **named: Any) -> Any:
        if next(writes) == at:
            running.kill()
        return write(*arguments, **named)

    return maybe


def test_an_answer_that_is_lost_after_the_record_was_written_costs_nothing(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened()
    add(store, "snow is white", "note")
    replace_ = store._replace

    def lost(*arguments: Any) -> None:
        replace_(*arguments)
        raise TimeoutError("no answer")

    with monkeypatch.context() as patched:
        patched.setattr(store, "_replace", lost)
        with pytest.raises(StoreError, match="no answer"):
            add(store, "snow is wet", "note")
    for each in (store, opened("two")):
        assert [texts(each, mode) for mode in MODES] == [["snow is wet"]] * 3


# The token


@pytest.mark.parametrize("token", ["s3cret", None])
def test_the_token_is_sent_with_every_request(
    running: Running, tmp_path: Path, token: str | None
) -> None:
    seen: list[bytes] = []
    with closing(socket.create_server(("127.0.0.1", 0))) as proxy:
        threading.Thread(target=_forward, args=(proxy, running.port, seen), daemon=True).start()
        address = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        server = replace(running.at, url=address, token=token)
        store = ChromaStore(tmp_path / "x", EMBEDDING.name, server=server, name=f"token-{token}")
        add(store, "snow")
        assert texts(store) == ["snow"]
        store.close()
    assert len(seen) > 5
    for request in seen:
        assert (b"x-chroma-token: s3cret" in request.lower()) == bool(token)
        assert (b"authorization: bearer s3cret" in request.lower()) == bool(token)
    assert "s3cret" not in repr(server)


def _forward(proxy: socket.socket, port: int, seen: list[bytes]) -> None:
    """Hand each connection on to `port`; `seen` gets the heads of the requests."""

    def copy(source: socket.socket, target: socket.socket, note: bool) -> None:
        while data := source.recv(1 << 20):
            if note and data.split(b" ", 1)[0] in (b"GET", b"POST", b"DELETE", b"PUT"):
                seen.append(data)
            target.sendall(data)
        target.close()

    while True:
        try:
            client, _ = proxy.accept()
        except OSError:
            return
        server = socket.create_connection(("127.0.0.1", port))
        for ends in ((client, server, True), (server, client, False)):
            threading.Thread(target=copy, args=ends, daemon=True).start()
