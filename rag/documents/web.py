"""The address of a web page -> a file, and its documents.

Whoever gives the address is not trusted, and neither is the site: nothing is opened but public
addresses, whatever the address looks like, its name resolves to, or the site redirects to. That
is decided where connections are made, on the address that is connected to. The file is read like
any other, in a process of its own.
"""

import hashlib
import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import httpcore2
import httpx2

from rag.documents.isolation import load_isolated
from rag.documents.loading import CODE, ENDINGS, TEXT
from rag.errors import DocumentError, FileTooLargeError, UnsupportedFileError
from rag.types import Document

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Allowed = Callable[[IPAddress], bool]

MAX_REDIRECTS = 5
MAX_ADDRESS = 2_000
"""Characters of an address."""
MAX_NAME = 120
"""Characters of a page's name without its ending."""
MAX_NAME_BYTES = 220
"""Bytes of it: file systems take 255 with what is added."""
HEADERS = {
    "User-Agent": "Mozilla/5.0 (compatible; Rivulet/0.1)",
    "Accept": "text/html,application/xhtml+xml,text/markdown;q=0.9,*/*;q=0.8",
    "Accept-Encoding": "gzip, deflate",
    "Connection": "close",
}
"""All that a site is told: no cookies, no referrer, no language."""
TYPES = {
    "text/html": ".html",
    "application/xhtml+xml": ".html",
    "application/pdf": ".pdf",
    "text/markdown": ".md",
    "text/x-markdown": ".md",
    "text/csv": ".csv",
    "text/tab-separated-values": ".tsv",
    "application/json": ".json",
    "application/ld+json": ".json",
    "application/x-ndjson": ".jsonl",
    "application/x-ipynb+json": ".ipynb",
    "message/rfc822": ".eml",
    "application/xml": ".xml",
    "text/xml": ".xml",
    "application/rss+xml": ".xml",
    "application/atom+xml": ".xml",
    "application/zip": ".zip",
}
"""The ending by which a type is read. Office files and EPUB are known by their content."""
NOT_TEXT = {"image": "a picture", "video": "a video", "audio": "a recording", "font": "a font"}
NO_PORT = "addresses on this port are not opened; 80, 443 and those above 1023 are."
NOT_PUBLIC = (
    "it is not on the public internet: addresses of this computer and of private networks are not "
    "opened. Save the page, and add the file."
)
NO_NAME = "there is no site of this name. Check the address."
NO_ADDRESS = "it is not the address of a web page. Check it."
SLOW = "the site took too long. Try again later, or save the page and add the file."
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):(//|(?!\d))", re.I)
_UNFIT = re.compile(r'[\x00-\x1f\x7f-\x9f\u200b-\u206f\ufeff\ufffd\ud800-\udfff<>:"|?*\\›]')
"""What a file's name cannot have on some system, or nobody sees in it."""
_BOMS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_RESERVED = tuple(
    ipaddress.ip_network(network)
    for network in (
        *("192.0.0.0/24", "192.88.99.0/24"),  # protocol assignments, 6to4 relays
        "168.63.129.16/32",  # Azure's own service for the machines in it
        *("2001::/23", "2002::/16"),  # Teredo and others, 6to4: an IPv4 address may be inside
        *("2001:db8::/32", "3fff::/20"),  # documentation
    )
)
_UNICAST = ipaddress.ip_network("2000::/3")


@dataclass(frozen=True)
class Page:
    """A page that was fetched into a file."""

    path: Path
    """The file; its name is `name`."""
    name: str
    """Made from the address that was asked for: the same address always has the same name."""
    url: str
    """The address at which it was in the end."""


def fetch(
    address: str,
    folder: Path,
    *,
    max_bytes: int,
    timeout: float,
    allowed: Allowed | None = None,
    tls: ssl.SSLContext | None = None,
) -> Page:
    """Fetch what is at `address` into a new file in `folder`, which is there.

    `address` is http or https, with or without its scheme. At most `max_bytes` are taken, unpacked,
    within `timeout` seconds for everything, redirects included. `allowed` says which addresses may
    be connected to, `is_foreign` when None; `tls` how sites prove who they are, the system's
    certificates when None. Raises DocumentError naming the address where it is refused, cannot be
    reached, or answers with no page; FileTooLargeError; UnsupportedFileError where it is known to
    be no text.
    """
    shown = re.sub(r"[^/@]+@", "…@", address.strip()[:200])  # there may be a password
    backend = _Backend(shown, time.monotonic() + timeout, allowed or is_foreign)
    tls = tls or httpcore2.default_ssl_context()
    asked = url = _parse(shown, address)
    for _ in range(MAX_REDIRECTS + 1):
        with httpcore2.ConnectionPool(ssl_context=tls, network_backend=backend) as pool:
            answer = _ask(shown, url, pool, max_bytes)
        if isinstance(answer, _Body):
            break
        url = _parse(shown, answer)
    else:
        raise DocumentError(shown, f"it redirects more than {MAX_REDIRECTS} times.")
    name = name_for(asked, answer.kind)
    path = folder / name
    path.write_bytes(answer.data)
    return Page(path, name, str(url.copy_with(fragment=None)))


def load_page(page: Page, read_timeout: float) -> Generator[Document | DocumentError, None, None]:
    """`load_isolated` of the file of `page`; each document's metadata has the address, as `url`."""
    with closing(load_isolated(page.path, page.name, read_timeout)) as items:
        for item in items:
            if isinstance(item, Document):
                item = replace(item, metadata={**item.metadata, "url": page.url})
            yield item


def is_foreign(ip: IPAddress) -> bool:
    """Whether `ip` is public and not this machine's own, whose firewall lets us pass."""
    if not is_public(ip):
        return False
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as own:
            own.bind((str(ip), 0))
    except OSError:
        return True
    return False


def is_public(ip: IPAddress) -> bool:
    """Whether `ip` is one host of the public internet.

    By IANA's registries of special addresses. What carries an IPv4 address inside is refused, but
    for NAT64's well-known prefix, behind which networks without IPv4 see all of it: there the
    address inside decides.
    """
    if ip in _NAT64:
        return is_public(ipaddress.IPv4Address(ip.packed[-4:]))
    return (
        (ip.version == 4 or ip in _UNICAST)
        and ip.is_global
        and not (ip.is_multicast or ip.is_reserved)
        and not any(ip in network for network in _RESERVED)
    )


def name_for(url: httpx2.URL, kind: str) -> str:
    """The name of the page at `url`: "example.org›rivers›rhine.html".

    `kind` is its type, as in a Content-Type. Two addresses have two names, unless they differ in
    no more than the scheme, the fragment, a last slash or an ending (rhine, rhine.html). Where
    not all of an address can be in a file's name, a hash of it is.
    """
    path = url.path.rstrip("/")
    whole = f"{url.host}:{url.port}{path}" if url.port else f"{url.host}{path}"
    suffix = PurePosixPath(path).suffix.lower()
    ending = _ending(kind, suffix)
    if suffix == ending:
        whole = whole[: -len(suffix)]
    if url.query:
        whole += f"?{unquote(url.query.decode('ascii'))}"
    name = _UNFIT.sub("_", whole).replace("/", "›")[:MAX_NAME]
    while len(name.encode()) > MAX_NAME_BYTES:
        name = name[:-1]
    name = name.strip(" .")
    if name.replace("›", "/") != whole or b"%2f" in url.raw_path.lower():
        raw = url.netloc + url.raw_path.rstrip(b"/")
        name += f" ({hashlib.sha256(raw).hexdigest()[:8]})"
    return name + ending


class _Backend(httpcore2.NetworkBackend):
    """Connects to the addresses of a name when all of them are allowed, asking for them once."""

    def __init__(self, shown: str, deadline: float, allowed: Allowed):
        self._shown = shown
        self._deadline = deadline
        self._allowed = allowed
        self._sockets = httpcore2.SyncBackend()

    def connect_tcp(self, host: str, port: int, *_: Any, **__: Any) -> httpcore2.NetworkStream:
        addresses = _resolve(self._shown, host, port, _left(self._deadline))
        if not all(self._allowed(ip) for ip in addresses):
            raise DocumentError(self._shown, NOT_PUBLIC)
        for number, ip in enumerate(addresses):
            share = _left(self._deadline) / (len(addresses) - number)
            try:
                # An address, not a name: nobody is asked for it again.
                stream = self._sockets.connect_tcp(str(ip), port, share)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                if number == len(addresses) - 1:
                    raise
            else:
                return _Timed(stream, self._deadline)
        raise AssertionError("no address")


class _Timed(httpcore2.NetworkStream):
    """A connection on which each step may take what is left of the time for all of them."""

    def __init__(self, stream: httpcore2.NetworkStream, deadline: float):
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, *_: Any, **__: Any) -> bytes:
        return self._stream.read(max_bytes, _left(self._deadline))

    def write(self, buffer: bytes, *_: Any, **__: Any) -> None:
        self._stream.write(buffer, _left(self._deadline))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, *_: Any, **__: Any
    ) -> httpcore2.NetworkStream:
        left = _left(self._deadline)
        return _Timed(self._stream.start_tls(ssl_context, server_hostname, left), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


@dataclass(frozen=True)
class _Body:
    """What a site answered with: text in UTF-8 where it said in which encoding that was."""

    kind: str
    data: bytes


class _Stream(httpx2.SyncByteStream):
    """The body of an answer, for httpx to unpack in small pieces."""

    def __init__(self, answer: httpcore2.Response):
        self._answer = answer

    def __iter__(self) -> Generator[bytes, None, None]:
        yield from self._answer.iter_stream()


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore2.ReadTimeout
    return left


def _resolve(shown: str, host: str, port: int, timeout: float) -> list[IPAddress]:
    """All addresses of `host`, in the system's order of preference."""
    found: list[IPAddress] = []
    failed: list[Exception] = []

    def ask() -> None:
        try:
            answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found.extend(dict.fromkeys(ipaddress.ip_address(answer[4][0]) for answer in answers))
        except (OSError, ValueError) as error:  # ValueError: as an over-long part of a name is
            failed.append(error)

    # The system's resolver has no time limit of its own that could be set.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(timeout)
    if failed or not (found or thread.is_alive()):
        raise DocumentError(shown, NO_NAME) from (failed[0] if failed else None)
    if not found:
        raise httpcore2.ConnectTimeout
    return found


def _parse(shown: str, address: str) -> httpx2.URL:
    """An address that may be opened, as far as it tells by itself. Raises DocumentError."""
    address = address.strip()
    if not address or len(address) > MAX_ADDRESS:
        reason = f"an address has 1 to {MAX_ADDRESS:,} characters."
        raise DocumentError(shown or "(no address)", reason)
    scheme = _SCHEME.match(address)
    if scheme and scheme[1].lower() not in ("http", "https"):
        raise DocumentError(shown, "only addresses that begin with http:// or https:// are opened.")
    if not scheme:
        address = f"https://{address.removeprefix('//')}"
    try:
        url = httpx2.URL(address)
    except (httpx2.InvalidURL, ValueError) as error:
        raise DocumentError(shown, NO_ADDRESS) from error
    if not url.host:
        raise DocumentError(shown, NO_ADDRESS)
    if url.userinfo:
        raise DocumentError(
            shown, "an address with a user name or a password in it is not opened. Take them out."
        )
    if url.port is not None and url.port not in (80, 443) and url.port < 1024:
        raise DocumentError(shown, NO_PORT)
    return url


def _ask(
    shown: str, url: httpx2.URL, pool: httpcore2.ConnectionPool, max_bytes: int
) -> _Body | str:
    """The page at `url`, or the address to which it redirects. Raises DocumentError."""
    where = httpcore2.URL(
        scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
    )
    headers = [("Host", url.netloc.decode("ascii")), *HEADERS.items()]
    try:
        with pool.stream("GET", where, headers=headers) as answer:
            response = httpx2.Response(
                answer.status, headers=answer.headers, stream=_Stream(answer)
            )
            if response.has_redirect_location:
                return str(url.join(response.headers["location"]))
            kind = _kind(shown, response)
            data = _body(shown, response, max_bytes)
    except httpcore2.TimeoutException as error:
        raise DocumentError(shown, SLOW) from error
    except (httpcore2.NetworkError, httpcore2.ProtocolError, httpx2.DecodingError) as error:
        raise DocumentError(shown, _unreachable(error)) from error
    except (httpx2.InvalidURL, UnicodeError) as error:
        raise DocumentError(shown, "it redirects to what is no address.") from error
    if _is_text(kind):
        data = _as_utf8(data, response.charset_encoding)
    return _Body(kind, data)


def _kind(shown: str, response: httpx2.Response) -> str:
    """The type of a page, as "text/html". Raises DocumentError where the answer is no page."""
    status = response.status_code
    if status in (401, 402, 403, 407, 451):
        reason = f"the site does not let this page be read ({status}). Open it in a browser, save "
        raise DocumentError(shown, f"{reason}it, and add the file.")
    if status in (404, 410):
        raise DocumentError(shown, f"there is no such page ({status}). Check the address.")
    if status == 429:
        raise DocumentError(shown, "the site has been asked too often (429). Try again later.")
    if status >= 500:
        raise DocumentError(shown, f"the site is out of order ({status}). Try again later.")
    if status != 200:
        raise DocumentError(shown, f"the site answered with no page ({status}).")
    kind: str = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if what := NOT_TEXT.get(kind.partition("/")[0]):
        raise UnsupportedFileError(shown, f"it is {what} ({kind}); only text can be read.")
    return kind


def _body(shown: str, response: httpx2.Response, max_bytes: int) -> bytes:
    """The page itself, unpacked; no more of it is held than may be taken."""
    encodings = response.headers.get_list("content-encoding", split_commas=True)
    # Each further packing multiplies what a bomb can hold before the first byte comes out.
    if [name for name in encodings if name.lower() not in ("gzip", "deflate", "identity")] or (
        len(encodings) > 1
    ):
        packed = ", ".join(encodings)[:60]
        raise UnsupportedFileError(shown, f"the site packs it in an unknown way ({packed}).")
    reason = f"it has more than {max_bytes / 1e6:g} MB, which is all that is taken of a page."
    length = response.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > max_bytes:
        raise FileTooLargeError(shown, reason)
    data = bytearray()
    for piece in response.iter_bytes():
        data += piece
        if len(data) > max_bytes:
            raise FileTooLargeError(shown, reason)
    return bytes(data)


def _unreachable(error: Exception) -> str:
    cause = error.args[0] if error.args else None  # httpcore hands on what failed, as the message
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"the site cannot prove that it is the one it says ({cause.verify_message})."
    if isinstance(cause, ssl.SSLError):
        return "no secure connection to the site came about. Try http:// instead of https://."
    if isinstance(error, httpcore2.ConnectError):
        return "the site cannot be reached. Check the address and your connection."
    if isinstance(error, httpx2.DecodingError):
        return "what the site sent is damaged: it cannot be unpacked."
    return "the connection to the site broke off. Try again later."


def _ending(kind: str, suffix: str) -> str:
    """By which ending a page of this type is read, whose address ends in `suffix`."""
    if kind in ("text/html", "application/xhtml+xml"):
        return suffix if suffix in (".html", ".htm", ".xhtml") else ".html"
    if kind in TYPES:
        return TYPES[kind]
    if kind.endswith("+json"):
        return ".json"
    if kind.endswith("+xml"):
        return ".xml"
    if _is_text(kind):
        return suffix if suffix in TEXT or suffix in CODE else ".txt"
    return suffix if suffix in ENDINGS else ".bin"


def _is_text(kind: str) -> bool:
    return kind.startswith("text/") or kind.endswith(("xml", "json"))


def _as_utf8(data: bytes, charset: str | None) -> bytes:
    """`data` as UTF-8 where the site says in which encoding it is, and that holds.

    The encoding stands beside the page, not in it, so that the file alone would not tell.
    """
    if not charset or data.startswith(_BOMS):
        return data
    try:
        return data.decode(charset).encode()
    except (LookupError, UnicodeError):
        return data
