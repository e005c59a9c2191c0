"""The sink on a real topic: each event once, whatever happens to the sink, the topic or the broker meanwhile."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from runstream_schemas.batch import claim_batch, encode_batches
from runstream_schemas.chunk import chunks_of
from runstream_schemas.errors import EnvironmentUnavailableError, StoreInUseError
from runstream_schemas.events import ArtifactLogged
from runstream_schemas.streams import KafkaStream
from runstream_sink import query
from runstream_sink.config import Options
from runstream_sink.consumer import Consumer
from runstream_sink.kafka.bounds import parse_bound
from runstream_sink.query.operations import list_dead_letters, list_positions
from runstream_sink.service import kafka_source, open_consumer, replay, run_sink
from runstream_sink.source import StreamReplacedError
from support.kafka import KafkaCluster
from support.stores import batch, reading
from support.topics import encoded, events_of, expected_digest, options_of, produce, store_digest
from support.waiting import until

TIMEOUT = 60


@asynccontextmanager
async def running(options: Options) -> AsyncIterator[tuple[Consumer, "asyncio.Task[None]"]]:
    """A sink that goes on until the end of the block; its task may end before, by an error."""
    assert isinstance(options.stream, KafkaStream)
    stop = asyncio.Event()
    opening = open_consumer(options, kafka_source(options, options.stream), stop=stop, patient=True)
    async with opening as (consumer, _):
        task = asyncio.create_task(consumer.run(once=False, stop=stop))
        try:
            yield consumer, task
        finally:
            stop.set()
            await asyncio.wait({task})
    if not task.cancelled():
        task.result()


async def applied(consumer: Consumer, events: int) -> None:
    """Wait until a sink has applied so many events."""
    await until(lambda: consumer.progress.events >= events, TIMEOUT)


async def test_events_of_a_topic_give_the_digest_of_the_same_events_without_it(
    broker: KafkaCluster, topic: str, tmp_path: Path
) -> None:
    """Several producers on several partitions, some of it sent before the sink was there and some while it runs."""
    await broker.create_topic(topic, 3)
    values = [(producer % 3, value) for producer in range(5) for value in encoded(producer, 200)]
    await produce(broker.bootstrap, topic, values[:40])
    options = options_of(broker.stream(topic), tmp_path / "store")
    async with running(options) as (consumer, _):
        await produce(broker.bootstrap, topic, values[40:])
        await applied(consumer, 1000)
    assert await store_digest(tmp_path / "store") == await expected_digest(
        tmp_path / "expected", [(producer, 200) for producer in range(5)]
    )


async def test_batches_that_are_sent_again_with_other_boundaries_change_nothing(
    broker: KafkaCluster, topic: str, tmp_path: Path
) -> None:
    """What overlaps is told event by event; on another partition, too."""
    await broker.create_topic(topic, 2)
    again = encoded(1, 100, 7)[3:]
    values = [*encoded(1, 60, 10), *again, *encoded(1, 100, 100)]
    await produce(broker.bootstrap, topic, [*((0, value) for value in values), *((1, value) for value in again)])
    progress = await run_sink(options_of(broker.stream(topic), tmp_path / "store"), once=True)
    assert (progress.events, progress.dead) == (100, 0)
    assert progress.duplicates > 100
    assert await store_digest(tmp_path / "store") == await expected_digest(tmp_path / "expected", [(1, 100)])


async def test_a_sink_that_is_cancelled_again_and_again_applies_each_event_once(
    broker: KafkaCluster, topic: str, tmp_path: Path
) -> None:
    """At any moment, while events come."""
    await broker.create_topic(topic, 2)
    options = options_of(broker.stream(topic), tmp_path / "store")
    for number in range(8):
        await produce(broker.bootstrap, topic, [(number % 2, value) for value in encoded(number, 50)])
        with contextlib.suppress(asyncio.CancelledError):
            async with running(options) as (_, task):
                await asyncio.wait({task}, timeout=number / 50)
                task.cancel()
    await run_sink(options, once=True)
    assert await store_digest(tmp_path / "store") == await expected_digest(
        tmp_path / "expected", [(number, 50) for number in range(8)]
    )


async def test_partitions_that_are_added_are_read_without_a_new_start(
    broker: KafkaCluster, topic: str, tmp_path: Path
) -> None:
    """Within some ten seconds; a producer whose partition is another one from then on is no problem."""
    await broker.create_topic(topic, 1)
    values = encoded(1, 200)
    options = options_of(broker.stream(topic), tmp_path / "store")
    async with running(options) as (consumer, _):
        await produce(broker.bootstrap, topic, [(0, value) for value in values[:10]])
        await applied(consumer, 100)
        await broker.raise_partitions(topic, 3)
        await produce(broker.bootstrap, topic, [(2, value) for value in values[10:]])
        await applied(consumer, 200)
    assert await store_digest(tmp_path / "store") == await expected_digest(tmp_path / "expected", [(1, 200)])


@pytest.mark.parametrize("size", [5, 10, 400], ids=["shorter", "as long", "grown past it"])
async def test_a_topic_that_was_made_anew_is_refused(
    broker: KafkaCluster, topic: str, tmp_path: Path, size: int
) -> None:
    """With a message that says what to do; the store stays as it was."""
    await broker.create_topic(topic, 1)
    await produce(broker.bootstrap, topic, [(0, value) for value in encoded(1, 100)])
    options = options_of(broker.stream(topic), tmp_path / "store")
    await run_sink(options, once=True)
    before = await store_digest(tmp_path / "store")
    await broker.delete_topic(topic)
    await broker.create_topic(topic, 1)
    await produce(broker.bootstrap, topic, [(0, value) for value in encoded(2, size, 1)])
    for once in (True, False):
        with pytest.raises(StreamReplacedError, match=r"made anew.*another --store"):
            await run_sink(options, once=once)
    assert await store_digest(tmp_path / "store") == before


async def test_a_topic_that_is_made_anew_while_the_sink_runs_ends_it(
    broker: KafkaCluster, topic: str, tmp_path: Path
) -> None:
    """It does not go on in the middle of what it does not know."""
    await broker.create_topic(topic, 1)
    await produce(broker.bootstrap, topic, [(0, value) for value in encoded(1, 100)])
    options = options_of(broker.stream(topic), tmp_path / "store")
    opening = running(options)
    consumer, task = await opening.__aenter__()
    await applied(consumer, 100)
    await broker.delete_topic(topic)
    await broker.create_topic(topic, 1)
    await produce(broker.bootstrap, topic, [(0, value) for value in encoded(2, 400, 1)])
    await asyncio.wait({task}, timeout=TIMEOUT)
    with pytest.raises(StreamReplacedError, match="made anew"):
        await opening.__aexit__(None, None, None)


async def test_unread_records_that_retention_removed_are_reported(
    broker: KafkaCluster, topic: str, tmp_path: Path
) -> None:
    """Partition and offsets at once, producers and counts when the rest is read; reading goes on."""
    await broker.create_topic(topic, 1)
    values = encoded(1, 100)
    options = options_of(broker.stream(topic), tmp_path / "store")
    await produce(broker.bootstrap, topic, [(0, value) for value in values[:3]])
    await run_sink(options, once=True)
    await produce(broker.bootstrap, topic, [(0, value) for value in values[3:]])
    await broker.delete_records(topic, 7)
    with capture_logs() as logs:
        progress = await run_sink(options, once=True)
    assert progress.events == 30
    (gone,) = [line for line in logs if line["event"].startswith("records that were not read are gone")]
    assert (gone["partition"], gone["first"], gone["last"], gone["count"]) == (0, 3, 6, 4)
    (lost,) = [line for line in logs if line["event"].startswith("events are lost: ")]
    assert (lost["producer"], lost["count"], lost["intervals"]) == (f"{1:032x}", 40, [(30, 69)])
    with capture_logs() as logs:
        await run_sink(options, once=True)
    assert [line["log_level"] for line in logs] == ["info", "info"]


async def test_records_that_are_no_batches_become_dead_letters_and_the_rest_is_applied(
    broker: KafkaCluster, topic: str, tmp_path: Path
) -> None:
    """With their bytes, under an identity that is the same whenever the topic is read."""
    await broker.create_topic(topic, 2)
    good = encoded(1, 40)
    bad = [
        b"",
        b"{}",
        good[0][:-1],
        good[0][:50] + b"x" + good[0][51:],
        b"RSB9" + good[0][4:],
        b"RSC1 cut",
        b"RSC7" * 20,
    ]
    values = [value for pair in zip(good * 2, bad, strict=False) for value in pair]
    await produce(broker.bootstrap, topic, [(1, value) for value in values])
    options = options_of(broker.stream(topic), tmp_path / "store")
    progress = await run_sink(options, once=True)
    assert (progress.events, progress.dead) == (40 + len(bad), len(bad))
    async with reading(tmp_path / "store") as reader:
        letters = [await query.operations.get_dead_letter(reader, one.id) for one in await list_dead_letters(reader)]
    assert sorted(letter.raw for letter in letters) == sorted(bad)
    again = options_of(broker.stream(topic), tmp_path / "again")
    replayed = await replay(again, lambda _: None)
    assert replayed.missing == []
    assert await store_digest(tmp_path / "again") == await store_digest(tmp_path / "store")


async def test_artifacts_and_large_payloads_come_in_chunks(broker: KafkaCluster, topic: str, tmp_path: Path) -> None:
    """Also where two producers send the same bytes, mixed; a replay finds them again."""
    await broker.create_topic(topic, 2)
    content = bytes(range(256)) * 20_000
    digest = sha256(content).hexdigest()
    run_id = f"{3:032x}"
    events = [*events_of(3, 5), ArtifactLogged(run_id, "model.bin", digest, len(content))]
    (whole,) = encode_batches(batch((3).to_bytes(16, "big"), events), 1 << 20)
    small, payload = claim_batch(whole.data)
    pieces = list(_chunks(content, 300_000))
    early = [(at % 2, value) for at, value in enumerate([*pieces, *pieces[:3]])]
    late = [(0, value) for value in (*pieces, *_chunks(payload, 64), small)]
    await produce(broker.bootstrap, topic, [*early, *late])
    options = options_of(broker.stream(topic), tmp_path / "store")
    progress = await run_sink(options, once=True)
    assert (progress.events, progress.dead) == (6, 0)
    assert (tmp_path / "store" / "artifacts" / run_id / "model.bin").read_bytes() == content
    await replay(options_of(broker.stream(topic), tmp_path / "again"), lambda _: None)
    assert await store_digest(tmp_path / "again") == await store_digest(tmp_path / "store")


async def test_a_batch_whose_payload_never_came_is_a_dead_letter_with_its_own_identity(
    broker: KafkaCluster, topic: str, tmp_path: Path
) -> None:
    """Nothing of it is missing, and what follows is applied."""
    await broker.create_topic(topic, 1)
    first, second = encoded(1, 20)
    small, _ = claim_batch(first)
    await produce(broker.bootstrap, topic, [(0, small), (0, second)])
    progress = await run_sink(options_of(broker.stream(topic), tmp_path / "store"), once=True)
    assert progress.dead == 1
    async with reading(tmp_path / "store") as reader:
        (letter,) = await list_dead_letters(reader)
    assert (letter.producer_id, letter.seq) == (f"{1:032x}", 0)


def _chunks(content: bytes, size: int) -> list[bytes]:
    rest = memoryview(content)

    def read(count: int) -> bytes:
        nonlocal rest
        data, rest = bytes(rest[:count]), rest[count:]
        return data

    return list(chunks_of(sha256(content).hexdigest(), len(content), read, size + 60))


async def test_a_sink_that_is_to_end_does_so_while_events_come(
    broker: KafkaCluster, topic: str, tmp_path: Path
) -> None:
    """It applies all that was there when it began."""
    await broker.create_topic(topic, 2)
    await produce(broker.bootstrap, topic, [(0, value) for value in encoded(1, 500)])
    over = False

    async def go_on() -> None:
        number = 2
        while not over:
            await produce(broker.bootstrap, topic, [(number % 2, value) for value in encoded(number, 50)])
            number += 1

    producing = asyncio.create_task(go_on())
    try:
        for _ in range(3):
            progress = await asyncio.wait_for(
                run_sink(options_of(broker.stream(topic), tmp_path / "store"), once=True), TIMEOUT
            )
    finally:
        over = True
        await producing
    assert progress.failure == ""
    async with reading(tmp_path / "store") as reader:
        assert len(await query.metric_history(reader, f"{1:032x}", "m")) == 450


async def test_a_replay_of_a_part_brings_what_lies_in_it(broker: KafkaCluster, topic: str, tmp_path: Path) -> None:
    """By offsets and by times; what was left out at the beginning is not missing."""
    await broker.create_topic(topic, 2)
    await produce(broker.bootstrap, topic, [(0, value) for value in encoded(1, 100)])
    stream = broker.stream(topic)
    records = await broker.read(topic)
    between = records[-1].timestamp + 1
    while True:  # so that what comes now is later
        await produce(broker.bootstrap, topic, [(1, encoded(2, 100, 100)[0])])
        if (await broker.read(topic))[-1].timestamp >= between:
            break
    cases = [
        ("earliest", "latest", 200),
        ("0=3,1=1000", "0=7", 40),
        ("0=1000", "latest", 100),
        ("earliest", str(between), 100),
        (str(between), "latest", 100),
        ("2100-01-01", "latest", 0),
    ]
    for at, (first, last, events) in enumerate(cases):
        replayed = await replay(
            options_of(stream, tmp_path / f"store{at}"),
            lambda _: None,
            first=parse_bound(first, "--from"),
            until=parse_bound(last, "--until"),
        )
        assert (replayed.progress.events, replayed.missing) == (events, []), (first, last)
    assert await broker.committed("runstream-x") == {}


async def test_a_replay_names_what_the_topic_no_longer_holds(broker: KafkaCluster, topic: str, tmp_path: Path) -> None:
    """By producer and interval, as for a queue."""
    await broker.create_topic(topic, 1)
    await produce(broker.bootstrap, topic, [(0, value) for value in encoded(1, 100)])
    await broker.delete_records(topic, 4)
    replayed = await replay(options_of(broker.stream(topic), tmp_path / "store"), lambda _: None)
    assert [(held.producer_id, held.intervals) for held in replayed.missing] == [((1).to_bytes(16, "big"), [(0, 39)])]


async def test_the_group_is_told_how_far_its_sink_is(broker: KafkaCluster, topic: str, tmp_path: Path) -> None:
    """After the store, for tools that show a group's lag."""
    await broker.create_topic(topic, 2)
    await produce(broker.bootstrap, topic, [(1, value) for value in encoded(1, 100)])
    await run_sink(options_of(broker.stream(topic), tmp_path / "store"), once=True)
    async with reading(tmp_path / "store") as reader:
        group = f"runstream-{reader.store_id}"
        (position,) = await list_positions(reader)
    committed = await broker.committed(group)
    assert {place.partition: offset for place, offset in committed.items()} == {1: 10}
    assert position.part == "1"
    assert position.position.startswith("10:")
    assert position.stream.endswith(f"/{topic}")


