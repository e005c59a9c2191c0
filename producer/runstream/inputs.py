"""What callers pass: checked, and turned into what events hold.

Keys and tables that passed once are remembered, so that a log call need not check them again.
"""

import operator
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from runstream_schemas.errors import InvalidInputError
from runstream_schemas.names import check_key, table_name
from runstream_schemas.values import to_text

__all__ = [
    "as_float",
    "as_integer",
    "as_key",
    "as_local_path",
    "as_text",
    "check_mapping",
    "check_tags",
    "join_path",
    "known_keys",
    "known_tables",
    "learn_key",
    "learn_table",
]

_NAMES_REMEMBERED: Final = 10_000
_INT64: Final = range(-(1 << 63), 1 << 63)

known_keys: set[str] = set()
"""Keys of params, metrics and tags."""
known_tables: dict[str, str] = {}
"""A table's identity by what it was called."""


def check_tags(tags: Mapping[str, Any]) -> dict[str, str]:
    """Tags as text; raises `InvalidInputError` for keys that cannot be."""
    check_mapping(tags, "tags")
    return {check_key(key, "tag"): as_text(value) for key, value in tags.items()}


def check_mapping(values: object, what: str) -> None:
    """Refuse what is no mapping of names to values."""
    if not isinstance(values, Mapping):
        raise InvalidInputError(f"{what} must be a dict, not {type(values).__name__}: {to_text(values):.100}")


def as_key(key: str, what: str) -> str:
    """A key of a param or tag that may be put into a dict."""
    return key if type(key) is str else check_key(key, what)


def learn_key(key: object, what: str) -> None:
    """Remember a good key; raise `InvalidInputError` for a bad one."""
    checked = check_key(key, what)
    if len(known_keys) >= _NAMES_REMEMBERED:
        known_keys.clear()
    known_keys.add(checked)


def learn_table(name: str) -> str:
    """Remember a table's identity and return it; raise `InvalidInputError` for a hostile name."""
    table = table_name(name)
    if len(known_tables) >= _NAMES_REMEMBERED:
        known_tables.clear()
    known_tables[name] = table
    return table


def as_text(value: Any) -> str:
    """``str(value)``; ``<Type>`` where that raises."""
    return value if type(value) is str else to_text(value)


def as_float(key: str, value: Any) -> float:
    """A metric's value as a double."""
    try:
        return float(value)
    except Exception as error:
        raise InvalidInputError(
            f"metric {key!r} must be a number, not {type(value).__name__}: {to_text(value):.100}"
        ) from error


def as_integer(value: Any, what: str) -> int:
    """An integer of 64 bits."""
    try:
        number = operator.index(value)
    except TypeError:
        try:
            number = int(value)
        except Exception as error:
            raise InvalidInputError(
                f"{what} must be an integer, not {type(value).__name__}: {to_text(value):.100}"
            ) from error
    if number not in _INT64:
        raise InvalidInputError(f"{what} {number} does not fit into 64 bits")
    return number


def as_local_path(path: Any) -> Path:
    """A path on this machine."""
    try:
        return Path(path)
    except TypeError:
        raise InvalidInputError(f"a local path is text or a Path, not {type(path).__name__}") from None


def join_path(directory: str | None, name: str) -> str:
    """The path of an artifact: a directory, which may be left out, and a name."""
    if directory is not None and not isinstance(directory, str | os.PathLike):
        raise InvalidInputError(f"artifact_path must be text, not {type(directory).__name__}")
    return f"{os.fspath(directory).rstrip('/')}/{name}" if directory else name
