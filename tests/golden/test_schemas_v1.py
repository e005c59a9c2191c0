"""The bytes of version 1 of the formats, which every later version must read, and this one must write.

The files are never made anew: a change that these tests notice is a new version of the format, with files of its own.
"""

import hashlib
import io
import math
from pathlib import Path

import msgspec
import pytest

from runstream_schemas import events as e
from runstream_schemas.batch import Batch, EncodedBatch, claim_batch, decode_batch, encode_batches
from runstream_schemas.chunk import ArtifactChunk, chunks_of, decode_chunk
from runstream_schemas.claims import CLAIM, Claim, pack_claim
from runstream_schemas.events import TAGS, Event, decode_event, encode_event
from runstream_schemas.reader import JournalReader, Position
from runstream_schemas.segment import (
    SEAL_OFFSET,
    STATE_OFFSET,
    Hole,
    SegmentHeader,
    drop_offset,
    pack_header,
    pack_record,
    pack_seal,
    record_seed,
    unpack_header,
)

HERE = Path(__file__).parent / "schemas_v1"
RUN = "0193a1b2c3d47e5f8a9b0c1d2e3f4a5b"
PRODUCER = bytes(range(16))
TIME = 1_795_496_400_000_000_000
EVENTS: list[Event] = [
    e.RunStarted(RUN, "5021634589011122333", 1_795_496_400_000, "brave-fox", "ada"),
    e.RunUpdated(RUN, "renamed", "RUNNING"),
    e.RunEnded(RUN, "FINISHED", 1_795_496_500_000),
    e.ParamsLogged(RUN, {"model": "m-1", "température": "0,7 °"}),
    e.MetricLogged(RUN, "loss", -0.0, -3, 1_795_496_400_001),
    e.MetricsLogged(RUN, {"a": 0.1, "b": math.inf, "c": 5e-324}, 7, 1_795_496_400_002),
    e.TagsSet(RUN, {"mlflow.source.name": "train.py"}),
    e.TagDeleted(RUN, "draft"),
    e.RowsLogged(RUN, "predictions", ["prompt", "n"], [["Hi 👋", 1], [None, 0.5], ["", [True, {"k": b"\0"}]]]),
    e.ArtifactLogged(RUN, "plots/a.png", "ab" * 32, 123_456_789_012, "image/png"),
    e.ExperimentCreated("5021634589011122333", "evaluation", 1_795_496_400_003, {"team": "x"}),
    e.ExperimentRenamed("5021634589011122333", "evaluation 2"),
    e.ExperimentTagsSet("5021634589011122333", {"a": "b"}),
    e.ExperimentTagDeleted("5021634589011122333", "a"),
    e.ExperimentDeleted("5021634589011122333"),
    e.ExperimentRestored("5021634589011122333"),
    e.RunDeleted(RUN),
    e.RunRestored(RUN),
    e.LossNotice(PRODUCER.hex(), 2, "quota", 1 << 40),
    e.Abandoned(),
]
LATER_EVENTS: list[Event] = [
    e.ArtifactInlined(RUN, "notes/a.txt", b"\x00text\xff", "text/plain"),
    e.ArtifactPending(RUN, "models/m.bin", 1 << 40),
    e.ArtifactCompleted(RUN, "models/m.bin", "cd" * 32, 1 << 40, None, PRODUCER.hex(), 7, TIME),
    e.ArtifactFailed(RUN, "models/m.bin", "changed", "it was written to", PRODUCER.hex(), 7),
]
"""Types that came after the segment and the batches were made."""
FIRST_FORMS: dict[str, Event] = {"Abandoned": e.Abandoned()}
"""What is read of the bytes of types that have got fields since."""
LATER_FORMS: dict[str, Event] = {"Abandoned-2": e.Abandoned(1 << 40, "corrupt", b"\x00damaged\xff")}
"""Bytes of the same types as they are written now."""
BODIES = [(HERE / "events" / f"{type(event).__name__}.msgpack").read_bytes() for event in EVENTS]
RECORDS = [(seq, TIME + seq, body) for seq, body in enumerate(BODIES)]
HOLES = [
    Hole(2, 2, "abandoned"),
    Hole(5, (1 << 61) - 1, "torn"),
    Hole(1 << 61, (1 << 61) + 6, "corrupt", b"\x00damaged\xff"),
]
"""Those of the batch with holes, which has the first five events around them."""
AROUND = [(seq, TIME + at, BODIES[at]) for at, seq in enumerate([0, 1, 3, 4, (1 << 61) + 7])]


def name_of(event: Event) -> str:
    """The name of its type."""
    return type(event).__name__


def segment() -> bytes:
    """A segment that another follows: events, of which the sixth was abandoned, and zeros."""
    page = bytearray(pack_header(PRODUCER, 1, 8192, TIME))
    page[drop_offset("quota") : drop_offset("quota") + 8] = (3).to_bytes(8, "little")
    page[drop_offset("too_large") : drop_offset("too_large") + 8] = (1).to_bytes(8, "little")
    records = b"".join(
        (bytes(4) if seq == 5 else packed[:4]) + packed[4:]
        for seq, emit_ts, body in RECORDS
        for packed in [pack_record(seq, emit_ts, body, record_seed(PRODUCER))]
    )
    state, seal = pack_seal(len(page) + len(records), 3)
    page[STATE_OFFSET : STATE_OFFSET + 16] = state
    page[SEAL_OFFSET : SEAL_OFFSET + 4] = seal
    return (bytes(page) + records).ljust(8192, b"\0")


