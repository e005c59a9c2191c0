"""Rows of a table from its parts: only what is committed, in bounded memory, with typed values.

At most a block and one row are held at a time.  All functions block.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any, Final, NamedTuple

from runstream_schemas.errors import CorruptDataError
from runstream_sink.tables.cells import EVENT, LOGGED_AT, decode_column, header_line, name_in_file
from runstream_sink.tables.parts import Part
from runstream_sink.tables.tokens import records_end, split_cells
from runstream_sink.tables.types import ColumnType

__all__ = ["RawRow", "iter_raw", "provenance_columns", "read_rows"]

_BLOCK: Final = 1 << 20
"""Bytes read at once; more where a row is larger."""
_IDENTITY: Final = re.compile(r"[0-9a-f]+:[0-9]+:[0-9]+")


class RawRow(NamedTuple):
    """One row: its values in the order of the columns asked for, and where it comes from."""

    values: tuple[Any, ...]
    logged_at: str
    """UTC, ``2026-11-24T05:00:00.123456Z``."""
    event: str
    """``producer_id:seq:index``, the first in hexadecimal."""


class _Batch(NamedTuple):
    values: list[list[Any]]
    logged_at: list[str]
    events: list[str]


def provenance_columns(columns: Mapping[str, ColumnType]) -> dict[str, ColumnType]:
    """The columns of rows with provenance: the user's, as the files name them, ``_logged_at`` and ``_event``."""
    named = {name_in_file(name): kind for name, kind in columns.items()}
    return {**named, LOGGED_AT: ColumnType.TEXT, EVENT: ColumnType.TEXT}


def read_rows(
    root: Path,
    parts: Sequence[Part],
    columns: Mapping[str, ColumnType],
    *,
    provenance: bool = False,
    start: int = 0,
    limit: int | None = None,
) -> Iterator[dict[str, Any]]:
    """Rows ``start`` to ``start + limit`` as dicts of ``columns`` (any of the table's, at their final types).

    A column that a row does not have is None.  With ``provenance`` the keys are those of `provenance_columns`.
    Raises `CorruptDataError`, naming the file, for a part that is damaged.
    """
    names = list(provenance_columns(columns) if provenance else columns)
    for batch in _batches(root, parts, columns, start, limit):
        by_column = [*batch.values, batch.logged_at, batch.events] if provenance else batch.values
        rows = zip(*by_column, strict=True) if by_column else repeat((), len(batch.events))
        for row in rows:
            yield dict(zip(names, row, strict=True))


def iter_raw(root: Path, parts: Sequence[Part], columns: Mapping[str, ColumnType]) -> Iterator[RawRow]:
    """All rows with where they come from.  Raises as `read_rows`."""
    for values, logged_at, events in _batches(root, parts, columns, 0, None):
        by_row: Iterator[tuple[Any, ...]] = zip(*values, strict=True) if values else repeat((), len(events))
        yield from map(RawRow, by_row, logged_at, events)


def _batches(
    root: Path, parts: Sequence[Part], columns: Mapping[str, ColumnType], start: int, limit: int | None
) -> Iterator[_Batch]:
    left = sum(part.rows for part in parts) if limit is None else limit
    for part in parts:
        if start >= part.rows:
            start -= part.rows
            continue
        for cells in _cells(root / part.file, part):
            width = len(part.columns) + 2
            rows = len(cells) // width
            if start < rows and left > 0:
                yield _batch(root / part.file, part, columns, cells[start * width : (start + left) * width])
                left -= min(rows - start, left)
            start = max(0, start - rows)
            if left <= 0:
                return


def _batch(path: Path, part: Part, columns: Mapping[str, ColumnType], cells: list[str | None]) -> _Batch:
    width = len(part.columns) + 2
    rows = len(cells) // width
    index = {name: number for number, name in enumerate(part.columns)}
    values: list[list[Any]] = []
    try:
        for name, kind in columns.items():
            number = index.get(name)
            if number is None:
                values.append([None] * rows)
            else:
                values.append(decode_column(cells[number::width], part.types[number], kind))
    except CorruptDataError as error:
        raise CorruptDataError(f"{path}: column {name!r:.100}: {error}") from error
    logged_at = [cell or "" for cell in cells[width - 2 :: width]]
    events = [cell or "" for cell in cells[width - 1 :: width]]
    if not all(map(_IDENTITY.fullmatch, events)):
        raise CorruptDataError(f"{path}: a row does not have the {width} cells of the header; restore or replay it")
    return _Batch(values, logged_at, events)


def _cells(path: Path, part: Part) -> Iterator[list[str | None]]:
    """The cells of whole rows, block by block, without the header."""
    width = len(part.columns) + 2
    header = f"{header_line(part.columns)}\n"
    for text in _texts(path, part.length):
        rows = text
        if header:
            if not text.startswith(header):
                raise CorruptDataError(f"{path} does not begin with its header; restore or replay it")
            rows, header = text[len(header) :], ""
        try:
            cells = split_cells(rows, width)
        except CorruptDataError as error:
            raise CorruptDataError(f"{path}: {error}; restore or replay it") from error
        yield cells


def _texts(path: Path, length: int) -> Iterator[str]:
    """The first ``length`` bytes as texts of whole records."""
    try:
        with path.open("rb", buffering=0) as file:
            held = b""
            while length:
                data = file.read(min(max(_BLOCK, len(held)), length))
                if not data:
                    raise CorruptDataError(f"{path} is {length} bytes shorter than committed; restore or replay it")
                length -= len(data)
                held += data
                end = records_end(held)
                if end:
                    yield held[:end].decode()
                held = held[end:]
    except FileNotFoundError:
        raise CorruptDataError(f"{path} is missing; restore or replay it") from None
    except UnicodeDecodeError as error:
        raise CorruptDataError(f"{path} is not UTF-8: {error}; restore or replay it") from error
    if held:
        raise CorruptDataError(f"{path} ends within a row; restore or replay it")
