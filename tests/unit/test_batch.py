"""Record batches: round trips, limits, holes, claimed payloads, and what is refused."""

import hashlib
import os
import struct
import zlib
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runstream_schemas import batch
from runstream_schemas.batch import (
    MAX_EVENTS,
    MAX_PAYLOAD,
    Batch,
    BatchIdentity,
    batch_identity,
    claim_batch,
    decode_batch,
    encode_batches,
)
from runstream_schemas.errors import CorruptDataError, MissingPayloadError, RunstreamError, UnsupportedFormatError
from runstream_schemas.events import Abandoned, encode_event
from runstream_schemas.segment import MAX_SEQ, Hole, Record

PRODUCER = bytes(range(16))
RECORDS = [(7, 1_000, b"one"), (8, 1_001, b"two")]
LARGE = 1 << 30
ENCODABLE = ["none", "zlib"]
BODIES = st.binary(min_size=1, max_size=60)


def encoded(records: list[Record], codec: str = "none", holes: list[Hole] | None = None) -> bytes:
    """The one batch of them."""
    ((data, _),) = encode_batches(Batch(PRODUCER, records, holes or []), LARGE, codec)
    return data


def forge(payload: bytes, *, first: int = 7, count: int = 2, codec: int = 0, magic: bytes = b"RSB1") -> bytes:
    """A batch with a right checksum, whatever is in it."""
    header = struct.pack("<4sB3x16sQI", magic, codec, PRODUCER, first, count)
    return header + struct.pack("<I", zlib.crc32(payload, zlib.crc32(header))) + payload


def entry(body: bytes, length: int | None = None) -> bytes:
    """One event of a payload."""
    return struct.pack("<Iq", len(body) if length is None else length, 1_000) + body


def claim(payload: bytes, size: int | None = None) -> bytes:
    """A reference to a payload."""
    return hashlib.sha256(payload).digest() + struct.pack("<Q", len(payload) if size is None else size)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Records, holes and gaps one behind the other, from any seq on."""
    seq = draw(st.integers(0, 1 << 60))
    records: list[Record] = []
    holes: list[Hole] = []
    for kind in draw(st.lists(st.sampled_from("rrrrhg"), max_size=30)):
        if kind == "r":
            records.append((seq, draw(st.integers(-(1 << 63), (1 << 63) - 1)), draw(BODIES)))
            seq += 1
        else:
            span = draw(st.integers(1, 3) | st.integers(1, 1 << 54))
            if kind == "h":
                reason = draw(st.sampled_from(["abandoned", "corrupt", "torn"]))
                holes.append(Hole(seq, seq + span - 1, reason, draw(st.binary(max_size=200)) if span < 4 else b""))
            seq += span
    return Batch(draw(st.binary(min_size=16, max_size=16)), records, holes)


def together(found: list[Batch]) -> tuple[list[Record], list[Hole]]:
    """All that is in several batches."""
    return [one for each in found for one in each.records], [one for each in found for one in each.holes]


@given(batches(), st.sampled_from(ENCODABLE))
def test_what_is_encoded_is_decoded(wanted: Batch, codec: str) -> None:
    """Records and holes, with every codec, in as few batches as gaps allow."""
    found = encode_batches(wanted, LARGE, codec)
    decoded = [decode_batch(data) for data, _ in found]
    assert together(decoded) == (wanted.records, wanted.holes)
    assert {one.producer_id for one in decoded} <= {wanted.producer_id}
    spans = [(batch_identity(data).first_seq, last) for data, last in found]
    assert all(first <= last for first, last in spans)
    assert all(last + 1 < first for (_, last), (first, _) in pairwise(spans))


@given(batches(), st.integers(100, 600), st.sampled_from(ENCODABLE))
def test_a_batch_has_no_more_bytes_than_its_limit(wanted: Batch, limit: int, codec: str) -> None:
    """Damaged bytes are cut so that they fit, and nothing else is lost."""
    found = encode_batches(wanted, limit, codec)
    records, holes = together([decode_batch(data) for data, _ in found])
    assert all(len(data) <= limit for data, _ in found)
    assert records == wanted.records
    assert [hole[:3] for hole in holes] == [hole[:3] for hole in wanted.holes]
    assert all(whole.raw.startswith(hole.raw) for hole, whole in zip(holes, wanted.holes, strict=True))
    assert [last for _, last in found] == sorted({last for _, last in found})


@given(batches(), st.integers(0, 30), st.integers(100, 600), st.integers(100, 600))
def test_what_is_sent_again_with_other_boundaries_is_the_same(wanted: Batch, cut: int, first: int, second: int) -> None:
    """A part of it, and then all of it."""
    part = wanted._replace(records=wanted.records[:cut])
    again = [
        *together([decode_batch(data) for data, _ in encode_batches(part, first)])[0],
        *together([decode_batch(data) for data, _ in encode_batches(wanted, second, "zlib")])[0],
    ]
    assert sorted(set(again)) == wanted.records


def test_nothing_makes_no_batch() -> None:
    """Since a batch has an event."""
    assert encode_batches(Batch(PRODUCER, [], []), LARGE) == []


def test_a_batch_is_filled_up_to_its_limit() -> None:
    """And not a byte further."""
    records = [(seq, seq, b"123456") for seq in range(10)]
    for limit, counts in ((40 + 18 * 3, [3, 3, 3, 1]), (40 + 18 * 3 - 1, [2] * 5), (40 + 18 * 10, [10])):
        found = encode_batches(Batch(PRODUCER, records, []), limit)
        assert [batch_identity(data).count for data, _ in found] == counts
        assert found[-1].last_seq == 9


def test_an_event_above_the_limit_is_alone() -> None:
    """What is before and behind it is in other batches."""
    records = [(seq, seq, b"x" * (1 if seq != 2 else 500)) for seq in range(5)]
    found = encode_batches(Batch(PRODUCER, records, []), 300)
    assert [(batch_identity(data).count, len(data) > 300) for data, _ in found] == [(2, False), (1, True), (2, False)]


def test_an_event_that_compresses_below_the_limit_needs_no_claim() -> None:
    """The limit is that of the encoded batch."""
    ((data, _),) = encode_batches(Batch(PRODUCER, [(0, 0, b"x" * 5000)], []), 300, "zlib")
    assert len(data) < 300


def test_what_a_codec_does_not_make_smaller_stays_as_it_is() -> None:
    """Random bytes."""
    assert encoded([(0, 0, os.urandom(900))], "zlib")[4] == batch.CODECS.index("none")


def test_a_batch_has_no_more_events_than_readers_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those who read them would need too much memory."""
    monkeypatch.setattr(batch, "MAX_EVENTS", 2)
    records = [(seq, 0, b"x") for seq in range(5)]
    found = encode_batches(Batch(PRODUCER, records, []), LARGE)
    assert [batch_identity(data).count for data, _ in found] == [2, 2, 1]


