"""The record batch: the unit in which events travel outside a journal (one Kafka record carries one batch).

All integers are little-endian::

    offset size
         0    4  magic b"RSB1": record batch, format version 1
         4    1  codec of the payload: 0 none, 1 zlib, 2 claimed
         5    3  zeros
         8   16  producer_id
        24    8  first seq
        32    4  number of events
        36    4  CRC-32 of bytes 0 to 36 and of the payload as it stands
        40    n  payload

Payload, when decoded, is the events one after the other, each as::

         0    4  length of the body; never 0
         4    8  emit_ts
        12    n  body: one event

The first event has the first seq, and each event has the seq behind the one before it, with one exception.  Seqs that
hold no event (see ``segment``) travel as *one* ``Abandoned`` event, which counts as one event in the header, whose
emit_ts is 0, and which stands for ``count`` consecutive seqs: the event behind it has its seq plus ``count``.  It is
known by its first two bytes, 90 to 9f and 14 (hexadecimal): an array in MessagePack's short form, tag 20.  ``count`` is
at least 1, and 1 where it is left out.  Where those bytes begin no event (the fields are not of their types), the body
stands for one seq, as any other does.

A payload that is too large for its way is *claimed*: in its place stands::

         0   32  SHA-256 of the decoded payload
        32    8  size of the decoded payload, bytes

and the decoded payload travels before the batch, in chunks (see ``chunk``).  In a claimed batch each event stands for
one seq, so that its seqs are known where its payload is missing.

A batch that is sent again may have other boundaries; duplicates are found event by event.  Batches follow one another
without a gap between their seqs as long as the journal has none.
"""

import hashlib
import struct
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import accumulate
from operator import itemgetter
from typing import Final, NamedTuple

from runstream_schemas.errors import CorruptDataError, MissingPayloadError, UnsupportedFormatError
from runstream_schemas.events import Abandoned, decode_event, encode_event
from runstream_schemas.segment import MAX_SEQ, Hole, Record

__all__ = [
    "CODECS",
    "MAX_EVENTS",
    "MAX_PAYLOAD",
    "Batch",
    "BatchIdentity",
    "EncodedBatch",
    "Fetch",
    "batch_identity",
    "claim_batch",
    "decode_batch",
    "encode_batches",
]

CODECS: Final = ("none", "zlib", "claimed")
MAX_PAYLOAD: Final = 128 << 20
"""Largest decoded payload, bytes."""
MAX_EVENTS: Final = 1 << 18
"""Most events of a batch: each takes some hundred bytes more in memory than its body."""

Fetch = Callable[[str, int], bytes | None]
"""Gives the claimed payload of a SHA-256 (hexadecimal) and a size; None, or `MissingPayloadError`, if it cannot."""

_HEADER = struct.Struct("<4sB3x16sQI")
_ENTRY = struct.Struct("<Iq")
_CLAIM = struct.Struct("<32sQ")
_CRC = struct.Struct("<I")
_MAGIC: Final = b"RSB1"
_SIZE: Final = _HEADER.size + _CRC.size
_ABANDONED: Final = b"\x14"
"""The tag of `Abandoned`, as MessagePack's shortest integer."""
_SHORT_ARRAY: Final = range(0x90, 0xA0)


class Batch(NamedTuple):
    """Events of one producer, in the order of their seqs, and the holes between them."""

    producer_id: bytes
    records: list[Record]
    holes: list[Hole]


class EncodedBatch(NamedTuple):
    """A record batch in its bytes."""

    data: bytes
    last_seq: int
    """The greatest seq that an event or a hole of it stands for."""


class BatchIdentity(NamedTuple):
    """What tells a batch from others, as its header says."""

    producer_id: bytes
    first_seq: int
    count: int  # type: ignore[assignment]  # tuple.count is of no use here
    """Events and holes, each hole being one."""
    crc32: int


