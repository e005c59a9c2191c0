"""The reading side of a journal: follow one journal directory, living or dead, from a position.

It is here because everyone who takes events out of a journal needs it: the sink's queue source and the shipper.

* A journal is *living* while somebody holds an exclusive lock on it.  Readers probe with a shared lock, so that two
  readers do not look like a writer.
* Reads go through ``pread``, never through a mapping: another reader, or the writer on closing, may cut the file.
* All records are read, in order; a position lies behind the last record that was handed out.

What a producer logs may go on in further journals, its *continuations*: ``PRODUCER_ID-SEQ``, where SEQ, 19 digits, is
the seq of its first record.  Nobody writes to a journal again whose writer has left it, so an import that finds more
where it has read before goes on in one of these.
"""

import contextlib
import fcntl
import os
import re
from pathlib import Path
from typing import Final, NamedTuple

from runstream_schemas.directories import sync_directory
from runstream_schemas.errors import CorruptDataError, UnsupportedFormatError
from runstream_schemas.scanning import Extent, Scan, scan
from runstream_schemas.segment import (
    DROP_REASONS,
    HEADER_SIZE,
    LOCK_NAME,
    Hole,
    Record,
    SegmentHeader,
    is_segment_name,
    record_seed,
    segment_name,
    unpack_header,
)

__all__ = [
    "Chunk",
    "JournalReader",
    "Position",
    "beginning_of",
    "continuation_name",
    "has_writer",
    "journal_names",
    "segment_indices",
]

_LEAST_WINDOW: Final = 64 << 10
_NAME: Final = re.compile(r"[0-9a-f]{32}(?:-[0-9]{19})?")
_PRODUCER: Final = 32


class Position(NamedTuple):
    """Where a reader stands in a journal."""

    segment: int = 0
    offset: int = HEADER_SIZE
    next_seq: int = 0
    """The seq that comes next; -1 where records before it were lost, so that it is not known."""
    done: bool = False
    """The journal is dead and everything in it was read."""


class Chunk(NamedTuple):
    """What one read brought."""

    records: list[Record]
    holes: list[Hole]
    position: Position
    """Behind what was read."""
    drops: dict[tuple[int, str], int]
    """By (segment, reason): events that the writer dropped, where the count is not 0 and was not told before."""
    late: bool = False
    """The journal is living, and its next event was emitted after what the reader was to stop at."""


def journal_names(journals: Path) -> list[str]:
    """Names of the journals in a directory, in no order that means anything; empty if there is no directory."""
    try:
        with os.scandir(journals) as entries:
            return sorted(entry.name for entry in entries if _is_journal_name(entry.name))
    except FileNotFoundError:
        return []


def continuation_name(producer_id: bytes, first: int) -> str:
    """The journal in which a producer's events go on from seq ``first`` on; 0 gives its first journal."""
    return f"{producer_id.hex()}-{first:019d}" if first else producer_id.hex()


def beginning_of(name: str) -> Position:
    """Where the reading of a journal begins."""
    return Position(next_seq=int(name[_PRODUCER + 1 :] or 0))


def segment_indices(journal: Path) -> list[int]:
    """Indices of the segments that a journal has, ascending."""
    try:
        with os.scandir(journal) as entries:
            return sorted(int(entry.name[:10]) for entry in entries if is_segment_name(entry.name))
    except FileNotFoundError:
        return []


