"""Only public addresses are opened, by no trick; what is there is fetched within its limits."""

import gzip
import ipaddress
import socket
import ssl
import subprocess
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import pytest

from rag import SimpleWebPageReader
from rag.documents import web
from rag.documents.web import IPAddress, Page, fetch, is_foreign, is_public, load_page, name_for
from rag.errors import (
    ConfigurationError,
    DocumentError,
    FileTooLargeError,
    UnsupportedFileError,
)
from rag.types import Document

HTML = b"<!doctype html><title>Rivers</title><nav>Home</nav><main><h1>Rhine</h1><p>It flows.</p>"
Answer = tuple[int, dict[str, str], bytes | Iterator[bytes]]


@dataclass
class Site:
    """A server on loopback: what it answers by path, and what it was asked."""

    address: str
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def page(self, path: str, body: bytes | Iterator[bytes], kind: str = "text/html") -> str:
        self.answers[path] = 200, {"Content-Type": kind}, body
        return self.address + path

    def redirect(self, path: str, location: str, status: int = 302) -> str:
        self.answers[path] = status, {"Location": location}, b""
        return self.address + path


def serve(tls: ssl.SSLContext | None = None) -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append((self.path, dict(self.headers)))
            nothing: Answer = (404, {}, b"no")
            status, headers, body = site.answers.get(self.path, nothing)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                for piece in [body] if isinstance(body, bytes) else body:
                    self.wfile.write(piece)
            except OSError:  # whoever asked has gone
                pass

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    scheme = "https" if tls else "http"
    site = Site(f"{scheme}://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield site
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def site() -> Iterator[Site]:
    yield from serve()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for rivers.test alone, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    names = ["-subj", "/CN=rivers.test", "-addext", "subjectAltName=DNS:rivers.test"]
    try:
        subprocess.run(
            [*command.split(), *names, "-keyout", str(key), "-out", str(cert)],
            check=True, capture_output=True,
        )  # fmt: skip
    except FileNotFoundError:
        pytest.skip("there is no openssl")
    return cert, key


@pytest.fixture
def tls_site(certificate: tuple[Path, Path]) -> Iterator[Site]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    yield from serve(context)


def anything(ip: IPAddress) -> bool:
    return True


def get(
    address: str,
    folder: Path,
    *,
    allowed: Callable[[IPAddress], bool] | None = anything,
    max_bytes: int = 1_000_000,
    timeout: float = 10,
    tls: ssl.SSLContext | None = None,
) -> Page:
    return fetch(address, folder, max_bytes=max_bytes, timeout=timeout, allowed=allowed, tls=tls)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[list[str]]]:
    """What names resolve to, each time they are asked for; other names are not found.

    The addresses of an answer are used up; asking for more than was given fails the test.
    """
    table: dict[str, list[list[str]]] = {}
    system = socket.getaddrinfo

    def resolve(host: str, port: int, *args: int, **options: int) -> list[tuple[object, ...]]:
        try:
            ipaddress.ip_address(host)
        except ValueError:
            if host not in table:
                raise socket.gaierror(socket.EAI_NONAME, "unknown") from None
            found = table[host].pop(0)
            return [answer for ip in found for answer in system(ip, port, *args, **options)]
        return system(host, port, *args, **options)  # type: ignore[return-value]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return table


# Addresses

