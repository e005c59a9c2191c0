"""The journal segment: the format in which a process writes its events down.

A journal is a directory named by its ``producer_id`` (32 hex digits) holding a file ``lock``, on which the living
writer holds an exclusive flock, and segments ``0000000000.seg``, ``0000000001.seg`` and so on.  A segment is a
preallocated file: one header page of 4096 bytes, then records, then zeros.  All integers are little-endian.

Header page::

    offset size
         0    8  magic b"RUNSTRM1"
         8    4  CRC-32 of bytes 12 to 56
        12    4  format version, 1
        16   16  producer_id
        32    8  segment index, from 0
        40    8  capacity: the file's size when it was made
        48    8  creation time, nanoseconds since the epoch
        64    8  end: offset behind the last record, written when the writer leaves this segment; 0 before
        72    8  index of the segment that follows, written before ``end``; 0 where the journal was closed in this one
        80   8n  events dropped while this was the current segment, by reason, in the order of ``DROP_REASONS``

Record, at a multiple of 8 bytes::

    offset size
         0    4  CRC-32 of bytes 4 to 24 + length (stored as 1 where it is 0)
         4    4  length of the body; never 0
         8    8  seq, from 0 in the journal's first record, one more for each log call; below 2**62
        16    8  emit_ts, nanoseconds since the epoch; strictly increasing
        24    n  body: one event

The writer stores bytes 4 to 24, then the body, then the checksum: the checksum is the commit mark.  A record whose
checksum is 0 is unfinished.  Records are written one after the other, so an unfinished one with anything behind it,
or in a journal without a living writer, is *abandoned*: its call never returned.  A seq that is missing between two
records of one segment was abandoned before its header was written.  A record whose checksum is neither 0 nor right
is corrupt.

The next segment is prepared in advance: that its file exists says nothing, and one that was prepared in vain is
removed, so indices may have gaps.  The writer has moved on when ``end`` is set.  If it died before, its records go on
in a segment with a greater index, if one has any.
"""

import struct
from enum import Enum
from typing import Final, NamedTuple
from zlib import crc32

from runstream_schemas.errors import CorruptDataError, UnsupportedFormatError

__all__ = [
    "DROP_REASONS",
    "END_OFFSET",
    "FOLLOWING_OFFSET",
    "HEADER_SIZE",
    "LOCK_NAME",
    "MAX_BODY",
    "MAX_SEQ",
    "RECORD_HEADER_SIZE",
    "Hole",
    "Record",
    "Scan",
    "SegmentHeader",
    "align",
    "checksum",
    "drop_offset",
    "is_segment_name",
    "pack_header",
    "pack_record",
    "scan",
    "segment_name",
    "unpack_header",
]

MAGIC: Final = b"RUNSTRM1"
FORMAT_VERSION: Final = 1
HEADER_SIZE: Final = 4096
RECORD_HEADER_SIZE: Final = 24
MAX_BODY: Final = 64 << 20
"""Largest body of one record, bytes."""
MAX_SEQ: Final = (1 << 62) - 1
LOCK_NAME: Final = "lock"
DROP_REASONS: Final = ("quota", "disk", "too_large", "unencodable")

_CHECKED = struct.Struct("<I16sQQq")
_STATE = struct.Struct("<QQ4Q")
END_OFFSET: Final = 64
FOLLOWING_OFFSET: Final = 72
_DROPS_OFFSET: Final = 80
_RECORD = struct.Struct("<IIQq")
_CRC_CHUNK: Final = 4096
_RAW_LIMIT: Final = 1 << 20
_SEQ_WINDOW: Final = 1 << 32
_PLAUSIBLE_TIMES: Final = range(1 << 59, 1 << 62)


class SegmentHeader(NamedTuple):
    """The header page of a segment, decoded."""

    producer_id: bytes
    index: int
    capacity: int
    created: int
    end: int
    following: int
    drops: tuple[int, ...]


class Record(NamedTuple):
    """One event read back, in its envelope."""

    seq: int
    emit_ts: int
    body: bytes


class Hole(NamedTuple):
    """Seqs ``first`` to ``last`` (both included) that hold no event."""

    first: int
    last: int
    reason: str
    """``abandoned``: the calls never returned.  ``corrupt``: damaged bytes.  ``torn``: bytes never reached the disk."""
    raw: bytes = b""
    """The damaged bytes, if there are any."""