def test_a_batch_has_no_larger_payload_than_readers_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the limit is."""
    monkeypatch.setattr(batch, "MAX_PAYLOAD", 2 * 12 + 5)
    assert len(encode_batches(Batch(PRODUCER, RECORDS, []), LARGE)) == 2
    monkeypatch.setattr(batch, "MAX_PAYLOAD", 12 + 2)
    with pytest.raises(ValueError, match="at most 14 bytes"):
        encode_batches(Batch(PRODUCER, RECORDS, []), LARGE)


def test_a_hole_may_be_all_seqs() -> None:
    """One event stands for them."""
    hole = Hole(0, MAX_SEQ, "torn")
    ((data, last),) = encode_batches(Batch(PRODUCER, [], [hole]), LARGE)
    assert last == MAX_SEQ
    assert batch_identity(data).count == 1
    assert decode_batch(data) == Batch(PRODUCER, [], [hole])


@pytest.mark.parametrize("raw", [b"", b"x" * 1000])
def test_a_hole_that_fits_nowhere_has_no_bytes(raw: bytes) -> None:
    """It is sent all the same."""
    ((data, _),) = encode_batches(Batch(PRODUCER, [], [Hole(3, 4, "corrupt", raw)]), 50)
    assert decode_batch(data).holes == [Hole(3, 4, "corrupt")]


@pytest.mark.parametrize(
    "body",
    [encode_event(Abandoned(5, "torn", b"x")), encode_event(Abandoned(0, "torn", b"x")), b"\x91\x14"],
    ids=["five", "none", "in its first form"],
)
def test_an_abandoned_event_of_a_journal_has_its_own_seq_only(body: bytes) -> None:
    """Nobody logs one; were it done, what is behind it would keep its seq."""
    records = [(0, 5, b"a"), (1, 6, body), (2, 7, b"b")]
    found = decode_batch(encoded(records))
    assert found.records == [records[0], records[2]]
    assert [(hole.first, hole.last) for hole in found.holes] == [(1, 1)]
    assert records[1][2] == body


@pytest.mark.parametrize(
    "body",
    [b"\x92\x14", b"\x92\x14\xa1", b"\x93\x14\x05\x05", b"\xa1\x14", b"\xdc\x00\x02\x14\x05", b"\x92\xcc\x14\x05"],
)
def test_what_only_looks_like_a_hole_has_one_seq(body: bytes) -> None:
    """Cut, of other types, no array, or not in the short form."""
    records = [(0, 5, body), (1, 7, b"b")]
    assert decode_batch(encoded(records)) == Batch(PRODUCER, records, [])


@pytest.mark.parametrize(
    ("records", "holes"),
    [
        ([(-1, 0, b"x")], []),
        ([(MAX_SEQ + 1, 0, b"x")], []),
        ([(1, 0, b"x"), (1, 0, b"x")], []),
        ([(2, 0, b"x"), (1, 0, b"x")], []),
        ([(1, 0, b"")], []),
        ([(5, 0, b"x")], [Hole(4, 5, "torn")]),
        ([], [Hole(4, 5, "torn"), Hole(5, 5, "torn")]),
        ([], [Hole(4, MAX_SEQ + 1, "torn")]),
        ([], [Hole(4, 3, "torn")]),
    ],
    ids=["negative", "too large", "twice", "backwards", "empty", "in a hole", "holes", "a large hole", "no hole"],
)
def test_what_is_no_batch_is_not_encoded(records: list[Record], holes: list[Hole]) -> None:
    """The caller's mistake."""
    with pytest.raises(ValueError, match="a record batch holds"):
        encode_batches(Batch(PRODUCER, records, holes), LARGE)