async def test_a_second_sink_on_a_store_is_refused_or_stands_by(
    broker: KafkaCluster, topic: str, tmp_path: Path
) -> None:
    """The message names the ways out; a standby takes over when the first one ends."""
    await broker.create_topic(topic, 1)
    values = encoded(1, 100)
    options = options_of(broker.stream(topic), tmp_path / "store")
    with capture_logs() as logs:
        async with running(options) as (consumer, _):
            await produce(broker.bootstrap, topic, [(0, value) for value in values[:5]])
            await applied(consumer, 50)
            with pytest.raises(StoreInUseError, match=r"--standby.*PostgreSQL"):
                await run_sink(options, once=False)
            standby = asyncio.create_task(run_sink(options, once=True, standby=True))
            await until(lambda: any("standing by" in line["event"] for line in logs), TIMEOUT)
            await produce(broker.bootstrap, topic, [(0, value) for value in values[5:6]])
            await applied(consumer, 60)
        await produce(broker.bootstrap, topic, [(0, value) for value in values[6:]])
        await asyncio.wait_for(standby, TIMEOUT)
    await run_sink(options, once=True)
    assert any("taking over" in line["event"] for line in logs)
    assert await store_digest(tmp_path / "store") == await expected_digest(tmp_path / "expected", [(1, 100)])


