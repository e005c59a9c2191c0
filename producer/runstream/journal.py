"""The journal: where every accepted event goes first, and the only way an event leaves a log call.

What is promised (the format itself is specified in `runstream_schemas.segment`):

* `Journal.append` makes no system call and nothing else that gives the interpreter lock away, unless no segment is
  ready; such stalls are counted.  It takes one lock, which is free unless another thread is in the middle of a call.
* When it returns None, the event is in a shared mapping, which belongs to the kernel: ``kill -9`` does not lose it.
  Synced to the disk it is within the sync interval.
* It never raises because of the environment.  What cannot be accepted is dropped and counted in the mapped header of
  the segment, so that even a killed process tells how much was dropped and why.
* Records of one journal are written strictly one after the other.  A call that interrupts a call of its own thread (a
  signal handler, a ``__del__``) writes to a second journal.
"""

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from struct import Struct
from threading import Lock, RLock
from typing import Final
from zlib import crc32

from runstream.filesystem import Buffer, Filesystem
from runstream_schemas.segment import (
    DROP_REASONS,
    END_OFFSET,
    FOLLOWING_OFFSET,
    HEADER_SIZE,
    LOCK_NAME,
    MAX_BODY,
    RECORD_HEADER_SIZE,
    align,
    checksum,
    drop_offset,
    pack_header,
    segment_name,
)

__all__ = ["Clock", "Journal", "JournalDirectory", "Segment"]

_pack_fields = Struct("<IQq").pack
_pack_checksum = Struct("<I").pack
_pack_count = Struct("<Q").pack
_time_ns = time.time_ns
_SMALL: Final = 4096
_FIRST_SEGMENT: Final = 256 << 10
_GROWTH: Final = 8
_ON_THE_SPOT: Final = 4 << 20
"""Largest size of a segment that a log call has to make itself."""
_PAGE: Final = 4096
_PAGES_A_TURN: Final = 64
_RETRY: Final = 1_000_000_000
"""Nanoseconds between tries to make a segment where no background thread does it."""


class Clock:
    """The last emit_ts given out, shared by the journals of a process."""

    __slots__ = ("last",)

    def __init__(self) -> None:
        self.last = 0


class Segment:
    """One segment file, mapped."""

    __slots__ = ("buffer", "capacity", "descriptor", "drops", "index")

    def __init__(self, index: int, capacity: int, descriptor: int, buffer: Buffer) -> None:
        self.index = index
        self.capacity = capacity
        self.descriptor = descriptor
        self.buffer = buffer
        self.drops = dict.fromkeys(DROP_REASONS, 0)

    def seal(self, end: int, following: int) -> None:
        """Note that nothing is written behind ``end`` any more, and where the journal goes on (0: nowhere)."""
        self.buffer[FOLLOWING_OFFSET : FOLLOWING_OFFSET + 8] = _pack_count(following)
        self.buffer[END_OFFSET : END_OFFSET + 8] = _pack_count(end)

    def count_drop(self, reason: str) -> None:
        """Count a dropped event in the header page."""
        self.drops[reason] += 1
        offset = drop_offset(reason)
        self.buffer[offset : offset + 8] = _pack_count(self.drops[reason])


class JournalDirectory:
    """A journal's place on the disk: made under a temporary name, locked, filled, then renamed."""

    def __init__(self, journals: Path, consumers: Path, filesystem: Filesystem) -> None:
        self.producer_id = os.urandom(16)
        self.name = self.producer_id.hex()
        self._journals = journals
        self._consumers = consumers
        self._filesystem = filesystem
        self._path = journals / f"{self.name}.new"
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

    def create_segment(self, index: int, capacity: int) -> Segment:
        """Make a segment file; readers see it whole or not at all.  Raises OSError."""
        final = self._path / segment_name(index)
        made = final.with_suffix(".new")
        descriptor, buffer = self._filesystem.allocate(made, capacity)
        try:
            buffer[0:HEADER_SIZE] = pack_header(self.producer_id, index, capacity, _time_ns())
            self._filesystem.rename(made, final)
        except BaseException:
            buffer.close()
            self._filesystem.close(descriptor)
            raise
        return Segment(index, capacity, descriptor, buffer)

    def remove_segment(self, index: int) -> None:
        """Remove a segment that was prepared in vain."""
        self._filesystem.remove(self._path / segment_name(index))

    def applied(self) -> int:
        """Index of the first segment that not every registered consumer has applied; 0 while none is registered."""
        return min(
            (int(text or 0) for text in self._filesystem.read_texts(self._consumers, self.name)),
            default=0,
        )

    def sync(self) -> None:
        """Wait until the directory's entries are on the disk."""
        self._filesystem.sync_directory(self._path)
        self._filesystem.sync_directory(self._journals)

    def release(self) -> None:
        """Let readers know that no writer is left."""
        self._filesystem.close(self._lock)

    def discard(self) -> None:
        """Leave nothing behind of a journal that could not be made: whoever logs tries again and again."""
        self.release()
        self._remove()

    def _remove(self) -> None:
        for name in (segment_name(0), LOCK_NAME):
            with contextlib.suppress(OSError):
                self._filesystem.remove(self._path / name)
        with contextlib.suppress(OSError):
            self._filesystem.remove_directory(self._path)


