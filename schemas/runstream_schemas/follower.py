"""All journals of a queue directory, living and dead, followed at once.

A queue directory holds ``journals/<producer_id>/`` (see `runstream_schemas.segment`), ``staging/`` (bytes of
artifacts), ``consumers/<consumer>/<producer_id>`` (see `runstream_schemas.acknowledgements`) and ``id``.  The journal
directory of a program that logs to a topic has the same layout.

Each journal is a part of the stream; its position is the text ``segment:offset:next_seq:done``.

The sink's queue source and the producer's shipper follow a queue by it.  It reads and syncs, and changes nothing: what
is freed, acknowledged or trimmed is its callers' to decide.
"""

import os
import re
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Final

from runstream_schemas.batch import Batch
from runstream_schemas.delivery import Delivery
from runstream_schemas.directories import sync_directory
from runstream_schemas.errors import CorruptDataError, UnsupportedFormatError
from runstream_schemas.reader import Chunk, JournalReader, Position, has_writer, journal_names
from runstream_schemas.segment import HEADER_SIZE, segment_name, unpack_header

__all__ = ["Follower", "format_position", "parse_position", "queue_id"]

_READERS_KEPT_OPEN: Final = 256
_CHUNK: Final = 1 << 20
_TIMESTAMP_GRAIN: Final = 1_000_000_000
"""Nanoseconds within which a directory may change twice and keep its modification time."""
_POSITION: Final = re.compile(r"([0-9]{1,20}):([0-9]{1,20}):(-1|[0-9]{1,20}):([01])")
_LARGEST_FILE: Final = 1 << 63
_MOST_LOST: Final = (1 << 63) - 1


def _ignore(_name: str, _reason: str) -> None:
    """Nobody asked to be told."""


