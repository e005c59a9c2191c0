"""What the service makes of a stream in Kafka without any broker: refusals, gaps, and what it waits for."""

import asyncio
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from runstream_schemas.errors import EnvironmentUnavailableError, InvalidInputError
from runstream_sink import service
from runstream_sink.kafka.bounds import LATEST, Bound
from runstream_sink.kafka.source import KafkaSource
from runstream_sink.missing import find_missing
from runstream_sink.service import open_consumer, replay, run_sink
from runstream_sink.source import StreamUnavailableError
from support.memory_log import MemoryLog, Topic
from support.stores import batch, ingest, opened, reading
from support.topics import encoded, events_of, options_of

STREAM = "kafka://127.0.0.1:1/topic"


async def test_a_client_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to install."""
    monkeypatch.delitem(sys.modules, "runstream_sink.kafka.client", raising=False)
    monkeypatch.setitem(sys.modules, "aiokafka", None)
    with pytest.raises(EnvironmentUnavailableError, match=r"pip install 'runstream\[kafka,sink\]'"):
        await run_sink(options_of(STREAM, tmp_path / "store"), once=True)


async def test_a_queue_has_no_places_to_begin_or_end_at(tmp_path: Path) -> None:
    """They are a topic's."""
    options = options_of(f"queue:{tmp_path / 'queue'}", tmp_path / "store")
    with pytest.raises(InvalidInputError, match="--from and --until are for topics"):
        await replay(options, lambda _: None, until=Bound("5", 5))


async def test_gaps_are_told_with_and_without_those_at_the_beginning(tmp_path: Path) -> None:
    """Where a replay began later, those were not asked for."""
    async with opened(tmp_path / "store") as store:
        for first in (10, 30):
            await ingest(store, [batch((1).to_bytes(16, "big"), events_of(1, 50)[first : first + 10], first)])
    async with reading(tmp_path / "store") as reader:
        (all_of_them,) = await find_missing(reader)
        (later,) = await find_missing(reader, leading=False)
    assert (all_of_them.intervals, all_of_them.events) == ([(0, 9), (20, 29)], 20)
    assert (later.intervals, later.events) == ([(20, 29)], 10)


async def test_what_waiting_cannot_mend_ends_a_patient_sink_at_its_start(tmp_path: Path) -> None:
    """A wrong password, say; anything else is waited for, until the stop."""
    log = MemoryLog(Topic())
    source = KafkaSource(log, service.ChunkStore(tmp_path / "chunks"))
    options = options_of(STREAM, tmp_path / "store")
    log.faults["open"] = StreamUnavailableError("the brokers refuse the login", may_retry=False)
    with pytest.raises(StreamUnavailableError, match="refuse the login"):
        async with open_consumer(options, source, stop=asyncio.Event(), patient=True):
            pass
    log.faults["open"] = StreamUnavailableError("no broker answers")
    with capture_logs() as logs:
        async with open_consumer(options, source, stop=asyncio.Event(), patient=True) as (consumer, _):
            log.topic.add(0, *encoded(1, 50))
            assert await consumer.step()
    assert [line["reason"] for line in logs if "cannot be opened" in line["event"]] == ["no broker answers"]


async def test_bytes_from_chunks_are_cleaned_up_as_the_retention_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the end of a sink, too; it says how many."""
    topic = Topic()
    topic.add(0, *encoded(1, 50))
    monkeypatch.setattr(service, "kafka_log", lambda *_, **__: MemoryLog(topic))
    options = options_of(STREAM, tmp_path / "store")._replace(retention_age=-1.0)
    old = options.staging / "ab" / ("ab" * 32)
    old.parent.mkdir(parents=True)
    old.write_bytes(b"old")
    with capture_logs() as logs:
        progress = await run_sink(options, once=True)
    assert progress.events == 50
    assert [line["staged"] for line in logs if line["event"] == "freed"] == [1]
    assert not old.exists()
    fresh = options_of(STREAM, tmp_path / "fresh")
    assert (await replay(fresh, lambda _: None, until=LATEST)).progress.events == 50
