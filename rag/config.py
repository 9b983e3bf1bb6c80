"""The settings, read from the environment in this one place.

The options of a command line are laid over what is read here.
"""

import argparse
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar, cast, get_args

import platformdirs

from rag.errors import ConfigurationError

T = TypeVar("T")
SPACE_DISK = Path("/data")
"""Where a Hugging Face Space has the storage that outlasts a restart, if it has any."""
DEFAULT_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
DEFAULT_EMBED_MODEL = "sentence-transformers/all-MiniLM-L6-v2"

ResponseMode = Literal[
    "compact",
    "refine",
    "tree_summarize",
    "simple_summarize",
    "generation",
    "no_text",
    "context_only",
    "accumulate",
    "compact_accumulate",
]
"""How an answer is made of passages: LlamaIndex's response modes."""

LogFormat = Literal["text", "json"]
RetrieverMode = Literal["hybrid", "dense", "keyword"]
"""What a question is compared by: vectors and words, vectors alone, words alone."""


@dataclass(frozen=True)
class Config:
    """All settings of one process. `docs/` and the README list the variables behind them."""

    model: str = DEFAULT_MODEL
    """Hub id, local folder, or `openai:NAME` for a model of the OpenAI-compatible server."""
    embed_model: str = DEFAULT_EMBED_MODEL
    """Hub id or local folder of a sentence-embedding model."""
    data_dir: Path = Path(platformdirs.user_data_dir("rivulet", appauthor=False))
    """Folder of everything that is kept: weights, indexes, conversations."""
    rerank_model: str | None = None
    """Hub id or local folder of a cross-encoder that puts passages in order; None: none does."""
    relevance_cutoff: float | None = None
    """Score of a passage below which nothing bears on a question; None: as measured for the
    embedding model, where it was; 0: always answer."""
    openai_api_key: str | None = field(default=None, repr=False)
    openai_base_url: str | None = None
    chroma_url: str | None = None
    """Address of a Chroma server that holds the passages; None: they are in `data_dir`."""
    chroma_token: str | None = field(default=None, repr=False)
    chroma_tenant: str | None = None
    chroma_database: str | None = None
    top_k: int = 3
    """Passages given to the model."""
    max_new_tokens: int = 256
    """Length limit of one answer, in tokens."""
    response_mode: ResponseMode = "compact"
    """How an answer is made of the passages; see `answering.synthesis`."""
    max_file_mb: int = 50
    """Size limit of one uploaded file, in megabytes of 1,000,000 bytes."""
    read_timeout: int = 120
    """Seconds within which one file has to be read."""
    max_pages: int = 5_000
    """Pages of one file, at most."""
    max_files: int = 2_000
    """Documents of one session, at most."""
    max_passages: int = 200_000
    """Passages of one session, at most."""
    max_session_mb: int = 5_000
    """What one session may take on the disk, in megabytes; 0: as much as there is."""
    max_disk_mb: int = 50_000
    """What all sessions and uploads may take together, in megabytes; 0: as much as there is."""
    max_question: int = 8_000
    """Characters of a question."""
    questions_per_minute: int = 30
    """Questions that one session may ask in a minute."""
    max_answers: int = 16
    """Answers that are written at the same time."""
    max_waiting: int = 100
    """Questions that wait for one of these, at most."""
    max_session_answers: int = 4
    """Answers that are written for one session, or wait, at the same time."""
    answer_timeout: int = 900
    """Seconds within which an answer has to be written."""
    forget_after: int | None = None
    """Hours without a visit after which a session is removed with all that it stored; 0: never;
    None: a week where others can reach the page, else never."""
    feedback: bool = True
    """Whether what a person says of an answer is kept for who runs the program."""
    read_ahead: bool = True
    """Whether the local model reads what a question will be answered from while it is typed."""
    mcp: bool = True
    """Whether assistants may do at `/mcp` what programs may do."""
    auth: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """User names and passwords of those who may open the page."""
    auth_file: Path | None = None
    """File with the names and hashed passwords of others who may; neither: no login."""
    open: bool = False
    """Whether there is no login where none is set, although others can reach the page."""
    log: LogFormat = "text"
    """How the log is written: for people, or one JSON object a line."""
    log_text: bool = False
    """Whether the log may hold what errors say that are not ours: people's texts may be in it."""
    port: int = 7860
    root_path: str = ""
    """Path under which a proxy shows the page, such as "/rivulet"; empty: at the top."""
    metrics_port: int | None = None
    """Port of the figures for Prometheus; None: they are not served."""
    on_space: bool = False
    """Whether this is a Hugging Face Space, which is reached from outside."""
    zero_gpu: bool = False
    """Whether a GPU is there only while it is borrowed (ZeroGPU of Hugging Face Spaces)."""
    strangers: bool = False
    """Whether others than whoever runs the program can open the page: they may not type any model's
    name, and are told nothing of its folders and addresses."""

    @property
    def models_dir(self) -> Path:
        """Folder of the weights."""
        return self.data_dir / "models"

    @property
    def wants_login(self) -> bool:
        """Whether one has to log in to open the page."""
        return bool(self.auth or self.auth_file)

    @property
    def offers_openai(self) -> bool:
        """Whether a key or an address for an OpenAI-compatible server is set."""
        return bool(self.openai_api_key or self.openai_base_url)

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> "Config":
        """Read the settings from `env` (the process's environment when None).

        Empty variables count as unset. Raises ConfigurationError naming the variable
        when a value cannot be used.
        """
        env = os.environ if env is None else env
        given = {name: value for name in VARIABLES if (value := env.get(name, "").strip())}
        values: dict[str, object] = {}
        for name, text in given.items():
            attribute, parse = VARIABLES[name]
            try:
                values[attribute] = parse(text)
            except ValueError as error:
                # The value itself is left out: it may be a password.
                raise ConfigurationError(f"{name} cannot be used: {error}.") from None
        if values.get("on_space") and os.access(SPACE_DISK, os.W_OK):
            values.setdefault("data_dir", SPACE_DISK / "rivulet")
        return cls(**values)  # type: ignore[arg-type]