class Scan(NamedTuple):
    """What `scan` found."""

    records: list[Record]
    holes: list[Hole]
    consumed: int
    """Bytes of the buffer that need not be read again."""
    needed: int
    """Bytes of buffer that a judgement on the next record needs; 0 where more bytes would not help."""


def segment_name(index: int) -> str:
    """File name of the segment with that index."""
    return f"{index:010d}.seg"


def is_segment_name(name: str) -> bool:
    """Whether it is the file name of a segment."""
    return len(name) == 14 and name.endswith(".seg") and name[:10].isdecimal() and name.isascii()


def align(offset: int) -> int:
    """The next multiple of 8."""
    return (offset + 7) & -8


def drop_offset(reason: str) -> int:
    """Offset in the header page of the counter (8 bytes) for a reason of `DROP_REASONS`."""
    return _DROPS_OFFSET + 8 * DROP_REASONS.index(reason)


def pack_header(producer_id: bytes, index: int, capacity: int, created: int) -> bytes:
    """The first 4096 bytes of a new segment."""
    checked = _CHECKED.pack(FORMAT_VERSION, producer_id, index, capacity, created)
    return (MAGIC + struct.pack("<I", crc32(checked)) + checked).ljust(HEADER_SIZE, b"\0")


def unpack_header(page: bytes) -> SegmentHeader:
    """Decode a header page.  Raises `CorruptDataError` or `UnsupportedFormatError`."""
    if len(page) < HEADER_SIZE or page[:8] != MAGIC:
        raise CorruptDataError("not a journal segment: the magic bytes are missing")
    checked = page[12 : 12 + _CHECKED.size]
    if struct.unpack_from("<I", page, 8)[0] != crc32(checked):
        raise CorruptDataError("the segment header's checksum is wrong")
    version, producer_id, index, capacity, created = _CHECKED.unpack(checked)
    if version != FORMAT_VERSION:
        raise UnsupportedFormatError(
            f"segment format {version}; this version reads {FORMAT_VERSION}: upgrade runstream"
        )
    end, following, *drops = _STATE.unpack_from(page, END_OFFSET)
    return SegmentHeader(producer_id, index, capacity, created, end, following, tuple(drops))


def pack_record(seq: int, emit_ts: int, body: bytes) -> bytes:
    """One whole record, padded to 8 bytes; the writer stores the same bytes in three steps."""
    fields = struct.pack("<IQq", len(body), seq, emit_ts)
    stored = checksum(body, crc32(fields)) or 1
    return (struct.pack("<I", stored) + fields + body).ljust(align(RECORD_HEADER_SIZE + len(body)), b"\0")


def checksum(data: bytes | memoryview, value: int = 0) -> int:
    """CRC-32 in steps small enough that zlib never gives the interpreter lock away."""
    if len(data) <= _CRC_CHUNK:
        return crc32(data, value)
    view = memoryview(data)
    for start in range(0, len(view), _CRC_CHUNK):
        value = crc32(view[start : start + _CRC_CHUNK], value)
    return value


def scan(buffer: bytes, expected_seq: int | None, *, final: bool) -> Scan:
    """Read records from ``buffer``, which begins at a record boundary.

    ``expected_seq`` is the seq that the first record should have; None where that is not known, as behind a segment
    that was removed.  ``final`` says that nothing will be written any more and that the buffer holds all there is:
    what is unfinished is then given up, and what lies behind damage is searched for.
    """
    records: list[Record] = []
    holes: list[Hole] = []
    offset = 0
    reason, raw = "abandoned", b""
    while True:
        before = offset
        offset, expected_seq = _scan_plain(buffer, offset, expected_seq, records)
        if offset > before:
            reason, raw = "abandoned", b""
        head = _look(buffer, offset, expected_seq)
        if head.state is _State.WHOLE:
            if expected_seq is not None and head.seq > expected_seq:
                holes.append(Hole(expected_seq, head.seq - 1, reason, raw))
            reason, raw = "abandoned", b""
            records.append(Record(head.seq, head.emit_ts, buffer[offset + RECORD_HEADER_SIZE : head.end]))
            offset, expected_seq = align(head.end), head.seq + 1
        elif head.state is _State.UNFINISHED and _begun(buffer, align(head.end)):
            offset = align(head.end)  # its seq becomes part of the hole in front of the next record
        elif not final and head.state is not _State.DAMAGED:
            needed = 0 if head.state is _State.EMPTY else align(head.end) + RECORD_HEADER_SIZE - offset
            return Scan(records, holes, offset, needed)
        else:
            found = _resync(buffer, offset, expected_seq)
            if found is None:
                if final and head.state in _COMMITTED and expected_seq is not None:
                    holes.append(Hole(expected_seq, expected_seq, "corrupt", buffer[offset : offset + _RAW_LIMIT]))
                return Scan(records, holes, len(buffer) if final else offset, 0)
            reason = _REASONS[head.state]
            raw = buffer[offset : min(found, offset + _RAW_LIMIT)] if reason == "corrupt" else b""
            offset = found