def encode_batches(batch: Batch, limit: int, codec: str = "none") -> list[EncodedBatch]:
    """Records and holes merged by seq, in batches of at most ``limit`` bytes.

    A batch ends before a gap (seqs that are neither records nor holes), at ``limit`` bytes (counted without the gain of
    the codec) and at `MAX_EVENTS` events.  The damaged bytes of a hole are cut so that they fit.  An event that alone
    is larger than ``limit`` is alone in its batch, which then is larger too: see `claim_batch`.  What the codec does
    not make smaller stays as it is.  Raises ValueError if seqs are out of order, out of range or there twice, and if an
    event is empty or larger than `MAX_PAYLOAD`.
    """
    if codec not in CODECS[:2]:
        raise ValueError(f"a record batch is encoded with one of the codecs {', '.join(CODECS[:2])}, not {codec!r}")
    room = min(limit - _SIZE, MAX_PAYLOAD)
    entries, following = _entries_of(batch, room)
    sizes = [len(entry[2]) for entry in entries]
    gaps = _gaps(entries, following)
    _check(entries, following, sizes)
    encoded = []
    for start, stop in _slices(sizes, gaps, room):
        payload = _payload_of(entries[start:stop], sizes[start:stop])
        data = _pack(batch.producer_id, entries[start][0], stop - start, payload, codec)
        encoded.append(EncodedBatch(data, following[stop - 1] - 1))
    return encoded


def claim_batch(data: bytes) -> tuple[bytes, bytes]:
    """The same batch with a reference in the place of its payload, and the payload, which is to travel in chunks.

    Raises ValueError if a hole of more than one seq is in it, `CorruptDataError` if it is none.
    """
    identity = batch_identity(data)
    codec, payload = _open(data)
    if codec == "claimed":
        raise ValueError("the record batch's payload is claimed already")
    records, holes = _decode_payload(payload, identity)
    if len(records) + sum(hole.last - hole.first + 1 for hole in holes) != identity.count:
        raise ValueError("a record batch with a hole of more than one seq cannot be claimed")
    claim = _CLAIM.pack(hashlib.sha256(payload).digest(), len(payload))
    return _seal(identity.producer_id, identity.first_seq, identity.count, claim, "claimed"), payload


def batch_identity(data: bytes) -> BatchIdentity:
    """What the header says of a batch; neither checksum nor payload are looked at.

    Raises `CorruptDataError` or `UnsupportedFormatError`.
    """
    if len(data) < _SIZE or data[:3] != _MAGIC[:3]:
        raise CorruptDataError("not a record batch: the magic bytes are missing")
    magic, codec, producer_id, first, count = _HEADER.unpack_from(data)
    if magic != _MAGIC or codec >= len(CODECS):
        raise UnsupportedFormatError(f"record batch {magic!r} with codec {codec}: upgrade the reader")
    return BatchIdentity(producer_id, first, count, _CRC.unpack_from(data, _HEADER.size)[0])


def decode_batch(data: bytes, fetch: Fetch | None = None) -> Batch:
    """Decode a batch; ``fetch`` gives the payload of a claimed one.

    Raises `CorruptDataError`, `UnsupportedFormatError`, and `MissingPayloadError` where a claimed payload is not there,
    or is another by size or hash.  Memory is bounded by `MAX_PAYLOAD` and `MAX_EVENTS`, whatever the batch says.
    """
    identity = batch_identity(data)
    codec, payload = _open(data)
    if not 0 < identity.count <= MAX_EVENTS or identity.first_seq + identity.count - 1 > MAX_SEQ:
        raise CorruptDataError(f"a record batch of {identity.count} events from seq {identity.first_seq} on cannot be")
    if codec == "claimed":
        payload = _fetched(payload, identity, fetch)
    records, holes = _decode_payload(payload, identity)
    if codec == "claimed" and len(records) + sum(hole.last - hole.first + 1 for hole in holes) != identity.count:
        raise CorruptDataError("a claimed record batch with a hole of more than one seq cannot be")
    return Batch(identity.producer_id, records, holes)