def has_writer(journal: Path) -> bool:
    """Whether a journal is living."""
    try:
        lock = os.open(journal / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return _is_held(lock)
    finally:
        os.close(lock)


def _is_held(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(lock, fcntl.LOCK_UN)
    return False


def _is_journal_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


class JournalReader:
    """Follows one journal.  Not thread-safe; blocking, to be called off the event loop."""

    def __init__(self, path: Path, position: Position | None = None, until: int | None = None) -> None:
        """With ``until`` (nanoseconds since the epoch) it stops before the first event that was emitted later.

        That holds while the journal is living.  A dead one cannot grow, and is read to its end: its clock may have
        been ahead.
        """
        self.path = path
        self.until = until
        self.producer_id = bytes.fromhex(path.name[:_PRODUCER])
        self.position = beginning_of(path.name) if position in {None, Position()} else position
        self._seed = record_seed(self.producer_id)
        self._descriptor = -1
        self._opened = -1
        self._lock = -1
        self._window = _LEAST_WINDOW
        self._unsynced = False
        self._new_name = False
        self._unused: list[tuple[int, int]] = []
        self._told: dict[tuple[int, str], int] = {}

    def read(self, limit: int) -> Chunk:
        """Read at most about ``limit`` bytes of records, but at least one record if there is one.

        The reader's position moves on.  A chunk without records may have moved it too: read again until nothing
        changes.  Raises OSError if the disk fails, `UnsupportedFormatError` for a segment of a newer format.
        """
        living = self.is_living()  # asked first: what a writer wrote before it died is then seen below
        if not self._open():
            return self._without_segment(living=living)
        page = os.pread(self._descriptor, HEADER_SIZE, 0)  # before the records: a seal says that they are all there
        header = self._header(page)
        if header is not None and (header.producer_id, header.index) != (self.producer_id, self.position.segment):
            return self._with_foreign_segment(page, living=living)
        return self._read_segment(header, limit, living=living)

    def is_living(self) -> bool:
        """Whether a writer holds the journal."""
        if self._lock < 0:
            try:
                self._lock = os.open(self.path / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return False
        return _is_held(self._lock)

    def sync(self) -> None:
        """Put on the disk what was read from the present segment, so that a consumer never knows more than the disk.

        The segment's name in the journal's directory is among it; the journal's own name is left to the caller.
        """
        if self._descriptor < 0 or not self._unsynced:
            return
        if self._new_name:
            sync_directory(self.path)
            self._new_name = False
        os.fdatasync(self._descriptor)
        self._unsynced = False

    def close(self) -> None:
        """Sync and close the files.  The reader may be used again.  Raises OSError."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        self._close_segment()

    @property
    def untrimmed(self) -> bool:
        """Whether there is anything to `trim`."""
        return bool(self._unused)

    def trim(self) -> None:
        """Give back the room that a dead writer had preallocated and not used, as far as this reader came through it.

        Raises OSError.
        """
        while self._unused:
            index, used = self._unused[-1]
            with contextlib.suppress(FileNotFoundError):
                os.truncate(self.path / segment_name(index), used)
            self._unused.pop()

    def _open(self) -> bool:
        """Open the segment of the position; False if it does not exist."""
        index = self.position.segment
        if self._opened != index:
            self._close_segment()
            try:
                self._descriptor = os.open(self.path / segment_name(index), os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return False
            self._opened = index
            self._new_name = True
        return True

    def _close_segment(self) -> None:
        if self._descriptor >= 0:
            try:
                self.sync()
            finally:
                os.close(self._descriptor)
                self._descriptor = self._opened = -1

    def _header(self, page: bytes) -> SegmentHeader | None:
        """The segment's header; None if it is damaged, which does not keep anybody from the records."""
        try:
            return unpack_header(page)
        except UnsupportedFormatError:
            raise
        except CorruptDataError:
            return None

    def _read_segment(self, header: SegmentHeader | None, limit: int, *, living: bool) -> Chunk:
        position = self.position
        size = os.fstat(self._descriptor).st_size
        end = header.end if header else 0
        extent = Extent(min(end, size) if end else size, end, bool(end) or not living)
        found = self._scan(extent, limit, self.until if living else None)
        self._unsynced |= bool(found.records or found.holes)
        self.position = position._replace(offset=found.offset, next_seq=found.next_seq)
        if found.ended:
            self._leave(header, size)
        return Chunk(found.records, found.holes, self.position, self._news_of_drops(header), found.late)

    def _scan(self, extent: Extent, limit: int, until: int | None) -> Scan:
        """Look at what comes next, in a window that grows while there is much and shrinks when there is not."""
        start, window = self.position.offset, self._window
        found = scan(self._pread, start, self.position.next_seq, extent, window, until, self._seed)
        full = found.offset - start > window // 2
        self._window = min(window * 2, max(limit, _LEAST_WINDOW)) if full else _LEAST_WINDOW
        return found

    def _pread(self, size: int, offset: int) -> bytes:
        return os.pread(self._descriptor, size, offset)

    def _leave(self, header: SegmentHeader | None, size: int) -> None:
        """The segment is read to its end: go on in the next one, or be done."""
        position = self.position
        if header and header.end and not header.following:
            self.position = position._replace(done=True)
        elif header and header.following > header.index:
            self.position = position._replace(segment=header.following, offset=HEADER_SIZE)
        else:
            if size > position.offset:
                self._unused.append((position.segment, position.offset))
            self._skip_to_later_segment(position.next_seq)

    def _skip_to_later_segment(self, next_seq: int) -> None:
        """Go to the next segment that exists; be done if there is none."""
        later = [index for index in segment_indices(self.path) if index > self.position.segment]
        if later:
            self.position = Position(later[0], HEADER_SIZE, next_seq)
        else:
            self.position = self.position._replace(done=True)

    def _without_segment(self, *, living: bool) -> Chunk:
        """The position's segment is gone: freed, or prepared in vain by a writer that died."""
        before = self.position
        if not living or any(index > before.segment for index in segment_indices(self.path)):
            self._skip_to_later_segment(-1)
        return Chunk([], [], self.position, {})

    def _with_foreign_segment(self, page: bytes, *, living: bool) -> Chunk:
        """Another journal's segment, or another one of this journal's.  It is left once nothing more can come."""
        before = self.position
        self._without_segment(living=living)
        if self.position == before or before.next_seq < 0:
            return Chunk([], [], self.position, {})
        return Chunk([], [Hole(before.next_seq, before.next_seq, "corrupt", page)], self.position, {})

    def _news_of_drops(self, header: SegmentHeader | None) -> dict[tuple[int, str], int]:
        if header is None:
            return {}
        counts = {(header.index, reason): count for reason, count in zip(DROP_REASONS, header.drops, strict=True)}
        news = {key: count for key, count in counts.items() if count and self._told.get(key) != count}
        self._told.update(news)
        return news
