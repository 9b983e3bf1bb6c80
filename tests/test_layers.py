"""The rules that keep the layers apart, read from the source itself."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = (
    *("errors", "config", "passwords", "logs", "types", "space", "weights", "preparation"),
    *("documents", "index", "llms", "answering", "evaluation", "ui"),
    *("upkeep", "terminal", "__main__"),
)
"""Each may import only from those before it, and from itself."""
TORCH = {
    "rag/weights.py",
    "rag/index/embedding_huggingface.py",
    "rag/index/reranking_huggingface.py",
    "rag/llms/decoding.py",
    "rag/llms/huggingface.py",
}
FILES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "rag").rglob("*.py"))


def imports(file: str) -> Iterator[tuple[str, bool]]:
    """The full name of everything `file` imports, and whether the module's own body does."""
    package = file.removesuffix(".py").split("/")[:-1]

    def walk(node: ast.AST, inside: bool) -> Iterator[tuple[str, bool]]:
        if isinstance(node, ast.Import):
            yield from ((alias.name, not inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((f"{module}.{alias.name}", not inside) for alias in node.names)
        inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, inside)

    yield from walk(ast.parse((ROOT / file).read_text("utf-8")), inside=False)


def users_of(*libraries: str) -> set[str]:
    return {file for file in FILES for name, _ in imports(file) if name.split(".")[0] in libraries}


def test_every_module_has_its_layer() -> None:
    tops = {Path(file).parts[1].removesuffix(".py") for file in FILES} - {"__init__"}
    assert tops == set(LAYERS)


@pytest.mark.parametrize("file", [file for file in FILES if file != "rag/__init__.py"])
def test_a_layer_imports_only_from_those_before_it(file: str) -> None:
    layer = Path(file).parts[1].removesuffix(".py")
    allowed = LAYERS[: LAYERS.index(layer) + 1]
    ours = [name.split(".") for name, _ in imports(file) if name.split(".")[0] == "rag"]
    assert [name for name in ours if name[1] not in allowed] == []


def test_the_terminal_does_not_know_the_page() -> None:
    assert [name for name, _ in imports("rag/__main__.py") if name.startswith("rag.ui")] == []


def test_nothing_imports_the_terminal() -> None:
    users = {file for file in FILES for name, _ in imports(file) if name.startswith("rag.__main__")}
    assert users == set()


def test_only_the_interface_knows_gradio() -> None:
    users = users_of("gradio", "gradio_client")
    assert users
    assert all(file.startswith("rag/ui/") for file in users)


def test_only_the_store_and_its_server_know_chroma() -> None:
    assert users_of("chromadb") == {"rag/index/store.py", "rag/index/chroma_server.py"}


def test_torch_is_named_in_five_modules_and_loaded_only_when_needed() -> None:
    assert users_of("torch", "transformers") <= TORCH
    at_import = [
        file
        for file in TORCH
        for name, at_module_level in imports(file)
        if at_module_level and name.split(".")[0] in ("torch", "transformers")
    ]
    assert at_import == []


def test_only_the_tools_know_the_protocol_of_assistants() -> None:
    assert users_of("mcp", "mcp_types") == {"rag/ui/tools.py"}
    importers = {file for file in FILES for name, top in imports(file) if "rag.ui.tools" in name}
    assert importers == {"rag/ui/assistants.py"}


def test_nothing_imports_the_app() -> None:
    assert users_of("app") == set()


def test_the_package_itself_loads_nothing_but_the_standard_library() -> None:
    """What it names for type checkers is never run."""
    body = ast.parse((ROOT / "rag" / "__init__.py").read_text("utf-8")).body
    loaded = []
    for node in body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        for child in ast.walk(node):
            if isinstance(child, ast.Import):
                loaded += [alias.name for alias in child.names]
            elif isinstance(child, ast.ImportFrom):
                loaded.append("." * child.level + (child.module or ""))
    assert loaded
    assert {name.split(".")[0] for name in loaded} <= sys.stdlib_module_names


def test_the_page_is_there_before_torch_is() -> None:
    code = (
        "import sys, app; app._load_gradio(); import rag.ui.page; "
        "print(*{'torch', 'transformers', 'mcp'} & set(sys.modules)); import mcp"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