def _entries_of(batch: Batch, room: int) -> tuple[list[Record], list[int]]:
    """Events and holes as they travel, by seq, and the seq that follows each."""
    entries = batch.records
    alike = [at for at, entry in enumerate(entries) if entry[2][1:2] == _ABANDONED]
    if alike:
        entries = entries.copy()
        for at in alike:
            entries[at] = _of_one_seq(entries[at])
    if not batch.holes:
        return entries, [entry[0] + 1 for entry in entries]
    ends = {hole.first: hole.last + 1 for hole in batch.holes}
    entries = sorted([*entries, *(_entry_of(hole, room) for hole in batch.holes)], key=itemgetter(0))
    return entries, [ends.get(entry[0], entry[0] + 1) for entry in entries]


def _of_one_seq(record: Record) -> Record:
    """The same; nobody logs `Abandoned`, but where it was done, it stands for the seq that it was given."""
    seq, emit_ts, body = record
    event = _abandoned(body)
    if event is None or event.count == 1:
        return record
    return seq, emit_ts, encode_event(Abandoned(1, event.reason, event.raw))


def _entry_of(hole: Hole, room: int) -> Record:
    count = hole.last - hole.first + 1
    body = encode_event(Abandoned(count, hole.reason, hole.raw))
    excess = _ENTRY.size + len(body) - room
    if excess > 0 and hole.raw:
        body = encode_event(Abandoned(count, hole.reason, hole.raw[: max(0, len(hole.raw) - excess)]))
    return hole.first, 0, body


def _gaps(entries: list[Record], following: list[int]) -> list[int]:
    """Indices of the entries that do not follow the one before."""
    gaps = [at for at, (entry, seq) in enumerate(zip(entries[1:], following, strict=False), 1) if entry[0] != seq]
    if any(entries[at][0] < following[at - 1] for at in gaps):
        raise ValueError("a record batch holds events by seq, and none twice")
    return gaps


def _check(entries: list[Record], following: list[int], sizes: list[int]) -> None:
    if entries and not 0 <= entries[0][0] < following[-1] <= MAX_SEQ + 1:
        raise ValueError(f"a record batch holds seqs from 0 to {MAX_SEQ}")
    if entries and not 0 < min(sizes) <= max(sizes) <= MAX_PAYLOAD - _ENTRY.size:
        raise ValueError(f"a record batch holds at most {MAX_PAYLOAD} bytes, and no event is empty")


def _slices(sizes: list[int], gaps: list[int], room: int) -> Iterator[tuple[int, int]]:
    """Where each batch begins and ends."""
    ends = list(accumulate([_ENTRY.size + size for size in sizes], initial=0))
    start = 0
    for gap in (*gaps, len(sizes)):
        while start < gap:
            fitting = bisect_right(ends, ends[start] + room) - 1
            stop = min(gap, start + MAX_EVENTS, max(start + 1, fitting))
            yield start, stop
            start = stop


def _payload_of(entries: list[Record], sizes: list[int]) -> bytes:
    parts = [b""] * (2 * len(entries))
    parts[::2] = map(_ENTRY.pack, sizes, [entry[1] for entry in entries])
    parts[1::2] = [entry[2] for entry in entries]
    return b"".join(parts)


def _pack(producer_id: bytes, first: int, count: int, payload: bytes, codec: str) -> bytes:
    if codec == "zlib":
        compressed = zlib.compress(payload)
        if len(compressed) < len(payload):
            return _seal(producer_id, first, count, compressed, codec)
    return _seal(producer_id, first, count, payload, "none")


def _seal(producer_id: bytes, first: int, count: int, payload: bytes, codec: str) -> bytes:
    header = _HEADER.pack(_MAGIC, CODECS.index(codec), producer_id, first, count)
    return header + _CRC.pack(zlib.crc32(payload, zlib.crc32(header))) + payload


