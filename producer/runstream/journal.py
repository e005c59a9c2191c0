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
import time
from collections.abc import Callable
from math import inf
from struct import Struct
from threading import RLock
from typing import Final
from zlib import crc32

from runstream.filesystem import Filesystem
from runstream.journal_directory import JournalDirectory, Segment
from runstream.pages import fitting_size, is_much, sync_in_use
from runstream_schemas.segment import (
    DROP_REASONS,
    HEADER_SIZE,
    MAX_BODY,
    RECORD_HEADER_SIZE,
    align,
    checksum,
    record_seed,
)

__all__ = ["Clock", "Journal"]

_pack_fields = Struct("<IQq").pack
_pack_checksum = Struct("<I").pack
_time_ns = time.time_ns
_SMALL: Final = 4096
_FIRST_SEGMENT: Final = 256 << 10
_GROWTH: Final = 8
_ON_THE_SPOT: Final = 4 << 20
"""Largest size of a segment that a log call has to make itself."""
_RETRY: Final = 1_000_000_000
"""Nanoseconds between tries to make a segment where no background thread does it."""


class Clock:
    """The last emit_ts given out, shared by the journals of a process."""

    __slots__ = ("last",)

    def __init__(self) -> None:
        self.last = 0


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
        # At most 30 attributes: CPython keeps more than that in a slower dict, which each log call pays for.
        self._filesystem = filesystem
        self._make_directory = make_directory
        self._clock = clock
        self._quota = quota
        self._largest = max(min(segment_size, quota // 4, MAX_BODY), _SMALL * 16)
        self._lock = RLock()
        self._syncing = RLock()
        self._busy = False
        self._next_seq = 0
        self._refused, self._refused_at = "", 0
        self._spare: Segment | None = None
        self._closed = False
        self._finished = False
        self._new_entries = True
        self._synced_seq = 0
        self.kept = False
        """Whether a background thread prepares segments, so that a log call need not try again after a refusal."""
        self.dropped = dict.fromkeys(DROP_REASONS, 0)
        self.stalls = 0
        self.nested: Journal | None = None
        self.directory = make_directory()
        self._seed = record_seed(self.directory.producer_id)
        try:
            first = self._begin()
        except BaseException:
            self.directory.discard()
            raise
        self._current = first
        self._oldest = first
        """The oldest segment that is not yet synced and unmapped; the others follow it."""
        self._buffer, self._capacity, self._position = first.buffer, first.capacity, HEADER_SIZE

    def append(self, body: bytes, now: int = 0) -> str | None:
        """Accept an event, or say why not (a reason of ``DROP_REASONS``; nothing is counted yet).

        ``now`` is the time, nanoseconds since the epoch, if the caller has just looked at the clock.
        """
        with self._lock:
            if self._busy:
                return self._append_nested(body)
            self._busy = True
            try:
                size = len(body)
                start = self._position
                at = start + RECORD_HEADER_SIZE
                end = at + size
                if end > self._capacity:
                    refusal = self._roll(size)
                    if refusal is not None:
                        return refusal
                    start = self._position
                    at = start + RECORD_HEADER_SIZE
                    end = at + size
                clock = self._clock
                if now <= clock.last:
                    now = _time_ns()
                    if now <= clock.last:
                        now = clock.last + 1
                clock.last = now
                seq = self._next_seq
                fields = _pack_fields(size, seq, now)
                buffer = self._buffer
                buffer[start + 4 : at] = fields
                self._next_seq = seq + 1
                self._position = (end + 7) & -8
                buffer[at:end] = body
                crc = crc32(fields, self._seed)
                crc = crc32(body, crc) if size <= _SMALL else checksum(body, crc)
                buffer[start : start + 4] = _pack_checksum(crc or 1)
                return None
            finally:
                self._busy = False

    def append_located(self, body: bytes) -> tuple[str | None, tuple[str, int, int]]:
        """`append`, and the producer_id (hexadecimal), seq and emit_ts that an event was given if it was accepted."""
        with self._lock:
            refusal, journal = self.append(body), (self.nested if self._busy else None) or self
            return refusal, (journal.directory.producer_id.hex(), journal.accepted - 1, self._clock.last)

    def count_drop(self, reason: str, count: int = 1) -> bool:
        """Count events that were not accepted, where readers find it even if this process dies; False once closed."""
        with self._lock:
            if not self._closed:
                self.dropped[reason] += count
                self._current.count_drop(reason, count)
            return not self._closed

    @property
    def accepted(self) -> int:
        """Seqs given out so far."""
        return self._next_seq

    @property
    def synced(self) -> int:
        """Seqs below this one are on the disk."""
        return self._synced_seq

    @property
    def interrupted(self) -> bool:
        """Whether this very thread is in the middle of an append: the question comes from a signal handler."""
        with self._lock:
            return self._busy

    def prepare(self) -> bool:
        """Have the next segment ready; called by the background thread.  Whether it made one."""
        with self._lock:
            if self._spare is not None or self._closed:
                self._refused = ""
                return False
            fitting = max(fitting_size(*self._current.pace), self._capacity // 2)
            capacity = min(self._capacity * _GROWTH, fitting, self._largest)
        if is_much(*self._current.pace):
            self._filesystem.load_advice()
        segment, refusal = self._create(capacity)
        with self._lock:
            self._refused = refusal
        if segment is not None:
            self._offer(segment)
        return segment is not None

    def _offer(self, segment: Segment) -> None:
        """Let log calls go on in a segment, behind those that they could not wait for and made themselves meanwhile."""
        with contextlib.suppress(OSError):
            while True:
                with self._lock:
                    if self._closed:
                        break
                    if segment.index > self._current.index:
                        self._spare = segment
                        return
                self.directory.renumber_segment(segment)
        self.directory.discard_segment(segment)

    def lasts(self) -> float:
        """Seconds for which the next segment will do, at the pace of the last one."""
        size, nanoseconds = self._current.pace
        return self._largest * nanoseconds / 1e9 / size if size else inf

    def sync(self, between: Callable[[], object] = lambda: None) -> None:
        """Put what was appended so far on the disk, and let go of the segments that are full.  Raises OSError.

        ``between`` is called behind each full one: of very many, they take longer than the next segment lasts.
        """
        with self._lock:  # not while syncing: log calls would wait for the disk, and a signal handler for ever
            within = self._busy  # a signal handler in a log call: the event in the making may be the last, or the next
            seq, current = self._next_seq - within, self._current
        while self._finish_before(current):
            between()  # no lock is held: it may want that of the log calls, one of which may wait for this sync
        self._sync_to(seq, current, always=within)

    def _sync_to(self, seq: int, current: Segment, *, always: bool = False) -> None:
        with self._syncing:
            if self._finished or (seq <= self._synced_seq and not always):
                return
            self._sync_entries()
            if current.index >= self._oldest.index:  # else somebody has synced it meanwhile
                sync_in_use(self._filesystem, current, self._position)
            self._synced_seq = max(seq, self._synced_seq)

    def _sync_entries(self) -> None:
        new_entries, self._new_entries = self._new_entries, False
        try:
            if new_entries:
                self.directory.sync()
        except OSError:
            self._new_entries |= new_entries
            raise

    def _finish_before(self, current: Segment) -> bool:
        """Sync the oldest segment, which nobody writes to any more, and let go of it; False if that is ``current``."""
        with self._syncing:
            oldest, following = self._oldest, self._oldest.following
            if self._finished or oldest is current or following is None:
                return False
            if not oldest.sealed:  # an exception came between leaving it and sealing it
                oldest.seal()
            oldest.buffer.close()  # before the sync, which would take its pages out of the mapping one by one
            self._filesystem.sync(oldest.descriptor)
            if self._oldest is oldest:
                self._oldest = following
                self._filesystem.close(oldest.descriptor)
            return True

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
            current.end = self._position
            current.seal()
        try:
            self._finish(current)
        finally:
            if spare is not None:
                self.directory.discard_segment(spare)
            self.directory.release()
            if self.nested is not None:
                self.nested.close()

    def abandon(self) -> None:
        """Let go of files and lock without a word to the disk: for a forked child, whose parent goes on writing."""
        with contextlib.suppress(OSError):
            self.directory.release()
        segment: Segment | None = self._oldest
        held = [] if self._spare is None else [self._spare]
        while segment is not None:
            held.append(segment)
            segment = segment.following
        for one in held:
            with contextlib.suppress(OSError):
                self._filesystem.close(one.descriptor)
        if self.nested is not None:
            self.nested.abandon()

    def _begin(self) -> Segment:
        first = self.directory.create_segment(min(_FIRST_SEGMENT, self._largest))
        try:
            self.directory.publish()
        except BaseException:
            self.directory.let_go(first)
            raise
        return first

    def _finish(self, current: Segment) -> None:
        """Put everything on the disk for the last time."""
        with self._syncing:
            try:
                while self._finish_before(current):
                    pass
                self._sync_to(self._next_seq, current)
                self._filesystem.sync(current.descriptor)  # the seal, in any case
                self._filesystem.truncate(current.descriptor, current.end)
            finally:
                self._finished = True
                self._let_go_before(current)
                self.directory.let_go(current)

    def _let_go_before(self, current: Segment) -> None:
        """Let go of the segments that could not be synced; there are none where all is well."""
        while self._oldest is not current and self._oldest.following is not None:
            oldest, self._oldest = self._oldest, self._oldest.following
            with contextlib.suppress(OSError):
                self.directory.let_go(oldest)

    def _append_nested(self, body: bytes) -> str | None:
        """This thread is in the middle of an append: the call comes from a signal handler or a destructor."""
        if self.nested is None:
            try:
                made = Journal(
                    self._make_directory, self._filesystem, self._clock, quota=self._quota, segment_size=self._largest
                )
            except OSError:
                return "disk"
            if self.nested is None:
                self.nested = made
            else:  # another signal came while this one was being made
                made.close()
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
        left = self._current
        self._enter(following)
        left.seal()
        return None

    def _create_on_the_spot(self, needed: int) -> Segment | None:
        """A segment that was not ready in time: the one place where a log call touches the file system."""
        now = _time_ns()
        if self._refused and (self.kept or now - self._refused_at < _RETRY):
            return None
        self.stalls += 1
        segment, self._refused = self._create(max(needed, min(self._capacity * _GROWTH, _ON_THE_SPOT, self._largest)))
        self._refused_at = now
        unfit = self._spare
        if segment is not None and unfit is not None:
            self._spare = None
            self.directory.discard_segment(unfit)
        return segment

    def _create(self, capacity: int) -> tuple[Segment | None, str]:
        """A new segment, or the reason why there is none."""
        try:
            if not self.directory.has_room(capacity, self._quota):
                return None, "quota"
            segment = self.directory.create_segment(capacity, filled=is_much(*self._current.pace))
        except OSError:
            return None, "disk"
        return segment, ""

    def _enter(self, segment: Segment) -> None:
        """Go on in a segment.  There is no call in here, so that no signal can part what belongs together."""
        segment.pace = self._capacity, self._clock.last - self._current.entered
        segment.entered = self._clock.last
        self._current.end = self._position
        self._current.following = segment
        self._current = segment
        self._new_entries = True
        self._buffer = segment.buffer
        self._capacity = segment.capacity
        self._position = HEADER_SIZE
        if self._spare is segment:
            self._spare = None
