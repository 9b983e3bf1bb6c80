"""The public names: every one is there, and asking for the package loads none of them."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import rag

ROOT = Path(__file__).resolve().parents[1]
SURFACE = {
    *("SimpleDirectoryReader", "Document", "VectorStoreIndex", "get_response_synthesizer"),
    *("RetrieverQueryEngine", "Response", "StreamingResponse", "AsyncStreamingResponse"),
    *("OpenAI", "HuggingFaceLLM", "LangChainLLM", "ScriptedLLM", "Settings"),
}
"""What a developer who knows the specification's page asks for."""
HEAVY = ("torch", "transformers", "chromadb", "gradio", "openai", "langchain_core", "numpy")


def loaded_after(code: str) -> set[str]:
    """Which of HEAVY a fresh process has loaded after `code`."""
    code += f"\nimport sys; print(*(set(sys.modules) & set({HEAVY!r})))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_the_surface_is_there() -> None:
    assert set(rag.__all__) >= SURFACE


@pytest.mark.parametrize("name", rag.__all__)
def test_every_public_name_is_there(name: str) -> None:
    value = getattr(rag, name)
    module = import_module(f"rag.{rag._MODULES[name]}")
    assert value is getattr(module, name)
    assert getattr(value, "__module__", module.__name__) == module.__name__


def test_what_a_type_checker_sees_is_what_is_there() -> None:
    (block,) = (
        node
        for node in ast.parse(Path(rag.__file__).read_text("utf-8")).body
        if isinstance(node, ast.If)
    )
    seen = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            assert alias.asname == alias.name  # or it is not handed on
            seen[alias.name] = (node.module or "").removeprefix("rag.")
    assert seen == rag._MODULES


def test_the_names_are_listed() -> None:
    assert dir(rag) == rag.__all__ == sorted(rag._MODULES)


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'rag' has no attribute 'Index'"):
        _ = rag.Index
    with pytest.raises(ImportError, match="Index"):
        exec("from rag import Index")


def test_modules_are_still_found() -> None:
    """A name that is asked for first is no module."""
    done = subprocess.run(
        [sys.executable, "-c", "import rag, rag.types; print(rag.Node is rag.types.Node)"],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.strip() == "True", done.stderr


def test_importing_the_package_loads_nothing() -> None:
    assert loaded_after("import rag") == set()
    assert loaded_after("from rag import Document, ScriptedLLM, ChatMessage") == set()


@pytest.mark.parametrize("name", ["HuggingFaceLLM", "HuggingFaceEmbedding", "Settings"])
def test_a_name_of_a_model_loads_no_torch(name: str) -> None:
    assert not loaded_after(f"from rag import {name}") & {"torch", "transformers", "gradio"}


def test_only_names_that_search_load_chroma() -> None:
    names = "SimpleDirectoryReader, OpenAI, HuggingFaceLLM, HashEmbedding, Response"
    assert "chromadb" not in loaded_after(f"from rag import {names}")


def test_from_import_star_gives_the_public_names() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from rag import *; print(VectorStoreIndex.__name__)"],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.stdout.strip() == "VectorStoreIndex", done.stderr
