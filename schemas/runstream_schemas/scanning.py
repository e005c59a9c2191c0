"""Reading the records of a segment: what is whole, what was abandoned, what is damaged, and what may still be finished.

The bytes come through a function ``read(size, offset)``, as from ``pread``; they may change while they are read, as
long as the segment's writer lives.  Two rules follow:

* Nothing behind a record proves that it is finished unless the record is read *after* what lies behind it was seen:
  one read of both may have copied the record before it was finished, and what lies behind afterwards.  So before a
  record is passed over in a living segment, it is read a second time.
* A record at the end that is not finished is waited for.

Memory is bounded by the caller's window and, for one large record, by a small multiple of ``MAX_BODY``, whatever the
segment holds.
"""

import re
import struct
from collections.abc import Callable
from enum import Enum
from typing import Final, NamedTuple
from zlib import crc32

from runstream_schemas.segment import MAX_BODY, MAX_SEQ, RECORD_HEADER_SIZE, Hole, Record, align

__all__ = ["Extent", "Read", "Scan", "scan"]

Read = Callable[[int, int], bytes]
"""``read(size, offset)``: at most ``size`` bytes of a segment from ``offset`` on; fewer only where it ends."""

_RECORD = struct.Struct("<IIQq")
_RAW_LIMIT: Final = 1 << 20
"""Most bytes of damage that a hole carries."""
_SEARCH_WINDOW: Final = 1 << 20
_LARGEST: Final = align(RECORD_HEADER_SIZE + MAX_BODY)
_SEQ_WINDOW: Final = 1 << 32
_PLAUSIBLE_TIMES: Final = range(1 << 59, 1 << 62)
_not_zero = re.compile(rb"[^\0]").search


class Extent(NamedTuple):
    """How far a segment goes."""

    stop: int
    """Offset behind the last byte that may be read."""
    end: int
    """Offset behind the last record, as the writer left it; 0 where it did not say."""
    final: bool
    """Nothing is written any more."""


class Scan(NamedTuple):
    """What one look brought."""

    records: list[Record]
    holes: list[Hole]
    offset: int
    """Behind what was read."""
    next_seq: int
    """The seq that comes next; -1 where that is not known."""
    ended: bool = False
    """The segment is final, and nothing is left in it."""
    late: bool = False
    """The next record was emitted after ``until``."""


class _State(Enum):
    EMPTY = "nothing was written here"
    SHORT = "the buffer ends here"
    UNFINISHED = "begun, and without its commit mark"
    CUT = "committed, and reaching beyond the buffer"
    DAMAGED = "committed, and its bytes are wrong"
    WHOLE = "committed, and its checksum is right"


class _Head(NamedTuple):
    state: _State
    seq: int
    behind: int
    """Where the next record begins."""


def scan(
    read: Read,
    start: int,
    next_seq: int,
    extent: Extent,
    window: int,
    until: int | None = None,
    seed: int = 0,
) -> Scan:
    """Read records from ``start``, a record's boundary: those that begin in about ``window`` bytes, at least one.

    A look that brings neither records nor holes may still move on, or say that the segment has ended.  With ``until``
    (nanoseconds since the epoch) it stops before the first record that was emitted later.  ``seed`` is the journal's
    `record_seed`.
    """
    while True:
        buffer = read(max(min(window, extent.stop - start), 0), start)
        found = _whole_records(buffer, start, next_seq, until, seed)
        if found.records or found.late:
            return found
        whole = start + len(buffer) >= extent.stop or len(buffer) < window
        window = 0 if whole else _needed(buffer, next_seq, seed)
        if not window:
            return _Trouble(read, start, next_seq, extent, until, seed).resolve(buffer)


