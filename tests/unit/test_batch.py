"""Record batches: round trips, and what is refused."""

import os
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runstream_schemas import batch
from runstream_schemas.batch import CODECS, MAX_EVENTS, MAX_PAYLOAD, Batch, decode_batch, encode_batch
from runstream_schemas.errors import CorruptDataError, UnsupportedFormatError
from runstream_schemas.segment import MAX_SEQ, Record

PRODUCER = bytes(range(16))
RECORDS = [Record(7, 1_000, b"one"), Record(8, 1_001, b"two")]


def forge(payload: bytes, *, first: int = 7, count: int = 2, codec: int = 0, magic: bytes = b"RSB1") -> bytes:
    """A batch with a right checksum, whatever is in it."""
    header = struct.pack("<4sB3x16sQI", magic, codec, PRODUCER, first, count)
    return header + struct.pack("<I", zlib.crc32(payload, zlib.crc32(header))) + payload


def entry(body: bytes, length: int | None = None) -> bytes:
    """One event of a payload."""
    return struct.pack("<Iq", len(body) if length is None else length, 1_000) + body


@given(
    first=st.integers(0, MAX_SEQ - 20),
    bodies=st.lists(st.tuples(st.integers(-(1 << 63), (1 << 63) - 1), st.binary(min_size=1)), min_size=1, max_size=20),
    codec=st.sampled_from(CODECS),
    producer=st.binary(min_size=16, max_size=16),
)
def test_what_is_encoded_is_decoded(first: int, bodies: list[tuple[int, bytes]], codec: str, producer: bytes) -> None:
    """With every codec."""
    records = [Record(first + at, emit_ts, body) for at, (emit_ts, body) in enumerate(bodies)]
    assert decode_batch(encode_batch(producer, records, codec)) == Batch(producer, records, [])


@pytest.mark.parametrize(
    "records",
    [
        [],
        [Record(-1, 0, b"x")],
        [Record(1, 0, b"x"), Record(3, 0, b"x")],
        [Record(1, 0, b"x"), Record(1, 0, b"x")],
        [Record(1, 0, b"")],
    ],
    ids=["none", "negative", "a gap", "twice", "empty"],
)
def test_what_is_no_batch_is_not_encoded(records: list[Record]) -> None:
    """The caller's mistake."""
    with pytest.raises(ValueError, match="a record batch holds"):
        encode_batch(PRODUCER, records)


def test_an_unknown_codec_is_not_encoded() -> None:
    """The caller's mistake, too."""
    with pytest.raises(ValueError, match="lz4"):
        encode_batch(PRODUCER, RECORDS, "lz4")


def test_too_many_events_are_not_encoded() -> None:
    """Those who read them would need too much memory."""
    with pytest.raises(ValueError, match="at most"):
        encode_batch(PRODUCER, [Record(seq, 0, b"x") for seq in range(MAX_EVENTS + 1)])


def test_too_many_bytes_are_not_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """As nobody would decode them."""
    monkeypatch.setattr(batch, "MAX_PAYLOAD", 2 * 12 + 5)
    with pytest.raises(ValueError, match="at most 29 bytes, not 30"):
        encode_batch(PRODUCER, RECORDS)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "magic"),
        (b"RSB1", "magic"),
        (b"XXXX" + bytes(60), "magic"),
        (encode_batch(PRODUCER, RECORDS)[:-1], "checksum"),
        (encode_batch(PRODUCER, RECORDS) + b"\0", "checksum"),
        (forge(entry(b"one") + entry(b"two"), count=1), "says 1 events and holds 1"),
        (forge(entry(b"one") + entry(b"two"), count=3), "says 3 events and holds 2"),
        (forge(entry(b"one") + entry(b"two", length=4)), "says 2 events and holds 1"),
        (forge(entry(b"one") + entry(b"two")[:11]), "says 2 events and holds 1"),
        (forge(entry(b"one") + entry(b"")), "says 2 events and holds 1"),
        (forge(b"", count=0), "of 0 events"),
        (forge(b"", count=MAX_EVENTS + 1), "cannot be"),
        (forge(entry(b"x") * 2, first=MAX_SEQ), "cannot be"),
        (forge(entry(b"x") * 2, first=(1 << 64) - 1), "cannot be"),
        (forge(b"no zlib", codec=1), "cannot be decompressed"),
        (forge(zlib.compress(entry(b"one") + entry(b"two"))[:-1], codec=1), "is cut"),
    ],
)
def test_what_is_no_batch_is_corrupt(data: bytes, what: str) -> None:
    """Even where the checksum is right."""
    with pytest.raises(CorruptDataError, match=what) as raised:
        decode_batch(data)
    assert type(raised.value) is CorruptDataError


@pytest.mark.parametrize("data", [forge(b"", magic=b"RSB2"), forge(b"", codec=2)], ids=["version", "codec"])
def test_a_newer_batch_is_unsupported(data: bytes) -> None:
    """The message says what to do."""
    with pytest.raises(UnsupportedFormatError, match="upgrade"):
        decode_batch(data)


def test_a_bomb_does_not_go_off() -> None:
    """128 MiB of zeros, and one more, in a few hundred KiB."""
    packer = zlib.compressobj(9)
    zeros = b"".join(packer.compress(bytes(1 << 20)) for _ in range(MAX_PAYLOAD >> 20)) + packer.compress(b"\0")
    with pytest.raises(CorruptDataError, match="larger than"):
        decode_batch(forge(zeros + packer.flush(), codec=1))


def test_a_payload_may_be_as_large_as_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not a byte more."""
    data = encode_batch(PRODUCER, [Record(0, 0, os.urandom(988))], "zlib")
    monkeypatch.setattr(batch, "MAX_PAYLOAD", 1000)
    assert decode_batch(data).records[0].seq == 0
    monkeypatch.setattr(batch, "MAX_PAYLOAD", 999)
    with pytest.raises(CorruptDataError, match="larger than 999 bytes"):
        decode_batch(data)


@given(st.integers(0, 8 * len(encode_batch(PRODUCER, RECORDS)) - 1), st.sampled_from(CODECS))
def test_no_flipped_bit_goes_unnoticed(bit: int, codec: str) -> None:
    """Wherever it is."""
    data = bytearray(encode_batch(PRODUCER, RECORDS, codec))
    bit %= 8 * len(data)
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CorruptDataError):
        decode_batch(bytes(data))
