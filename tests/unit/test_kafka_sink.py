"""From a topic in memory into a store: fences, failures, gaps by producer, and letters that are retried."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from runstream_schemas.batch import claim_batch
from runstream_schemas.chunk import ArtifactChunk
from runstream_sink.artifacts import LocalArtifacts
from runstream_sink.consumer import Consumer
from runstream_sink.dead_letters import retry
from runstream_sink.kafka.chunks import ChunkStore
from runstream_sink.kafka.gaps import GapReporter
from runstream_sink.kafka.log import Extent
from runstream_sink.kafka.source import KafkaSource
from runstream_sink.query.operations import list_dead_letters
from runstream_sink.source import StreamReplacedError
from runstream_sink.store.sqlite import SqliteStore
from runstream_sink.verify import verify
from support.memory_log import MemoryLog, Topic, away
from support.stores import opened, reading
from support.topics import encoded, expected_digest, store_digest
from support.waiting import until

pytestmark = pytest.mark.slow

TIMEOUT = 60


@asynccontextmanager
async def consuming(log: MemoryLog, store: SqliteStore) -> AsyncIterator[tuple[Consumer, KafkaSource]]:
    """A consumer of a topic in memory."""
    root = store.location.artifacts
    root.mkdir(exist_ok=True)
    source = KafkaSource(log, ChunkStore(root / ".staging"), listener=GapReporter(store.location))
    await source.open(store.store_id)
    consumer = Consumer(source, store, LocalArtifacts(root, root / ".staging"), root)
    try:
        yield consumer, source
    finally:
        await consumer.close()
        await source.close()


async def follow(consumer: Consumer, stop: asyncio.Event) -> None:
    """Run until it is stopped."""
    await consumer.run(once=False, stop=stop)


async def test_two_sinks_that_believe_to_have_the_same_partition_apply_each_event_once(tmp_path: Path) -> None:
    """Whoever commits first wins; the other one goes back, says so, and goes on."""
    topic = Topic(2)
    async with opened(tmp_path / "store") as store:
        one, two = MemoryLog(topic), MemoryLog(topic, at_once=1)
        stop = asyncio.Event()
        with capture_logs() as logs:
            async with consuming(one, store) as (first, _), consuming(two, store) as (second, _):
                tasks = [asyncio.create_task(follow(consumer, stop)) for consumer in (first, second)]
                for number in range(20):
                    for value in encoded(number, 50):
                        topic.add(number % 2, value)
                        await asyncio.sleep(0.001)
                await until(lambda: first.progress.events + second.progress.events >= 1000, TIMEOUT)
                stop.set()
                await asyncio.gather(*tasks)
    told = {line["event"] for line in logs}
    assert "what was read cannot be committed, as another sink was faster; nothing is lost, trying again" in told
    assert await store_digest(tmp_path / "store") == await expected_digest(
        tmp_path / "expected", [(number, 50) for number in range(20)]
    )


async def test_sinks_share_a_topic_while_members_come_and_go(tmp_path: Path) -> None:
    """One goes on as the others join and leave at any moment."""
    topic = Topic(3)
    for number in range(30):
        topic.add(number % 3, *encoded(number, 100))
        if number % 4 == 0:
            topic.add((number + 1) % 3, *encoded(number, 100, 7)[3:])
    async with opened(tmp_path / "store") as store:
        stop = asyncio.Event()
        async with consuming(MemoryLog(topic, shared=True), store) as (staying, _):
            task = asyncio.create_task(follow(staying, stop))
            for number in range(10):
                leaving = asyncio.Event()
                async with consuming(MemoryLog(topic, shared=True, at_once=1), store) as (other, _):
                    member = asyncio.create_task(follow(other, leaving))
                    await asyncio.wait({member}, timeout=number / 100)
                    leaving.set()
                    await member
            ends = [len(values) for values in topic.partitions]
            async with asyncio.timeout(TIMEOUT):
                while await _offsets(store) != ends:  # noqa: ASYNC110 - nobody could set an event
                    await asyncio.sleep(0.01)
            stop.set()
            await task
    assert await store_digest(tmp_path / "store") == await expected_digest(
        tmp_path / "expected", [(number, 100) for number in range(30)]
    )


async def _offsets(store: SqliteStore) -> list[int]:
    positions = await store.positions("kafka:cluster/topic")
    return [int(positions.get(str(partition), "0:").partition(":")[0]) for partition in range(3)]


async def test_a_stream_that_is_away_is_waited_for(tmp_path: Path) -> None:
    """It is told as what it is, and the connection is made anew."""
    topic = Topic()
    log = MemoryLog(topic)
    topic.add(0, *encoded(1, 50))
    async with opened(tmp_path / "store") as store, consuming(log, store) as (consumer, source):
        await source.seek({})
        log.faults = {"fetch": away(), "extents": away()}
        stop = asyncio.Event()
        with capture_logs() as logs:
            task = asyncio.create_task(follow(consumer, stop))
            await until(lambda: consumer.progress.events == 50, TIMEOUT)
            stop.set()
            await task
    told = [line["event"] for line in logs]
    assert told.count("the stream cannot be read; nothing is lost, trying again") == 2
    assert told[-1] == "the stream can be read again"


async def test_another_topic_ends_the_sink_at_once(tmp_path: Path) -> None:
    """Waiting would not help."""
    topic = Topic()
    topic.add(0, *encoded(1, 50))
    async with opened(tmp_path / "store") as store:
        async with consuming(MemoryLog(topic), store) as (consumer, _):
            while await consumer.step():
                pass
        topic.partitions[0] = list(encoded(2, 100))
        async with consuming(MemoryLog(topic), store) as (consumer, _):
            with pytest.raises(StreamReplacedError):
                await asyncio.wait_for(follow(consumer, asyncio.Event()), TIMEOUT)


async def test_an_end_that_lags_for_a_moment_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leader that is new may not know yet how far it is; that is no other topic."""
    monkeypatch.setattr("runstream_sink.kafka.source._SECOND_LOOK", 0.0)
    topic = Topic()
    topic.add(0, *encoded(1, 50))

    class Lagging(MemoryLog):
        async def extents(self, partitions: Iterable[int]) -> dict[int, Extent]:
            """The first time, all but the last record."""
            found = await super().extents(partitions)
            looked.append(found)
            return found if len(looked) > 1 else {p: Extent(begin, end - 1) for p, (begin, end) in found.items()}

    looked: list[dict[int, Extent]] = []
    async with opened(tmp_path / "store") as store:
        async with consuming(MemoryLog(topic), store) as (consumer, _):
            while await consumer.step():
                pass
        async with consuming(Lagging(topic), store) as (consumer, _):
            assert not await consumer.step()
    assert len(looked) == 2


