"""Which bytes go into which part of a table: pure.

A table is a sequence of parts; each is a CSV file whose header is true for all of its rows.  Rows go to the open part.
A new part starts where a column is new, where a column's text would have to be written in another way (text becomes
JSON), and after a part has reached its limit.  A new part has all columns that the table has so far, as first seen, at
the table's types; where that is very many cells (`MAX_COLUMNS`, `MAX_CELLS`), each part has the columns of its own rows
alone, and the table is the same.  Other changes of a type need no new part: the cells stay what they are, since the
cell of a scalar reads the same at every greater type.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, groupby, repeat
from operator import attrgetter
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct

from runstream_schemas.errors import InvalidInputError
from runstream_sink.changes import RowsEntry
from runstream_sink.paths import safe_path
from runstream_sink.tables.cells import encode_column, header_line, time_text
from runstream_sink.tables.types import ColumnType, column_type, join

__all__ = [
    "MAX_CELLS",
    "MAX_COLUMNS",
    "MAX_NAMES",
    "PART_LIMIT",
    "Appended",
    "Part",
    "PartWrite",
    "TableState",
    "append",
    "part_file",
]

PART_LIMIT: Final = 256 << 20
"""Bytes at which a part is closed."""
MAX_COLUMNS: Final = 20_000
"""Columns of a table up to which each row has a cell for each."""
MAX_NAMES: Final = 16 << 20
"""Characters in the names of a table's columns, together: each part and each state of the table repeats them."""
MAX_CELLS: Final = 1 << 24
"""Cells that are appended at once, up to which each row has a cell for each column of the table."""
_LINES_AT_ONCE: Final = 64


class Part(Struct, frozen=True):
    """One file of a table, as far as it is committed."""

    number: int
    """From 1."""
    file: str
    """Relative to the artifacts' root."""
    columns: tuple[str, ...]
    """The user's columns, in the order of the header."""
    types: tuple[ColumnType, ...]
    """At which each column's cells are to be read."""
    length: int
    """Bytes."""
    rows: int
    closed: bool = False


class TableState(Struct, frozen=True):
    """What must be known of a table to append to it."""

    run_id: str
    name: str
    columns: dict[str, ColumnType] = {}
    """In the order in which they were first seen."""
    rows: int = 0
    open: Part | None = None
    parts: int = 0
    """How many parts there are, closed ones included."""


class PartWrite(NamedTuple):
    """Bytes to be written at an offset, which is the part's committed length; ``part`` is the part afterwards."""

    part: Part
    offset: int
    data: bytes


class Appended(NamedTuple):
    """The table afterwards, what is to be written, and every part that is new or changed."""

    state: TableState
    writes: list[PartWrite]
    parts: list[Part]


class _Chunk(NamedTuple):
    """Rows of events with the same columns."""

    columns: tuple[str, ...]
    values: list[tuple[Any, ...]]
    """By column."""
    logged_at: list[str]
    events: list[str]


def part_file(name: str, number: int) -> str:
    """The file of a table's part, relative to its run's directory: ``a/x.csv``, ``a/x.part-0002.csv``."""
    suffix = "" if number == 1 else f".part-{number:04d}"
    return f"{safe_path(name)}{suffix}.csv"


def append(state: TableState, entries: Sequence[RowsEntry], part_limit: int, file_of: Callable[[int], str]) -> Appended:
    """Append the rows of ``entries``; a part is closed at ``part_limit`` bytes, ``file_of`` names the n-th part.

    Raises `InvalidInputError` where the table's columns would have names of more than `MAX_NAMES` letters.
    """
    groups = [(tuple(columns), list(group)) for columns, group in groupby(entries, key=attrgetter("columns"))]
    _check_names(state, groups)
    chunks = [_chunk(columns, group) for columns, group in groups]
    columns = _joined(state.columns, chunks)
    whole = tuple(columns)
    rows = sum(len(chunk.events) for chunk in chunks)
    sparse = len(whole) > MAX_COLUMNS or rows * len(whole) > MAX_CELLS
    writer = _Writer(state, columns, part_limit, file_of)
    for chunk in chunks:
        header = chunk.columns if sparse else whole
        writer.write(header, len(chunk.events), _lines(chunk, header, columns))
    return writer.finish()


def _check_names(state: TableState, groups: list[tuple[tuple[str, ...], list[RowsEntry]]]) -> None:
    columns = state.columns.keys() | set(chain.from_iterable(columns for columns, _ in groups))
    if sum(map(len, columns)) > MAX_NAMES:
        raise InvalidInputError(
            f"the columns of table {state.name!r} would have names of more than {MAX_NAMES} letters"
        )


def _chunk(columns: tuple[str, ...], entries: list[RowsEntry]) -> _Chunk:
    logged_at: list[str] = []
    events: list[str] = []
    for producer_id, seq, emit_ts, _, rows in entries:
        logged_at += [time_text(emit_ts)] * len(rows)
        identity = f"{producer_id.hex()}:{seq}:"
        events += [f"{identity}{index}" for index in range(len(rows))]
    values = list(zip(*chain.from_iterable(entry.rows for entry in entries), strict=True))
    return _Chunk(columns, values or [()] * len(columns), logged_at, events)