def _open(data: bytes) -> tuple[str, bytes]:
    """Codec and payload of a batch whose header was read; what is compressed, decompressed."""
    payload = data[_SIZE:]
    if _CRC.unpack_from(data, _HEADER.size)[0] != zlib.crc32(payload, zlib.crc32(data[: _HEADER.size])):
        raise CorruptDataError("the record batch's checksum is wrong")
    codec = CODECS[data[len(_MAGIC)]]
    return codec, _decompress(payload) if codec == "zlib" else payload


def _decompress(payload: bytes) -> bytes:
    decompressor = zlib.decompressobj()
    try:
        decoded = decompressor.decompress(payload, MAX_PAYLOAD + 1)
    except zlib.error as error:
        raise CorruptDataError(f"the record batch's payload cannot be decompressed: {error}") from error
    if not decompressor.eof or len(decoded) > MAX_PAYLOAD:
        raise CorruptDataError(f"the record batch's payload is cut or larger than {MAX_PAYLOAD} bytes")
    return decoded


def _fetched(claim: bytes, identity: BatchIdentity, fetch: Fetch | None) -> bytes:
    """The payload that a claim refers to."""
    if len(claim) != _CLAIM.size:
        raise CorruptDataError(f"a record batch's claim has {_CLAIM.size} bytes, not {len(claim)}")
    digest, size = _CLAIM.unpack(claim)
    if size > MAX_PAYLOAD:
        raise CorruptDataError(f"the record batch's payload is larger than {MAX_PAYLOAD} bytes")
    try:
        payload = fetch(digest.hex(), size) if fetch else None
    except MissingPayloadError as error:
        raise _missing(str(error), identity) from error
    if payload is None:
        raise _missing(f"the payload {digest.hex()} of {size} bytes is not there", identity)
    if len(payload) != size or hashlib.sha256(payload).digest() != digest:
        raise _missing(f"what is there for the payload {digest.hex()} of {size} bytes is not it", identity)
    return payload


def _missing(what: str, identity: BatchIdentity) -> MissingPayloadError:
    return MissingPayloadError(what, identity.producer_id, identity.first_seq, identity.count)


def _decode_payload(payload: bytes, identity: BatchIdentity) -> tuple[list[Record], list[Hole]]:
    records: list[Record] = []
    holes: list[Hole] = []
    seq, offset, size, end = identity.first_seq, 0, _ENTRY.size, len(payload)
    while offset + size < end and len(records) + len(holes) < identity.count:
        length, emit_ts = _ENTRY.unpack_from(payload, offset)
        body = payload[offset + size : offset + size + length]
        if not length or len(body) != length:
            break
        event = _abandoned(body) if body[1:2] == _ABANDONED else None
        if event is None:
            records.append((seq, emit_ts, body))
            seq += 1
        else:
            holes.append(_hole(event, seq))
            seq = holes[-1].last + 1
        offset += size + length
    if len(records) + len(holes) != identity.count or offset != end:
        whole = len(records) + len(holes)
        raise CorruptDataError(f"the record batch says {identity.count} events and holds {whole} whole ones")
    if seq > MAX_SEQ + 1:
        raise CorruptDataError(f"a record batch with seq {seq - 1}, beyond the greatest seq, cannot be")
    return records, holes


def _abandoned(body: bytes) -> Abandoned | None:
    """The event of a body with its tag in the second byte; None where that is not what it is."""
    if body[0] not in _SHORT_ARRAY:
        return None
    try:
        event = decode_event(body)
    except CorruptDataError:
        return None
    return event if isinstance(event, Abandoned) else None


def _hole(event: Abandoned, seq: int) -> Hole:
    if not 0 < event.count <= MAX_SEQ + 1 - seq:
        raise CorruptDataError(f"a record batch with a hole of {event.count} seqs from seq {seq} on cannot be")
    return Hole(seq, seq + event.count - 1, event.reason, event.raw)