def _whole_records(buffer: bytes, start: int, next_seq: int, until: int | None, seed: int) -> Scan:
    """The records at the beginning of a buffer, up to the first that is not whole."""
    records: list[Record] = []
    holes: list[Hole] = []
    at, size = 0, len(buffer)
    stop = size - RECORD_HEADER_SIZE
    take, unpack = records.append, _RECORD.unpack_from
    while at <= stop:
        stored, length, seq, emit_ts = unpack(buffer, at)
        body = at + RECORD_HEADER_SIZE
        end = body + length
        if not stored or not 0 < length <= MAX_BODY or not next_seq <= seq <= MAX_SEQ or end > size:
            break
        if stored != (crc32(buffer[at + 4 : end], seed) or 1):  # of a copy: that takes less time than a view
            break
        if until is not None and emit_ts > until:
            return Scan(records, holes, start + at, next_seq, late=True)
        if seq != next_seq and next_seq >= 0:
            holes.append(Hole(next_seq, seq - 1, "torn"))
        take((seq, emit_ts, buffer[body:end]))
        next_seq = seq + 1
        at = (end + 7) & -8
    return Scan(records, holes, start + at, next_seq)


def _look(buffer: bytes, at: int, next_seq: int, seed: int) -> _Head:
    """What lies at ``at``."""
    if at + RECORD_HEADER_SIZE > len(buffer):
        return _Head(_State.SHORT, 0, at + RECORD_HEADER_SIZE)
    stored, length, seq, _ = _RECORD.unpack_from(buffer, at)
    if length == 0:
        return _Head(_State.EMPTY, seq, at)
    end = at + RECORD_HEADER_SIZE + length
    behind = align(end)
    if stored == 0 and length <= MAX_BODY:  # even with a wrong seq: a kill may come between the two
        return _Head(_State.UNFINISHED, seq, behind)
    if length > MAX_BODY or not next_seq <= seq <= MAX_SEQ:
        return _Head(_State.DAMAGED, seq, behind)
    if end > len(buffer):
        return _Head(_State.CUT, seq, behind)
    whole = stored == (crc32(memoryview(buffer)[at + 4 : end], seed) or 1)
    return _Head(_State.WHOLE if whole else _State.DAMAGED, seq, behind)


def _needed(buffer: bytes, next_seq: int, seed: int) -> int:
    """Bytes that are needed to judge the first record, if the buffer has fewer; else 0."""
    head = _look(buffer, 0, next_seq, seed)
    if head.state is _State.UNFINISHED:
        head = _look(buffer, head.behind, next_seq, seed)
    return head.behind + RECORD_HEADER_SIZE if head.state in {_State.SHORT, _State.CUT} else 0


class _Found(NamedTuple):
    at: int
    """Where the record lies; where there is none, how far was looked."""
    seq: int
    """-1 where there is none."""


def _find(buffer: bytes, at: int, next_seq: int, seed: int, *, whole: bool) -> _Found:
    """The first whole and plausible record from ``at`` on.

    A record that reaches beyond a buffer that is not ``whole`` ends the look, so that it can be judged in a larger one.
    """
    least = max(next_seq, 0)
    while at + RECORD_HEADER_SIZE <= len(buffer):
        stored, length, seq, emit_ts = _RECORD.unpack_from(buffer, at)
        if stored == length == seq == 0:
            something = _not_zero(buffer, at)
            at = something.start() & -8 if something else max(len(buffer) & -8, at + 8)
            continue
        if 0 < length <= MAX_BODY and least <= seq < least + _SEQ_WINDOW and emit_ts in _PLAUSIBLE_TIMES:
            state = _look(buffer, at, next_seq, seed).state
            if state is _State.WHOLE:
                return _Found(at, seq)
            if state is _State.CUT and not whole:
                break
        at += 8
    return _Found(at, -1)


