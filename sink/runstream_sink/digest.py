"""The digest: a hash of what a store says, the same for the same events whatever became of them on the way.

An *item* is one fact, as a tuple::

    ("experiment", experiment_id, name, creation_time, lifecycle)("experiment_tag", experiment_id, key, value)
    ("run", run_id, experiment_id, start_time, name, user, status, end_time, lifecycle)
    ("param", run_id, key, value)("tag", run_id, key, value)
    ("metric", run_id, key, step, timestamp, bits, producer_id, seq, index)
    ("latest", run_id, key, step, timestamp, bits, identity)
    ("artifact", run_id, path, sha256, size, media_type)
    ("column", run_id, table, name, type)
    ("row", run_id, table, ((column, value), ...), _logged_at, _event)

Values of metrics are the 64 bits of the double.  A row's pairs are sorted by column and leave None out.  Positions,
parts, file names, arrival times, dead letters and the integers that stand for names are no items.

The digest is SHA-256 over the sum, modulo 2**256, of the SHA-256 of every item, and their number; each item is encoded
as MessagePack with sorted maps (integers beyond 64 bits: extension 1).  A sum does not depend on the order, so nothing
is sorted and memory stays bounded.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import aclosing
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import msgspec

from runstream_schemas.values import BIG_INTEGER, escape_surrogates
from runstream_sink.store.points import bits_of, value_of
from runstream_sink.store.protocol import Row, StoreReader
from runstream_sink.store.table_rows import part_of
from runstream_sink.tables.parts import Part
from runstream_sink.tables.read import iter_raw
from runstream_sink.tables.types import ColumnType

__all__ = ["digest"]

_MODULUS: Final = 1 << 256
_BEHIND_ALL: Final = (1 << 64, "", "")
_NATIVE: Final = range(-(1 << 63), 1 << 64)
_encode: Final = msgspec.msgpack.Encoder(order="deterministic").encode

_Key = tuple[Any, ...]
"""A table: its number, run_id and name."""
_Columns = dict[str, ColumnType]
_Table = tuple[_Key, _Columns, list[Part]]


async def digest(reader: StoreReader, artifacts: Path | None = None) -> str:
    """The digest of a store, 64 hexadecimal digits; ``artifacts`` is where its tables lie, if not beside it.

    A sink may write meanwhile: what is hashed is one committed state.  Raises `CorruptDataError` for a damaged table.
    """
    total = _Sum()
    async with reader.snapshot() as snapshot:
        for kind, query, shape in _KINDS:
            async with aclosing(snapshot.stream(query)) as found:
                async for rows in found:
                    await asyncio.to_thread(total.add, kind, map(shape, rows))
        root = artifacts or snapshot.location.artifacts
        async with aclosing(_columns(snapshot)) as columns, aclosing(_tables(snapshot, columns)) as pieces:
            async for tables in pieces:
                await asyncio.to_thread(_add_tables, total, root, tables)
    return total.digest()


class _Sum:
    def __init__(self) -> None:
        self._sum = 0
        self._count = 0

    def add(self, kind: str, items: Iterable[Row]) -> None:
        for item in items:
            encoded = _canonical((kind, *item))
            self._sum += int.from_bytes(sha256(encoded).digest(), "big")
            self._count += 1
        self._sum %= _MODULUS

    def digest(self) -> str:
        return sha256(self._sum.to_bytes(32, "big") + self._count.to_bytes(8, "big")).hexdigest()


def _canonical(item: Row) -> bytes:
    try:
        return _encode(item)
    except (OverflowError, UnicodeEncodeError):
        return _encode(_encodable(item))


def _encodable(value: Any) -> Any:
    """The same value, with the integers and texts that MessagePack lacks replaced."""
    if isinstance(value, list | tuple):
        return [_encodable(item) for item in value]
    if isinstance(value, dict):
        return {escape_surrogates(key): _encodable(item) for key, item in value.items()}
    if isinstance(value, str):
        return escape_surrogates(value)
    if isinstance(value, int) and value not in _NATIVE:
        return msgspec.msgpack.Ext(BIG_INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))
    return value


def _as_it_is(row: Row) -> Row:
    return row


def _metric(row: Row) -> Row:
    run_id, key, step, timestamp, value, bits, *identity = row
    return (run_id, key, step, timestamp, bits_of(value_of(value, bits)), *identity)


def _column(row: Row) -> Row:
    return row[1:]


def _artifact(row: Row) -> Row:
    return row[:5]


_KINDS: Final[tuple[tuple[str, str, Callable[[Row], Row]], ...]] = (
    ("experiment", "logical_experiments", _as_it_is),
    ("experiment_tag", "logical_experiment_tags", _as_it_is),
    ("run", "logical_runs", _as_it_is),
    ("param", "logical_params", _as_it_is),
    ("tag", "logical_tags", _as_it_is),
    ("metric", "logical_metrics", _metric),
    ("latest", "logical_latest_metrics", _metric),
    ("artifact", "logical_artifacts", _artifact),
    ("column", "logical_columns", _column),
)
"""Kind of item, the query that gives its rows, and what makes an item of a row."""


async def _tables(
    reader: StoreReader, columns: AsyncIterator[tuple[_Key, _Columns]]
) -> AsyncGenerator[list[_Table], None]:
    """All tables that have parts, in lists; a table with very many parts may come in pieces."""
    held: tuple[_Key, _Columns] | None = None
    async with aclosing(reader.stream("all_parts")) as found:
        async for rows in found:
            tables: list[_Table] = []
            for key, group in groupby(rows, key=_key_of):
                while held is None or held[0] < key:
                    held = await anext(columns)
                table_columns = held[1] if held[0] == key else {}
                tables.append((key, table_columns, [part_of(row[3:]) for row in group]))
            yield tables


async def _columns(reader: StoreReader) -> AsyncGenerator[tuple[_Key, _Columns], None]:
    """Each table that has columns, with them, in the order of the tables, and one that lies behind all."""
    held: tuple[_Key, _Columns] | None = None
    async with aclosing(reader.stream("logical_columns")) as found:
        async for rows in found:
            for key, group in groupby(rows, key=_key_of):
                columns = {name: ColumnType(kind) for *_, name, kind in group}
                if held is not None and held[0] == key:
                    held[1].update(columns)
                    continue
                if held is not None:
                    yield held
                held = (key, columns)
    if held is not None:
        yield held
    yield _BEHIND_ALL, {}


def _key_of(row: Row) -> _Key:
    return row[:3]


def _add_tables(total: _Sum, root: Path, tables: list[_Table]) -> None:
    for (_, run_id, table), columns, parts in tables:
        order = sorted(range(len(columns)), key=list(columns).__getitem__)
        names = list(columns)
        rows = (
            (
                *(run_id, table),
                [(names[at], row.values[at]) for at in order if row.values[at] is not None],
                *(row.logged_at, row.event),
            )
            for row in iter_raw(root, parts, columns)
        )
        total.add("row", rows)
