"""A journal on the disk: its directory, its lock, and its segment files, made and mapped."""

import contextlib
import os
import time
from itertools import count
from pathlib import Path
from struct import Struct
from typing import Final

from runstream.filesystem import Buffer, Filesystem
from runstream_schemas.segment import (
    DROP_REASONS,
    HEADER_SIZE,
    LOCK_NAME,
    SEAL_OFFSET,
    STATE_OFFSET,
    drop_offset,
    pack_header,
    pack_seal,
    segment_name,
)

__all__ = ["JournalDirectory", "Segment"]

_pack_count: Final = Struct("<Q").pack


class Segment:
    """One segment file, mapped."""

    __slots__ = (
        *("buffer", "capacity", "descriptor", "drops", "end", "entered", "following", "index", "pace"),
        *("populated", "sealed"),
    )

    def __init__(self, index: int, capacity: int, descriptor: int, buffer: Buffer, *, populated: bool) -> None:
        self.index = index
        self.capacity = capacity
        self.descriptor = descriptor
        self.buffer = buffer
        self.drops = dict.fromkeys(DROP_REASONS, 0)
        self.end = 0
        """Offset behind the last record, once the writer has left."""
        self.following: Segment | None = None
        self.sealed = False
        self.populated = populated
        """Whether the kernel was asked to map all its pages, and could."""
        self.entered = time.time_ns()
        """When the writer came, nanoseconds since the epoch."""
        self.pace = 0, 1
        """What was logged into the one before it, bytes, and in how long, nanoseconds; nothing if it is the first."""

    def seal(self) -> None:
        """Note that nothing is written behind ``end`` any more, and where the journal goes on."""
        state, check = pack_seal(self.end, self.following.index if self.following is not None else 0)
        self.buffer[STATE_OFFSET : STATE_OFFSET + len(state)] = state
        self.buffer[SEAL_OFFSET : SEAL_OFFSET + len(check)] = check
        self.sealed = True

    def count_drop(self, reason: str, count: int = 1) -> None:
        """Count dropped events in the header page."""
        self.drops[reason] += count
        offset = drop_offset(reason)
        stored = -1
        while stored != self.drops[reason]:  # a signal handler may count one between the two steps
            stored = self.drops[reason]
            self.buffer[offset : offset + 8] = _pack_count(stored)


class JournalDirectory:
    """A journal's place on the disk: made under a temporary name, locked, filled, then renamed."""

    def __init__(self, journals: Path, consumers: Path, filesystem: Filesystem) -> None:
        self.producer_id = os.urandom(16)
        self.name = self.producer_id.hex()
        self._journals = journals
        self._consumers = consumers
        self._filesystem = filesystem
        self._names, self._indices = count(), count()
        self._sizes: dict[int, int] = {}
        """Capacities of the segments that not every consumer has applied, as far as is known, by index."""
        self._path = journals / f"{self.name}.new"
        around = [journals, *journals.parents]
        self._around = around[: 1 + max(2, sum(not place.exists() for place in around))]
        """Where names stand that may be new: of the journal, and of the directories that lie around it."""
        filesystem.make_directory(self._path)
        try:
            self._lock = filesystem.lock(self._path / LOCK_NAME)
        except BaseException:
            self._remove()
            raise

    def publish(self) -> None:
        """Let readers see the journal."""
        target = self._journals / self.name
        self._filesystem.rename(self._path, target)
        self._path = target

    def create_segment(self, capacity: int, *, filled: bool = False) -> Segment:
        """Make a segment file; readers see it whole or not at all.  Raises OSError.

        One that is ``filled`` has its pages in memory, and mapped.  It takes its index last: others, which can do
        without, may be made meanwhile, and are to be read before it.
        """
        made = self._path / f"{next(self._names)}.new"
        descriptor, buffer = self._filesystem.allocate(made, capacity)
        try:
            if filled:
                self._filesystem.fill(descriptor, capacity)
            populated = filled and self._filesystem.populate(buffer)
            index = self._number(made, capacity, buffer)
        except BaseException:
            buffer.close()
            with contextlib.suppress(OSError):
                self._filesystem.close(descriptor)
            with contextlib.suppress(OSError):
                self._filesystem.remove(made)
            raise
        return Segment(index, capacity, descriptor, buffer, populated=populated)

    def renumber_segment(self, segment: Segment) -> None:
        """Let a segment that is not used yet come behind all that there are.  Raises OSError: then discard it."""
        made = self._path / f"{next(self._names)}.new"  # no name ever has the header of another, even after a kill
        self._filesystem.rename(self._path / segment_name(segment.index), made)
        self._sizes.pop(segment.index, None)
        try:
            segment.index = self._number(made, segment.capacity, segment.buffer)
        except BaseException:
            with contextlib.suppress(OSError):
                self._filesystem.remove(made)
            raise

    def _number(self, made: Path, capacity: int, buffer: Buffer) -> int:
        """Let readers see a file as the last segment; its index."""
        index = next(self._indices)
        buffer[0:HEADER_SIZE] = pack_header(self.producer_id, index, capacity, time.time_ns())
        self._filesystem.rename(made, self._path / segment_name(index))
        self._sizes[index] = capacity
        return index

    def let_go(self, segment: Segment) -> None:
        """Unmap a segment, and close its file.  Raises OSError."""
        segment.buffer.close()
        self._filesystem.close(segment.descriptor)

    def discard_segment(self, segment: Segment) -> None:
        """Leave nothing behind of a segment that was prepared in vain."""
        self._sizes.pop(segment.index, None)
        with contextlib.suppress(OSError):
            self.let_go(segment)
        with contextlib.suppress(OSError):
            self._filesystem.remove(self._path / segment_name(segment.index))

    def has_room(self, capacity: int, quota: int) -> bool:
        """Whether a segment more stays within the quota, bytes.  The disk is asked only where it does not seem so."""
        if sum(self._sizes.copy().values()) + capacity <= quota:
            return True
        applied = self.applied()
        for index in self._sizes.copy():
            if index < applied:
                self._sizes.pop(index, None)
        return sum(self._sizes.copy().values()) + capacity <= quota

    def applied(self) -> int:
        """Index of the first segment that not every registered consumer has applied; 0 while none is registered."""
        return min(
            (_number(text) for text in self._filesystem.read_texts(self._consumers, self.name)),
            default=0,
        )

    def sync(self) -> None:
        """Wait until the directory's entries are on the disk."""
        self._filesystem.sync_directory(self._path)
        for place in self._around:
            self._filesystem.sync_directory(place)
        self._around = []

    @property
    def path(self) -> Path:
        """Where the journal lies."""
        return self._path

    def vanished(self) -> bool:
        """Whether somebody has removed the journal while it is being written."""
        try:
            return self._lock >= 0 and not self._filesystem.has_name(self._lock)
        except OSError:
            return False

    def release(self) -> None:
        """Let readers know that no writer is left."""
        lock, self._lock = self._lock, -1
        if lock >= 0:
            self._filesystem.close(lock)

    def discard(self) -> None:
        """Leave nothing behind of a journal that could not be made: whoever logs tries again and again."""
        with contextlib.suppress(OSError):
            self.release()
        self._remove()

    def _remove(self) -> None:
        for name in (segment_name(0), LOCK_NAME):
            with contextlib.suppress(OSError):
                self._filesystem.remove(self._path / name)
        with contextlib.suppress(OSError):
            self._filesystem.remove_directory(self._path)


def _number(text: str) -> int:
    """What a consumer acknowledged; 0, which keeps everything, where that cannot be read."""
    return int(text) if text.isascii() and text.isdecimal() else 0