class _Trouble:
    """What to do about a first record that is not whole."""

    def __init__(self, read: Read, start: int, next_seq: int, extent: Extent, until: int | None, seed: int) -> None:
        self._read = read
        self._start = start
        self._next_seq = next_seq
        self._extent = extent
        self._until = until
        self._seed = seed

    def resolve(self, buffer: bytes) -> Scan:
        """Pass it over, or give it up, or wait.  The buffer has all bytes that a judgement needs."""
        head = _look(buffer, 0, self._next_seq, self._seed)
        state = head.state
        if state is _State.UNFINISHED:
            following = _look(buffer, head.behind, self._next_seq, self._seed)
            if following.state in {_State.WHOLE, _State.UNFINISHED} and following.seq == head.seq + 1:
                return self._abandon(head, following, len(buffer))
            state = following.state  # something else there: the length is damaged, or what lies behind
        if self._extent.final:
            return self._give_up(head, buffer)
        if state in {_State.EMPTY, _State.SHORT, _State.CUT}:
            return Scan([], [], self._start, self._next_seq)  # wait
        return self._pass_damage(head, buffer)

    def _abandon(self, head: _Head, following: _Head, size: int) -> Scan:
        """Its successor lies behind an unfinished record: it will never be finished, or it was while we read."""
        if not self._extent.final:
            again = self._read_again(size)
            if again.records or again.late:
                return again
        behind = self._start + head.behind
        if following.state is _State.WHOLE:  # a checksum says so: the seq is right
            torn = [Hole(self._next_seq, head.seq - 1, "torn")] if 0 <= self._next_seq < head.seq else []
            return Scan([], [*torn, Hole(head.seq, head.seq, "abandoned")], behind, following.seq)
        return Scan([], self._abandoned(head), behind, self._after(head))

    def _abandoned(self, head: _Head) -> list[Hole]:
        """The hole of an unfinished record.  Its seq is not protected: only the expected one is believed."""
        seq = self._next_seq
        return [Hole(seq, seq, "abandoned")] if head.state is _State.UNFINISHED and head.seq == seq else []

    def _after(self, head: _Head) -> int:
        return self._next_seq + len(self._abandoned(head))

    def _pass_damage(self, head: _Head, buffer: bytes) -> Scan:
        """Damage in a living journal is passed over once there is a whole record behind it, not too far away."""
        seen = _find(buffer, 8, self._next_seq, self._seed, whole=True)
        if seen.seq >= 0:
            again = self._read_again(len(buffer))
            if again.records or again.late:
                return again
            buffer = self._read(len(buffer), self._start)
            found = _find(buffer, 8, self._next_seq, self._seed, whole=True)
            if 0 <= found.seq <= seen.seq:
                at = self._start + found.at
                return self._gap(head, at, found.seq, "corrupt", buffer)
        return Scan([], [], self._start, self._next_seq)

    def _give_up(self, head: _Head, buffer: bytes) -> Scan:
        """Nothing will be written any more: go on at the next whole record, wherever it is, or end."""
        damaged = head.state in {_State.CUT, _State.DAMAGED}
        reason = "corrupt" if damaged else "torn"
        at, seq = self._search()
        if seq >= 0:
            return self._gap(head, at, seq, reason, buffer if damaged else b"")
        if head.state is _State.UNFINISHED:
            behind = min(self._start + head.behind, self._extent.stop)
            return Scan([], self._abandoned(head), behind, self._after(head))
        if damaged or self._start < self._extent.end:
            return self._lose_the_rest(reason, buffer if damaged else b"")
        return Scan([], [], self._start, self._next_seq, ended=True)

    def _search(self) -> _Found:
        """The next whole record of the segment, at its offset there."""
        offset, window = self._start + 8, _SEARCH_WINDOW
        while True:
            size = max(min(window, self._extent.stop - offset), 0)
            buffer = self._read(size, offset)
            whole = offset + len(buffer) >= self._extent.stop or len(buffer) < size
            at, seq = _find(buffer, 0, self._next_seq, self._seed, whole=whole)
            if seq >= 0 or whole:
                return _Found(offset + at, seq)
            window = _SEARCH_WINDOW if at else min(window * 4, _LARGEST)
            offset += at

    def _gap(self, head: _Head, at: int, seq: int, reason: str, damage: bytes) -> Scan:
        """Go on at a whole record; what is missing before it is a hole."""
        holes = self._abandoned(head) if seq > head.seq else []
        next_seq = self._next_seq + len(holes)
        if 0 <= next_seq < seq:
            raw = damage[: min(at - self._start, _RAW_LIMIT)]
            holes = [*holes, Hole(next_seq, seq - 1, reason, raw)]
        return Scan([], holes, at, seq)

    def _lose_the_rest(self, reason: str, damage: bytes) -> Scan:
        """At least one record is lost; how many shows in the next segment."""
        seq = self._next_seq
        holes = [Hole(seq, seq, reason, damage[:_RAW_LIMIT])] if seq >= 0 else []
        stop = max(self._extent.stop, self._start)
        return Scan([], holes, stop, seq + len(holes), ended=True)

    def _read_again(self, size: int) -> Scan:
        buffer = self._read(size, self._start)
        return _whole_records(buffer, self._start, self._next_seq, self._until, self._seed)
