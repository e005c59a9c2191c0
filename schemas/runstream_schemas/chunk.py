"""The chunk: a piece of bytes that travel beside the events, under their SHA-256 (one Kafka record carries one chunk).

Bytes of artifacts, and claimed payloads of record batches (see ``batch``), travel in chunks in the partition of the
events that refer to them, and before these.  All integers are little-endian::

    offset size
         0    4  magic b"RSC1": chunk, format version 1
         4    4  zeros
         8   32  SHA-256 of the whole
        40    8  size of the whole, bytes
        48    8  offset of the data in the whole
        56    4  CRC-32 of bytes 0 to 56 and of the data
        60    n  data

The data lies within the whole; it has no bytes only where the whole has none.  The same chunk, and the same bytes in
other chunks, may be sent again: what counts is which bytes of the whole are there.  The whole is complete when all of
them are, and right when its SHA-256 is.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from runstream_schemas.errors import CorruptDataError, UnsupportedFormatError

__all__ = [
    "CHUNK_HEADER_SIZE",
    "CHUNK_SIZE",
    "TYPE_HEADER",
    "ArtifactChunk",
    "chunks_of",
    "decode_chunk",
    "encode_chunk",
    "is_chunk",
    "value_type",
]

CHUNK_SIZE: Final = 960 << 10
"""Most data of a chunk, bytes: as a Kafka record it stays below 1,000,000 bytes, which brokers take by default."""
TYPE_HEADER: Final = "runstream-type"
"""The header of a Kafka record that says what its value is: see `value_type`."""

_HEADER = struct.Struct("<4s4x32sQQ")
_CRC = struct.Struct("<I")
_MAGIC: Final = b"RSC1"
CHUNK_HEADER_SIZE: Final = _HEADER.size + _CRC.size
"""Bytes of a chunk before its data."""
_MAX_SIZE: Final = (1 << 63) - 1


class ArtifactChunk(NamedTuple):
    """A piece of bytes: ``data`` at ``offset`` of the ``size`` bytes whose SHA-256 (64 hex digits) is ``sha256``."""

    sha256: str
    size: int
    offset: int
    data: bytes


def encode_chunk(chunk: ArtifactChunk) -> bytes:
    """Encode a chunk.  Raises ValueError if its data does not lie within the whole, or the hash is none."""
    digest = bytes.fromhex(chunk.sha256)
    if len(digest) != 32 or not _fits(chunk.size, chunk.offset, len(chunk.data)):
        raise ValueError(f"no chunk: {len(chunk.data)} bytes at {chunk.offset} of the {chunk.size} of {chunk.sha256!r}")
    header = _HEADER.pack(_MAGIC, digest, chunk.size, chunk.offset)
    return b"".join((header, _CRC.pack(zlib.crc32(chunk.data, zlib.crc32(header))), chunk.data))


def decode_chunk(data: bytes) -> ArtifactChunk:
    """Decode a chunk.  Raises `CorruptDataError` or `UnsupportedFormatError`; takes no more memory than ``data``."""
    if len(data) < CHUNK_HEADER_SIZE or not is_chunk(data):
        raise CorruptDataError("not a chunk: the magic bytes are missing")
    magic, digest, size, offset = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise UnsupportedFormatError(f"chunk {magic!r}: upgrade the reader")
    piece = data[CHUNK_HEADER_SIZE:]
    if _CRC.unpack_from(data, _HEADER.size)[0] != zlib.crc32(piece, zlib.crc32(data[: _HEADER.size])):
        raise CorruptDataError("the chunk's checksum is wrong")
    if not _fits(size, offset, len(piece)):
        raise CorruptDataError(f"a chunk of {len(piece)} bytes at {offset} of {size} cannot be")
    return ArtifactChunk(digest.hex(), size, offset, piece)


def is_chunk(data: bytes) -> bool:
    """Whether it is a chunk, of this version or of another, and not a record batch."""
    return data[:3] == _MAGIC[:3]


def value_type(data: bytes) -> str:
    """What the Kafka header `TYPE_HEADER` says of a record's value: ``chunk`` or ``batch``."""
    return "chunk" if is_chunk(data) else "batch"


def chunks_of(
    sha256: str, size: int, read: Callable[[int], bytes], limit: int = CHUNK_HEADER_SIZE + CHUNK_SIZE
) -> Iterator[bytes]:
    """The encoded chunks of ``size`` bytes, one after the other, each of at most ``limit`` bytes.

    ``read`` gives the next bytes, at most as many as it is told, as a file's ``read`` does; one chunk is in memory at a
    time.  Bytes of size 0 are one chunk.  Raises ValueError if nothing fits into ``limit``, and `CorruptDataError` if
    there are fewer than ``size`` bytes.
    """
    most = min(CHUNK_SIZE, limit - CHUNK_HEADER_SIZE)
    if most < 1:
        raise ValueError(f"a chunk has more than {CHUNK_HEADER_SIZE} bytes: {limit} are too few")
    if not size:
        yield encode_chunk(ArtifactChunk(sha256, 0, 0, b""))
    offset = 0
    while offset < size:
        data = read(min(most, size - offset))
        if not data:
            raise CorruptDataError(f"the {size} bytes of {sha256} end at {offset}")
        yield encode_chunk(ArtifactChunk(sha256, size, offset, data))
        offset += len(data)


def _fits(size: int, offset: int, length: int) -> bool:
    return 0 <= offset <= offset + length <= size <= _MAX_SIZE and (length > 0 or size == 0)
