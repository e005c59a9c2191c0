"""Identifiers and names: what is allowed, and where ids come from.  Producer and sink apply the same rules.

A *path* (of an artifact or a table) is relative, uses ``/``, and is kept in Unicode normal form C.  No component is
empty, ``.`` or ``..``; no NUL; nothing absolute.  A *key* (of a param, metric or tag) is any text of 1 to 250
characters without control characters.
"""

import re
import unicodedata
from typing import Final

from runstream_schemas.errors import InvalidInputError

__all__ = [
    "DEFAULT_EXPERIMENT",
    "DEFAULT_EXPERIMENT_ID",
    "MAX_KEY",
    "MAX_PATH",
    "check_key",
    "check_path",
    "check_run_id",
    "experiment_id_of",
    "is_experiment_id",
    "is_run_id",
    "table_name",
]

DEFAULT_EXPERIMENT: Final = "Default"
DEFAULT_EXPERIMENT_ID: Final = "0"
MAX_KEY: Final = 250
MAX_PATH: Final = 1000
"""Characters of an artifact's or a table's path."""

_RUN_ID: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_TABLE_SUFFIXES: Final = (".csv", ".json")


def experiment_id_of(name: str) -> str:
    """The id of an experiment: the first 63 bits of SHA-256 of the name in normal form C, in decimal; Default is 0."""
    name = unicodedata.normalize("NFC", name)
    if name == DEFAULT_EXPERIMENT:
        return DEFAULT_EXPERIMENT_ID
    import hashlib  # it loads OpenSSL, which takes milliseconds

    digest = hashlib.sha256(name.encode("utf-8", "backslashreplace")).digest()
    return str(int.from_bytes(digest[:8], "big") >> 1)


def is_run_id(text: str) -> bool:
    """Whether it is 32 lower-case hexadecimal digits."""
    return _RUN_ID.fullmatch(text) is not None


def is_experiment_id(text: str) -> bool:
    """Whether it is a canonical decimal number below 2**63."""
    return text.isascii() and text.isdecimal() and len(text) <= 19 and str(int(text)) == text and int(text) < 1 << 63


def check_run_id(run_id: object) -> str:
    """Return the run id; raise `InvalidInputError` if it is none."""
    if not isinstance(run_id, str) or not is_run_id(run_id):
        raise InvalidInputError(
            f"run id {run_id!r:.100} is not 32 lower-case hexadecimal digits; take it from a run's run_id"
        )
    return run_id


def check_key(key: object, what: str) -> str:
    """Return the key of a param, metric or tag (``what``); raise `InvalidInputError` if it cannot be one."""
    if not isinstance(key, str):
        raise InvalidInputError(f"a {what}'s key must be text, not {type(key).__name__}: {key!r:.100}")
    if not key or len(key) > MAX_KEY:
        raise InvalidInputError(f"a {what}'s key has 1 to {MAX_KEY} characters, not {len(key)}: {key!r:.100}")
    if _CONTROL.search(key) or not _encodable(key):
        raise InvalidInputError(f"a {what}'s key has no control characters or lone surrogates: {key!r:.100}")
    return key


def check_path(path: object, what: str) -> str:
    """Return the path of an artifact or table in normal form C; raise `InvalidInputError` for a hostile one."""
    if not isinstance(path, str):
        raise InvalidInputError(f"{what} must be text, not {type(path).__name__}: {path!r:.100}")
    path = unicodedata.normalize("NFC", path)
    if not path or len(path) > MAX_PATH or _CONTROL.search(path) or "\\" in path or not _encodable(path):
        raise InvalidInputError(
            f"{what} {path!r:.100} must have 1 to {MAX_PATH} characters, without control characters or backslashes"
        )
    if any(part in {"", ".", ".."} for part in path.split("/")):
        raise InvalidInputError(f"{what} {path!r:.100} must be relative, without empty parts, '.' or '..'")
    return path


def table_name(artifact_file: object) -> str:
    """A table's identity: its path without the suffix ``.csv`` or ``.json``."""
    path = check_path(artifact_file, "the table's name")
    for suffix in _TABLE_SUFFIXES:
        stem = path.removesuffix(suffix)
        if stem != path and not stem.endswith("/") and stem:
            return stem
    return path


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
