"""Everything Rivulet raises on purpose. Each message says what a person can do about it.

RivuletError
├── ConfigurationError          a setting is missing or cannot be used
├── DocumentError               one file could not be taken in; the others are not affected
│   ├── EmptyDocumentError      there is no text in it
│   ├── FileTooLargeError       it is over a limit
│   └── UnsupportedFileError    its type cannot be read, or is not what its name says
├── StoreError                  the index cannot be opened or used
│   ├── DamagedIndexError       its files are not whole
│   ├── EmbeddingMismatchError  another model embedded it
│   ├── OutdatedIndexError      another version of Rivulet made it
│   └── RemovedIndexError       it was removed while something was added
└── ModelError                  a language or embedding model cannot be used
    ├── ModelUnavailableError   its weights cannot be had or loaded
    ├── ContextWindowError      the prompt does not fit its window
    └── ProviderError           its server refused, failed, or could not be reached
"""

MODEL_FAILED = (
    "The model cannot be used just now. Ask again in a minute, choose another one, or tell whoever "
    "runs this page."
)


class RivuletError(Exception):
    """Base of all errors raised on purpose; `str()` of it can be shown to whoever runs Rivulet."""

    for_others: str | None = None
    """What others who use it are told, as folders and addresses are no business of theirs; None:
    the same."""


class ConfigurationError(RivuletError):
    """A setting is missing or cannot be used."""


class DocumentError(RivuletError):
    """One file could not be taken in. `reason` stands without the file's name."""

    def __init__(self, file_name: str, reason: str):
        super().__init__(f"{file_name}: {reason}")
        self.file_name = file_name
        self.reason = reason


class EmptyDocumentError(DocumentError):
    """There is no text in the file."""


class FileTooLargeError(DocumentError):
    """The file is over a limit."""


class UnsupportedFileError(DocumentError):
    """The file's type cannot be read, or its content is not what its name says."""


class StoreError(RivuletError):
    """The index cannot be opened or used."""

    for_others: str | None = (
        "The documents cannot be reached just now; nothing that was stored is lost. Try it again "
        "in a minute, or tell whoever runs this page."
    )


class DamagedIndexError(StoreError):
    """The files of the index are not whole; `python -m rag check` mends what can be mended."""


class EmbeddingMismatchError(StoreError):
    """The index was made with another embedding model, `made_with`, than the one that is set."""

    def __init__(self, message: str, made_with: str):
        super().__init__(message)
        self.made_with = made_with


class OutdatedIndexError(StoreError):
    """The index was made by another version of Rivulet, which wrote it differently."""


class RemovedIndexError(StoreError):
    """The index was removed while something was added to it."""

    for_others = None


class ModelError(RivuletError):
    """A language or embedding model cannot be used."""


class ModelUnavailableError(ModelError):
    """The weights of a model cannot be had or loaded."""

    for_others = MODEL_FAILED


class ContextWindowError(ModelError):
    """The prompt does not fit the model's context window."""


class ProviderError(ModelError):
    """A model server refused the request, failed, or could not be reached."""

    for_others = MODEL_FAILED
