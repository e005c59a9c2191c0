"""The record batch: the unit in which events travel outside a journal (one Kafka record carries one batch).

All integers are little-endian::

    offset size
         0    4  magic b"RSB1": record batch, format version 1
         4    1  codec of the payload: 0 none, 1 zlib
         5    3  zeros
         8   16  producer_id
        24    8  first seq
        32    4  number of events
        36    4  CRC-32 of bytes 0 to 36 and of the payload as it stands
        40    n  payload

Payload, when decoded, is the events one after the other with consecutive seqs, each as::

         0    4  length of the body; never 0
         4    8  emit_ts
        12    n  body: one event

A seq that holds no event (see ``segment``) travels as an ``Abandoned`` event.  A batch that is sent again may have
other boundaries; duplicates are found event by event.
"""

import struct
import zlib
from collections.abc import Sequence
from typing import Final, NamedTuple

from runstream_schemas.errors import CorruptDataError, UnsupportedFormatError
from runstream_schemas.segment import MAX_SEQ, Hole, Record

__all__ = ["CODECS", "MAX_EVENTS", "MAX_PAYLOAD", "Batch", "decode_batch", "encode_batch"]

CODECS: Final = ("none", "zlib")
MAX_PAYLOAD: Final = 128 << 20
"""Largest decoded payload, bytes."""
MAX_EVENTS: Final = 1 << 18
"""Most events of a batch: each takes some hundred bytes more in memory than its body."""

_HEADER = struct.Struct("<4sB3x16sQI")
_ENTRY = struct.Struct("<Iq")
_MAGIC: Final = b"RSB1"
_SIZE: Final = _HEADER.size + 4


class Batch(NamedTuple):
    """Events of one producer, in the order of their seqs, and the holes between them."""

    producer_id: bytes
    records: list[Record]
    holes: list[Hole]


def encode_batch(producer_id: bytes, records: Sequence[Record], codec: str = "none") -> bytes:
    """Encode events with consecutive seqs.  Raises ValueError if they are none, not consecutive, empty or too many."""
    first = records[0].seq if records else -1
    if first < 0 or [record.seq for record in records] != list(range(first, first + len(records))):
        raise ValueError("a record batch holds at least one event, with consecutive seqs")
    if len(records) > MAX_EVENTS or not all(record.body for record in records):
        raise ValueError(f"a record batch holds at most {MAX_EVENTS} events, and none is empty")
    if codec not in CODECS:
        raise ValueError(f"a record batch holds a payload in one of the codecs {', '.join(CODECS)}, not {codec!r}")
    payload = b"".join(_ENTRY.pack(len(body), emit_ts) + body for _, emit_ts, body in records)
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"a record batch holds at most {MAX_PAYLOAD} bytes, not {len(payload)}")
    if codec == "zlib":
        payload = zlib.compress(payload)
    header = _HEADER.pack(_MAGIC, CODECS.index(codec), producer_id, first, len(records))
    return header + struct.pack("<I", zlib.crc32(payload, zlib.crc32(header))) + payload


def decode_batch(data: bytes) -> Batch:
    """Decode a batch.  Raises `CorruptDataError` or `UnsupportedFormatError`.

    Memory is bounded by `MAX_PAYLOAD` and `MAX_EVENTS`, whatever the batch says.
    """
    if len(data) < _SIZE or data[:3] != _MAGIC[:3]:
        raise CorruptDataError("not a record batch: the magic bytes are missing")
    magic, codec, producer_id, first, count = _HEADER.unpack_from(data)
    if magic != _MAGIC or codec >= len(CODECS):
        raise UnsupportedFormatError(f"record batch {magic!r} with codec {codec}: upgrade the reader")
    if struct.unpack_from("<I", data, _HEADER.size)[0] != zlib.crc32(data[_SIZE:], zlib.crc32(data[: _HEADER.size])):
        raise CorruptDataError("the record batch's checksum is wrong")
    if not 0 < count <= MAX_EVENTS or first + count - 1 > MAX_SEQ:
        raise CorruptDataError(f"a record batch of {count} events from seq {first} on cannot be")
    payload = data[_SIZE:] if CODECS[codec] == "none" else _decompress(data[_SIZE:])
    return Batch(producer_id, _entries(payload, first, count), [])


def _decompress(payload: bytes) -> bytes:
    decompressor = zlib.decompressobj()
    try:
        decoded = decompressor.decompress(payload, MAX_PAYLOAD + 1)
    except zlib.error as error:
        raise CorruptDataError(f"the record batch's payload cannot be decompressed: {error}") from error
    if not decompressor.eof or len(decoded) > MAX_PAYLOAD:
        raise CorruptDataError(f"the record batch's payload is cut or larger than {MAX_PAYLOAD} bytes")
    return decoded


def _entries(payload: bytes, first: int, count: int) -> list[Record]:
    records: list[Record] = []
    offset = 0
    while offset < len(payload) and len(records) < count:
        if offset + _ENTRY.size > len(payload):
            break
        length, emit_ts = _ENTRY.unpack_from(payload, offset)
        body = payload[offset + _ENTRY.size : offset + _ENTRY.size + length]
        if not length or len(body) != length:
            break
        records.append(Record(first + len(records), emit_ts, body))
        offset += _ENTRY.size + length
    if len(records) != count or offset != len(payload):
        raise CorruptDataError(f"the record batch says {count} events and holds {len(records)} whole ones")
    return records
