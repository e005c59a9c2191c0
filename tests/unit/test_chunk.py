"""Chunks: round trips, how bytes are cut, and what is refused."""

import hashlib
import io
import random
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runstream_schemas.batch import Batch, encode_batches
from runstream_schemas.chunk import (
    CHUNK_HEADER_SIZE,
    CHUNK_SIZE,
    ArtifactChunk,
    chunks_of,
    decode_chunk,
    encode_chunk,
    is_chunk,
    value_type,
)
from runstream_schemas.errors import CorruptDataError, UnsupportedFormatError

SHA256 = "ab" * 32
CHUNK = ArtifactChunk(SHA256, 10, 3, b"data")


def forge(data: bytes, *, size: int = 10, offset: int = 3, magic: bytes = b"RSC1") -> bytes:
    """A chunk with a right checksum, whatever is in it."""
    header = struct.pack("<4s4x32sQQ", magic, bytes.fromhex(SHA256), size, offset)
    return header + struct.pack("<I", zlib.crc32(data, zlib.crc32(header))) + data


def whole_of(chunks: list[bytes]) -> bytes:
    """The bytes that chunks hold, each where it says."""
    found = bytearray(decode_chunk(chunks[0]).size)
    for chunk in map(decode_chunk, chunks):
        found[chunk.offset : chunk.offset + len(chunk.data)] = chunk.data
    return bytes(found)


@given(st.binary(min_size=32, max_size=32), st.integers(0, 1 << 62), st.binary(min_size=1), st.integers(0, 1 << 62))
def test_what_is_encoded_is_decoded(digest: bytes, offset: int, data: bytes, behind: int) -> None:
    """Wherever in its whole it lies."""
    chunk = ArtifactChunk(digest.hex(), min(offset + len(data) + behind, (1 << 63) - 1), offset, data)
    assert decode_chunk(encode_chunk(chunk)) == chunk
    assert len(encode_chunk(chunk)) == CHUNK_HEADER_SIZE + len(data)


def test_a_whole_of_no_bytes_is_one_chunk() -> None:
    """So that it is complete when that is there."""
    (data,) = chunks_of(SHA256, 0, io.BytesIO().read)
    assert decode_chunk(data) == ArtifactChunk(SHA256, 0, 0, b"")


@given(st.binary(max_size=500), st.integers(CHUNK_HEADER_SIZE + 1, 300), st.integers(1, 50), st.randoms())
def test_bytes_are_cut_into_chunks_and_put_together(whole: bytes, limit: int, most: int, order: random.Random) -> None:
    """Whatever their number, however few bytes a read gives, in any order and more than once."""
    stream = io.BytesIO(whole)
    chunks = list(chunks_of(SHA256, len(whole), lambda size: stream.read(min(size, most)), limit))
    assert all(len(chunk) <= limit for chunk in chunks)
    again = list(chunks_of(SHA256, len(whole), io.BytesIO(whole).read))
    shuffled = chunks + again
    order.shuffle(shuffled)
    assert whole_of(shuffled) == whole_of(chunks) == whole_of(again) == whole
    assert len(again) == 1


def test_a_chunk_fits_into_what_every_topic_takes() -> None:
    """With a key, headers and a batch of Kafka around it, below a million bytes; one is made at a time."""
    size = 2 * CHUNK_SIZE + 1
    stream = io.BytesIO(bytes(size))
    lengths = []
    for chunk in chunks_of(SHA256, size, stream.read):
        lengths.append(len(chunk) - CHUNK_HEADER_SIZE)
        assert stream.tell() == sum(lengths)
    assert lengths == [CHUNK_SIZE, CHUNK_SIZE, 1]
    assert CHUNK_HEADER_SIZE + CHUNK_SIZE + 500 < 1_000_000


def test_a_limit_above_what_chunks_have_makes_them_no_larger() -> None:
    """Since their reader holds one in memory."""
    chunks = list(chunks_of(SHA256, CHUNK_SIZE + 1, io.BytesIO(bytes(CHUNK_SIZE + 1)).read, 1 << 30))
    assert len(chunks) == 2


