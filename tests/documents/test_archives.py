"""ZIP archives: each file in them is a document, and costs only itself."""

import io
import stat
import struct
import zipfile
from pathlib import Path

import pytest

from rag.documents import archives
from rag.documents.loading import load
from rag.errors import DocumentError, EmptyDocumentError, FileTooLargeError
from rag.types import Document
from tests.documents.makers import archive, letter, mail


def found(folder: Path, data: bytes, name: str = "a.zip") -> dict[str, str]:
    """The text of each document by its name; in its place the reason why there is none."""
    (folder / "stored").write_bytes(data)
    items = load(folder / "stored", name)
    return dict(
        (item.name, item.text) if isinstance(item, Document) else (item.file_name, item.reason)
        for item in items
    )


def test_each_file_is_a_document(tmp_path: Path) -> None:
    data = archive(
        {
            "note.md": "# Rivers",
            "sub/": "",
            "sub/letter.docx": letter(),
            "sub/more/größe.txt": "Größe",
            "mail.eml": bytes(mail("body", note__txt=b"noted")),
        }
    )
    texts = found(tmp_path, data)
    assert list(texts) == [
        *("a.zip/note.md", "a.zip/sub/letter.docx", "a.zip/sub/more/größe.txt"),
        *("a.zip/mail.eml", "a.zip/mail.eml/note.txt"),
    ]
    assert texts["a.zip/sub/letter.docx"] == "Water flows downhill."
    assert texts["a.zip/sub/more/größe.txt"] == "Größe"


@pytest.mark.parametrize("name", ["a", "a.ZIP"])
def test_an_archive_is_told_by_its_content(tmp_path: Path, name: str) -> None:
    assert found(tmp_path, archive({"b.txt": "b"}), name) == {f"{name}/b.txt": "b"}


def test_one_that_cannot_be_read_costs_itself(tmp_path: Path) -> None:
    data = archive({"a.txt": "a", "bad.pdf": "x", "x.exe": b"MZ\0", "empty.md": "", "b.txt": "b"})
    texts = found(tmp_path, data)
    assert (texts["a.zip/a.txt"], texts["a.zip/b.txt"]) == ("a", "b")
    assert "its content is no PDF" in texts["a.zip/bad.pdf"]
    assert "this type cannot be read" in texts["a.zip/x.exe"]
    assert texts["a.zip/empty.md"] == "the file is empty."


def test_what_systems_leave_in_archives_is_passed_over(tmp_path: Path) -> None:
    names = (".DS_Store", "__MACOSX/._a.txt", "x/.git/config", "Thumbs.db", "x/Thumbs.db")
    assert found(tmp_path, archive({**dict.fromkeys(names, "x"), "a.txt": "a"})) == {
        "a.zip/a.txt": "a"
    }


