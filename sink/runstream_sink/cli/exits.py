"""Exit codes, and which error means which."""

from enum import IntEnum
from typing import Final

from runstream_schemas.errors import (
    CorruptDataError,
    EnvironmentUnavailableError,
    InvalidInputError,
    StoreInUseError,
    StoreVersionError,
)

__all__ = ["MEANINGS", "Exit", "exit_of"]


class Exit(IntEnum):
    """What a command's exit code says."""

    OK = 0
    WRONG = 1
    USAGE = 2
    ENVIRONMENT = 3
    IN_USE = 4
    VERSION = 5
    CORRUPT = 6
    NOT_FOUND = 7
    INTERNAL = 70
    INTERRUPTED = 130
    PIPE = 141


MEANINGS: Final = {
    Exit.OK: "All is well.",
    Exit.WRONG: "The command did its work and found something wrong: `verify` violations, `replay` events that the "
    "stream no longer holds, `dlq retry` letters that stay dead, `import-mlflow` what could not be brought.",
    Exit.USAGE: "The command line, or a setting's value, is none.",
    Exit.ENVIRONMENT: "Something outside is missing or refuses: a stream, a store, a file, an extra that is not "
    "installed, or a store that is there already where `replay` needs a fresh one.",
    Exit.IN_USE: "Another sink holds the store.",
    Exit.VERSION: "The store was written by another version of runstream.",
    Exit.CORRUPT: "A file or the database is not what it should be.",
    Exit.NOT_FOUND: "The store holds no such run, experiment, table or dead letter.",
    Exit.INTERNAL: "An error in runstream itself; the traceback is on standard error.",
    Exit.INTERRUPTED: "Interrupted from the keyboard.",
    Exit.PIPE: "Whoever read the output stopped reading.",
}
"""What each code means, for the documentation."""

_BY_ERROR: Final[tuple[tuple[type[Exception], Exit], ...]] = (
    (StoreInUseError, Exit.IN_USE),
    (StoreVersionError, Exit.VERSION),
    (InvalidInputError, Exit.USAGE),
    (EnvironmentUnavailableError, Exit.ENVIRONMENT),
    (CorruptDataError, Exit.CORRUPT),
    (OSError, Exit.ENVIRONMENT),
)


def exit_of(error: Exception) -> Exit:
    """The exit code for an error that a command raised."""
    from runstream_sink.query.records import NotFoundError

    if isinstance(error, NotFoundError):
        return Exit.NOT_FOUND
    return next((code for kind, code in _BY_ERROR if isinstance(error, kind)), Exit.WRONG)
