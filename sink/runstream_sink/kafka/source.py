"""A topic as a source: each partition is a part of the stream, known by its number; see `positions` for their texts.

What is no record batch never stops the stream.  It is handed out as an event with seq 0 of a producer of its own, whose
id is made of where it lies, so that it becomes the same dead letter however often it is read.  A batch whose claimed
payload has not come becomes a dead letter under its own identity.
"""

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from hashlib import sha256
from typing import Final, Protocol

import structlog

from runstream_schemas.batch import Batch, decode_batch
from runstream_schemas.chunk import decode_chunk, is_chunk
from runstream_schemas.delivery import Delivery
from runstream_schemas.errors import CorruptDataError, MissingPayloadError
from runstream_schemas.segment import Hole
from runstream_sink.kafka.bounds import EARLIEST, Bound, resolve_bound
from runstream_sink.kafka.chunks import ChunkStore
from runstream_sink.kafka.log import Extent, Log, LogRecord, OutOfRangeError
from runstream_sink.kafka.positions import Fingerprint, Position, fingerprint, format_position, parse_position
from runstream_sink.source import EVENT_WEIGHT, ReassignedError, StreamReplacedError, StreamUnavailableError

__all__ = ["KafkaSource", "LossListener"]

_WAIT: Final = 0.2
"""Seconds that a read waits for something new."""
_TELL_INTERVAL: Final = 1.0
"""Seconds between two times that the group is told how far its sink is."""
_SECOND_LOOK: Final = 2.0
"""Seconds."""
_REPLACED: Final = (
    "nothing was changed; give the new topic another name, or the sink another --store, or replay the topic into one"
)
_log = structlog.get_logger(__name__)


class LossListener(Protocol):
    """Who is told that unread records are gone."""

    async def lost(self) -> None:
        """Records are gone that the store never had."""

    async def passed(self) -> None:
        """Everything is read that was there behind them."""


