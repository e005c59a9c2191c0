"""Whatever the bytes, decoders give a value or a `CorruptDataError`, soon, and in little memory."""

import math
import random
import struct
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from itertools import pairwise
from zlib import crc32

import pytest

from runstream_schemas.batch import Batch, batch_identity, claim_batch, decode_batch, encode_batches
from runstream_schemas.chunk import ArtifactChunk, decode_chunk, encode_chunk, is_chunk
from runstream_schemas.errors import CorruptDataError, MissingPayloadError
from runstream_schemas.events import decode_event
from runstream_schemas.follower import format_position, parse_position
from runstream_schemas.scanning import Extent, scan
from runstream_schemas.segment import HEADER_SIZE, MAX_SEQ, Hole, Record, pack_header, record_seed, unpack_header
from runstream_sink.apply import apply
from runstream_sink.tables.cells import decode_column, encode_column
from runstream_sink.tables.tokens import records_end, split_cells
from runstream_sink.tables.types import ColumnType, column_type
from support.hostile import attack, hostile_event, hostile_records, mutate, sign_batch
from support.hostile_events import BODIES

PRODUCER = bytes(range(16))
SEED = record_seed(PRODUCER)
_RECORDS = [(seq, 1_000 + seq, body) for seq, body in enumerate(BODIES)]
_HOLES = [Hole(len(BODIES), 1 << 60, "torn"), Hole((1 << 60) + 1, (1 << 60) + 3, "corrupt", b"damaged" * 9)]
_CONTENTS: list[tuple[list[Record], list[Hole], str]] = [
    (_RECORDS, [], "none"),
    (_RECORDS, [], "zlib"),
    (_RECORDS[:1], [], "none"),
    (_RECORDS[2:4], [], "zlib"),
    (_RECORDS[-2:], _HOLES, "none"),
    (_RECORDS, _HOLES, "zlib"),
]
BATCHES = [
    encoded.data
    for records, holes, codec in _CONTENTS
    for encoded in encode_batches(Batch(PRODUCER, records, holes), 1 << 20, codec)
]
CLAIMED = [claim_batch(data) for data in BATCHES[:4]]
CHUNKS = [
    encode_chunk(ArtifactChunk("ab" * 32, size, offset, data))
    for size, offset, data in ((0, 0, b""), (9, 3, b"abcdef"), (1 << 40, 1 << 39, b"x" * 50))
]
HEADERS = [pack_header(PRODUCER, 3, 1 << 20, 5)[:128]]
VALUES = [None, True, 1, -(2**70), 1.5, math.inf, "", "x,y", 'a"b\n', "null", "[1]", [1, None], {"a": "ü"}, b"\xff"]
TEXTS = [
    "".join(
        ",".join(pair) + "\n"
        for pair in zip(*(encode_column(column, column_type(column)) for column in columns), strict=True)
    )
    for columns in ([VALUES, VALUES[::-1]], [[1, 2], [0.5, 2]], [["a", "b"], [True, None]])
]
CSV = [text.encode() for text in TEXTS]
POSITIONS = [b"0:4096:0:0", b"17:65536:123456:1", b"4294967296:4096:-1:0"]


def attack_events(rng: random.Random) -> None:
    """Bodies of events, good ones changed."""
    with suppress(CorruptDataError):
        decode_event(mutate(rng, BODIES))


def attack_random_events(rng: random.Random) -> None:
    """Bodies of events, of any bytes."""
    with suppress(CorruptDataError):
        decode_event(rng.randbytes(rng.randrange(24)))


def attack_applying(rng: random.Random) -> None:
    """Events that may be good: what cannot be applied is dead, and no other exception comes."""
    records = [(seq, 1_000, hostile_event(rng, BODIES)) for seq in range(8)]
    changes = apply([Batch(PRODUCER, records, [])], {})
    assert changes.events == 8
    holes = {hole.first for hole in changes.holes}
    for letter in changes.dead:
        known = letter.reason in {"unknown_type", "undecodable", "invalid"} or letter.reason.startswith("artifact_")
        assert known or letter.seq in holes, letter


def attack_batches(rng: random.Random) -> None:
    """Record batches, most of them with right checksums: seqs without a gap, or a refusal."""
    data = mutate(rng, BATCHES)
    data = sign_batch(data) if rng.random() < 0.7 else data
    try:
        batch = decode_batch(data, lambda *_: mutate(rng, BATCHES))
    except (CorruptDataError, MissingPayloadError):
        return
    spans = sorted([(seq, seq) for seq, _, _ in batch.records] + [(hole.first, hole.last) for hole in batch.holes])
    assert all(before[1] + 1 == after[0] <= after[1] for before, after in pairwise(spans))
    assert batch_identity(data)[:3] == (batch.producer_id, spans[0][0], len(spans))
    assert spans[-1][1] <= MAX_SEQ
    again = [decode_batch(one.data) for one in encode_batches(batch, rng.choice((400, 1 << 30)))]
    assert [record for one in again for record in one.records] == batch.records
    assert [hole[:3] for one in again for hole in one.holes] == [hole[:3] for hole in batch.holes]