async def test_lost_events_are_told_by_producer_and_what_was_missing_before_is_not(tmp_path: Path) -> None:
    """With counts and intervals; and how many there are in all."""
    topic = Topic()
    topic.add(0, *encoded(1, 50)[:2], *encoded(1, 50)[3:])  # 20 to 29 are missing from the first
    async with opened(tmp_path / "store") as store:
        async with consuming(MemoryLog(topic), store) as (consumer, _):
            while await consumer.step():
                pass
        topic.add(0, *encoded(1, 100)[5:], *encoded(2, 50))
        topic.remove_before(0, 12)
        with capture_logs() as logs:
            async with consuming(MemoryLog(topic), store) as (consumer, _):
                while await consumer.step():
                    pass
    lost = [line for line in logs if line["event"] == "events are lost: they are gone from the topic"]
    assert [(line["producer"], line["count"], line["intervals"]) for line in lost] == [(f"{2:032x}", 30, [(0, 29)])]
    assert logs[-1]["event"] == "events are lost, of all producers"
    assert (logs[-1]["producers"], logs[-1]["count"]) == (1, 30)


async def test_letters_of_records_are_retried_when_they_can_be_decoded(tmp_path: Path) -> None:
    """A payload has come; a damaged one stays dead.  Nothing is wrong with the store before or after."""
    topic = Topic()
    first, second = encoded(1, 20)
    small, payload = claim_batch(first)
    single, one = claim_batch(encoded(2, 1)[0])
    topic.add(0, small, single, b"rubbish", b"RSC1 cut", second[:-1], second)
    root = tmp_path / "store" / "artifacts"
    async with opened(tmp_path / "store") as store:
        async with consuming(MemoryLog(topic), store) as (consumer, _):
            while await consumer.step():
                pass
        async with reading(tmp_path / "store") as reader:
            letters = await list_dead_letters(reader)
            assert sorted(letter.reason for letter in letters) == [*["payload_missing"] * 2, *["undecodable"] * 3]
            report = await verify(reader, root)
            assert report.ok, report.findings
            chunks = ChunkStore(root / ".staging")
            for batch, content in ((small, payload), (single, one)):
                chunks.add(ArtifactChunk(batch[40:72].hex(), len(content), 0, content))
            artifacts = LocalArtifacts(root, root / ".staging")
            outcomes = await retry(store, reader, artifacts, root, None, chunks.read)
            assert sorted(outcome.applied for outcome in outcomes) == [False] * 3 + [True] * 2
            assert len(await list_dead_letters(reader)) == 3
            assert (await verify(reader, root)).ok


async def test_a_batch_of_a_newer_version_is_applied_by_that_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under its own identities, and what came by another way meanwhile is not applied twice."""
    topic = Topic()
    first, second = encoded(1, 20)
    topic.add(0, b"RSB2" + first[4:], second, b"RSB2" + second[4:])
    root = tmp_path / "store" / "artifacts"
    async with opened(tmp_path / "store") as store:
        async with consuming(MemoryLog(topic), store) as (consumer, _):
            while await consumer.step():
                pass
        monkeypatch.setattr(
            "runstream_sink.unreadable.decode_batch", lambda data, fetch: _decode(b"RSB1" + data[4:], fetch)
        )
        async with reading(tmp_path / "store") as reader:
            artifacts = LocalArtifacts(root, root / ".staging")
            outcomes = await retry(store, reader, artifacts, root, None)
            assert [outcome.applied for outcome in outcomes] == [True, True]
    async with opened(tmp_path / "store") as store:
        (held,) = (await store.seen([(1).to_bytes(16, "big")])).values()
    assert list(held) == [(0, 19)]


def _decode(data: bytes, fetch: object) -> object:
    from runstream_schemas.batch import decode_batch

    return decode_batch(data, fetch)  # type: ignore[arg-type]
