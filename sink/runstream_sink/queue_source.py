"""The queue directory as a source.

A queue directory holds ``journals/<producer_id>/`` (see `runstream_schemas.segment`), ``staging/`` (bytes of
artifacts), ``consumers/<store id>/<producer_id>`` and ``id``.  A consumer is registered by its directory; the file of a
journal in it holds the index of the first segment that the consumer has not applied yet, as decimal text.  These files
only decide what may be freed; the truth about positions is in the consumer's store.

Each journal is a part of the stream; its position is the text ``segment:offset:next_seq:done``.
"""

import asyncio
import contextlib
import os
import re
import threading
import time
import uuid
from pathlib import Path
from typing import Final

import structlog

from runstream_schemas.batch import Batch
from runstream_schemas.errors import CorruptDataError, EnvironmentUnavailableError, UnsupportedFormatError
from runstream_schemas.reader import Chunk, JournalReader, Position, journal_names
from runstream_sink.directories import make_durable, sync_directory
from runstream_sink.source import Delivery

__all__ = ["APPLIED_ENTIRELY", "QueueSource", "format_position", "parse_position", "queue_id"]

APPLIED_ENTIRELY: Final = 1 << 32
"""What a consumer acknowledges for a journal of which nothing is left to read."""
_READERS_KEPT_OPEN: Final = 256
_CHUNK: Final = 1 << 20
_ACKNOWLEDGE_AGAIN: Final = 1.0
"""Seconds between tries to acknowledge what the disk has refused."""
_TIMESTAMP_GRAIN: Final = 1_000_000_000
"""Nanoseconds within which a directory may change twice and keep its modification time."""
_POSITION: Final = re.compile(r"([0-9]{1,20}):([0-9]{1,20}):(-1|[0-9]{1,20}):([01])")
_LARGEST_FILE: Final = 1 << 63
_MOST_LOST: Final = (1 << 63) - 1
_log = structlog.get_logger(__name__)


