"""What is sent of a delivery, also where a journal is damaged."""

from pathlib import Path

from structlog.testing import capture_logs

from runstream.shipping.cargo import load
from runstream_schemas.batch import Batch, decode_batch
from runstream_schemas.delivery import Delivery
from runstream_schemas.segment import Hole


def test_what_a_damaged_journal_tells_twice_stops_nothing(tmp_path: Path) -> None:
    """An event counts before a hole, and what comes first before what comes later."""
    records = [(seq, 1, body) for seq, body in ((0, b"a"), (1, b"b"), (1, b"c"), (5, b"d"))]
    holes = [Hole(0, 1, "corrupt", b""), Hole(3, 3, "torn", b""), Hole(3, 3, "corrupt", b"")]
    delivery = Delivery([Batch(bytes(16), records, holes)])
    with capture_logs() as lines:
        (cargo,) = load(delivery, tmp_path, 1 << 20)
    assert [line["event"] for line in lines] == ["a journal tells of an event twice"]
    batches = [decode_batch(value) for value in cargo.values]
    assert [record[2] for batch in batches for record in batch.records] == [b"a", b"b", b"d"]
    assert [hole for batch in batches for hole in batch.holes] == [holes[1]]
