"""How a queue directory stands, read from the disk: no consumer need run, and nothing is written or registered.

The *backlog* is what a journal holds and a consumer has not applied.  Its events are counted by their seqs, so that a
backlog of gigabytes is not read: only the last segment of each journal that has one.  Without the positions of a
consumer everything is backlog.
"""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct

from runstream_schemas.errors import CorruptDataError, EnvironmentUnavailableError, UnsupportedFormatError
from runstream_schemas.reader import (
    Chunk,
    JournalReader,
    Position,
    beginning_of,
    has_writer,
    journal_names,
    segment_indices,
)
from runstream_schemas.segment import DROP_REASONS, HEADER_SIZE, SegmentHeader, segment_name, unpack_header

__all__ = [
    "Backlog",
    "ConsumerStatus",
    "JournalStatus",
    "Loss",
    "StreamStatus",
    "read_stream_status",
    "stream_name",
]

_CHUNK = 1 << 20


class Loss(Struct, frozen=True):
    """Events that a producer dropped while ``segment`` was its current one."""

    producer_id: str
    segment: int
    reason: str
    count: int


class Backlog(NamedTuple):
    """What is behind a consumer's positions in all journals."""

    events: int
    bytes: int
    oldest: int | None
    """When the first event of it was emitted, nanoseconds since the epoch; None if there is none."""


class JournalStatus(Struct, frozen=True):
    """One journal; sizes in bytes."""

    journal: str
    living: bool
    """Whether its writer lives."""
    bytes: int
    """What its files take on the disk."""
    backlog_events: int
    backlog_bytes: int
    oldest: int | None
    """When the first event of the backlog was emitted, nanoseconds since the epoch."""


class ConsumerStatus(Struct, frozen=True):
    """A registered consumer; what it has not acknowledged is kept for it, in whole segments."""

    store_id: str
    segments_behind: int
    bytes_behind: int
    acknowledged: int | None
    """When it acknowledged something for the last time, milliseconds since the epoch."""


class StreamStatus(Struct, frozen=True):
    """A queue directory."""

    stream: str
    journals: list[JournalStatus]
    consumers: list[ConsumerStatus]
    losses: list[Loss]
    """Events that producers dropped, as the journals that are still there say."""

    @property
    def backlog(self) -> Backlog:
        """The journals' backlogs together."""
        return Backlog(
            sum(journal.backlog_events for journal in self.journals),
            sum(journal.backlog_bytes for journal in self.journals),
            min((journal.oldest for journal in self.journals if journal.oldest is not None), default=None),
        )


def stream_name(queue: Path) -> str:
    """The name by which stores keep positions in this queue; "" if no sink has seen it yet."""
    try:
        return f"queue:{(queue / 'id').read_text().strip()}"
    except FileNotFoundError:
        return ""


def read_stream_status(queue: Path, positions: Mapping[str, Position]) -> StreamStatus:
    """The stream's side; ``positions`` are a consumer's, by journal.

    Raises `EnvironmentUnavailableError` if there is no queue.
    """
    journals = queue / "journals"
    if not journals.is_dir():
        raise EnvironmentUnavailableError(f"{queue} is no queue directory (it has no journals); check --stream")
    extents = {name: _extent(journals / name) for name in journal_names(journals)}
    return StreamStatus(
        stream=f"queue:{queue}",
        journals=[_journal(journals / name, extent, positions.get(name)) for name, extent in extents.items()],
        consumers=_consumers(queue / "consumers", extents),
        losses=[loss for name, extent in extents.items() for loss in _losses(name, extent)],
    )


class _Segment(NamedTuple):
    size: int
    header: SegmentHeader | None
    """None if it is damaged."""


_Extent = dict[int, _Segment]
"""The segments of a journal by index, ascending."""


def _extent(path: Path) -> _Extent:
    extent: _Extent = {}
    for index in segment_indices(path):
        try:
            with (path / segment_name(index)).open("rb", buffering=0) as file:
                extent[index] = _Segment(os.fstat(file.fileno()).st_size, _header(file.read(HEADER_SIZE)))
        except FileNotFoundError:  # freed meanwhile
            continue
    return extent