class QueueSource:
    """Reads all journals of a queue directory, living and dead.

    With ``register=False`` nothing is written to the queue directory: no consumer is registered, nothing is
    acknowledged or trimmed.  With ``until`` (nanoseconds since the epoch) a journal ends before its first event that
    was emitted later.
    """

    def __init__(self, directory: Path, *, register: bool = True, until: int | None = None) -> None:
        self.directory = directory
        self.name = ""
        self._register = register
        self._until = until
        self._journals = directory / "journals"
        self._consumer = directory / "consumers"
        self._positions: dict[str, str] = {}
        self._readers: dict[str, JournalReader] = {}
        self._ended: set[str] = set()
        self._finished: dict[str, JournalReader] = {}
        self._acknowledged: dict[str, int] = {}
        self._owed: dict[str, int] = {}
        """What is committed and could not be acknowledged yet."""
        self._owed_since = 0.0
        self._settling = threading.Lock()  # what comes next may be read while a commit is acknowledged
        self._listed = -1
        self._limited = False
        self._new_entries = True

    async def open(self, consumer: str) -> None:
        """Find the queue, and register as a consumer."""
        await asyncio.to_thread(self._open, consumer)

    async def read(self, limit: int) -> Delivery:
        """Take turns among the journals that have something new."""
        return await asyncio.to_thread(self._read, limit)

    async def committed(self, delivery: Delivery) -> None:
        """Note for the producers and for retention which segments are applied."""
        await asyncio.to_thread(self._committed, delivery)

    def backlog(self) -> bool:
        """Whether the last read stopped at its limit."""
        return self._limited

    async def seek(self, positions: dict[str, str]) -> None:
        """Begin at the positions that the store has committed."""
        await asyncio.to_thread(self._seek, positions)

    async def close(self) -> None:
        """Close all files."""
        await asyncio.to_thread(self._seek, {})

    def _seek(self, positions: dict[str, str]) -> None:
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()
        self._finished.clear()
        self._acknowledged.clear()
        self._owed.clear()
        self._positions = dict(positions)
        self._ended = {name for name, text in positions.items() if parse_position(text).done}
        self._listed = -1
        if self._register and positions:
            self._acknowledge_again()

    def _open(self, consumer: str) -> None:
        if not self._journals.is_dir() and not self._register:
            raise EnvironmentUnavailableError(
                f"{self.directory} is no queue directory (it has no journals); check --stream"
            )
        if self._register:
            make_durable(self._journals)
            self._consumer = self.directory / "consumers" / consumer
            make_durable(self._consumer)
        self.name = f"queue:{queue_id(self.directory, make=self._register)}"

    def _read(self, limit: int) -> Delivery:
        if self._owed and time.monotonic() - self._owed_since > _ACKNOWLEDGE_AGAIN:
            self._settle({})
        self._find_journals()
        delivery = Delivery()
        self._limited = False
        for name, reader in list(self._readers.items()):
            if delivery.size >= limit:
                self._limited = True
                break
            self._readers[name] = self._readers.pop(name)  # to the end of the line
            self._drain(name, reader, delivery, limit)
        if delivery.size and self._new_entries:
            sync_directory(self._journals)
            self._new_entries = False
        return delivery

    def _find_journals(self) -> None:
        """Take up journals that have come since the last look."""
        changed = self._journals.stat().st_mtime_ns
        if changed == self._listed:
            return
        settled = time.time_ns() - changed > _TIMESTAMP_GRAIN
        for name in journal_names(self._journals):
            if name not in self._ended and name not in self._readers:
                position = parse_position(self._positions.get(name, ""))
                self._readers[name] = JournalReader(self._journals / name, position, self._until)
                self._new_entries = True
        self._listed = changed if settled else -1

    def _drain(self, name: str, reader: JournalReader, delivery: Delivery, limit: int) -> None:
        """Move what a journal has into a delivery, up to the limit."""
        before = reader.position
        size = delivery.size
        while delivery.size < limit and name not in self._ended:
            at = reader.position
            try:
                chunk = reader.read(min(limit - delivery.size, _CHUNK))
            except UnsupportedFormatError as error:
                self._end(name, reader)
                _log.error("a journal is left unread", journal=name, reason=str(error))
                break
            self._take(reader, chunk, delivery)
            if chunk.position.done or chunk.late:
                self._end(name, reader)
            elif chunk.position == at:
                break
        if reader.position != before:
            text = format_position(reader.position)
            delivery.positions[name] = (self._positions.get(name), text)
            self._positions[name] = text
        if delivery.size > size:
            reader.sync()
        if len(self._readers) > _READERS_KEPT_OPEN:
            reader.close()

    def _take(self, reader: JournalReader, chunk: Chunk, delivery: Delivery) -> None:
        if chunk.records or chunk.holes:
            delivery.batches.append(Batch(reader.producer_id, chunk.records, chunk.holes))
            delivery.size += sum(len(record.body) for record in chunk.records) + 1
        for (segment, reason), count in chunk.drops.items():
            delivery.losses[reader.producer_id, segment, reason] = min(count, _MOST_LOST)

    def _end(self, name: str, reader: JournalReader) -> None:
        self._ended.add(name)
        self._readers.pop(name, None)
        reader.close()
        if self._register and reader.position.done:
            self._finished[name] = reader

    def _committed(self, delivery: Delivery) -> None:
        if not self._register:
            return
        owed = {}
        for name, (_, text) in delivery.positions.items():
            first = _first_unapplied(parse_position(text))
            if self._acknowledged.get(name) != first:
                owed[name] = first
        self._settle(owed)

    def _settle(self, owed: dict[str, int]) -> None:
        """Acknowledge what is owed now, and what was owed before.

        Where the disk of the queue refuses that, nothing is freed meanwhile, and applying goes on all the same.
        """
        with self._settling:
            self._owed |= owed
            self._owed_since = time.monotonic()
            try:
                for name, first in list(self._owed.items()):
                    self._settle_one(name, first)
                    self._owed.pop(name)
            except OSError as error:
                _log.warning("what is applied cannot be acknowledged; its room is not freed", reason=str(error))

    def _settle_one(self, name: str, first: int) -> None:
        if first != APPLIED_ENTIRELY:
            self._acknowledge(name, first)
            self._acknowledged[name] = first
            return
        reader = self._finished.get(name)
        if reader is not None:
            reader.trim()  # first: on a full disk the acknowledgement may need that room
        self._acknowledge(name, first)
        self._finished.pop(name, None)
        self._acknowledged.pop(name, None)

    def _acknowledge(self, name: str, first: int) -> None:
        """Renamed into place: a producer that reads half a number would believe that its quota is used up."""
        fresh = self._consumer / f"{name}.new"
        self._consumer.mkdir(parents=True, exist_ok=True)  # somebody may have removed the consumer
        try:
            fresh.write_text(str(first))
            fresh.rename(self._consumer / name)
        except OSError:
            with contextlib.suppress(OSError):
                fresh.unlink(missing_ok=True)
            raise

    def _acknowledge_again(self) -> None:
        """After a crash between a commit and its acknowledgement: nothing new need come that would make up for it."""
        told = _sizes(self._consumer)
        owed = {}
        for name in set(journal_names(self._journals)) & self._positions.keys():
            first = _first_unapplied(parse_position(self._positions[name]))
            text = str(first)
            if told.get(name) != len(text) or (
                name not in self._ended and (self._consumer / name).read_text(errors="replace") != text
            ):
                owed[name] = first
        self._settle(owed)


def _first_unapplied(position: Position) -> int:
    return APPLIED_ENTIRELY if position.done else position.segment


def _sizes(directory: Path) -> dict[str, int]:
    """By name, the size of the files in a directory; empty where somebody has removed it."""
    try:
        with os.scandir(directory) as entries:
            return {entry.name: entry.stat().st_size for entry in entries}
    except FileNotFoundError:
        return {}


def parse_position(text: str) -> Position:
    """A position from its text; the beginning from "".  Raises `CorruptDataError` for any other text."""
    if not text:
        return Position()
    found = _POSITION.fullmatch(text)
    if found is None or int(found[2]) >= _LARGEST_FILE:
        raise CorruptDataError(f"{text!r:.100} is no position in a journal; replay the stream into a new store")
    return Position(int(found[1]), int(found[2]), int(found[3]), found[4] == "1")


def format_position(position: Position) -> str:
    """A position as text."""
    return f"{position.segment}:{position.offset}:{position.next_seq}:{int(position.done)}"


def queue_id(directory: Path, *, make: bool = True) -> str:
    """The queue's identity, which stays when the directory is moved; made by whoever asks first.

    Where it is not to be made, the directory stands for it.
    """
    path = directory / "id"
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        if not make:
            return str(directory.absolute())
    fresh = directory / f"id.{uuid.uuid4().hex}"
    with fresh.open("w") as file:
        file.write(uuid.uuid4().hex)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(fresh, path)
    except FileExistsError:
        pass
    finally:
        fresh.unlink()
    sync_directory(directory)
    return path.read_text().strip()