class KafkaSource:
    """Reads a topic, all of it or what the group gives to this member.

    Without ``until`` it goes on for ever; with it, `read` brings nothing once every partition is read up to there,
    which is decided when the source is opened.  ``first`` says where partitions begin of which the store has no
    position.
    """

    def __init__(
        self,
        log: Log,
        chunks: ChunkStore,
        *,
        first: Bound = EARLIEST,
        until: Bound | None = None,
        listener: LossListener | None = None,
    ) -> None:
        self.name = ""
        self._log = log
        self._chunks = chunks
        self._bounds = (first, until)
        self._group = ""
        self._listener = listener
        self._starts: dict[int, int] = {}
        self._ends: dict[int, int] | None = None
        self._broken = False
        self._generation = -1
        self._texts: dict[int, str] = {}
        """By partition, the position behind what was handed out."""
        self._rest: deque[LogRecord] = deque()
        self._limited = False
        self._gaps: dict[int, int] = {}
        """By partition in which unread records are gone, the end that it had then."""
        self._known_gaps: set[tuple[int, int]] = set()
        self._untold: dict[int, int] = {}
        self._telling: asyncio.Task[None] | None = None
        self._told_at = 0.0

    async def open(self, consumer: str) -> None:
        """Connect, and decide where to begin and to end."""
        self._group = f"runstream-{consumer}"
        await self._log.open(self._group)
        self.name = f"kafka:{self._log.name}"
        first, until = self._bounds
        if first is EARLIEST and until is None:
            return
        extents = await self._log.extents(await self._log.partitions())
        self._starts = await resolve_bound(first, self._log, extents, end=False)
        if until is not None:
            self._ends = await resolve_bound(until, self._log, extents, end=True)

    async def read(self, limit: int) -> Delivery:
        """About ``limit`` bytes; where nothing is new, wait a moment for it."""
        if self._broken:
            raise StreamUnavailableError(f"the topic {self.name} must be sought anew")
        while True:
            await self._fetch(limit)
            delivery = await asyncio.to_thread(self._take, limit)
            self._limited = bool(self._rest) or delivery.weight >= limit
            if delivery or self._ends is None or await self._is_finished(self._ends):
                return delivery

    async def seek(self, positions: dict[str, str]) -> None:
        """Go on where the store is, once the records before that are known again."""
        if self._broken:
            await self._reopen()
        self._broken = True
        self._rest.clear()
        self._generation = self._log.generation
        partitions = await self._log.partitions()
        if self._ends is not None:
            partitions &= self._ends.keys()
        held = {int(part): parse_position(text) for part, text in positions.items()}
        self._check_partitions(partitions, held)
        held = {partition: held[partition] for partition in partitions & held.keys()}
        extents = await self._extents(partitions, held)
        await self._compare(held, extents)
        await self._note_gaps(held, extents)
        self._texts = {partition: positions[str(partition)] for partition in held}
        self._log.seek({p: max(held[p].offset if p in held else self._start(p), extents[p].begin) for p in partitions})
        self._broken = False

    async def committed(self, delivery: Delivery) -> None:
        """Tell the group from time to time, and about gaps once what lies behind them is applied."""
        offsets = {int(part): parse_position(after).offset for part, (_, after) in delivery.positions.items()}
        self._untold |= offsets
        if self._is_time_to_tell():
            self._telling = asyncio.create_task(self._tell())
        if self._gaps:
            self._gaps = {p: end for p, end in self._gaps.items() if offsets.get(p, -1) < end}
            if not self._gaps and self._listener:
                await self._listener.passed()

    def backlog(self) -> bool:
        """Whether the last read stopped at its limit."""
        return self._limited

    async def close(self) -> None:
        """Tell the group how far its sink came, and disconnect."""
        if self._telling is not None:
            await self._telling
        await self._tell()
        await self._log.close()

    async def _reopen(self) -> None:
        """A new connection; the cluster behind it must be the same."""
        await self._log.close()
        await self._log.open(self._group)
        name = f"kafka:{self._log.name}"
        if name != self.name:
            raise StreamReplacedError(f"the stream is now {name} and was {self.name}: another cluster; {_REPLACED}")

    def _start(self, partition: int) -> int:
        return self._starts.get(partition, 0)

    def _check_partitions(self, partitions: frozenset[int], held: Mapping[int, Position]) -> None:
        gone = sorted(held.keys() - partitions) if self._log.whole and self._ends is None else []
        if gone:
            raise StreamReplacedError(
                f"the topic {self.name} has no partition {gone[0]} any more, which the store has read: it was deleted "
                f"and made anew; {_REPLACED}"
            )

    async def _extents(self, partitions: frozenset[int], held: Mapping[int, Position]) -> dict[int, Extent]:
        """Where partitions begin and end; one that seems cut is looked at twice: its leader may be new."""
        extents = await self._log.extents(partitions)
        if any(offset > extents[partition].end for partition, (offset, _) in held.items()):
            await asyncio.sleep(_SECOND_LOOK)
            extents = await self._log.extents(partitions)
        return extents

    async def _compare(self, held: Mapping[int, Position], extents: Mapping[int, Extent]) -> None:
        """Raise `StreamReplacedError` unless the record that was applied last, where it is still there, is the same."""
        for partition, (offset, _) in held.items():
            if offset > extents[partition].end:
                raise StreamReplacedError(
                    f"partition {partition} of the topic {self.name} ends at offset {extents[partition].end}, and the "
                    f"store has read it up to {offset}: the topic was deleted and made anew, or brokers have lost "
                    f"records that they had acknowledged; {_REPLACED}"
                )
        wanted = {p: offset - 1 for p, (offset, _) in held.items() if extents[p].begin < offset}
        found = await self._log.record_at(wanted) if wanted else {}
        for partition, record in found.items():
            if record.offset != wanted[partition]:
                _log.warning(
                    "the last record that was applied is gone from the middle of a partition; turn compaction off",
                    partition=partition,
                    offset=wanted[partition],
                )
            elif (there := fingerprint(record.value)) != held[partition].last:
                raise StreamReplacedError(
                    f"partition {partition} of the topic {self.name} holds {_told(there)} at offset {record.offset}, "
                    f"where the store has read {_told(held[partition].last)}: the topic was deleted and made anew; "
                    f"{_REPLACED}"
                )

    async def _note_gaps(self, held: Mapping[int, Position], extents: Mapping[int, Extent]) -> None:
        gaps = {p for p, (offset, _) in held.items() if offset < extents[p].begin}
        fresh = [p for p in sorted(gaps) if (p, held[p].offset) not in self._known_gaps]
        for partition in fresh:
            begin, end = extents[partition]
            _log.error(
                "records that were not read are gone from the topic, by its retention or because they were deleted; "
                "going on behind them",
                partition=partition,
                first=held[partition].offset,
                last=begin - 1,
                count=begin - held[partition].offset,
            )
            self._known_gaps.add((partition, held[partition].offset))
            if begin < end:
                self._gaps[partition] = end
        if fresh and self._listener:
            await self._listener.lost()
            if not self._gaps:  # nothing is left to read behind them
                await self._listener.passed()

    async def _fetch(self, limit: int) -> None:
        """Have something to take, if there is something."""
        if not self._rest:
            try:
                self._rest.extend(await self._log.fetch(limit, _WAIT))
            except OutOfRangeError as error:
                self._broken = False
                raise ReassignedError(str(error)) from error
            except StreamUnavailableError:
                self._broken = True
                raise
        if self._log.generation != self._generation:
            self._rest.clear()
            raise ReassignedError(f"the partitions of {self.name} are to be read anew")

    def _take(self, limit: int) -> Delivery:
        """Decode records up to the limit; the bytes of chunks are on the disk after it."""
        delivery = Delivery()
        last: dict[int, LogRecord] = {}
        chunks = 0
        while self._rest and delivery.weight < limit:
            record = self._rest.popleft()
            if self._ends is not None and record.offset >= self._ends[record.partition]:
                continue
            last[record.partition] = record
            if is_chunk(record.value):
                chunks += self._take_chunk(record, delivery)
            else:
                self._take_batch(record, delivery)
        if chunks:
            self._chunks.sync()
        for partition, record in last.items():
            text = format_position(Position(record.offset + 1, fingerprint(record.value)))
            delivery.positions[str(partition)] = (self._texts.get(partition), text)
            self._texts[partition] = text
        return delivery

    def _take_chunk(self, record: LogRecord, delivery: Delivery) -> bool:
        delivery.size += len(record.value)
        delivery.weight += len(record.value)
        try:
            chunk = decode_chunk(record.value)
        except CorruptDataError:
            delivery.batches.append(self._unreadable(record))
            return False
        self._chunks.add(chunk)
        return True

    def _take_batch(self, record: LogRecord, delivery: Delivery) -> None:
        try:
            batch = decode_batch(record.value, self._chunks.read)
        except MissingPayloadError as error:
            batch = _without_payload(error, record)
        except CorruptDataError:
            batch = self._unreadable(record)
        delivery.take(batch, EVENT_WEIGHT)

    def _unreadable(self, record: LogRecord) -> Batch:
        """A dead letter to be, see the module's docstring."""
        place = f"{self.name}/{record.partition}/{record.offset}"
        letter = (0, _nanoseconds(record), record.value)
        return Batch(sha256(place.encode()).digest()[:16], [letter], [])

    async def _is_finished(self, ends: Mapping[int, int]) -> bool:
        reached = await self._log.reached()
        return all(reached.get(partition, end) >= end for partition, end in ends.items())

    def _is_time_to_tell(self) -> bool:
        idle = self._telling is None or self._telling.done()
        return idle and time.monotonic() - self._told_at > _TELL_INTERVAL

    async def _tell(self) -> None:
        if self._broken:  # there may be no connection, and no new one either
            return
        offsets, self._untold = self._untold, {}
        self._told_at = time.monotonic()
        if not offsets:
            return
        try:
            await self._log.commit(offsets)
        except StreamUnavailableError as error:
            _log.debug("the group is not told how far its sink is", reason=str(error))


def _without_payload(error: MissingPayloadError, record: LogRecord) -> Batch:
    """The first event of a batch whose payload has not come, as a dead letter to be with the bytes of the batch."""
    first = error.first_seq
    last = first + error.count - 1
    holes = [Hole(first + 1, last, "payload_missing", b"")] if last > first else []
    return Batch(error.producer_id, [(first, _nanoseconds(record), record.value)], holes)


def _nanoseconds(record: LogRecord) -> int:
    return max(record.timestamp, 0) * 1_000_000


def _told(found: Fingerprint) -> str:
    identity, number, crc32 = found
    return f"{identity}:{number} (checksum {crc32:08x})"