def _header(page: bytes) -> SegmentHeader | None:
    try:
        return unpack_header(page)
    except CorruptDataError:
        return None


def _journal(path: Path, extent: _Extent, position: Position | None) -> JournalStatus:
    position = position or beginning_of(path.name)
    living = has_writer(path)
    on_disk = sum(segment.size for segment in extent.values())
    first = None if position.done else _first_record(path, position)
    if first is None:
        return JournalStatus(path.name, living, on_disk, 0, 0, None)
    first_seq, oldest = first
    last_seq, behind = _tail(path, extent, position)
    start = position.next_seq if position.next_seq >= 0 else first_seq
    return JournalStatus(path.name, living, on_disk, last_seq + 1 - start, behind, oldest)


def _first_record(path: Path, position: Position) -> tuple[int, int] | None:
    """Seq and emit_ts of the first event behind a position."""
    for chunk in _chunks(path, position, 1):
        if chunk.records:
            return chunk.records[0][:2]
    return None


def _tail(path: Path, extent: _Extent, position: Position) -> tuple[int, int]:
    """The last seq of a journal, and the bytes of records behind a position."""
    behind = 0
    last_seq = -1
    for index in sorted((index for index in extent if index >= position.segment), reverse=True):
        start = position.offset if index == position.segment else HEADER_SIZE
        end = _known_end(extent[index])
        if last_seq < 0:
            seq, scanned = _scan(path, Position(index, start, -1))
            last_seq = seq
            end = end or scanned
        behind += max((end or extent[index].size) - start, 0)
    return last_seq, behind


def _known_end(segment: _Segment) -> int:
    """The offset behind the last record of a segment that its writer has left; 0 otherwise."""
    return segment.header.end if segment.header else 0


def _scan(path: Path, position: Position) -> tuple[int, int]:
    """The last seq in the rest of one segment (-1: there is none), and the offset behind it."""
    last_seq, end = -1, position.offset
    for chunk in _chunks(path, position, _CHUNK):
        if chunk.records:
            last_seq = max(last_seq, chunk.records[-1][0])
        if chunk.holes:
            last_seq = max(last_seq, chunk.holes[-1].last)
        if chunk.position.segment != position.segment:
            break
        end = chunk.position.offset
    return last_seq, end


def _chunks(path: Path, position: Position, limit: int) -> Iterable[Chunk]:
    """What lies behind a position, until nothing more comes."""
    reader = JournalReader(path, position)
    try:
        while not reader.position.done:
            before = reader.position
            try:
                chunk = reader.read(limit)
            except UnsupportedFormatError:  # a newer version's, which nobody here can read
                return
            yield chunk
            if chunk.position == before:
                return
    finally:
        reader.close()


def _consumers(directory: Path, extents: Mapping[str, _Extent]) -> list[ConsumerStatus]:
    if not directory.is_dir():
        return []
    return [_consumer(path, extents) for path in sorted(directory.iterdir()) if path.is_dir()]


def _consumer(path: Path, extents: Mapping[str, _Extent]) -> ConsumerStatus:
    segments, size, last = 0, 0, 0.0
    for name, extent in extents.items():
        first = 0
        with suppress(FileNotFoundError, ValueError):
            last = max(last, (path / name).stat().st_mtime)
            first = int((path / name).read_text())
        behind = [segment.size for index, segment in extent.items() if index >= first]
        segments, size = segments + len(behind), size + sum(behind)
    return ConsumerStatus(path.name, segments, size, int(last * 1000) or None)


def _losses(name: str, extent: _Extent) -> list[Loss]:
    return [
        Loss(name, index, reason, count)
        for index, segment in extent.items()
        if segment.header
        for reason, count in zip(DROP_REASONS, segment.header.drops, strict=True)
        if count
    ]