class Journal:
    """The writer of one journal.  Thread-safe; re-entrant for signal handlers."""

    def __init__(
        self,
        make_directory: Callable[[], JournalDirectory],
        filesystem: Filesystem,
        clock: Clock,
        *,
        quota: int,
        segment_size: int,
    ) -> None:
        """Make a journal.  Raises OSError if its directory or its first segment cannot be made."""
        self._filesystem = filesystem
        self._make_directory = make_directory
        self._clock = clock
        self._quota = quota
        self._largest = max(min(segment_size, quota // 4), _SMALL * 16)
        self._lock = RLock()
        self._syncing = Lock()
        self._busy = False
        self._position = 0
        self._next_seq = 0
        self._next_index = 0
        self._refused = ""
        self._refused_at = 0
        self._spare: Segment | None = None
        self._retired: list[Segment] = []
        self._sizes: dict[int, int] = {}
        self._closed = False
        self._new_entries = True
        self._synced_seq = 0
        self.kept = False
        """Whether a background thread prepares segments, so that a log call need not try again after a refusal."""
        self.dropped = dict.fromkeys(DROP_REASONS, 0)
        self.stalls = 0
        self.nested: Journal | None = None
        self.directory = make_directory()
        try:
            self._begin()
        except BaseException:
            self.directory.discard()
            raise

    def append(self, body: bytes) -> str | None:
        """Accept an event, or say why not (a reason of ``DROP_REASONS``; nothing is counted yet)."""
        with self._lock:
            if self._busy:
                return self._append_nested(body)
            self._busy = True
            try:
                start = self._position
                at = start + RECORD_HEADER_SIZE
                end = at + len(body)
                if end > self._capacity:
                    refusal = self._roll(len(body))
                    if refusal is not None:
                        return refusal
                    start = self._position
                    at = start + RECORD_HEADER_SIZE
                    end = at + len(body)
                clock = self._clock
                now = _time_ns()
                if now <= clock.last:
                    now = clock.last + 1
                clock.last = now
                seq = self._next_seq
                fields = _pack_fields(len(body), seq, now)
                buffer = self._buffer
                buffer[start + 4 : at] = fields
                self._next_seq = seq + 1
                self._position = (end + 7) & -8
                buffer[at:end] = body
                crc = crc32(fields)
                crc = crc32(body, crc) if len(body) <= _SMALL else checksum(body, crc)
                buffer[start : start + 4] = _pack_checksum(crc or 1)
                return None
            finally:
                self._busy = False

    def count_drop(self, reason: str) -> None:
        """Count an event that was not accepted, where a reader finds it even if this process is killed."""
        with self._lock:
            self.dropped[reason] += 1
            if not self._closed:
                self._current.count_drop(reason)

    @property
    def accepted(self) -> int:
        """Seqs given out so far."""
        return self._next_seq

    @property
    def synced(self) -> int:
        """Seqs below this one are on the disk."""
        return self._synced_seq

    def prepare(self) -> None:
        """Have the next segment ready; called by the background thread."""
        with self._lock:
            if self._spare is not None or self._closed:
                return
            index, capacity = self._take_index(), min(self._capacity * _GROWTH, self._largest)
        segment, refusal = self._create(index, capacity)
        with self._lock:
            self._refused = refusal
            if segment is not None and (self._closed or index < self._current.index):
                self._discard(segment)  # a log call could not wait and made a later one itself
                return
            self._spare = segment
        if segment is not None:
            self._touch_pages(segment)

    def sync(self) -> None:
        """Put what was appended so far on the disk.  Raises OSError."""
        with self._syncing:
            self._sync()

    def _sync(self) -> None:
        with self._lock:
            seq, current = self._next_seq, self._current
            retired, self._retired = self._retired, []
            new_entries, self._new_entries = self._new_entries, False
        if seq == self._synced_seq and not retired:
            return
        try:
            for segment in (*retired, current):
                self._filesystem.sync(segment.descriptor)
            if new_entries:
                self.directory.sync()
        except OSError:
            with self._lock:
                self._retired[:0] = retired
                self._new_entries |= new_entries
            raise
        for segment in retired:
            self._unmap(segment)
        self._synced_seq = seq

    def close(self) -> None:
        """Seal the journal: nothing follows, and the room that was not used is given back.  Raises OSError.

        A signal handler that interrupts a log call of its own thread closes nothing: the call writes on when the
        handler returns, and what it writes is read when the process has ended.
        """
        with self._lock:
            if self._closed or self._busy:
                return
            self._closed = True
            self._capacity = 0  # a call that comes after this finds no room, and learns why
            current, spare, self._spare = self._current, self._spare, None
            current.seal(self._position, 0)
        try:
            self.sync()
            self._filesystem.truncate(current.descriptor, self._position)
            if spare is not None:
                self._discard(spare)
        finally:
            self._unmap(current)
            self.directory.release()
        if self.nested is not None:
            self.nested.close()

    def abandon(self) -> None:
        """Let go of files and lock without a word to the disk: for a forked child, whose parent goes on writing."""
        self.directory.release()
        for segment in (self._current, self._spare, *self._retired):
            if segment is not None:
                self._filesystem.close(segment.descriptor)
        if self.nested is not None:
            self.nested.abandon()

    def _begin(self) -> None:
        first = self.directory.create_segment(self._take_index(), min(_FIRST_SEGMENT, self._largest))
        self._sizes[first.index] = first.capacity
        self._enter(first)
        try:
            self.directory.publish()
        except BaseException:
            self._unmap(first)
            raise

    def _append_nested(self, body: bytes) -> str | None:
        """This thread is in the middle of an append: the call comes from a signal handler or a destructor."""
        if self.nested is None:
            try:
                self.nested = Journal(
                    self._make_directory, self._filesystem, self._clock, quota=self._quota, segment_size=self._largest
                )
            except OSError:
                return "disk"
        return self.nested.append(body)

    def _roll(self, size: int) -> str | None:
        """Go on in the next segment, with room for a body of ``size``; or say why that cannot be."""
        if self._closed:
            return "closed"
        if size > MAX_BODY:
            return "too_large"
        needed = HEADER_SIZE + RECORD_HEADER_SIZE + align(size)
        following = self._spare
        if following is None or following.capacity < needed:
            following = self._create_on_the_spot(needed)
            if following is None:
                return self._refused
        else:
            self._spare = None
        self._current.seal(self._position, following.index)
        self._retired.append(self._current)
        self._enter(following)
        return None

    def _create_on_the_spot(self, needed: int) -> Segment | None:
        """A segment that was not ready in time: the one place where a log call touches the file system."""
        now = _time_ns()
        if self._refused and (self.kept or now - self._refused_at < _RETRY):
            return None
        self.stalls += 1
        segment, self._refused = self._create(self._take_index(), self._size_on_the_spot(needed))
        self._refused_at = now
        unfit = self._spare
        if segment is not None and unfit is not None:
            self._spare = None
            self._discard(unfit)
        return segment

    def _size_on_the_spot(self, needed: int) -> int:
        return max(needed, min(self._current.capacity * _GROWTH, _ON_THE_SPOT, self._largest))

    def _create(self, index: int, capacity: int) -> tuple[Segment | None, str]:
        """A new segment, or the reason why there is none."""
        try:
            if not self._has_room(capacity):
                return None, "quota"
            segment = self.directory.create_segment(index, capacity)
        except OSError:
            return None, "disk"
        self._sizes[index] = capacity
        self._new_entries = True
        return segment, ""

    def _has_room(self, capacity: int) -> bool:
        """Whether a segment more stays within the quota.  The disk is asked only where it does not seem so."""
        if sum(self._sizes.values()) + capacity <= self._quota:
            return True
        applied = self.directory.applied()
        self._sizes = {index: size for index, size in self._sizes.copy().items() if index >= applied}
        return sum(self._sizes.values()) + capacity <= self._quota

    def _touch_pages(self, spare: Segment) -> None:
        """Store into each page of a segment that nobody writes to yet, so that the first emit there does not fault."""
        for start in range(_PAGE, spare.capacity, _PAGE * _PAGES_A_TURN):
            with self._lock:
                if self._spare is not spare:
                    return
                for offset in range(start, min(start + _PAGE * _PAGES_A_TURN, spare.capacity), _PAGE):
                    spare.buffer[offset : offset + 1] = b"\0"
            time.sleep(0)

    def _take_index(self) -> int:
        index = self._next_index
        self._next_index = index + 1
        return index

    def _enter(self, segment: Segment) -> None:
        self._current = segment
        self._buffer = segment.buffer
        self._capacity = segment.capacity
        self._position = HEADER_SIZE

    def _discard(self, segment: Segment) -> None:
        self._unmap(segment)
        self._sizes.pop(segment.index, None)
        with contextlib.suppress(OSError):
            self.directory.remove_segment(segment.index)

    def _unmap(self, segment: Segment) -> None:
        segment.buffer.close()
        self._filesystem.close(segment.descriptor)