WRITTEN = {name_of(event): event for event in EVENTS + LATER_EVENTS if name_of(event) not in FIRST_FORMS} | LATER_FORMS


@pytest.mark.parametrize("name", WRITTEN)
def test_an_event_has_these_bytes(name: str) -> None:
    """Decoding gives the stated event, encoding exactly the bytes."""
    event = WRITTEN[name]
    golden = (HERE / "events" / f"{name}.msgpack").read_bytes()
    assert decode_event(golden) == event
    assert repr(decode_event(golden)) == repr(event)  # -0.0 and inf, too
    assert encode_event(event) == golden


@pytest.mark.parametrize("name", FIRST_FORMS)
def test_an_event_without_its_later_fields_is_read(name: str) -> None:
    """With their defaults."""
    assert decode_event((HERE / "events" / f"{name}.msgpack").read_bytes()) == FIRST_FORMS[name]


def test_a_claim_has_these_bytes() -> None:
    """A row with a claim in it decodes to the claim's reference."""
    golden = (HERE / "claim.msgpack").read_bytes()
    claim = Claim("ef" * 32, 300_000_000, "text")
    cell = msgspec.msgpack.Ext(CLAIM, pack_claim(claim))
    assert encode_event(e.RowsLogged(RUN, "t", ["a"], [[cell]])) == golden
    assert decode_event(golden) == e.RowsLogged(RUN, "t", ["a"], [[f"artifact:claims/{'ef' * 32}.txt"]])


def test_every_event_type_has_golden_bytes() -> None:
    """And there are no others."""
    events = [*EVENTS, *LATER_EVENTS]
    assert {type(event) for event in events} == set(TAGS.values())
    assert {path.stem for path in (HERE / "events").iterdir()} == {*WRITTEN, *FIRST_FORMS}


def test_a_segment_has_these_bytes() -> None:
    """Header, counters, seal, records, an unfinished record, zeros."""
    golden = (HERE / "segment.seg").read_bytes()
    assert segment() == golden
    assert unpack_header(golden[:4096]) == SegmentHeader(PRODUCER, 1, 8192, TIME, 5680, 3, (3, 0, 1, 0))


def test_a_segment_is_read_to_these_events(tmp_path: Path) -> None:
    """Through the reader: the events, the holes, the counters, and the segment that follows."""
    journal = tmp_path / PRODUCER.hex()
    journal.mkdir()
    (journal / "0000000001.seg").write_bytes((HERE / "segment.seg").read_bytes())
    reader = JournalReader(journal, Position(1))
    records, holes = [], []
    drops: dict[tuple[int, str], int] = {}
    while reader.position.segment == 1:
        chunk = reader.read(1 << 20)
        records += chunk.records
        holes += chunk.holes
        drops |= chunk.drops
    reader.close()
    assert records == RECORDS[:5] + RECORDS[6:]
    assert holes == [Hole(5, 5, "abandoned")]
    assert drops == {(1, "quota"): 3, (1, "too_large"): 1}
    assert reader.position == Position(3, 4096, 20)


def payload_of_chunks(sha256: str, size: int) -> bytes:
    """What the golden chunks hold."""
    chunks = [decode_chunk((HERE / f"chunk-{number}.bin").read_bytes()) for number in (1, 2)]
    assert [(chunk.sha256, chunk.size, chunk.offset) for chunk in chunks] == [(sha256, size, 0), (sha256, size, 800)]
    return b"".join(chunk.data for chunk in chunks)


@pytest.mark.parametrize("codec", ["none", "zlib", "claimed"])
def test_a_batch_decodes_to_these_events(codec: str) -> None:
    """Whatever compresses it, and wherever its payload is; the last event is a hole."""
    golden = (HERE / f"batch-{codec}.bin").read_bytes()
    assert decode_batch(golden, payload_of_chunks) == Batch(PRODUCER, RECORDS[:19], [Hole(19, 19, "abandoned")])


def test_a_batch_has_these_bytes() -> None:
    """Without compression; what a compressor makes of the same bytes is its own affair."""
    golden = (HERE / "batch-none.bin").read_bytes()
    assert encode_batches(Batch(PRODUCER, RECORDS, []), 1 << 20) == [EncodedBatch(golden, 19)]


def test_a_batch_with_holes_has_these_bytes() -> None:
    """One event for each hole, however many seqs it is, and the seqs behind it."""
    golden = (HERE / "batch-holes.bin").read_bytes()
    batch = Batch(PRODUCER, AROUND, HOLES)
    assert decode_batch(golden) == batch
    assert encode_batches(batch, 1 << 20) == [EncodedBatch(golden, (1 << 61) + 7)]


def test_a_claimed_batch_and_its_chunks_have_these_bytes() -> None:
    """A reference for the payload, and the payload beside it."""
    claimed, payload = claim_batch((HERE / "batch-none.bin").read_bytes())
    assert claimed == (HERE / "batch-claimed.bin").read_bytes()
    chunks = [(HERE / f"chunk-{number}.bin").read_bytes() for number in (1, 2)]
    sha256 = hashlib.sha256(payload).hexdigest()
    assert list(chunks_of(sha256, len(payload), io.BytesIO(payload).read, 860)) == chunks
    assert [decode_chunk(chunk) for chunk in chunks] == [
        ArtifactChunk(sha256, len(payload), 0, payload[:800]),
        ArtifactChunk(sha256, len(payload), 800, payload[800:]),
    ]