class Follower:
    """Reads the journals of a queue directory, taking turns among those that have something new.

    Blocking, to be called off the event loop.  One thread may read while another one calls `trim`; nothing else may
    run at the same time.

    With ``until`` (nanoseconds since the epoch) it reads what is there, and ends: the journals that are there at its
    first read, a living one up to its first event that was emitted later.  A dead one cannot grow and is read to its
    end, whatever its clock said, also if it dies while the others are read; so is one that its writer has closed,
    although its lock may still be held (by a child of the writer's, between fork and exec).

    ``unreadable`` is told name and reason of each journal that is of a newer format.  It is left unread, and stops
    nothing.  In the limit of a read each event counts for ``event_weight`` bytes besides its own.
    """

    def __init__(
        self,
        directory: Path,
        *,
        until: int | None = None,
        unreadable: Callable[[str, str], None] = _ignore,
        event_weight: int = 0,
    ) -> None:
        self.directory = directory
        self._journals = directory / "journals"
        self._until = until
        self._unreadable = unreadable
        self._event_weight = event_weight
        self._positions: dict[str, str] = {}
        self._readers: dict[str, JournalReader] = {}
        self._ended: set[str] = set()
        self._untrimmed: dict[str, JournalReader] = {}
        self._bounds: frozenset[str] | None = None
        """With ``until``: the journals that were there at the first read."""
        self._listed = -1
        self._limited = False
        self._new_entries = True

    @property
    def backlog(self) -> bool:
        """Whether the last read stopped at its limit, so that there may be more."""
        return self._limited

    @property
    def positions(self) -> dict[str, str]:
        """By journal: the position behind what was handed out."""
        return dict(self._positions)

    def seek(self, positions: Mapping[str, str]) -> None:
        """Begin, or begin again, at these positions, and at the beginning of all other journals.

        Raises `CorruptDataError` if one is no position, OSError if the disk fails.
        """
        self.close()
        self._positions = dict(positions)
        self._ended = {name for name, text in positions.items() if parse_position(text).done}

    def read(self, limit: int) -> Delivery:
        """About ``limit`` bytes of events, or fewer if there are fewer; empty if there is nothing new.

        What is handed out is on the disk, so that a consumer never knows more than its stream.  Raises OSError; what
        was read then, and was not handed out, comes again only after `seek`.
        """
        self._find_journals()
        delivery = Delivery()
        for name, reader in list(self._readers.items()):
            if delivery.weight >= limit:
                break
            self._readers[name] = self._readers.pop(name)  # to the end of the line
            self._drain(name, reader, delivery, limit)
        self._limited = delivery.weight >= limit
        if delivery.size and self._new_entries:
            sync_directory(self._journals)
            self._new_entries = False
        return delivery

    def trim(self, name: str) -> None:
        """Give back the room that the dead writer of a journal had preallocated and not used.

        Nothing happens unless the journal was read to its end since the last `seek`.  Raises OSError; trying again is
        allowed.
        """
        reader = self._untrimmed.get(name)
        if reader is not None:
            reader.trim()
            self._untrimmed.pop(name, None)

    def living(self, besides: Collection[str] = ()) -> bool:
        """Whether any journal has a writer now, or is being made, other than those named ``besides``."""
        done = self._ended.union(besides)
        names = [name for name in journal_names(self._journals) if name not in done]
        return any(has_writer(path) for path in (*map(self._journals.joinpath, names), *self._journals.glob("*.new")))

    def exhausted(self) -> bool:
        """Whether all that dead journals hold was handed out, as far as anybody can read it.

        A caller that wants to end asks first whether any is `living`, then reads until nothing comes, then asks this.
        """
        left = [name for name in journal_names(self._journals) if name not in self._ended]
        return all(has_writer(self._journals / name) for name in left)

    def close(self) -> None:
        """Close all files, and forget all positions.  Raises OSError."""
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()
        self._untrimmed.clear()
        self._positions = {}
        self._ended = set()
        self._listed = -1

    def _find_journals(self) -> None:
        """Take up journals that have come since the last look, and forget those that are done and gone."""
        changed = self._journals.stat().st_mtime_ns
        if changed == self._listed:
            return
        settled = time.time_ns() - changed > _TIMESTAMP_GRAIN
        names = journal_names(self._journals)
        for name in names if self._bounds is None else sorted(self._bounds.intersection(names)):
            if name not in self._ended and name not in self._readers:
                position = parse_position(self._positions.get(name, ""))
                self._readers[name] = JournalReader(self._journals / name, position, self._until)
                self._new_entries = True
        for name in self._ended.difference(names):
            self._ended.discard(name)
            self._positions.pop(name, None)
        if self._until is not None and self._bounds is None:
            self._bounds = frozenset(names)
        self._listed = changed if settled else -1

    def _drain(self, name: str, reader: JournalReader, delivery: Delivery, limit: int) -> None:
        """Move what a journal has into a delivery, up to the limit."""
        before = reader.position
        size = delivery.size
        while delivery.weight < limit and name not in self._ended:
            at = reader.position
            try:
                chunk = reader.read(min(limit - delivery.weight, _CHUNK))
            except UnsupportedFormatError as error:
                self._end(name, reader)
                self._unreadable(name, str(error))
                break
            self._take(reader, chunk, delivery)
            if chunk.position.done:
                self._end(name, reader)
            elif chunk.late and _is_closed(reader):
                reader.until = None
            elif chunk.late or chunk.position == at:
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
            delivery.take(Batch(reader.producer_id, chunk.records, chunk.holes), self._event_weight)
        for (segment, reason), count in chunk.drops.items():
            delivery.losses[reader.producer_id, segment, reason] = min(count, _MOST_LOST)

    def _end(self, name: str, reader: JournalReader) -> None:
        self._ended.add(name)
        self._readers.pop(name, None)
        reader.close()
        if reader.position.done and reader.untrimmed:
            self._untrimmed[name] = reader


def _is_closed(reader: JournalReader) -> bool:
    """Whether the writer has sealed the journal at its end: each seal, from where the reader stands, names the next."""
    index = reader.position.segment
    while True:
        try:
            with (reader.path / segment_name(index)).open("rb") as file:
                header = unpack_header(file.read(HEADER_SIZE))
        except (FileNotFoundError, CorruptDataError):
            return False
        if header.following <= index:
            return header.end > 0 and not header.following
        index = header.following


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

    Where it is not to be made, the directory stands for it.  Raises OSError.
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
