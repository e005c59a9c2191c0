"""A sink that is far behind: it catches up in bounded memory."""

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
from support.environment import unmeasured
from support.kafka import KafkaCluster

EVENTS = int(os.environ.get("RUNSTREAM_TEST_BACKLOG", "10_000_000"))
BATCH = 1_000
PRODUCERS = 8
PROGRAM = r"""
import asyncio, re, sys
from pathlib import Path
import aiokafka
from runstream_sink.config import resolve
from runstream_sink.kafka import client
from runstream_sink.service import run_sink
from runstream_sink.logging import set_up

def peak():
    return int(re.search(r"VmHWM:\s+([0-9]+) kB", Path("/proc/self/status").read_text())[1])  # its own, since exec

set_up("info", "json")
before = peak()
progress = asyncio.run(run_sink(resolve(stream=sys.argv[1], store=sys.argv[2]), once=True))
print(progress.events, (peak() - before) // 1024, peak() // 1024)
"""


def _values(producer: int) -> Iterator[bytes]:
    body = encode_event(MetricLogged(f"{producer:032x}", "m", 1.5, 1, 1_795_500_000_000))
    identity = producer.to_bytes(16, "big")
    for first in range(0, EVENTS // PRODUCERS, BATCH):
        records = [Record(seq, 1_795_500_000_000_000_000 + seq, body) for seq in range(first, first + BATCH)]
        yield from (one.data for one in encode_batches(Batch(identity, records, []), 1 << 20))


@pytest.mark.long
async def test_ten_million_events_are_caught_up_with_in_bounded_memory(
    broker: KafkaCluster, topic: str, tmp_path: Path
) -> None:
    """Below 300 MB above what the program takes before it begins."""
    await broker.create_topic(topic, 4)
    producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap, acks="all", compression_type="zstd")
    await producer.start()
    try:
        for number in range(PRODUCERS):
            for value in _values(number):
                await producer.send(topic, value, partition=number % 4)
    finally:
        await producer.stop()
    arguments = [sys.executable, "-c", PROGRAM, broker.stream(topic), str(tmp_path / "store")]
    done = subprocess.run(  # noqa: ASYNC221 - nothing else is to be done meanwhile
        arguments, env=unmeasured(), capture_output=True, text=True, check=False, timeout=1_800
    )
    assert done.returncode == 0, done.stderr
    events, megabytes, _ = map(int, done.stdout.split())
    assert events == EVENTS // PRODUCERS // BATCH * BATCH * PRODUCERS
    assert megabytes < 300
