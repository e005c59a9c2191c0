"""The source over a topic in memory: where it goes on, what it refuses, what it reports, what it does with rubbish."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from runstream_schemas.batch import Batch, claim_batch
from runstream_schemas.chunk import ArtifactChunk, encode_chunk
from runstream_schemas.delivery import Delivery
from runstream_schemas.errors import CorruptDataError, InvalidInputError
from runstream_sink.kafka.bounds import EARLIEST, LATEST, Bound, parse_bound
from runstream_sink.kafka.chunks import ChunkStore
from runstream_sink.kafka.source import KafkaSource
from runstream_sink.source import EVENT_WEIGHT, ReassignedError, StreamReplacedError, StreamUnavailableError
from support.memory_log import MemoryLog, Topic, away
from support.topics import encoded

LIMIT = 1 << 20


class Listener:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    async def lost(self) -> None:
        """Records are gone."""
        self.told.append("lost")

    async def passed(self) -> None:
        """The rest is read."""
        self.told.append("passed")


def source_of(log: MemoryLog, root: Path, **options: object) -> KafkaSource:
    """A source of a topic in memory."""
    return KafkaSource(log, ChunkStore(root / "chunks"), **options)  # type: ignore[arg-type]


async def opened(log: MemoryLog, root: Path, positions: dict[str, str] | None = None, **options: object) -> KafkaSource:
    """A source that stands at positions."""
    source = source_of(log, root, **options)
    await source.open("store")
    await source.seek(positions or {})
    return source


async def read_on(source: KafkaSource, count: int = 0) -> list[Delivery]:
    """Read and commit until nothing comes, or so many deliveries have."""
    deliveries = []
    while delivery := await source.read(LIMIT):
        deliveries.append(delivery)
        await source.committed(delivery)
        if len(deliveries) == count:
            break
    return deliveries


def positions_of(deliveries: list[Delivery]) -> dict[str, str]:
    """Where a store stands that committed deliveries, each behind the one before."""
    held: dict[str, str] = {}
    for delivery in deliveries:
        for part, (before, after) in delivery.positions.items():
            assert held.get(part) == before
            held[part] = after
    return held


def seqs(deliveries: list[Delivery]) -> list[int]:
    """All that was handed out, in order."""
    return [record[0] for delivery in deliveries for batch in delivery.batches for record in batch.records]


def batches(deliveries: list[Delivery]) -> list[Batch]:
    """All batches."""
    return [batch for delivery in deliveries for batch in delivery.batches]


async def test_it_reads_everything_once_and_goes_on_from_any_position(tmp_path: Path) -> None:
    """Whatever was committed; nothing twice and nothing left out."""
    topic = Topic()
    topic.add(0, *encoded(1, 100))
    source = await opened(MemoryLog(topic), tmp_path)
    assert source.name == "kafka:cluster/topic"
    deliveries = await read_on(source)
    assert seqs(deliveries) == list(range(100))
    for count in range(len(deliveries)):
        again = await opened(MemoryLog(topic), tmp_path, positions_of(deliveries[:count]))
        assert seqs(deliveries[:count]) + seqs(await read_on(again)) == list(range(100))


async def test_a_limit_leaves_the_rest_for_the_next_read(tmp_path: Path) -> None:
    """At least one record, so that it goes on however large that is."""
    topic = Topic()
    topic.add(0, *encoded(1, 30))
    source = await opened(MemoryLog(topic), tmp_path)
    first = await source.read(1)
    assert (seqs([first]), source.backlog()) == (list(range(10)), True)
    assert first.weight == first.size + EVENT_WEIGHT * 10
    assert seqs(await read_on(source)) == list(range(10, 30))
    assert not source.backlog()


async def test_the_group_is_told_in_the_end(tmp_path: Path) -> None:
    """And a failure of that is nobody's business."""
    topic = Topic()
    topic.add(0, *encoded(1, 30))
    log = MemoryLog(topic)
    source = await opened(log, tmp_path)
    await read_on(source)
    log.faults["commit"] = away()
    await source.close()
    assert topic.committed in ({}, {"runstream-store": {0: 3}})
    source = await opened(log, tmp_path)
    await read_on(source)
    await source.close()
    assert topic.committed == {"runstream-store": {0: 3}}
    assert not log.is_open