@pytest.mark.parametrize("codec", ["lz4", "claimed"])
def test_an_unknown_codec_is_not_encoded(codec: str) -> None:
    """The caller's mistake, too."""
    with pytest.raises(ValueError, match=codec):
        encode_batches(Batch(PRODUCER, RECORDS, []), LARGE, codec)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "magic"),
        (b"RSB1", "magic"),
        (b"XXXX" + bytes(60), "magic"),
        (encoded(RECORDS)[:-1], "checksum"),
        (encoded(RECORDS) + b"\0", "checksum"),
        (forge(entry(b"one") + entry(b"two"), count=1), "says 1 events and holds 1"),
        (forge(entry(b"one") + entry(b"two"), count=3), "says 3 events and holds 2"),
        (forge(entry(b"one") + entry(b"two", length=4)), "says 2 events and holds 1"),
        (forge(entry(b"one") + entry(b"two")[:11]), "says 2 events and holds 1"),
        (forge(entry(b"one") + entry(b"")), "says 2 events and holds 1"),
        (forge(entry(b"one") + entry(b"") + entry(b"two")), "says 2 events and holds 1"),
        (forge(b"", count=0), "of 0 events"),
        (forge(b"", count=MAX_EVENTS + 1), "cannot be"),
        (forge(entry(b"x") * 2, first=MAX_SEQ), "cannot be"),
        (forge(entry(b"x") * 2, first=(1 << 64) - 1), "cannot be"),
        (forge(entry(encode_event(Abandoned(0))), count=1), "a hole of 0 seqs from seq 7 on cannot be"),
        (forge(entry(encode_event(Abandoned(-5))), count=1), "cannot be"),
        (forge(entry(encode_event(Abandoned(MAX_SEQ))), count=1), "cannot be"),
        (forge(entry(encode_event(Abandoned(MAX_SEQ - 6))) + entry(b"x")), "beyond the greatest"),
        (forge(b"no zlib", codec=1), "cannot be decompressed"),
        (forge(zlib.compress(entry(b"one") + entry(b"two"))[:-1], codec=1), "is cut"),
        (forge(bytes(39), codec=2), "has 40 bytes, not 39"),
        (forge(claim(b"", MAX_PAYLOAD + 1), codec=2), "larger than"),
    ],
)
def test_what_is_no_batch_is_corrupt(data: bytes, what: str) -> None:
    """Even where the checksum is right."""
    with pytest.raises(CorruptDataError, match=what) as raised:
        decode_batch(data)
    assert type(raised.value) is CorruptDataError


@pytest.mark.parametrize("data", [forge(b"", magic=b"RSB2"), forge(b"", codec=3)], ids=["version", "codec"])
@pytest.mark.parametrize("reads", [decode_batch, batch_identity])
def test_a_newer_batch_is_unsupported(data: bytes, reads: Callable[[bytes], Any]) -> None:
    """The message says what to do."""
    with pytest.raises(UnsupportedFormatError, match="upgrade"):
        reads(data)


