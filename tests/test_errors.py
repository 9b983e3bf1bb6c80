"""The tree in the docstring is the tree in the code, and every error can cross a process."""

import pickle

import pytest

from rag import errors


def test_the_docstring_draws_the_classes_that_are_there() -> None:
    drawn: dict[str, str | None] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        name = line.lstrip("│├└─ ").split(" ")[0]
        if not name.endswith("Error"):
            continue
        depth = (len(line) - len(line.lstrip("│├└─ "))) // 4
        above[depth:] = [name]
        drawn[name] = above[depth - 1] if depth else "Exception"
    defined = {
        name: kind.__bases__[0].__name__
        for name, kind in vars(errors).items()
        if isinstance(kind, type)
    }
    assert drawn == defined


def test_a_document_error_names_the_file_and_keeps_the_reason_apart() -> None:
    error = errors.FileTooLargeError("a.pdf", "it is too large.")
    assert str(error) == "a.pdf: it is too large."
    assert (error.file_name, error.reason) == ("a.pdf", "it is too large.")


@pytest.mark.parametrize("kind", [errors.StoreError, errors.ProviderError])
def test_plain_errors_carry_their_message(kind: type[errors.RivuletError]) -> None:
    assert str(pickle.loads(pickle.dumps(kind("what to do")))) == "what to do"