def as_argument(parse: Callable[[str], T]) -> Callable[[str], T]:
    """`parse` for argparse, which shows the text of no other error than its own."""

    def parsed(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parsed


def parse_auth(text: str) -> tuple[tuple[str, str], ...]:
    """`user:password`, several separated by commas. Raises ValueError without showing it."""
    pairs = tuple(
        (user.strip(), password)
        for user, _, password in (part.partition(":") for part in text.split(","))
    )
    if not all(user and password for user, password in pairs):
        raise ValueError("it has to read user:password, several separated by commas")
    return pairs


def parse_model(text: str) -> str:
    """A model's name. Raises ValueError."""
    if text == "openai:":
        raise ValueError("after openai: the model's name is missing")
    return text


def _mode(text: str) -> ResponseMode:
    if text not in get_args(ResponseMode):
        raise ValueError(f"it has to be one of {', '.join(get_args(ResponseMode))}")
    return cast(ResponseMode, text)


def _log(text: str) -> LogFormat:
    if text not in get_args(LogFormat):
        raise ValueError("it has to be text or json")
    return cast(LogFormat, text)


def _address(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise ValueError("it has to begin with http:// or https://")
    return text.rstrip("/")


def parse_switch(text: str) -> bool:
    """`on` or `off`, or another word for them. Raises ValueError."""
    if text.lower() in ("on", "true", "yes", "1"):
        return True
    if text.lower() in ("off", "false", "no", "0"):
        return False
    raise ValueError("it has to be on or off")


def parse_positive(text: str) -> int:
    """A whole number above 0. Raises ValueError."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise ValueError("it has to be a whole number above 0")
    return number


def parse_amount(text: str) -> int:
    """A whole number from 0. Raises ValueError."""
    if not text.isdecimal():
        raise ValueError("it has to be a whole number, 0 or more")
    return int(text)


def parse_share(text: str) -> float:
    """A number from 0 to 1. Raises ValueError."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise ValueError("it has to be a number from 0 to 1")
    return number


def parse_port(text: str) -> int:
    """A port's number. Raises ValueError."""
    number = int(text) if text.isdecimal() else -1
    if not 0 < number < 65536:
        raise ValueError("it has to be a number from 1 to 65535")
    return number


def parse_path(text: str) -> str:
    """A path of a web address, without the slash at its end. Raises ValueError."""
    path = text.rstrip("/")
    if not re.fullmatch(r"(/[\w.~-]+)*", path, re.ASCII) or not text.startswith("/"):
        raise ValueError("it has to be a path such as /rivulet")
    return path


VARIABLES: dict[str, tuple[str, Callable[[str], object]]] = {
    "RAG_MODEL": ("model", parse_model),
    "RAG_EMBED_MODEL": ("embed_model", str),
    "RAG_RERANK_MODEL": ("rerank_model", str),
    "RAG_RELEVANCE_CUTOFF": ("relevance_cutoff", parse_share),
    "RAG_DATA_DIR": ("data_dir", lambda text: Path(text).expanduser()),
    "CHROMA_URL": ("chroma_url", _address),
    "CHROMA_TOKEN": ("chroma_token", str),
    "CHROMA_TENANT": ("chroma_tenant", str),
    "CHROMA_DATABASE": ("chroma_database", str),
    "RAG_TOP_K": ("top_k", parse_positive),
    "RAG_MAX_NEW_TOKENS": ("max_new_tokens", parse_positive),
    "RAG_RESPONSE_MODE": ("response_mode", _mode),
    "RAG_MAX_FILE_MB": ("max_file_mb", parse_positive),
    "RAG_READ_TIMEOUT": ("read_timeout", parse_positive),
    "RAG_MAX_PAGES": ("max_pages", parse_positive),
    "RAG_MAX_FILES": ("max_files", parse_positive),
    "RAG_MAX_PASSAGES": ("max_passages", parse_positive),
    "RAG_MAX_SESSION_MB": ("max_session_mb", parse_amount),
    "RAG_MAX_DISK_MB": ("max_disk_mb", parse_amount),
    "RAG_MAX_QUESTION": ("max_question", parse_positive),
    "RAG_QUESTIONS_PER_MINUTE": ("questions_per_minute", parse_positive),
    "RAG_MAX_ANSWERS": ("max_answers", parse_positive),
    "RAG_MAX_WAITING": ("max_waiting", parse_positive),
    "RAG_MAX_SESSION_ANSWERS": ("max_session_answers", parse_positive),
    "RAG_ANSWER_TIMEOUT": ("answer_timeout", parse_positive),
    "RAG_FORGET_AFTER": ("forget_after", parse_amount),
    "RAG_FEEDBACK": ("feedback", parse_switch),
    "RAG_LOG": ("log", _log),
    "RAG_LOG_TEXT": ("log_text", parse_switch),
    "RAG_READ_AHEAD": ("read_ahead", parse_switch),
    "RAG_MCP": ("mcp", parse_switch),
    "RAG_AUTH": ("auth", parse_auth),
    "RAG_AUTH_FILE": ("auth_file", lambda text: Path(text).expanduser()),
    "RAG_OPEN": ("open", parse_switch),
    "OPENAI_API_KEY": ("openai_api_key", str),
    "OPENAI_BASE_URL": ("openai_base_url", _address),
    "PORT": ("port", parse_port),
    "RAG_ROOT_PATH": ("root_path", parse_path),
    "RAG_METRICS_PORT": ("metrics_port", parse_port),
    "SPACE_ID": ("on_space", bool),
    "SPACES_ZERO_GPU": ("zero_gpu", parse_switch),
}
"""Every environment variable that is read: its name, the attribute it sets, its parser."""
