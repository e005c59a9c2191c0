"""Record batches on topics, for tests of the source: what a shipper would send, without one."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer

from runstream_schemas.batch import Batch, encode_batches
from runstream_schemas.events import MetricLogged, RunStarted, TagsSet
from runstream_sink.config import Options, resolve
from runstream_sink.digest import digest
from runstream_sink.location import StoreLocation
from runstream_sink.store.reading import open_reader
from support.stores import batch, ingest, opened

__all__ = ["encoded", "events_of", "expected_digest", "options_of", "produce", "store_digest"]


def events_of(number: int, count: int) -> list[Any]:
    """Events of one run: its start, metrics and tags."""
    run_id = f"{number:032x}"
    events: list[Any] = [RunStarted(run_id, "0", 1_000 + number, f"run {number}", "somebody")]
    for step in range(count - 1):
        if step % 10 == 9:
            events.append(TagsSet(run_id, {f"t{step % 7}": str(step)}))
        else:
            events.append(MetricLogged(run_id, "m", step / 7, step, 1_000 + step))
    return events


def encoded(producer: int, count: int, size: int = 10) -> list[bytes]:
    """The events of one producer in record batches of ``size`` events."""
    events = events_of(producer, count)
    batches = [batch(_id(producer), events[at : at + size], at) for at in range(0, count, size)]
    return [one.data for each in batches for one in encode_batches(each, 1 << 20)]


async def produce(servers: str, topic: str, values: Sequence[tuple[int, bytes]]) -> None:
    """Send values to partitions, in order."""
    producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all", enable_idempotence=True)
    await producer.start()
    try:
        pending = [await producer.send(topic, value, partition=partition) for partition, value in values]
        await asyncio.gather(*pending)
    finally:
        await producer.stop()


def options_of(stream: str, store: Path) -> Options:
    """The options of a sink."""
    return resolve(stream=stream, store=str(store))


async def store_digest(store: Path) -> str:
    """The digest of a store."""
    reader = await open_reader(StoreLocation.parse(str(store)))
    try:
        return await digest(reader)
    finally:
        await reader.close()


async def expected_digest(directory: Path, producers: Sequence[tuple[int, int]]) -> str:
    """The digest of a store that was given the events of producers, as (producer, count), without any stream."""
    batches: list[Batch] = [batch(_id(producer), events_of(producer, count)) for producer, count in producers]
    async with opened(directory) as store:
        await ingest(store, batches)
    return await store_digest(directory)


def _id(producer: int) -> bytes:
    return producer.to_bytes(16, "big")