async def test_a_sink_goes_on_by_itself_when_the_broker_comes_back(
    proxied: KafkaCluster, topic: str, tmp_path: Path
) -> None:
    """It says that the stream cannot be read, and when it can be again."""
    await proxied.create_topic(topic, 2)
    options = options_of(proxied.stream(topic), tmp_path / "store")
    with capture_logs() as logs:
        async with running(options) as (consumer, _):
            await produce(proxied.bootstrap, topic, [(0, value) for value in encoded(1, 100)])
            await applied(consumer, 100)
            proxied.nodes[1].kill()
            await until(lambda: consumer.progress.failure, TIMEOUT)
            await proxied.restart(1)
            await produce(proxied.bootstrap, topic, [(1, value) for value in encoded(2, 100)])
            await applied(consumer, 200)
    told = [line["event"] for line in logs]
    assert "the stream cannot be read; nothing is lost, trying again" in told
    assert "the stream can be read again" in told
    assert await store_digest(tmp_path / "store") == await expected_digest(tmp_path / "expected", [(1, 100), (2, 100)])


async def test_a_sink_waits_for_a_topic_and_one_that_is_to_end_does_not(
    broker: KafkaCluster, topic: str, tmp_path: Path
) -> None:
    """It does not make the topic either."""
    options = options_of(broker.stream(topic), tmp_path / "store")
    with pytest.raises(EnvironmentUnavailableError, match=f"{topic} is not there"):
        await run_sink(options, once=True)
    with capture_logs() as logs:

        async def make() -> None:
            await until(lambda: any("cannot be opened" in line["event"] for line in logs), TIMEOUT)
            await broker.create_topic(topic, 1)
            await produce(broker.bootstrap, topic, [(0, value) for value in encoded(1, 100)])

        making = asyncio.create_task(make())
        async with running(options) as (consumer, _):
            await making
            await applied(consumer, 100)