def _scan_plain(buffer: bytes, offset: int, expected_seq: int | None, records: list[Record]) -> tuple[int, int | None]:
    """Take records as long as each is whole, small and the expected one: nearly all are, and this is the fast way."""
    view = memoryview(buffer)
    last = len(buffer) - RECORD_HEADER_SIZE
    unpack, take = _RECORD.unpack_from, records.append
    while offset < last:
        stored, length, seq, emit_ts = unpack(buffer, offset)
        at = offset + RECORD_HEADER_SIZE
        end = at + length
        if seq != expected_seq or not 0 < length <= _CRC_CHUNK or end > len(view) or not stored:
            break
        if stored != (crc32(view[offset + 4 : end]) or 1):
            break
        take(Record(seq, emit_ts, buffer[at:end]))
        offset, expected_seq = (end + 7) & -8, seq + 1
    return offset, expected_seq


class _State(Enum):
    EMPTY = "nothing was written here"
    UNFINISHED = "begun, and without its commit mark"
    CUT = "committed, and reaching beyond the buffer"
    DAMAGED = "committed, and its bytes are wrong"
    WHOLE = "committed, and its checksum is right"


_COMMITTED: Final = (_State.CUT, _State.DAMAGED)
_REASONS: Final = {
    _State.EMPTY: "torn",
    _State.UNFINISHED: "abandoned",
    _State.CUT: "corrupt",
    _State.DAMAGED: "corrupt",
}
"""Why seqs are missing behind something that is given up."""


class _Head(NamedTuple):
    state: _State
    seq: int = 0
    emit_ts: int = 0
    end: int = 0


def _look(buffer: bytes, offset: int, expected_seq: int | None) -> _Head:
    """What lies at ``offset``."""
    if offset + RECORD_HEADER_SIZE > len(buffer):
        return _Head(_State.EMPTY)
    stored, length, seq, emit_ts = _RECORD.unpack_from(buffer, offset)
    if length == 0:
        return _Head(_State.EMPTY)
    end = offset + RECORD_HEADER_SIZE + length
    if length > MAX_BODY or seq > MAX_SEQ:
        return _Head(_State.DAMAGED, seq, emit_ts, offset)
    if stored == 0:
        return _Head(_State.UNFINISHED, seq, emit_ts, end)
    if end > len(buffer):
        return _Head(_State.CUT, seq, emit_ts, end)
    whole = stored == (checksum(memoryview(buffer)[offset + 4 : end]) or 1)
    if not whole or (expected_seq is not None and seq < expected_seq):
        return _Head(_State.DAMAGED, seq, emit_ts, end)
    return _Head(_State.WHOLE, seq, emit_ts, end)


def _begun(buffer: bytes, offset: int) -> bool:
    """Whether a record was begun at ``offset``."""
    if offset + RECORD_HEADER_SIZE > len(buffer):
        return False
    length: int = _RECORD.unpack_from(buffer, offset)[1]
    return length != 0


def _resync(buffer: bytes, offset: int, expected_seq: int | None) -> int | None:
    """Offset of the first whole and plausible record behind ``offset``, or None."""
    least = expected_seq or 0
    offset += 8
    while offset + RECORD_HEADER_SIZE <= len(buffer):
        stored, length, seq, emit_ts = _RECORD.unpack_from(buffer, offset)
        if stored == 0 and length == 0 and seq == 0:
            rest = buffer[offset:]
            offset += (len(rest) - len(rest.lstrip(b"\0"))) & -8 or 8
            continue
        plausible = 0 < length <= MAX_BODY and least <= seq < least + _SEQ_WINDOW and emit_ts in _PLAUSIBLE_TIMES
        if plausible and _look(buffer, offset, expected_seq).state is _State.WHOLE:
            return offset
        offset += 8
    return None