def attack_claims(rng: random.Random) -> None:
    """Claimed batches with other payloads, and other claims: events, or a refusal."""
    claimed, payload = rng.choice(CLAIMED)
    kind = rng.random()
    if kind < 0.3:
        claimed = sign_batch(mutate(rng, [claimed]))
    else:
        payload = mutate(rng, [payload])
    if kind > 0.5:  # hostile, and rightly claimed
        claimed = sign_batch(claimed[:40] + sha256(payload).digest() + struct.pack("<Q", len(payload)))
    with suppress(CorruptDataError, MissingPayloadError):
        decode_batch(claimed, lambda *_: payload)


def attack_chunks(rng: random.Random) -> None:
    """Chunks, most of them with right checksums: within their whole, or a refusal."""
    data = mutate(rng, CHUNKS)
    if rng.random() < 0.7:
        data = data[:56] + struct.pack("<I", crc32(data[60:], crc32(data[:56]))) + data[60:]
    try:
        chunk = decode_chunk(data)
    except CorruptDataError:
        return
    assert is_chunk(data)
    assert 0 <= chunk.offset <= chunk.offset + len(chunk.data) <= chunk.size
    assert decode_chunk(encode_chunk(chunk)) == chunk


def attack_headers(rng: random.Random) -> None:
    """Header pages, half of them with right checksums."""
    page = bytearray(mutate(rng, HEADERS)[:128].ljust(HEADER_SIZE, b"\0"))
    if rng.random() < 0.7:
        page[8:12] = struct.pack("<I", crc32(page[12:56]))
        page[56:60] = struct.pack("<I", crc32(page[64:80]) or 1)
    try:
        header = unpack_header(bytes(page))
    except CorruptDataError:
        return
    assert len(header.drops) == 4


def attack_scanning(rng: random.Random) -> None:
    """Segments, read to their end: each look gets further or says that nothing is left to be read."""
    data = bytes(HEADER_SIZE) + hostile_records(rng, BODIES, SEED)
    if rng.random() < 0.3:
        data = data[:HEADER_SIZE] + mutate(rng, [data[HEADER_SIZE:] or b"\0"])
    end = rng.choice((0, 0, len(data), rng.randrange(len(data) + 1), 1 << 63))
    extent = Extent(min(end, len(data)) if end else len(data), end, rng.random() < 0.8)
    offset, next_seq, window = HEADER_SIZE, rng.choice((0, 0, 0, -1, 5)), rng.choice((64, 4096, 1 << 16))
    for _ in range(len(data)):
        found = scan(lambda size, at: data[at : at + size], offset, next_seq, extent, window, None, SEED)
        seqs = [seq for seq, _, _ in found.records]
        assert seqs == sorted(set(seqs))
        assert not seqs or next_seq <= seqs[0] <= seqs[-1] <= MAX_SEQ
        assert all(hole.first <= hole.last for hole in found.holes)
        assert found.offset >= offset
        if found.ended or (found.offset == offset and not found.records):
            return
        offset, next_seq = found.offset, found.next_seq
    raise AssertionError("the segment has no end")


def attack_cells(rng: random.Random) -> None:
    """Rows of CSV files: cells of values, or a refusal."""
    data = mutate(rng, CSV)
    text = data[: records_end(data)].decode("utf-8", "replace")
    try:
        cells = split_cells(text, 2)
        kind = rng.choice(list(ColumnType))
        for column in (cells[::2], cells[1::2]):
            assert len(decode_column(column, kind, kind)) == len(column)
    except CorruptDataError:
        pass


def attack_positions(rng: random.Random) -> None:
    """Positions as a store holds them."""
    text = mutate(rng, POSITIONS).decode("utf-8", "replace")
    try:
        position = parse_position(text)
    except CorruptDataError:
        return
    assert parse_position(format_position(position)) == position


TARGETS: dict[Callable[[random.Random], None], int] = {
    attack_events: 800_000,
    attack_random_events: 600_000,
    attack_batches: 200_000,
    attack_claims: 100_000,
    attack_chunks: 100_000,
    attack_headers: 150_000,
    attack_positions: 200_000,
    attack_cells: 250_000,
    attack_scanning: 100_000,
    attack_applying: 20_000,
}
"""How many inputs a long test tries with one seed."""
SEEDS = range(5)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.__name__)
def test_a_decoder_takes_hostile_bytes(target: Callable[[random.Random], None]) -> None:
    """Some thousands of them."""
    attack(target, seed=0, count=TARGETS[target] // 200)


@pytest.mark.long
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.__name__)
def test_a_decoder_takes_millions_of_hostile_bytes(target: Callable[[random.Random], None], seed: int) -> None:
    """With several seeds, in all more than ten million."""
    attack(target, seed + 1, TARGETS[target], seconds=900)


def test_the_long_attack_has_ten_million_inputs() -> None:
    """What the documentation says."""
    assert sum(TARGETS.values()) * len(SEEDS) > 10_000_000