def _joined(columns: dict[str, ColumnType], chunks: list[_Chunk]) -> dict[str, ColumnType]:
    joined = columns.copy()
    for chunk in chunks:
        for name, values in zip(chunk.columns, chunk.values, strict=True):
            joined[name] = join(joined.get(name, ColumnType.NULL), column_type(values))
    return joined


def _lines(chunk: _Chunk, header: tuple[str, ...], columns: dict[str, ColumnType]) -> Iterator[list[str]]:
    """The rows as lines below a part's header, `_LINES_AT_ONCE` at a time.

    All the texts that are made of so few rows, one from the other, stay in a processor's cache.
    """
    for start in range(0, len(chunk.events), _LINES_AT_ONCE):
        some = slice(start, start + _LINES_AT_ONCE)
        cells = {
            name: encode_column(values[some], columns[name])
            for name, values in zip(chunk.columns, chunk.values, strict=True)
        }
        by_column = [cells.get(name) or repeat("") for name in header]
        yield list(map(",".join, zip(*by_column, chunk.logged_at[some], chunk.events[some], strict=False)))


class _Writer:
    """Distributes lines over parts."""

    def __init__(
        self,
        state: TableState,
        columns: dict[str, ColumnType],
        part_limit: int,
        file_of: Callable[[int], str],
    ) -> None:
        self._state = state
        self._columns = columns
        self._limit = part_limit
        self._file_of = file_of
        self._number = state.parts
        self._rows = state.rows
        self._done: list[tuple[Part, int, bytes]] = []
        self._resume(state.open)
        if state.open is not None and columns != state.columns:
            self._change(state.open)

    def write(self, header: tuple[str, ...], rows: int, groups: Iterable[list[str]]) -> None:
        """Add ``rows`` lines in groups; the part that reaches the limit is closed behind the line that reached it.

        Without rows, a part begins that has the columns, so that they show in a file.
        """
        if self._part is not None and self._part.columns != header:
            self._finish_part(closed=True)
        if not rows and self._columns == self._state.columns:
            return
        self._rows += rows
        if self._part is None:
            self._start(header)
        for lines in groups:
            self._write_group(header, lines)

    def _write_group(self, header: tuple[str, ...], lines: list[str]) -> None:
        data = _encode(lines)
        if self._part is not None and self._length + len(data) < self._limit:
            self._add(data, len(lines))
            return
        for line in lines:
            if self._part is None:
                self._start(header)
            self._add(_encode([line]), 1)
            if self._length >= self._limit:
                self._finish_part(closed=True)

    def finish(self) -> Appended:
        """What came of it."""
        open_part = self._finish_part(closed=False)
        state = msgspec.structs.replace(
            self._state, columns=self._columns, rows=self._rows, open=open_part, parts=self._number
        )
        writes = [PartWrite(part, offset, data) for part, offset, data in self._done if data]
        return Appended(state, writes, [part for part, _, _ in self._done])

    def _resume(self, part: Part | None) -> None:
        self._part = part
        self._offset = self._length = 0 if part is None else part.length
        self._pieces: list[bytes] = []
        self._added = 0

    def _change(self, part: Part) -> None:
        """Give the open part the columns' new types, or close it where its cells could not be read at them."""
        types = tuple(self._columns[name] for name in part.columns)
        rewritten = (ColumnType.TEXT, ColumnType.JSON)
        if rewritten in zip(part.types, types, strict=True):
            self._finish_part(closed=True)
        else:
            self._part = msgspec.structs.replace(part, types=types)

    def _start(self, header: tuple[str, ...]) -> None:
        self._number += 1
        types = tuple(self._columns[name] for name in header)
        self._resume(Part(self._number, self._file_of(self._number), header, types, 0, 0))
        self._add(_header(header), 0)

    def _add(self, data: bytes, rows: int) -> None:
        self._pieces.append(data)
        self._length += len(data)
        self._added += rows

    def _finish_part(self, *, closed: bool) -> Part | None:
        part = self._part
        if part is None:
            return None
        part = msgspec.structs.replace(part, length=self._length, rows=part.rows + self._added, closed=closed)
        if part != self._state.open:
            self._done.append((part, self._offset, b"".join(self._pieces)))
        self._resume(None)
        return part


@lru_cache(maxsize=1)
def _header(columns: tuple[str, ...]) -> bytes:
    """The first line; very many tables in a row have the same columns, which may be megabytes."""
    return _encode([header_line(columns)])


def _encode(lines: list[str]) -> bytes:
    """Lines with their ends; a lone surrogate, which no decoded event holds, is escaped."""
    return "\n".join([*lines, ""]).encode("utf-8", "backslashreplace")