def test_a_bomb_does_not_go_off() -> None:
    """128 MiB of zeros, and one more, in a few hundred KiB."""
    packer = zlib.compressobj(9)
    zeros = b"".join(packer.compress(bytes(1 << 20)) for _ in range(MAX_PAYLOAD >> 20)) + packer.compress(b"\0")
    with pytest.raises(CorruptDataError, match="larger than"):
        decode_batch(forge(zeros + packer.flush(), codec=1))


def test_a_payload_may_be_as_large_as_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not a byte more."""
    data = encoded([(0, 0, b"x" * 988)], "zlib")
    monkeypatch.setattr(batch, "MAX_PAYLOAD", 1000)
    assert decode_batch(data).records[0][0] == 0
    monkeypatch.setattr(batch, "MAX_PAYLOAD", 999)
    with pytest.raises(CorruptDataError, match="larger than 999 bytes"):
        decode_batch(data)


@given(st.integers(0, 8 * len(encoded(RECORDS)) - 1), st.sampled_from(batch.CODECS))
def test_no_flipped_bit_goes_unnoticed(bit: int, codec: str) -> None:
    """Wherever it is."""
    whole = encoded(RECORDS)
    data = bytearray(claim_batch(whole)[0] if codec == "claimed" else encoded(RECORDS, codec))
    bit %= 8 * len(data)
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CorruptDataError):
        decode_batch(bytes(data), lambda *_: whole[40:])


def test_a_header_tells_which_batch_it_is() -> None:
    """Without a look at the payload; a hole is one event."""
    data = encoded(RECORDS, holes=[Hole(9, 1_000_000, "torn")])
    assert batch_identity(data) == BatchIdentity(PRODUCER, 7, 3, int.from_bytes(data[36:40], "little"))
    assert batch_identity(data[:40]) == batch_identity(data)
    with pytest.raises(CorruptDataError, match="magic"):
        batch_identity(data[:39])


@given(batches(), st.sampled_from(ENCODABLE))
def test_a_claimed_batch_is_decoded_with_its_payload(wanted: Batch, codec: str) -> None:
    """Wherever that comes from; its header is that of the whole one."""
    for data, _ in encode_batches(wanted._replace(holes=[]), LARGE, codec):
        small, payload = claim_batch(data)
        asked = []

        def fetch(sha256: str, size: int, payload: bytes = payload, asked: list[Any] = asked) -> bytes:
            asked.append((sha256, size))
            return payload

        assert decode_batch(small, fetch) == decode_batch(data)
        assert asked == [(hashlib.sha256(payload).hexdigest(), len(payload))]
        assert len(small) == 80
        assert batch_identity(small)[:3] == batch_identity(data)[:3]


def _nothing(_sha256: str, _size: int) -> None:
    return None


def _refused(_sha256: str, _size: int) -> bytes:
    raise MissingPayloadError("chunk 3 is not there")


@pytest.mark.parametrize(
    ("fetch", "what"),
    [
        (None, "is not there"),
        (_nothing, "is not there"),
        (_refused, "chunk 3 is not there"),
        (lambda *_: b"x" * 30, "is not it"),
        (lambda *_: b"x" * 31, "is not it"),
    ],
    ids=["no fetch", "nothing", "refused", "another hash", "another size"],
)
def test_a_missing_payload_is_named_with_its_events(fetch: Any, what: str) -> None:
    """So that they can be noted as lost."""
    small, payload = claim_batch(encoded(RECORDS))
    assert len(payload) == 30
    with pytest.raises(MissingPayloadError, match=what) as raised:
        decode_batch(small, fetch)
    assert (raised.value.producer_id, raised.value.first_seq, raised.value.count) == (PRODUCER, 7, 2)
    assert isinstance(raised.value, RunstreamError)


def test_a_batch_with_a_large_hole_cannot_be_claimed() -> None:
    """Its seqs would not be known without its payload; a reader refuses it."""
    whole = encoded(RECORDS, holes=[Hole(9, 10, "torn")])
    with pytest.raises(ValueError, match="cannot be claimed"):
        claim_batch(whole)
    with pytest.raises(CorruptDataError, match="of more than one seq"):
        decode_batch(forge(claim(whole[40:]), count=3, codec=2), lambda *_: whole[40:])
    assert claim_batch(encoded(RECORDS, holes=[Hole(9, 9, "torn")]))


def test_a_batch_is_claimed_once() -> None:
    """The reference is small enough."""
    with pytest.raises(ValueError, match="claimed already"):
        claim_batch(claim_batch(encoded(RECORDS))[0])
