"""The log and the source on a real broker: groups that share a topic, what is out of range, what is away."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from runstream_schemas.streams import KafkaStream, parse_stream
from runstream_sink.artifacts import LocalArtifacts
from runstream_sink.consumer import Consumer
from runstream_sink.kafka.chunks import ChunkStore
from runstream_sink.kafka.client import KafkaLog
from runstream_sink.kafka.log import Extent, LogRecord, OutOfRangeError
from runstream_sink.kafka.source import KafkaSource
from runstream_sink.source import ReassignedError, StreamUnavailableError
from runstream_sink.store.sqlite import SqliteStore
from support.kafka import PROXIED, KafkaCluster
from support.stores import opened
from support.topics import encoded, expected_digest, produce, store_digest
from support.waiting import until

TIMEOUT = 60


def stream_of(cluster: KafkaCluster, topic: str, listener: str = "PLAINTEXT") -> KafkaStream:
    """A topic."""
    stream = parse_stream(cluster.stream(topic, listener))
    assert isinstance(stream, KafkaStream)
    return stream


@asynccontextmanager
async def connected(cluster: KafkaCluster, topic: str, **options: bool) -> AsyncIterator[KafkaLog]:
    """An open log."""
    log = KafkaLog(stream_of(cluster, topic), **options)
    await log.open("group")
    try:
        yield log
    finally:
        await log.close()


async def read(log: KafkaLog, count: int) -> list[LogRecord]:
    """So many records."""
    records: list[LogRecord] = []
    async with asyncio.timeout(TIMEOUT):
        while len(records) < count:
            records += await log.fetch(1 << 20, 0.2)
    return records


async def test_a_log_reads_from_any_offset_in_order(broker: KafkaCluster, topic: str) -> None:
    """It knows where partitions begin and end, and what lies at an offset."""
    await broker.create_topic(topic, 2)
    values = encoded(1, 200, 1)
    await produce(broker.bootstrap, topic, [(1, value) for value in values])
    async with connected(broker, topic, grouped=False) as log:
        assert log.name.endswith(f"/{topic}")
        assert await log.partitions() == {0, 1}
        assert await log.extents([0, 1]) == {0: Extent(0, 0), 1: Extent(0, 200)}
        assert {p: record.value for p, record in (await log.record_at({1: 77})).items()} == {1: values[77]}
        for start in (0, 150, 199, 3):
            log.seek({0: 0, 1: start})
            records = await read(log, 200 - start)
            assert [record.value for record in records] == values[start:]
            assert [record.offset for record in records] == list(range(start, 200))
        assert await log.reached() == {0: 0, 1: 200}
        times = await log.offsets_at({0: 0, 1: records[0].timestamp})
        assert times[0] is None
        assert times[1] is not None
        await log.commit({1: 200})


async def test_a_log_is_sought_while_the_coordinator_of_its_group_is(broker: KafkaCluster, topic: str) -> None:
    """Which begins when the log is opened; partitions that are not named are not read."""
    await broker.create_topic(topic, 2)
    values = encoded(1, 20, 1)
    await produce(broker.bootstrap, topic, [(number % 2, value) for number, value in enumerate(values)])
    for _ in range(5):
        async with connected(broker, topic) as log:
            for offsets in ({0: 0}, {1: 0}, {0: 0, 1: 0}, {1: 3}):
                log.seek(offsets)
                await asyncio.sleep(0)
            assert [(one.partition, one.offset) for one in await read(log, 7)] == [(1, at) for at in range(3, 10)]
            await log.commit({1: 10})
            assert await log.fetch(1 << 20, 0.2) == []
            assert await log.reached() == {1: 10}


async def test_a_fetch_stops_at_its_limit(broker: KafkaCluster, topic: str) -> None:
    """Some records more at most; the rest comes next, and nothing in between is lost."""
    await broker.create_topic(topic, 3)
    value = encoded(1, 4000, 4000)[0]
    await produce(broker.bootstrap, topic, [(number % 3, value) for number in range(60)])
    async with connected(broker, topic) as log:
        log.seek({0: 0, 1: 0, 2: 0})
        found: list[LogRecord] = []
        while len(found) < 60:
            records = await log.fetch(3 * len(value), 0.2)
            assert len(records) <= 3 + 8
            found += records
    for partition in range(3):
        assert [record.offset for record in found if record.partition == partition] == list(range(20))


async def test_an_offset_that_is_not_there_is_out_of_range(broker: KafkaCluster, topic: str) -> None:
    """Removed, or not yet there; the log can be used on."""
    await broker.create_topic(topic, 1)
    await produce(broker.bootstrap, topic, [(0, value) for value in encoded(1, 50)])
    await broker.delete_records(topic, 3)
    async with connected(broker, topic) as log:
        for offset in (0, 77):
            log.seek({0: offset})
            with pytest.raises(OutOfRangeError):
                await read(log, 1)
        log.seek({0: 3})
        assert [record.offset for record in await read(log, 2)] == [3, 4]


async def test_partitions_of_somebody_else_cannot_be_sought(broker: KafkaCluster, topic: str) -> None:
    """Two members of a group have one each; when one leaves the other has both."""
    await broker.create_topic(topic, 2)
    async with connected(broker, topic, shared=True) as one:
        assert await one.partitions() == {0, 1}
        assert not one.whole
        async with connected(broker, topic, shared=True) as two:
            async with asyncio.timeout(TIMEOUT):
                theirs = await asyncio.gather(*(_share(log, 1) for log in (one, two)))
            assert sorted(map(sorted, theirs)) == [[0], [1]]
            (other,) = theirs[1]
            with pytest.raises(ReassignedError):
                one.seek({other: 0})
        async with asyncio.timeout(TIMEOUT):
            assert await _share(one, 2) == {0, 1}


async def _share(log: KafkaLog, count: int) -> frozenset[int]:
    """Read until the group has given this member so many partitions."""
    while len(partitions := await log.partitions()) != count:
        await log.fetch(1, 0.1)
    return partitions


async def test_brokers_that_are_cut_off_are_noticed_while_nothing_comes(proxied: KafkaCluster, topic: str) -> None:
    """And closing ends, though nobody answers."""
    await proxied.create_topic(topic, 1)
    log = KafkaLog(stream_of(proxied, topic, PROXIED))
    await log.open("group")
    log.seek({0: 0})
    proxied.proxies[1].add_toxic("timeout", timeout=0)  # nothing passes, and no connection ends
    with pytest.raises(StreamUnavailableError):
        await read(log, 1)
    await asyncio.wait_for(log.close(), TIMEOUT)
    with pytest.raises(StreamUnavailableError) as raised:
        await log.open("group")
    assert raised.value.may_retry


async def test_a_leader_that_dies_is_replaced_and_the_topic_compared_again(
    cluster: KafkaCluster, topic: str, tmp_path: Path
) -> None:
    """A sink goes on with the next leader; each event is applied once."""
    await cluster.create_topic(topic, 2)
    over = asyncio.Event()
    producers = 0

    async def go_on() -> None:
        nonlocal producers
        while not over.is_set():
            await produce(cluster.servers(), topic, [(producers % 2, value) for value in encoded(producers, 50)])
            producers += 1

    async with opened(tmp_path / "store") as store:
        (tmp_path / "artifacts").mkdir()
        source = KafkaSource(KafkaLog(stream_of(cluster, topic)), ChunkStore(tmp_path / "chunks"))
        async with running(source, store, tmp_path / "artifacts") as consumer:
            producing = asyncio.create_task(go_on())
            for partition in (0, 1):
                before = consumer.progress.events
                await until(lambda before=before: consumer.progress.events > before, TIMEOUT)  # type: ignore[misc]
                cluster.nodes[await cluster.leader(topic, partition)].kill()
                before = consumer.progress.events
                await until(lambda before=before: consumer.progress.events > before + 100, TIMEOUT)  # type: ignore[misc]
                await cluster.restore()
                await cluster.in_sync(topic)
            over.set()
            await producing
            await until(lambda: consumer.progress.events >= 50 * producers, TIMEOUT)
    expected = await expected_digest(tmp_path / "expected", [(number, 50) for number in range(producers)])
    assert await store_digest(tmp_path / "store") == expected


@asynccontextmanager
async def running(source: KafkaSource, store: SqliteStore, root: Path) -> AsyncIterator[Consumer]:
    """A sink in this process."""
    await source.open(store.store_id)
    stop = asyncio.Event()
    consumer = Consumer(source, store, LocalArtifacts(root, root / ".staging"), root)
    task = asyncio.create_task(consumer.run(once=False, stop=stop))
    try:
        yield consumer
    finally:
        stop.set()
        await asyncio.wait({task})
        await consumer.close()
        await source.close()
    task.result()


@asynccontextmanager
async def member(cluster: KafkaCluster, topic: str, store: SqliteStore, root: Path) -> AsyncIterator[Consumer]:
    """One of several sinks on one store, in this process."""
    source = KafkaSource(KafkaLog(stream_of(cluster, topic), shared=True), ChunkStore(root / ".staging"))
    async with running(source, store, root) as consumer:
        yield consumer


async def test_sinks_of_one_group_share_a_topic_and_apply_each_event_once(
    broker: KafkaCluster, topic: str, tmp_path: Path
) -> None:
    """While members come and go and events flow: what a member lost the right to commit is rolled back."""
    await broker.create_topic(topic, 4)
    (tmp_path / "artifacts").mkdir()
    over = asyncio.Event()
    producers = 0

    async def go_on() -> None:
        nonlocal producers
        while not over.is_set():
            values = encoded(producers, 200)
            await produce(broker.bootstrap, topic, [(producers % 4, value) for value in values])
            if producers % 3 == 0:  # again, elsewhere
                await produce(broker.bootstrap, topic, [((producers + 1) % 4, value) for value in values[5:]])
            producers += 1

    async with opened(tmp_path / "store") as store, AsyncExitStack() as stack:
        one = await stack.enter_async_context(member(broker, topic, store, tmp_path / "artifacts"))
        producing = asyncio.create_task(go_on())
        for _ in range(3):
            async with member(broker, topic, store, tmp_path / "artifacts") as two:
                before = one.progress.commits, two.progress.commits
                await until(lambda two=two, before=before: two.progress.commits > before[1] + 2, TIMEOUT)  # type: ignore[misc]
            commits = one.progress.commits
            await until(lambda commits=commits: one.progress.commits > commits + 2, TIMEOUT)  # type: ignore[misc]
        over.set()
        await producing
        await _all_applied(store, broker, topic)
    expected = await expected_digest(tmp_path / "expected", [(number, 200) for number in range(producers)])
    assert await store_digest(tmp_path / "store") == expected


async def _all_applied(store: SqliteStore, broker: KafkaCluster, topic: str) -> None:
    async with connected(broker, topic, grouped=False) as log:
        ends = {str(p): extent.end for p, extent in (await log.extents(range(4))).items()}
        name = f"kafka:{log.name}"
    async with asyncio.timeout(TIMEOUT):
        while ends != {part: int(text.partition(":")[0]) for part, text in (await store.positions(name)).items()}:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.Event().wait(), 0.02)
