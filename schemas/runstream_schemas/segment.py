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
        56    4  seal: CRC-32 of bytes 64 to 80 (stored as 1 where it is 0); 0 until the writer leaves this segment
        60    4  zeros
        64    8  end: offset behind the last record, written before the seal
        72    8  index of the segment that follows, written before the seal; 0 where the journal was closed in this one
        80   8n  events dropped while this was the current segment, by reason, in the order of ``DROP_REASONS``

Record, at a multiple of 8 bytes::

    offset size
         0    4  CRC-32 of the producer_id and of bytes 4 to 24 + length (stored as 1 where it is 0)
         4    4  length of the body; never 0
         8    8  seq, from 0 in the journal's first record, one more for each log call; below 2**62
        16    8  emit_ts, nanoseconds since the epoch; strictly increasing
        24    n  body: one event

The writer stores bytes 4 to 24, then the body, then the checksum: the checksum is the commit mark.  A record whose
checksum is 0 is unfinished.  Records are written one after the other, so an unfinished one with anything behind it,
or in a journal without a living writer, is *abandoned*: its call never returned.  A record whose checksum is neither 0
nor right is *corrupt*.  No seq is left out, so what is missing, before ``end`` or between two records, never reached
the disk: it is *torn*.

The next segment is prepared in advance: that its file exists says nothing, and one that was prepared in vain is
removed, so indices may have gaps.  The writer has moved on when the seal is right; a seal that is neither 0 nor right
is being written, or damaged, and then says nothing.  If the writer died before, its records go on in a segment with a
greater index, if one has any.  Records do not need the header: damage there hides the seal and the counters only.
"""

import struct
from typing import Final, NamedTuple
from zlib import crc32

from runstream_schemas.errors import CorruptDataError, UnsupportedFormatError

__all__ = [
    "DROP_REASONS",
    "HEADER_SIZE",
    "LOCK_NAME",
    "MAX_BODY",
    "MAX_SEQ",
    "RECORD_HEADER_SIZE",
    "SEAL_OFFSET",
    "STATE_OFFSET",
    "Hole",
    "Record",
    "SegmentHeader",
    "align",
    "checksum",
    "drop_offset",
    "is_segment_name",
    "pack_header",
    "pack_record",
    "pack_seal",
    "record_seed",
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
_STATE = struct.Struct("<QQ")
_DROPS = struct.Struct(f"<{len(DROP_REASONS)}Q")
SEAL_OFFSET: Final = 56
STATE_OFFSET: Final = 64
_DROPS_OFFSET: Final = 80
_CRC_CHUNK: Final = 4096


class SegmentHeader(NamedTuple):
    """The header page of a segment, decoded."""

    producer_id: bytes
    index: int  # type: ignore[assignment]  # tuple.index is of no use here
    capacity: int
    created: int
    end: int
    """0 where the segment has no right seal."""
    following: int
    drops: tuple[int, ...]


Record = tuple[int, int, bytes]
"""One event read back, in its envelope: seq, emit_ts, body.

There are very many: a plain tuple is made fastest, and the garbage collector leaves it alone.
"""


class Hole(NamedTuple):
    """Seqs ``first`` to ``last`` (both included) that hold no event."""

    first: int
    last: int
    reason: str
    """``abandoned``: the calls never returned.  ``corrupt``: damaged bytes.  ``torn``: bytes never reached the disk."""
    raw: bytes = b""
    """The damaged bytes, if there are any."""


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
    state = page[STATE_OFFSET : STATE_OFFSET + _STATE.size]
    sealed = page[SEAL_OFFSET : SEAL_OFFSET + 4] == _seal_of(state)
    end, following = _STATE.unpack(state) if sealed else (0, 0)
    return SegmentHeader(producer_id, index, capacity, created, end, following, _DROPS.unpack_from(page, _DROPS_OFFSET))


def pack_seal(end: int, following: int) -> tuple[bytes, bytes]:
    """What to store at `STATE_OFFSET`, and then at `SEAL_OFFSET`, when the writer leaves a segment."""
    state = _STATE.pack(end, following)
    return state, _seal_of(state)


def _seal_of(state: bytes) -> bytes:
    return struct.pack("<I", crc32(state) or 1)


def record_seed(producer_id: bytes) -> int:
    """What the checksums of a journal's records begin with, so that no other journal's record passes for one of it."""
    return crc32(producer_id)


def pack_record(seq: int, emit_ts: int, body: bytes, seed: int = 0) -> bytes:
    """One whole record, padded to 8 bytes; the writer stores the same bytes in three steps."""
    fields = struct.pack("<IQq", len(body), seq, emit_ts)
    stored = checksum(body, crc32(fields, seed)) or 1
    return (struct.pack("<I", stored) + fields + body).ljust(align(RECORD_HEADER_SIZE + len(body)), b"\0")


def checksum(data: bytes | memoryview, value: int = 0) -> int:
    """CRC-32 in steps small enough that zlib never gives the interpreter lock away."""
    if len(data) <= _CRC_CHUNK:
        return crc32(data, value)
    view = memoryview(data)
    for start in range(0, len(view), _CRC_CHUNK):
        value = crc32(view[start : start + _CRC_CHUNK], value)
    return value