PUBLIC = (
    *("8.8.8.8", "1.1.1.1", "93.184.216.34", "172.32.0.1", "100.128.0.1", "198.20.0.1"),
    *("2606:4700:4700::1111", "2a00:1450:4001:80b::200e", "64:ff9b::8.8.8.8"),
)
SPECIAL = (
    *("0.0.0.0", "0.1.2.3", "127.0.0.1", "127.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255"),
    *("192.168.1.1", "169.254.169.254", "169.254.0.1", "100.64.0.1", "100.100.100.200"),
    *("192.0.0.8", "192.0.0.192", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.1"),
    *("203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"),
    "168.63.129.16",
    *("::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:8.8.8.8"),
    *("fe80::1", "fe80::1%1", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "ff0e::1"),
    *("2001:db8::1", "3fff::1", "100::1", "5f00::1", "2001::1", "2001:10::1"),
    *("2002:7f00:1::", "2002:c0a8:101::1", "2001:0:7f00:1::", "64:ff9b::127.0.0.1"),
    *("64:ff9b::10.0.0.1", "64:ff9b::169.254.169.254", "64:ff9b:1::1", "4000::1"),
)


@pytest.mark.parametrize("ip", PUBLIC)
def test_public_addresses(ip: str) -> None:
    assert is_public(ipaddress.ip_address(ip))


@pytest.mark.parametrize("ip", SPECIAL)
def test_addresses_that_are_not_public(ip: str) -> None:
    assert not is_public(ipaddress.ip_address(ip))
    assert not is_foreign(ipaddress.ip_address(ip))


def test_a_public_address_of_this_machine_is_not_foreign(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_foreign(ipaddress.ip_address("8.8.8.8"))
    monkeypatch.setattr(web, "is_public", anything)
    assert not is_foreign(ipaddress.ip_address("127.0.0.1"))


HOSTILE = (
    *("http://127.0.0.1/", "http://127.1/", "http://0x7f.1/", "http://0x7f000001/"),
    *("http://2130706433/", "http://017700000001/", "http://0177.0.0.01/", "http://127.0.0.1./"),
    *("http://0/", "http://0.0.0.0:8080/", "http://localhost/", "http://LOCALHOST:7860/"),
    *("localhost:7860/x", "http://localhost./", "http://[::1]/", "http://[::]/"),
    *("http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/", "http://[0:0:0:0:0:0:0:1]:7860/"),
    *("http://[::127.0.0.1]/", "http://[64:ff9b::7f00:1]/", "http://[2002:7f00:1::]/"),
    *("http://[fe80::1%25lo]/", "http://[fd00:ec2::254]/latest/meta-data/"),
    *("http://169.254.169.254/latest/meta-data/", "http://0xA9FEA9FE/", "http://2852039166/"),
    *("http://10.0.0.1/", "http://192.168.0.1:8080/", "http://172.16.0.1/", "http://100.64.0.1/"),
    *("http://①②⑦.⓪.⓪.①/", "http://127。0。0。1/", "http://１２７.0.0.1/", "http://ⓛocalhost/"),
    *("http://224.0.0.1/", "http://255.255.255.255/", "http://168.63.129.16/"),
)
NO_PAGES = (
    *("file:///etc/passwd", "FILE:///etc/passwd", "ftp://example.org/", "gopher://example.org:70/"),
    *("data:text/html,hello", "javascript:alert(1)", "mailto:me@example.org", "unix:/run/x.sock"),
    *("http://user:secret@example.org/", "user:secret@example.org", "http://user@127.0.0.1/"),
    *("http://example.org@127.0.0.1/", "http://", "https:///path", "", "   ", "https://?x"),
    *("http:example.org", "http:/example.org", "view-source:http://example.org/"),
    *("http://example.org:22/", "https://example.org:25/", "http://example.org:0/"),
    *("http://example.org:99999/", "http://example.org:x/", "http://[::1", "http://a b/"),
    *("http://exa\nmple.org/", "http://example.org/\x00", "http://" + "a" * 3_000),
    *("http://" + "a" * 64 + ".org/", "http://a..b/", "http://.../", "http://xn--/"),
)


@pytest.mark.parametrize("address", HOSTILE)
def test_an_address_that_is_not_public_is_not_opened(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(*args: object) -> None:
        raise AssertionError("it was connected to")

    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(DocumentError) as caught:
        get(address, tmp_path, allowed=None)
    assert caught.value.reason in (web.NOT_PUBLIC, web.NO_NAME, web.NO_ADDRESS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("address", NO_PAGES)
def test_what_is_no_address_of_a_page(
    address: str, tmp_path: Path, names: dict[str, list[list[str]]]
) -> None:
    with pytest.raises(DocumentError) as caught:
        get(address, tmp_path)
    assert "secret" not in str(caught.value)


def test_one_private_address_among_public_ones_is_enough(
    tmp_path: Path, names: dict[str, list[list[str]]]
) -> None:
    names["both.test"] = [["93.184.216.34", "10.0.0.1"]]
    with pytest.raises(DocumentError, match="not on the public internet"):
        get("http://both.test/", tmp_path, allowed=None)


def test_a_name_is_asked_for_once(
    site: Site, tmp_path: Path, names: dict[str, list[list[str]]]
) -> None:
    """What answers first with a good address, then with another, is never asked the second time."""
    site.page("/", HTML)
    port = site.address.rpartition(":")[2]
    seen: list[str] = []

    def allowed(ip: IPAddress) -> bool:
        seen.append(str(ip))
        return str(ip) == "127.0.0.1"

    names["rebind.test"] = [["127.0.0.1"], ["127.0.0.2"]]
    page = get(f"http://rebind.test:{port}/", tmp_path, allowed=allowed)
    assert names["rebind.test"] == [["127.0.0.2"]]
    assert seen == ["127.0.0.1"]
    assert site.asked[0][1]["Host"] == f"rebind.test:{port}"
    assert page.url == f"http://rebind.test:{port}/"


def test_each_redirect_is_checked_anew(
    site: Site, tmp_path: Path, names: dict[str, list[list[str]]]
) -> None:
    port = site.address.rpartition(":")[2]
    site.redirect("/", f"http://rebind.test:{port}/inner")
    site.page("/inner", HTML)
    names["rebind.test"] = [["127.0.0.1"], ["127.0.0.2"]]
    with pytest.raises(DocumentError, match="not on the public internet"):
        get(f"http://rebind.test:{port}/", tmp_path, allowed=lambda ip: str(ip) == "127.0.0.1")
    assert [path for path, _ in site.asked] == ["/"]


@pytest.mark.parametrize(
    "location",
    [
        *("http://127.0.0.2:8080/", "http://169.254.169.254/latest/", "//127.0.0.2:9999/"),
        *("file:///etc/passwd", "http://user:secret@127.0.0.1:8000/", "http://127.0.0.1:22/"),
        *(
            "http://[::1]:8000/",
            "http://0x7f000002:8000/",
            "ftp://127.0.0.1/",
            "http://[",
            "data:,x",
        ),
    ],
)
def test_redirects_to_what_may_not_be_opened(location: str, site: Site, tmp_path: Path) -> None:
    address = site.redirect("/", location)
    with pytest.raises(DocumentError):
        get(address, tmp_path, allowed=lambda ip: str(ip) == "127.0.0.1")
    assert len(site.asked) == 1


# Fetching


def test_a_page_becomes_a_file_and_a_document(site: Site, tmp_path: Path) -> None:
    site.redirect("/old?x=1", "/new/rhine#course", 301)
    site.page("/new/rhine", HTML, "text/html; charset=utf-8")
    page = get(f" {site.address}/old?x=1#top ", tmp_path)
    assert page.url == f"{site.address}/new/rhine"
    assert page.path == tmp_path / page.name
    assert page.path.read_bytes() == HTML
    (document,) = load_page(page, 60)
    assert isinstance(document, Document)
    assert document.text == "# Rhine\n\nIt flows."
    assert document.metadata == {"file_name": page.name, "title": "Rivers", "url": page.url}


def test_a_site_is_told_nothing_of_us(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
        monkeypatch.setenv(variable.upper(), "http://127.0.0.1:9")
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    site.answers["/"] = 302, {"Location": "/next", "Set-Cookie": "a=b; Path=/"}, b""
    site.page("/next", HTML)
    get(site.address, tmp_path)
    assert [path for path, _ in site.asked] == ["/", "/next"]
    for _, headers in site.asked:
        assert set(headers) == {"Host", *web.HEADERS}


@pytest.mark.parametrize(("number", "ends"), [(5, True), (6, False)])
def test_the_number_of_redirects(number: int, ends: bool, site: Site, tmp_path: Path) -> None:
    for step in range(number):
        site.redirect(f"/{step}", f"/{step + 1}")
    site.page(f"/{number}", HTML)
    if ends:
        assert get(site.address + "/0", tmp_path).url == f"{site.address}/5"
    else:
        with pytest.raises(DocumentError, match="redirects more than 5 times"):
            get(site.address + "/0", tmp_path)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, "does not let"),
        (403, r"does not let this page be read \(403\).*save it, and add the file"),
        (404, "no such page"),
        (410, "no such page"),
        (429, "too often"),
        (418, "no page"),
        (304, "no page"),
        (204, "no page"),
        (500, "out of order"),
        (503, "out of order.*later"),
    ],
)
def test_what_a_site_answers_instead(status: int, reason: str, site: Site, tmp_path: Path) -> None:
    site.answers["/"] = status, {"Content-Type": "text/html"}, b""
    with pytest.raises(DocumentError, match=reason):
        get(site.address, tmp_path)


@pytest.mark.parametrize("kind", ["image/png", "video/mp4", "audio/mpeg", "font/woff2", "IMAGE/X"])
def test_what_is_no_text_is_not_fetched(kind: str, site: Site, tmp_path: Path) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 1000

    with pytest.raises(UnsupportedFileError, match="only text can be read"):
        get(site.page("/", endless(), kind), tmp_path)


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(DocumentError, match="cannot be reached"):
        get(f"http://127.0.0.1:{port}/", tmp_path)


def test_the_next_address_of_a_name_is_tried(
    site: Site, tmp_path: Path, names: dict[str, list[list[str]]]
) -> None:
    port = site.address.rpartition(":")[2]
    site.page("/", HTML)
    names["two.test"] = [["127.0.0.3", "127.0.0.1"]]  # the server listens on 127.0.0.1 alone
    get(f"http://two.test:{port}/", tmp_path)


def test_the_connection_breaks_off(site: Site, tmp_path: Path) -> None:
    site.answers["/"] = 200, {"Content-Type": "text/html", "Content-Length": "1000"}, HTML
    with pytest.raises(DocumentError, match="broke off"):
        get(site.address, tmp_path)


# Limits


def test_a_page_that_says_it_is_too_large(site: Site, tmp_path: Path) -> None:
    site.answers["/"] = 200, {"Content-Type": "text/html", "Content-Length": "20000000"}, b"x"
    with pytest.raises(FileTooLargeError, match=r"more than 1 MB"):
        get(site.address, tmp_path)


def test_an_endless_page(site: Site, tmp_path: Path) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 10_000

    with pytest.raises(FileTooLargeError, match=r"more than 1 MB"):
        get(site.page("/", endless()), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_packed_page(encoding: str, site: Site, tmp_path: Path) -> None:
    packed = {"gzip": gzip.compress(HTML), "deflate": zlib.compress(HTML)}[encoding]
    site.answers["/"] = 200, {"Content-Type": "text/html", "Content-Encoding": encoding}, packed
    assert get(site.address, tmp_path).path.read_bytes() == HTML


def test_a_bomb(site: Site, tmp_path: Path) -> None:
    packed = gzip.compress(bytes(200_000_000), 9)
    assert len(packed) < 1_000_000
    site.answers["/"] = 200, {"Content-Type": "text/html", "Content-Encoding": "gzip"}, packed
    with pytest.raises(FileTooLargeError):
        get(site.address, tmp_path)


@pytest.mark.parametrize("encoding", ["gzip, gzip", "br", "zstd", "compress", "gzip,identity"])
def test_packings_that_are_not_undone(encoding: str, site: Site, tmp_path: Path) -> None:
    site.answers["/"] = 200, {"Content-Type": "text/html", "Content-Encoding": encoding}, b"x"
    with pytest.raises(UnsupportedFileError, match="unknown way"):
        get(site.address, tmp_path)


def test_a_page_that_is_not_packed_as_it_says(site: Site, tmp_path: Path) -> None:
    site.answers["/"] = 200, {"Content-Type": "text/html", "Content-Encoding": "gzip"}, HTML
    with pytest.raises(DocumentError, match="cannot be unpacked"):
        get(site.address, tmp_path)


def test_a_server_that_drips(site: Site, tmp_path: Path) -> None:
    def drip() -> Iterator[bytes]:
        while True:
            yield b"x"
            time.sleep(0.05)

    began = time.monotonic()
    with pytest.raises(DocumentError, match="took too long"):
        get(site.page("/", drip()), tmp_path, timeout=0.6)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("tls", [False, True])
def test_a_server_that_drips_its_headers_or_says_nothing(tls: bool, tmp_path: Path) -> None:
    """Each single read of headers is in time; the whole is not. A TLS handshake never comes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            with connection:
                try:
                    connection.sendall(b"" if tls else b"HTTP/1.1 200 OK\r\n")
                    for _ in range(100):
                        if not tls:
                            connection.sendall(b"X: y\r\n")
                        time.sleep(0.03)
                except OSError:
                    pass

        thread = threading.Thread(target=drip)
        thread.start()
        scheme, port = "https" if tls else "http", server.getsockname()[1]
        began = time.monotonic()
        with pytest.raises(DocumentError, match="took too long"):
            get(f"{scheme}://127.0.0.1:{port}/", tmp_path, timeout=0.6)
        assert time.monotonic() - began < 2
        thread.join()


def test_redirects_share_the_time(site: Site, tmp_path: Path) -> None:
    def slow() -> Iterator[bytes]:
        time.sleep(0.4)
        yield HTML

    for step in range(3):
        site.answers[f"/{step}"] = 302, {"Location": f"/{step + 1}", "X": "y"}, b""
    site.page("/3", slow())
    with pytest.raises(DocumentError, match="took too long"):
        get(site.address + "/0", tmp_path, timeout=0.3)


def test_a_resolver_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def resolve(*args: object, **options: object) -> list[object]:
        release.wait(5)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(DocumentError, match="took too long"):
        get("http://slow.test/", tmp_path, timeout=0.2)
    release.set()


def test_headers_without_end(site: Site, tmp_path: Path) -> None:
    site.answers["/"] = 200, {f"X-{number}": "y" * 1000 for number in range(300)}, HTML
    with pytest.raises(DocumentError, match="broke off"):
        get(site.address, tmp_path)


# TLS


def test_the_certificate_is_checked_against_the_name(
    tls_site: Site,
    certificate: tuple[Path, Path],
    tmp_path: Path,
    names: dict[str, list[list[str]]],
) -> None:
    tls_site.page("/", HTML)
    port = tls_site.address.rpartition(":")[2]
    names |= {name: [["127.0.0.1"]] * 2 for name in ("rivers.test", "other.test")}
    trusting = ssl.create_default_context(cafile=certificate[0])
    page = get(f"rivers.test:{port}", tmp_path, tls=trusting)
    assert page.url == f"https://rivers.test:{port}"
    for address, tls in ((f"other.test:{port}", trusting), (f"rivers.test:{port}", None)):
        with pytest.raises(DocumentError, match="cannot prove"):
            get(address, tmp_path, tls=tls)
    assert len(tls_site.asked) == 1


def test_a_site_without_tls_asked_for_it(site: Site, tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="http:// instead"):
        get(site.address.replace("http:", "https:"), tmp_path)


# Names and types


@pytest.mark.parametrize(
    ("address", "kind", "name"),
    [
        ("https://example.org", "text/html", "example.org.html"),
        ("https://example.org/", "text/html", "example.org.html"),
        ("http://EXAMPLE.org/#part", "text/html", "example.org.html"),
        ("https://example.org/rivers/rhine", "text/html", "example.org›rivers›rhine.html"),
        ("https://example.org/rivers/rhine/", "text/html", "example.org›rivers›rhine.html"),
        ("https://example.org/rhine.html", "text/html", "example.org›rhine.html"),
        ("https://example.org/rhine.HTM", "application/xhtml+xml", "example.org›rhine.htm"),
        ("https://example.org/rhine.php", "text/html", "example.org›rhine.php.html"),
        ("https://example.org/code.py", "text/html", "example.org›code.py.html"),
        ("https://example.org/code.py", "text/plain", "example.org›code.py"),
        ("https://example.org/code.py", "text/x-python", "example.org›code.py"),
        ("https://example.org/data", "text/csv", "example.org›data.csv"),
        ("https://example.org/api/7", "application/vnd.api+json", "example.org›api›7.json"),
        ("https://example.org/feed", "application/rss+xml", "example.org›feed.xml"),
        ("https://example.org/notes", "text/plain", "example.org›notes.txt"),
        ("https://example.org/a.pdf", "application/pdf", "example.org›a.pdf"),
        ("https://example.org/a.docx", "application/octet-stream", "example.org›a.docx"),
        ("https://example.org/a", "application/octet-stream", "example.org›a.bin"),
        ("https://gov.md", "", "gov.md.bin"),
        ("https://example.org:8443/x", "text/html", None),
        ("https://example.org/?q=rhine", "text/html", None),
        ("https://en.wikipedia.org/wiki/K%C3%B6ln", "text/html", "en.wikipedia.org›wiki›Köln.html"),
        ("https://bücher.example/信濃川", "text/html", "bücher.example›信濃川.html"),
    ],
)
def test_the_name_of_a_page(address: str, kind: str, name: str | None) -> None:
    given = name_for(httpx2.URL(address), kind)
    if name:
        assert given == name
    else:
        assert given.endswith(").html")


def test_other_addresses_have_other_names() -> None:
    addresses = [
        *("https://e.org/a", "https://e.org/b", "https://e.org:8080/a", "https://e.org/a?b"),
        *("https://e.org/a%3Fb", "https://e.org/a/b", "https://e.org/a%2Fb", "https://e.org/a›b"),
        *("https://e.org/a_b", "https://e.org/a:b", "https://e.org/a*b", "https://e.org/?a"),
        *(f"https://e.org/{'long/' * 60}{end}" for end in "xy"),
        *(f"https://e.org/{'信濃川' * 60}{end}" for end in "xy"),
    ]
    given = [name_for(httpx2.URL(address), "text/html") for address in addresses]
    assert len(set(given)) == len(given)
    for name in given:
        assert len(name.encode()) <= 255
        assert not set(name) & set('/\\:*?"<>|')


@pytest.mark.parametrize(
    "path", ["/../../etc/passwd", "/..%2f..%2fetc", "/%2e%2e/%2e%2e/x", "/a%00b", "/..", "/C:%5Cx"]
)
def test_no_name_leads_out_of_the_folder(path: str, site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    for asked in (path, str(httpx2.URL(f"http://x{path}").raw_path, "ascii")):
        site.page(asked, HTML)
    page = get(site.address + path, folder)
    assert page.path.parent == folder
    assert [file.name for file in folder.iterdir()] == [page.name]
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize(
    ("kind", "body", "text"),
    [
        ("text/plain", b"# no heading", "# no heading"),
        ("text/plain; charset=utf-16-le", "Köln".encode("utf-16-le"), "Köln"),
        ("text/html; charset=shift_jis", "<p>信濃川は</p>".encode("shift_jis"), "信濃川は"),
        ("text/html; charset=iso-8859-2", "<p>Příliš</p>".encode("iso-8859-2"), "Příliš"),
        ("text/html; charset=hex", b"<p>Plain</p>", "Plain"),
        ("text/html; charset=nonsense", b"<p>Plain</p>", "Plain"),
        ("text/html; charset=iso-8859-1", "\ufeff<p>Köln</p>".encode(), "Köln"),
        ("text/html; charset=ascii", "<p>Köln</p>".encode(), "Köln"),
        ("application/json", b'{"river": "Rhine"}', '{"river": "Rhine"}'),
        ("text/markdown", b"# Rhine", "# Rhine"),
        ("", b"<!doctype html><p>Plain</p>", "Plain"),
        ("application/octet-stream", b"Just text", "Just text"),
    ],
)
def test_types_and_encodings(kind: str, body: bytes, text: str, site: Site, tmp_path: Path) -> None:
    (document,) = load_page(get(site.page("/page", body, kind), tmp_path), 60)
    assert isinstance(document, Document)
    assert document.text == text


# From Python


def test_the_reader_of_web_pages(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    pages = [site.page("/a", HTML), site.page("/b", b"Plain.", "text/plain")]
    reader = SimpleWebPageReader(html_to_text=True, allowed=anything)
    documents = reader.load_data(pages)
    assert [document.text for document in documents] == ["# Rhine\n\nIt flows.", "Plain."]
    assert [document.metadata["url"] for document in documents] == pages
    with pytest.raises(DocumentError, match="no such page"):
        reader.load_data(site.address + "/missing")
    lenient = SimpleWebPageReader(fail_on_error=False, allowed=anything)
    assert len(lenient.load_data([site.address + "/missing", pages[0]])) == 1
    assert "no such page" in caplog.text
    with pytest.raises(DocumentError, match="public internet"):
        SimpleWebPageReader().load_data(pages)
    with pytest.raises(ConfigurationError, match="html_to_text"):
        SimpleWebPageReader(html_to_text=False)