def test_a_limit_that_leaves_no_room_is_refused() -> None:
    """The caller's mistake."""
    with pytest.raises(ValueError, match="60 are too few"):
        next(chunks_of(SHA256, 1, io.BytesIO(b"x").read, CHUNK_HEADER_SIZE))


def test_bytes_that_end_too_early_are_no_whole() -> None:
    """What is there was sent before that shows."""
    chunks = chunks_of(SHA256, 5, io.BytesIO(b"abc").read)
    assert decode_chunk(next(chunks)) == ArtifactChunk(SHA256, 5, 0, b"abc")
    with pytest.raises(CorruptDataError, match=r"bytes of (ab)+ end at 3"):
        next(chunks)


@pytest.mark.parametrize(
    "chunk",
    [
        ArtifactChunk("ab", 1, 0, b"x"),
        ArtifactChunk("no hash", 1, 0, b"x"),
        ArtifactChunk(SHA256, 1, 0, b""),
        ArtifactChunk(SHA256, 1, 1, b"x"),
        ArtifactChunk(SHA256, 5, -1, b"x"),
        ArtifactChunk(SHA256, 1 << 63, 0, b"x"),
    ],
    ids=["short", "not hexadecimal", "no data", "beyond", "before", "too large"],
)
def test_what_is_no_chunk_is_not_encoded(chunk: ArtifactChunk) -> None:
    """The caller's mistake."""
    with pytest.raises(ValueError, match=r"no chunk|hexadecimal"):
        encode_chunk(chunk)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "magic"),
        (b"RSC1", "magic"),
        (b"RSB1" + bytes(90), "magic"),
        (encode_chunk(CHUNK)[:-1], "checksum"),
        (encode_chunk(CHUNK) + b"\0", "checksum"),
        (forge(b"", size=10), "of 0 bytes at 3 of 10 cannot be"),
        (forge(b"data", offset=7), "of 4 bytes at 7 of 10 cannot be"),
        (forge(b"data", size=(1 << 64) - 1), "cannot be"),
        (forge(b"data", offset=(1 << 64) - 1), "cannot be"),
        (forge(b"", size=0), "cannot be"),
    ],
)
def test_what_is_no_chunk_is_corrupt(data: bytes, what: str) -> None:
    """Even where the checksum is right."""
    with pytest.raises(CorruptDataError, match=what) as raised:
        decode_chunk(data)
    assert type(raised.value) is CorruptDataError


def test_a_newer_chunk_is_a_chunk_and_unsupported() -> None:
    """The message says what to do."""
    data = forge(b"data", magic=b"RSC2")
    assert is_chunk(data)
    with pytest.raises(UnsupportedFormatError, match="upgrade"):
        decode_chunk(data)


@given(st.integers(0, 8 * len(encode_chunk(CHUNK)) - 1))
def test_no_flipped_bit_goes_unnoticed(bit: int) -> None:
    """Wherever it is, also in the zeros that say nothing."""
    data = bytearray(encode_chunk(CHUNK))
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CorruptDataError):
        decode_chunk(bytes(data))


def test_a_chunk_and_a_batch_are_told_apart() -> None:
    """By their first bytes."""
    ((batch, _),) = encode_batches(Batch(bytes(16), [(0, 0, b"x")], []), 100)
    assert (is_chunk(encode_chunk(CHUNK)), is_chunk(batch), is_chunk(b"")) == (True, False, False)
    assert (value_type(encode_chunk(CHUNK)), value_type(batch)) == ("chunk", "batch")


def test_the_chunks_of_bytes_have_their_hash() -> None:
    """It is the caller's, who knows it before the bytes are read."""
    whole = b"some bytes"
    sha256 = hashlib.sha256(whole).hexdigest()
    chunks = [decode_chunk(chunk) for chunk in chunks_of(sha256, len(whole), io.BytesIO(whole).read, 64)]
    assert [(chunk.sha256, chunk.size, chunk.offset) for chunk in chunks] == [(sha256, 10, at) for at in (0, 4, 8)]