def test_two_files_of_one_name_are_both_read(tmp_path: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as target:
        target.writestr("a.txt", "one")
        with pytest.warns(UserWarning, match="Duplicate"):
            target.writestr("a.txt", "two")
    (tmp_path / "a.zip").write_bytes(file.getvalue())
    items = [item for item in load(tmp_path / "a.zip") if isinstance(item, Document)]
    assert [(item.name, item.text) for item in items] == [
        ("a.zip/a.txt", "one"),
        ("a.zip/a.txt", "two"),
    ]


@pytest.mark.parametrize(
    "name",
    [
        *("../x.txt", "a/../../x.txt", "/etc/x.txt", "..\\x.txt", "C:\\x.txt", "C:/x.txt"),
        *("\\\\server\\x.txt", "a/..", "//x.txt"),
    ],
)
def test_a_path_that_leads_out_of_the_archive(tmp_path: Path, name: str) -> None:
    (reason,) = found(tmp_path, archive({name: "secret"})).values()
    assert reason == "its path leads out of the archive."
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stored"]


@pytest.mark.parametrize("name", ["a..b.txt", "a/b c.txt", "x:y.txt", "~/x.txt"])
def test_a_path_that_only_looks_so(tmp_path: Path, name: str) -> None:
    assert list(found(tmp_path, archive({name: "text"})).values()) == ["text"]


def test_a_name_is_shown_as_one_can_read_it(tmp_path: Path) -> None:
    names = ["exe\u202etxt.md", "two\nlines.md", f"{'long' * 300}.md"]
    first, second, third = found(tmp_path, archive(dict.fromkeys(names, "x")))
    assert (first, second) == ("a.zip/exetxt.md", "a.zip/two lines.md")
    assert len(third) < 210
    assert third.endswith(".md")


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link.txt")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as target:
        target.writestr(link, "/etc/passwd")
    assert found(tmp_path, file.getvalue()) == {"a.zip/link.txt": "it is a link to another file."}


def test_an_archive_in_an_archive_is_not_read(tmp_path: Path) -> None:
    inner = archive({"a.txt": "a"})
    reasons = found(tmp_path, archive({"in.zip": inner, "noname": inner, "b.txt": "b"}))
    assert reasons["a.zip/in.zip"].startswith("it is an archive in another file.")
    assert reasons["a.zip/noname"].startswith("this type cannot be read.")
    assert reasons["a.zip/b.txt"] == "b"


def patched(data: bytes, local: tuple[int, str, int], central: tuple[int, str, int]) -> bytes:
    """An archive with a number changed in the headers of its only file: (offset, format, value)."""
    changed = bytearray(data)
    struct.pack_into(local[1], changed, local[0], local[2])
    struct.pack_into(central[1], changed, data.index(b"PK\x01\x02") + central[0], central[2])
    return bytes(changed)


@pytest.mark.parametrize(
    ("local", "central", "reason"),
    [
        ((6, "<H", 1), (8, "<H", 1), "it is encrypted."),
        ((8, "<H", 97), (10, "<H", 97), "it is packed in a way that is not known."),
        ((14, "<I", 1), (16, "<I", 1), "it is damaged"),
        ((26, "<H", 60), (28, "<H", 5), "it is damaged"),
    ],
    ids=["encrypted", "method", "checksum", "name"],
)
def test_a_member_that_cannot_be_unpacked(
    tmp_path: Path, local: tuple[int, str, int], central: tuple[int, str, int], reason: str
) -> None:
    data = patched(archive({"a.txt": "text " * 20}), local, central)
    assert found(tmp_path, data)["a.zip/a.txt"].startswith(reason)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_archive(tmp_path: Path, share: float) -> None:
    data = archive({f"{n}.txt": str(n) * 100 for n in range(20)})
    with pytest.raises(DocumentError, match=r"^a\.zip: the archive is damaged"):
        found(tmp_path, data[: int(len(data) * share)])


@pytest.mark.parametrize("members", [{}, {"folder/": ""}, {".hidden": "x"}])
def test_an_archive_of_nothing(tmp_path: Path, members: dict[str, bytes | str]) -> None:
    with pytest.raises(EmptyDocumentError, match=r"^a\.zip: there is no file in the archive"):
        found(tmp_path, archive(members))


# Bombs


def test_too_many_files(tmp_path: Path) -> None:
    data = archive({f"{number}.txt": "" for number in range(archives.MEMBERS + 1)})
    with pytest.raises(FileTooLargeError, match=r"^a\.zip: it holds 1,001 files; at most 1,000"):
        found(tmp_path, data)


def test_a_file_that_is_packed_as_no_document_is(tmp_path: Path) -> None:
    reasons = found(
        tmp_path, archive({"bomb.txt": b"0" * 6_000_000, "small.txt": b"0" * 4_000_000})
    )
    assert reasons["a.zip/bomb.txt"].startswith("it is packed more than 200 times")
    assert len(reasons["a.zip/small.txt"]) == 4_000_000


def test_sizes_are_looked_at_before_anything_is_unpacked(tmp_path: Path) -> None:
    one = patched(archive({"a.txt": "text"}), (22, "<I", 2 * 10**8), (24, "<I", 2 * 10**8))
    assert found(tmp_path, one) == {"a.zip/a.txt": "it has 200 MB; 100 MB are the most."}
    all_ = patched(archive({"a.txt": "text"}), (22, "<I", 2 * 10**9), (24, "<I", 2 * 10**9))
    with pytest.raises(FileTooLargeError, match=r"^a\.zip: unpacked it has 2,000 MB"):
        found(tmp_path, all_)


def test_a_header_that_lies_about_the_size_gains_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []
    real = zipfile.ZipExtFile._read1  # type: ignore[attr-defined]

    def watched(self: zipfile.ZipExtFile, n: int) -> bytes:
        given.append(n)
        return bytes(real(self, n))

    monkeypatch.setattr(zipfile.ZipExtFile, "_read1", watched)
    lie = patched(archive({"a.txt": b"0" * 50_000_000}), (22, "<I", 1000), (24, "<I", 1000))
    assert found(tmp_path, lie)["a.zip/a.txt"].startswith("it is damaged")
    assert max(given) <= 1001
