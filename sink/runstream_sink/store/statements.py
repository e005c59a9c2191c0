"""The SQL of the store: named statements, read once from the files in ``sql/``.

A statement follows a line ``-- name: NAME`` and ends before the next such line; a comment above its SQL says what it
does.
"""

import re
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from itertools import chain
from typing import Any, Final

__all__ = ["ROWS_AT_ONCE", "SQL", "execute_all", "execute_sharing", "parse_statements"]

ROWS_AT_ONCE: Final = 250
"""Measured: from 50 to 500 rows a statement take the same time; a thousand take more."""
_ALIKE_AT_ONCE: Final = 1000
"""The same where rows have most of their values in common, and so few parameters."""
_ROW: Final = re.compile(r"(?<=VALUES )\((?:\?\d*, )*\?\)")
_NAME: Final = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def parse_statements(text: str) -> dict[str, str]:
    """The named statements of one file.  Raises ValueError for a name that stands twice."""
    _, *parts = _NAME.split(text)
    names, bodies = parts[::2], parts[1::2]
    if len(set(names)) != len(names):
        raise ValueError(f"a statement's name stands twice among {', '.join(names)}")
    return {name: body.strip() for name, body in zip(names, bodies, strict=True)}


def _load() -> Mapping[str, str]:
    directory = files("runstream_sink.store").joinpath("sql")
    texts = [entry.read_text("utf-8") for entry in directory.iterdir() if entry.name.endswith(".sql")]
    return parse_statements("\n".join(texts))


SQL: Final = _load()
"""Every statement by its name."""


def execute_all(connection: sqlite3.Connection, name: str, rows: Iterable[Any]) -> None:
    """Execute a statement for each of ``rows``; one that inserts a row takes `ROWS_AT_ONCE` of very many.

    That takes about half the time, and sqlite3 gives the interpreter lock away once a statement instead of once a row,
    which lets another thread prepare the next delivery meanwhile.
    """
    rows = rows if isinstance(rows, list) else list(rows)
    many = _many(name, ROWS_AT_ONCE)
    whole = len(rows) - len(rows) % ROWS_AT_ONCE if many else 0
    for start in range(0, whole, ROWS_AT_ONCE):
        connection.execute(many, list(chain.from_iterable(rows[start : start + ROWS_AT_ONCE])))
    connection.executemany(SQL[name], rows[whole:] if whole else rows)


def execute_sharing(
    connection: sqlite3.Connection, name: str, shared: Sequence[Any], columns: Sequence[Sequence[Any]]
) -> int:
    """Insert rows that have some values in common, as far as they fill statements; how many of them, from the first.

    In the statement the values in common have numbers; those of a row follow, here column by column.
    """
    width, count = len(columns), len(columns[0])
    values: list[Any] = [None] * (count * width)
    for position, column in enumerate(columns):
        values[position::width] = column
    done = 0
    for rows in (_ALIKE_AT_ONCE, ROWS_AT_ONCE):
        many = _many(name, rows)
        while count - done >= rows:
            connection.execute(many, (*shared, *values[done * width : (done + rows) * width]))
            done += rows
    return done


@cache
def _many(name: str, rows: int) -> str:
    """The statement for so many rows; empty for one that does not insert the row of its parameters."""
    many, found = _ROW.subn(lambda row: ", ".join([row[0]] * rows), SQL[name])
    return many if found else ""
