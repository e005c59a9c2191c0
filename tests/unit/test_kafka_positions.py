"""Positions in a topic, and the fingerprints by which a record is known again."""

import zlib

import pytest

from runstream_schemas.chunk import ArtifactChunk, encode_chunk
from runstream_schemas.errors import CorruptDataError
from runstream_sink.kafka.positions import Fingerprint, Position, fingerprint, format_position, parse_position
from support.topics import encoded

SHA = "ab" * 32


def test_a_position_is_its_text() -> None:
    """Golden: stores keep these texts."""
    value = encoded(7, 10)[0]
    crc32 = zlib.crc32(value)
    position = Position(42, fingerprint(value))
    assert format_position(position) == f"42:{7:032x}:0:{crc32:08x}"
    assert parse_position(format_position(position)) == position


def test_every_record_has_a_fingerprint() -> None:
    """Batches and chunks by what they are, anything else by its size; all by their bytes."""
    chunk = encode_chunk(ArtifactChunk(SHA, 10, 3, b"xyz"))
    for value, identity, number in (
        (encoded(2, 30)[1], f"{2:032x}", 10),
        (chunk, "chunk-abababababababab", 3),
        (chunk[:-1], "unknown", len(chunk) - 1),
        (b"", "unknown", 0),
        (b"anything", "unknown", 8),
    ):
        assert fingerprint(value) == Fingerprint(identity, number, zlib.crc32(value))
        position = Position(1, fingerprint(value))
        assert parse_position(format_position(position)) == position


@pytest.mark.parametrize(
    "text", ["", "1", "1:2:3", "x:unknown:1:00000000", "1:UNKNOWN:1:00000000", "1:u:1:0", "٣:u:1:00000000"]
)
def test_other_texts_are_none(text: str) -> None:
    """Somebody has edited the database, or it is of another source."""
    with pytest.raises(CorruptDataError, match="is no position in a partition"):
        parse_position(text)
