"""Three brokers, of which the leader stops again and again while batches are sent: each acknowledged one is consumed.

As Kafka's own replication tests do it: clean and hard bounces, clean and hard shutdown.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from runstream.shipping.kafka_transport import KafkaTransport
from runstream.shipping.transport import TransportError
from runstream_schemas.batch import Batch, encode_batches
from runstream_schemas.events import MetricLogged
from runstream_schemas.streams import KafkaStream
from runstream_sink.service import kafka_source, open_consumer
from support.kafka import KafkaCluster
from support.stores import batch, ingest, opened
from support.topics import options_of, store_digest
from support.waiting import until

TIMEOUT = 120
PRODUCERS = (1, 2, 3)
SIZE = 5
SOME = 20


class Traffic:
    """Producers that send one batch after the other, and a sink; what the brokers acknowledged is counted."""

    def __init__(self, stream: str, root: Path) -> None:
        self.options = options_of(stream, root / "store")
        self.acknowledged: Counter[int] = Counter()
        """Batches by producer."""
        self._root = root
        self._over = asyncio.Event()

    async def goes_on(self) -> None:
        """Wait until each producer has had more acknowledged."""
        wanted = {producer: self.acknowledged[producer] + SOME for producer in PRODUCERS}
        await until(lambda: all(self.acknowledged[producer] >= wanted[producer] for producer in PRODUCERS), TIMEOUT)

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """As long as the block lasts, and until all is consumed."""
        stream = self.options.stream
        assert isinstance(stream, KafkaStream)
        stop = asyncio.Event()
        opening = open_consumer(self.options, kafka_source(self.options, stream), stop=stop, patient=True)
        async with opening as (consumer, _), asyncio.TaskGroup() as tasks:
            tasks.create_task(consumer.run(once=False, stop=stop))
            senders = [tasks.create_task(self._send(KafkaTransport(stream), producer)) for producer in PRODUCERS]
            try:
                await self.goes_on()
                yield
                self._over.set()
                await asyncio.wait_for(asyncio.gather(*senders), TIMEOUT)
                await until(lambda: consumer.progress.events >= SIZE * self.acknowledged.total(), TIMEOUT)
            finally:
                self._over.set()
                stop.set()

    async def check(self) -> None:
        """Everything that was acknowledged was consumed, once."""
        async with opened(self._root / "expected") as store:
            await ingest(store, [self._batch(producer, 0, self.acknowledged[producer]) for producer in PRODUCERS])
        assert await store_digest(self._root / "store") == await store_digest(self._root / "expected")

    async def _send(self, transport: KafkaTransport, producer: int) -> None:
        while not self._over.is_set():
            with contextlib.suppress(TransportError):  # then from where it was acknowledged, as the shipper does
                await transport.open()
                while not self._over.is_set():
                    await self._send_next(transport, producer)
        await transport.close()

    async def _send_next(self, transport: KafkaTransport, producer: int) -> None:
        number = self.acknowledged[producer]
        (sent,) = encode_batches(self._batch(producer, number, 1), 1 << 20)
        await transport.send(producer.to_bytes(16, "big"), [sent.data])
        self.acknowledged[producer] += 1

    def _batch(self, producer: int, number: int, count: int) -> Batch:
        first = number * SIZE
        events = [
            MetricLogged(f"{producer:032x}", "m", step / 7, step, 1_000 + step)
            for step in range(first, first + count * SIZE)
        ]
        return batch(producer.to_bytes(16, "big"), events, first)


async def _stop_leader(cluster: KafkaCluster, topic: str, *, clean: bool) -> int:
    number = await cluster.leader(topic)
    stop = cluster.nodes[number].terminate if clean else cluster.nodes[number].kill
    await asyncio.to_thread(stop)
    return number


async def _bounce(cluster: KafkaCluster, topic: str, path: Path, *, clean: bool, times: int) -> None:
    await cluster.create_topic(topic, 3)
    traffic = Traffic(cluster.stream(topic), path)
    async with traffic.flowing():
        for _ in range(times):
            number = await _stop_leader(cluster, topic, clean=clean)
            await traffic.goes_on()
            cluster.nodes[number].launch()
            await cluster.agree()
            await cluster.in_sync(topic)
            await traffic.goes_on()
    await traffic.check()


@pytest.mark.parametrize("clean", [True, False], ids=["clean", "hard"])
async def test_what_was_acknowledged_is_consumed_though_the_leader_is_bounced(
    cluster: KafkaCluster, topic: str, tmp_path: Path, clean: bool
) -> None:
    """Twice; what was not acknowledged is sent again and comes once."""
    await _bounce(cluster, topic, tmp_path, clean=clean, times=2)


@pytest.mark.long
@pytest.mark.parametrize("clean", [True, False], ids=["clean", "hard"])
async def test_what_was_acknowledged_is_consumed_though_the_leader_is_bounced_five_times(
    cluster: KafkaCluster, topic: str, tmp_path: Path, clean: bool
) -> None:
    """As often as Kafka's own tests do it."""
    await _bounce(cluster, topic, tmp_path, clean=clean, times=5)


@pytest.mark.parametrize("clean", [True, False], ids=["clean", "hard"])
async def test_what_was_acknowledged_is_consumed_though_the_leader_is_gone_for_good(
    cluster: KafkaCluster, topic: str, tmp_path: Path, clean: bool
) -> None:
    """The two that are left take what comes, and give what there was."""
    await cluster.create_topic(topic, 3)
    traffic = Traffic(cluster.stream(topic), tmp_path)
    async with traffic.flowing():
        await _stop_leader(cluster, topic, clean=clean)
        await traffic.goes_on()
    await traffic.check()
