"""Kafka's clients, which know nothing of runs: what they are given is the same event, encoded in the call."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from loggers.base import METRIC, ROW, Logger, Setting
from runstream_schemas.events import MetricLogged, RowsLogged, encode_event

__all__ = ["TOPIC", "Aiokafka", "Librdkafka"]

RUN = "0" * 32
TOPIC = "peers"
_SETTLE = 60.0


def metric(step: int) -> bytes:
    """A metric's event."""
    return encode_event(MetricLogged(RUN, *METRIC, step, time.time_ns() // 1_000_000))


def row(_: int) -> bytes:
    """A row's event."""
    return encode_event(RowsLogged(RUN, "predictions", list(ROW), [list(ROW.values())]))


class Librdkafka(Logger):
    """``produce`` of confluent-kafka: into the library's memory, from which its own threads send."""

    durability = "in memory: lost with the process"
    overload = "raises BufferError when its memory is full (2 GB here)"
    needs = "confluent_kafka"

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        import confluent_kafka

        settings: dict[str, Any] = {
            "bootstrap.servers": setting.broker or "127.0.0.1:9",
            "queue.buffering.max.messages": 10_000_000,
            "queue.buffering.max.kbytes": 2_000_000,
            "log_level": 0,
        }
        self.producer = confluent_kafka.Producer(settings)

    def metric(self, step: int) -> Any:
        """Log a metric."""
        self.producer.produce(TOPIC, metric(step))

    def row(self, step: int) -> Any:
        """Log a row."""
        self.producer.produce(TOPIC, row(step))

    def settle(self) -> None:
        """Send it; without a broker, forget it."""
        if self.setting.broker:
            self.producer.flush(_SETTLE)
        else:
            self.producer.purge()


class Aiokafka(Logger):
    """``send`` of aiokafka's producer, in an event loop that has a turn after each call, which is not counted."""

    durability = "in memory: lost with the process"
    overload = "waits until a batch is sent"
    needs = "aiokafka"
    broker = True

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        from aiokafka import AIOKafkaProducer

        self.loop = asyncio.new_event_loop()

        async def start() -> Any:
            producer = AIOKafkaProducer(bootstrap_servers=setting.broker, max_batch_size=1 << 20, linger_ms=5)
            await producer.start()
            return producer

        self.producer = self.loop.run_until_complete(start())

    def durations(self, subject: str, calls: int) -> list[int]:
        """Nanoseconds of each of so many calls."""
        return self.loop.run_until_complete(self._durations(metric if subject == "metric" else row, calls))

    async def _durations(self, encode: Callable[[int], bytes], calls: int) -> list[int]:
        clock = time.perf_counter_ns
        taken = [0] * calls
        for step in range(calls):
            begin = clock()
            await self.producer.send(TOPIC, encode(step))
            taken[step] = clock() - begin
            await asyncio.sleep(0)
        return taken

    def settle(self) -> None:
        """Send it."""
        self.loop.run_until_complete(asyncio.wait_for(self.producer.flush(), _SETTLE))
