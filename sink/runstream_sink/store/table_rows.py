"""Tables, their columns and their parts as rows."""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from runstream_sink.store.ids import wanted
from runstream_sink.store.lru import LruCache
from runstream_sink.store.protocol import Commit, Row
from runstream_sink.store.statements import SQL, execute_all
from runstream_sink.tables.parts import Part, TableState
from runstream_sink.tables.types import ColumnType

__all__ = ["TableRows", "part_of"]

_COLUMNS_CACHED: Final = 100_000

_Key = tuple[str, str]
_json: Final = msgspec.json.Encoder().encode
_names: Final = msgspec.json.Decoder(tuple[str, ...]).decode


class _Stored(NamedTuple):
    """A table as the store holds it; ``number`` is its row's id, or None if it has no row yet."""

    number: int | None
    state: TableState


class TableRows:
    """The states of tables that were used last, and how new ones are written.

    What a transaction writes is remembered by ``commit`` only.
    """

    def __init__(self) -> None:
        self._cache: LruCache[_Key, _Stored] = LruCache(_COLUMNS_CACHED, lambda stored: 4 + len(stored.state.columns))
        self._pending: dict[_Key, _Stored] = {}

    def states(self, connection: sqlite3.Connection, keys: Iterable[_Key]) -> dict[_Key, TableState]:
        """States by (run_id, table); a table without a row is fresh."""
        return {key: stored.state for key, stored in self._stored(connection, keys).items()}

    def write(self, connection: sqlite3.Connection, commit: Commit, runs: Mapping[str, int]) -> None:
        """Write the tables and parts of ``commit``."""
        states = {(state.run_id, state.name): state for state in commit.tables}
        if not (states or commit.parts):
            return
        held = self._stored(connection, dict.fromkeys([*states, *(item[:2] for item in commit.parts)]))
        numbers = _numbered(connection, held)
        self._pending = {key: _Stored(numbers[key], states.get(key, stored.state)) for key, stored in held.items()}
        rows = [(numbers[key], runs[key[0]], key[1], s.state.rows, s.state.parts) for key, s in self._pending.items()]
        execute_all(connection, "put_table", rows)
        execute_all(connection, "put_column", _columns(held, self._pending))
        execute_all(connection, "put_part", [_part_row(numbers[item[:2]], item[2]) for item in commit.parts])

    def commit(self) -> None:
        """Remember what was written: its transaction is committed."""
        self._cache.update(self._pending)
        self._pending = {}

    def rollback(self) -> None:
        """Forget what was written: its transaction is gone."""
        self._pending = {}

    def _stored(self, connection: sqlite3.Connection, keys: Iterable[_Key]) -> dict[_Key, _Stored]:
        held, missing = self._cache.find(keys)
        if missing:
            loaded = _load(connection, missing)
            self._cache.update(loaded)
            held |= loaded
        return held


def part_of(row: Row) -> Part:
    """The part in a row of (number, file, columns, types, length, rows, closed)."""
    number, file, columns, types, length, rows, closed = row
    return Part(number, file, _names(columns), tuple(map(ColumnType, types)), length, rows, bool(closed))


def _part_row(table: int, part: Part) -> Row:
    names = _json(part.columns).decode()
    return table, part.number, part.file, names, bytes(part.types), part.length, part.rows, part.closed


def _load(connection: sqlite3.Connection, keys: list[_Key]) -> dict[_Key, _Stored]:
    loaded = {key: _Stored(None, TableState(*key)) for key in keys}
    found = connection.execute(SQL["find_tables"], (wanted(keys),)).fetchall()
    if found:
        numbers = wanted(row[2] for row in found)
        columns: dict[int, dict[str, ColumnType]] = {row[2]: {} for row in found}
        for number, name, kind in connection.execute(SQL["find_columns"], (numbers,)):
            columns[number][name] = ColumnType(kind)
        open_parts = {row[0]: part_of(row[1:]) for row in connection.execute(SQL["find_open_parts"], (numbers,))}
        for run_id, table, number, rows, parts in found:
            state = TableState(run_id, table, columns[number], rows, open_parts.get(number), parts)
            loaded[run_id, table] = _Stored(number, state)
    return loaded


def _numbered(connection: sqlite3.Connection, held: Mapping[_Key, _Stored]) -> dict[_Key, int]:
    """The row's id of each table; the next ones for tables that have no row yet."""
    (last,) = connection.execute(SQL["last_table"]).fetchone()
    numbers: dict[_Key, int] = {}
    for key, stored in held.items():
        if stored.number is None:
            last += 1
            numbers[key] = last
        else:
            numbers[key] = stored.number
    return numbers


def _columns(before: Mapping[_Key, _Stored], after: Mapping[_Key, _Stored]) -> Iterator[tuple[Any, ...]]:
    """Columns that are new or have another type."""
    for key, (number, state) in after.items():
        known = before[key].state.columns
        for position, (name, kind) in enumerate(state.columns.items()):
            if known.get(name) is not kind:
                yield number, position, name, int(kind)
