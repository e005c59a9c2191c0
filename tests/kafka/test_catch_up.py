"""A sink that is far behind its topic catches up, and needs no more memory for it however far that is."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from runstream_schemas.batch import Batch, encode_batches
from runstream_schemas.events import MetricLogged, encode_event
from runstream_schemas.segment import Record
from runstream_sink.query import list_positions
from support import chaos_sink
from support.environment import unmeasured
from support.kafka import KafkaCluster
from support.stores import reading

PRODUCERS = 10
PARTITIONS = 4
BATCH = 1_000
ALLOWED = 300_000_000
TIMEOUT = 3_600
TIME = 1_795_500_000_000


def _values(producer: int, count: int) -> Iterator[bytes]:
    """Batches of different points."""
    key = producer.to_bytes(16, "big")
    for first in range(0, count, BATCH):
        records = [_record(producer, step) for step in range(first, first + BATCH)]
        yield from (one.data for one in encode_batches(Batch(key, records, []), 1 << 20))


def _record(producer: int, step: int) -> Record:
    event = MetricLogged(f"{producer:032x}", f"m{step % 10}", step / 7, step, TIME + step)
    return step, (TIME + step) * 1_000_000, encode_event(event)


async def _fill(servers: str, topic: str, count: int) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all", compression_type="zstd")
    await producer.start()
    try:
        for number in range(PRODUCERS):
            for value in _values(number, count // PRODUCERS):
                await producer.send(topic, value, partition=number % PARTITIONS)
    finally:
        await producer.stop()


async def _peak(stream: str, store: Path) -> int:
    """The most memory, in bytes, that a sink needs which applies all that is there."""
    program = [sys.executable, chaos_sink.__file__, stream, str(store), "once"]
    environment = unmeasured() | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = await asyncio.to_thread(
        subprocess.run, program, env=environment, capture_output=True, text=True, check=False, timeout=TIMEOUT
    )
    assert done.returncode == 0, done.stderr[-10_000:]
    return int(done.stdout)


@pytest.mark.parametrize("count", [300_000, pytest.param(10_000_000, marks=pytest.mark.long)])
async def test_a_sink_that_is_far_behind_catches_up_in_little_memory(
    broker: KafkaCluster, topic: str, tmp_path: Path, count: int
) -> None:
    """It takes less than 300 MB more than one that finds nothing to do, and has everything then."""
    await broker.create_topic(topic, PARTITIONS)
    idle = await _peak(broker.stream(topic), tmp_path / "idle")
    await _fill(broker.bootstrap, topic, count)
    assert await _peak(broker.stream(topic), tmp_path / "store") - idle < ALLOWED
    async with reading(tmp_path / "store") as reader:
        assert len(await list_positions(reader)) == PARTITIONS
        seen = [row for rows in [rows async for rows in reader.stream("all_seen")] for row in rows]
    assert sorted(seen) == [(number.to_bytes(16, "big"), 0, count // PRODUCERS - 1) for number in range(PRODUCERS)]