async def _recreated(topic: Topic) -> None:
    """Another topic of the same name, which has grown past the old one."""
    topic.partitions[0] = list(encoded(2, 100))


async def _cut(topic: Topic) -> None:
    topic.partitions[0] = topic.partitions[0][:2]


async def _fewer(topic: Topic) -> None:
    topic.partitions = [[]]
    topic.rebalance()


@pytest.mark.parametrize("change", [_recreated, _cut, _fewer])
async def test_another_topic_of_the_same_name_is_refused(
    tmp_path: Path, change: Callable[[Topic], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Grown past the position, shorter, and with fewer partitions; again and again."""
    monkeypatch.setattr("runstream_sink.kafka.source._SECOND_LOOK", 0.0)
    topic = Topic(2)
    topic.add(0, *encoded(1, 50))
    topic.add(1, *encoded(3, 50))
    source = await opened(MemoryLog(topic), tmp_path)
    positions = positions_of(await read_on(source))
    await source.close()
    await change(topic)
    log = MemoryLog(topic)
    source = source_of(log, tmp_path)
    await source.open("store")
    for _ in range(2):
        with pytest.raises(StreamReplacedError, match="was deleted and made anew"):
            await source.seek(positions)
    with pytest.raises(StreamUnavailableError):
        await source.read(LIMIT)


async def test_a_record_that_compaction_removed_is_told(tmp_path: Path) -> None:
    """It cannot be compared; the topic is taken for the same."""
    topic = Topic()
    topic.add(0, *encoded(1, 50))
    positions = positions_of(await read_on(await opened(MemoryLog(topic), tmp_path)))
    topic.add(0, *encoded(2, 10))
    topic.partitions[0][4] = None
    with capture_logs() as logs:
        source = await opened(MemoryLog(topic), tmp_path, positions)
    assert "compaction" in logs[0]["event"]
    assert len(seqs(await read_on(source))) == 10


async def test_unread_records_that_are_gone_are_told_once_and_when_the_rest_is_read(tmp_path: Path) -> None:
    """Reading goes on behind them."""
    topic = Topic()
    topic.add(0, *encoded(1, 100))
    listener = Listener()
    first = await opened(MemoryLog(topic), tmp_path)
    positions = positions_of(await read_on(first, 1))
    topic.remove_before(0, 6)
    with capture_logs() as logs:
        source = await opened(MemoryLog(topic), tmp_path, positions, listener=listener)
        await source.seek(positions)
        assert listener.told == ["lost"]
        deliveries = await read_on(source)
    assert [(line["first"], line["last"], line["count"]) for line in logs] == [(3, 5, 3)]
    assert seqs(deliveries) == list(range(60, 100))
    assert listener.told == ["lost", "passed"]


async def test_where_everything_is_gone_it_is_told_at_once(tmp_path: Path) -> None:
    """Nothing is left to be read before; a source without a listener goes on all the same."""
    topic = Topic()
    topic.add(0, *encoded(1, 100))
    positions = positions_of(await read_on(await opened(MemoryLog(topic), tmp_path), 1))
    topic.remove_before(0, 10)
    listener = Listener()
    source = await opened(MemoryLog(topic), tmp_path, positions, listener=listener)
    assert listener.told == ["lost", "passed"]
    assert await read_on(source) == []
    without = await opened(MemoryLog(topic), tmp_path, positions)
    topic.add(0, *encoded(2, 10))
    assert len(seqs(await read_on(without))) == 10


async def test_records_that_go_while_it_reads_are_found_out(tmp_path: Path) -> None:
    """It is to be sought anew, which tells the gap."""
    topic = Topic()
    topic.add(0, *encoded(1, 100))
    log = MemoryLog(topic)
    source = await opened(log, tmp_path)
    positions = positions_of(await read_on(source, 1))
    topic.remove_before(0, 8)
    with pytest.raises(ReassignedError, match="out of range"):
        await source.read(LIMIT)
    with capture_logs() as logs:
        await source.seek(positions)
    assert logs[0]["count"] == 5
    assert seqs(await read_on(source)) == list(range(80, 100))


async def test_a_failure_is_followed_by_a_new_connection(tmp_path: Path) -> None:
    """Wherever it happens; what was read and not committed comes again."""
    topic = Topic()
    topic.add(0, *encoded(1, 100))
    log = MemoryLog(topic)
    source = await opened(log, tmp_path)
    deliveries = await read_on(source, 2)
    log.faults["fetch"] = away()
    with pytest.raises(StreamUnavailableError):
        await source.read(LIMIT)
    for method in ("open", "partitions", "extents", "record_at", "seek"):
        log.faults[method] = away()
        with pytest.raises(StreamUnavailableError, match="no broker"):
            await source.seek(positions_of(deliveries))
    await source.seek(positions_of(deliveries))
    assert log.opened == 6
    assert seqs(deliveries + await read_on(source)) == list(range(100))


async def test_another_cluster_at_the_same_address_is_refused(tmp_path: Path) -> None:
    """Its offsets would mean nothing."""
    topic = Topic()
    log = MemoryLog(topic)
    source = await opened(log, tmp_path)
    log.faults["fetch"] = away()
    with pytest.raises(StreamUnavailableError):
        await source.read(LIMIT)
    topic.name = "other/topic"
    with pytest.raises(StreamReplacedError, match="another cluster"):
        await source.seek({})


async def test_partitions_that_are_added_are_read_from_their_beginning(tmp_path: Path) -> None:
    """As soon as it is sought anew."""
    topic = Topic()
    topic.add(0, *encoded(1, 50))
    source = await opened(MemoryLog(topic), tmp_path)
    deliveries = await read_on(source)
    topic.raise_partitions(3)
    topic.add(2, *encoded(2, 50))
    with pytest.raises(ReassignedError):
        await source.read(LIMIT)
    await source.seek(positions_of(deliveries))
    assert len(seqs(await read_on(source))) == 50


async def test_members_of_a_group_share_a_topic_and_take_over(tmp_path: Path) -> None:
    """What one has committed, the other does not read."""
    topic = Topic(2)
    topic.add(0, *encoded(1, 50))
    topic.add(1, *encoded(2, 50))
    one = await opened(MemoryLog(topic, shared=True), tmp_path)
    two = await opened(MemoryLog(topic, shared=True), tmp_path)
    with pytest.raises(ReassignedError):
        await one.read(LIMIT)
    await one.seek({})
    first, second = await read_on(one, 1), await read_on(two)
    assert {batch.producer_id[-1] for batch in batches(first)} == {1}
    assert {batch.producer_id[-1] for batch in batches(second)} == {2}
    await one.close()
    with pytest.raises(ReassignedError):
        await two.read(LIMIT)
    await two.seek(positions_of(first) | positions_of(second))
    assert len(seqs(first) + seqs(second) + seqs(await read_on(two))) == 100


async def test_what_is_no_batch_becomes_an_event_that_cannot_be_one(tmp_path: Path) -> None:
    """Under the same identity whenever it is read; what follows is handed out."""
    topic = Topic()
    good = encoded(1, 20)
    bad = [b"", b"rubbish", good[0][:-1], b"RSB9" + good[0][4:], b"RSC1 cut"]
    topic.add(0, good[0], *bad, good[1])
    first = batches(await read_on(await opened(MemoryLog(topic), tmp_path)))
    again = batches(await read_on(await opened(MemoryLog(topic, at_once=1), tmp_path)))
    assert first == again
    letters = first[1:-1]
    assert [batch.records[0][2] for batch in letters] == bad
    assert len({batch.producer_id for batch in letters}) == len(bad)
    assert {batch.records[0][1] for batch in letters} == {1_000_000_000}


async def test_payloads_come_out_of_chunks(tmp_path: Path) -> None:
    """In the same delivery or in another one; where they have not come, the batch stands in their place."""
    topic = Topic()
    whole = encoded(1, 10)[0]
    small, payload = claim_batch(whole)
    digest = small[40:72].hex()
    chunk = encode_chunk(ArtifactChunk(digest, len(payload), 0, payload))
    topic.add(0, small, chunk, small)
    lost, found = batches(await read_on(await opened(MemoryLog(topic), tmp_path)))
    assert [body for _, _, body in lost.records] == [small]
    assert (lost.producer_id, lost.records[0][0]) == (found.producer_id, 0)
    assert [(hole.first, hole.last, hole.reason) for hole in lost.holes] == [(1, 9, "payload_missing")]
    assert [seq for seq, _, _ in found.records] == list(range(10))


async def test_a_claim_of_one_event_leaves_no_hole(tmp_path: Path) -> None:
    """As the shipper sends them."""
    topic = Topic()
    topic.add(0, claim_batch(encoded(1, 1)[0])[0])
    (lost,) = batches(await read_on(await opened(MemoryLog(topic), tmp_path)))
    assert (len(lost.records), lost.holes) == (1, [])


async def test_it_ends_where_the_topic_ended_when_it_was_opened(tmp_path: Path) -> None:
    """Though more comes, on new partitions too, and though the last offsets hold no records."""
    topic = Topic(2)
    topic.add(0, *encoded(1, 50))
    topic.add(1, *encoded(2, 10), None, None)
    source = await opened(MemoryLog(topic), tmp_path, until=LATEST)
    topic.add(0, *encoded(3, 50))
    topic.raise_partitions(3)
    topic.add(2, *encoded(4, 50))
    with pytest.raises(ReassignedError):
        await source.read(LIMIT)
    await source.seek({})
    assert len(seqs(await read_on(source))) == 60


@pytest.mark.parametrize(
    ("first", "until", "count"),
    [
        ("earliest", "latest", 80),
        ("0=2,1=1", "latest", 50),
        ("1=3", "0=0", 0),
        ("0=3", "0=100", 50),
        ("2000", "latest", 20),
        ("earliest", "2000", 60),
        ("1970-01-01T00:00:02Z", "1970-01-01T01:00:02+01:00", 0),
        ("1970-01-01T00:00:02", "latest", 20),
    ],
)
async def test_a_part_of_a_topic_is_read(tmp_path: Path, first: str, until: str, count: int) -> None:
    """By offsets and by times."""
    topic = Topic(2)
    topic.add(0, *encoded(1, 50))
    topic.add(1, *encoded(2, 30))
    topic.times = {(0, 3): 2_000, (0, 4): 2_000}
    bounds = {"first": parse_bound(first, "--from"), "until": parse_bound(until, "--until")}
    source = await opened(MemoryLog(topic), tmp_path, **bounds)
    assert len(seqs(await read_on(source))) == count


@pytest.mark.parametrize("text", ["", "latest", "yesterday", "0=", "0=1,", "a=1", "0=-1", "1=2=3"])
def test_what_is_no_place_is_refused(text: str) -> None:
    """With what would be one."""
    with pytest.raises(InvalidInputError, match="it must be earliest, a time such as"):
        parse_bound(text, "--from")


def test_the_places_with_a_name_are_those_of_their_option() -> None:
    """A replay does not begin at the latest record."""
    assert parse_bound("earliest", "--from") is EARLIEST
    assert parse_bound("latest", "--until") is LATEST


async def test_a_partition_that_there_is_not_is_refused(tmp_path: Path) -> None:
    """The numbers that there are are named."""
    source = source_of(MemoryLog(Topic(2)), tmp_path, first=Bound("7=1", offsets={7: 1}))
    with pytest.raises(InvalidInputError, match="names partition 7, and the topic has none but 0 to 1"):
        await source.open("store")


async def test_positions_that_are_none_are_refused(tmp_path: Path) -> None:
    """Somebody has edited the database."""
    source = source_of(MemoryLog(Topic()), tmp_path)
    await source.open("store")
    with pytest.raises(CorruptDataError):
        await source.seek({"0": "nonsense"})


async def test_a_source_that_was_never_opened_can_be_closed(tmp_path: Path) -> None:
    """As after an opening that failed."""
    source = source_of(MemoryLog(Topic()), tmp_path)
    await asyncio.wait_for(source.close(), 10)
