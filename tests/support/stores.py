"""Stores for tests, and the way from events to a committed state that the sink's consumer takes."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from runstream_schemas.batch import Batch
from runstream_schemas.segment import Record
from runstream_schemas.values import RowEncoder
from runstream_sink.apply import apply
from runstream_sink.digest import digest
from runstream_sink.location import StoreLocation
from runstream_sink.store import Commit, SqliteReader, SqliteStore, Store, open_reader
from runstream_sink.tables.files import write_parts
from runstream_sink.tables.parts import PartWrite, append, part_file

__all__ = ["batch", "digest_of", "ingest", "opened", "prepare", "reading", "record", "run_id"]


def run_id(number: int) -> str:
    """A run's id."""
    return f"{number:032x}"


def record(seq: int, event: Any, emit_ts: int | None = None) -> Record:
    """An event in its envelope; bytes are taken as they are."""
    body = event if isinstance(event, bytes) else RowEncoder().encode(event)
    return seq, 1_000 + seq if emit_ts is None else emit_ts, body


def batch(producer_id: bytes, events: Sequence[Any], first: int = 0, emit_ts: int | None = None) -> Batch:
    """Consecutive events of one producer; their times follow their seqs, or begin at ``emit_ts``."""
    start = 1_000 + first if emit_ts is None else emit_ts
    return Batch(producer_id, [record(first + at, event, start + at) for at, event in enumerate(events)], [])


async def prepare(store: Store, root: Path, batches: Sequence[Batch], part_limit: int = 1 << 20) -> Commit:
    """What the consumer commits for ``batches``; the tables' bytes are on the disk."""
    changes = apply(batches, await store.seen({held.producer_id for held in batches}))
    states = await store.tables(changes.rows)
    appended = {
        key: append(states[key], entries, part_limit, lambda number, key=key: f"{key[0]}/{part_file(key[1], number)}")
        for key, entries in changes.rows.items()
    }
    await asyncio.to_thread(_write, root, [write for table in appended.values() for write in table.writes])
    return Commit(
        changes,
        tables=[table.state for table in appended.values()],
        parts=[(*key, part) for key, table in appended.items() for part in table.parts],
    )


def _write(root: Path, writes: Sequence[PartWrite]) -> None:
    root.mkdir(parents=True, exist_ok=True)
    write_parts(root, root, writes)


async def ingest(store: SqliteStore, batches: Sequence[Batch], part_limit: int = 1 << 20) -> None:
    """Apply and commit ``batches``."""
    await store.commit(await prepare(store, store.location.artifacts, batches, part_limit))


@asynccontextmanager
async def opened(directory: Path, **options: Any) -> AsyncIterator[SqliteStore]:
    """An open store in ``directory``."""
    store = SqliteStore(StoreLocation.parse(str(directory)), **options)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def reading(directory: Path) -> AsyncIterator[SqliteReader]:
    """An open reader of the store in ``directory``."""
    reader = await open_reader(StoreLocation.parse(str(directory)))
    try:
        yield reader
    finally:
        await reader.close()


async def digest_of(directory: Path) -> str:
    """The digest of the store in ``directory``."""
    async with reading(directory) as reader:
        return await digest(reader)
