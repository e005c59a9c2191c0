"""How far a partition was applied, and by what record it is known again.

The position of a partition is the text ``offset:identity:number:crc32``: the next offset to read, and the fingerprint
of the record before it, which is the last that was applied.  Of a record batch that is

========== =====================================================
identity   the producer_id, 32 hexadecimal digits
number     the first seq
crc32      CRC-32 of the record's value, 8 hexadecimal digits
========== =====================================================

of a chunk the first 16 digits of its SHA-256 behind ``chunk-`` and its offset there, and of anything else ``unknown``
and the value's size.  A topic that was deleted and made anew holds another record at that offset, however far it has
grown since: so the record is read again before a sink goes on.
"""

import re
import zlib
from typing import Final, NamedTuple

from runstream_schemas.batch import batch_identity
from runstream_schemas.chunk import decode_chunk, is_chunk
from runstream_schemas.errors import CorruptDataError

__all__ = ["Fingerprint", "Position", "fingerprint", "format_position", "parse_position"]

_POSITION: Final = re.compile(r"([0-9]{1,19}):([0-9a-z-]{1,40}):([0-9]{1,20}):([0-9a-f]{8})", re.ASCII)
_IDENTITY_OF_CHUNK: Final = 16


class Fingerprint(NamedTuple):
    """What tells a record from others at its offset."""

    identity: str
    number: int
    crc32: int


class Position(NamedTuple):
    """The next offset to read, and the record before it."""

    offset: int
    last: Fingerprint


def fingerprint(value: bytes) -> Fingerprint:
    """The fingerprint of a record with this value, whatever it holds."""
    return Fingerprint(*_identity(value), zlib.crc32(value))


def _identity(value: bytes) -> tuple[str, int]:
    try:
        if is_chunk(value):
            chunk = decode_chunk(value)
            return f"chunk-{chunk.sha256[:_IDENTITY_OF_CHUNK]}", chunk.offset
        identity = batch_identity(value)
    except CorruptDataError:
        return "unknown", len(value)
    return identity.producer_id.hex(), identity.first_seq


def format_position(position: Position) -> str:
    """A position as text."""
    offset, (identity, number, crc32) = position
    return f"{offset}:{identity}:{number}:{crc32:08x}"


def parse_position(text: str) -> Position:
    """A position from its text.  Raises `CorruptDataError` for any other text."""
    found = _POSITION.fullmatch(text)
    if found is None:
        raise CorruptDataError(f"{text!r:.100} is no position in a partition; replay the stream into a new store")
    return Position(int(found[1]), Fingerprint(found[2], int(found[3]), int(found[4], 16)))
