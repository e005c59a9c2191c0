"""A topic of Kafka as a transport: idempotent, acknowledged by all in-sync replicas, with deadlines of its own.

Each value is a Kafka record with the key that `send` was given and a header ``runstream-type``, ``batch`` or ``chunk``.

aiokafka retries an idempotent batch for ever, is of no use after a fatal error, and may hang while it stops.  So a
producer that had no acknowledgement for a while is given up, and closing one is not waited for: whatever it still holds
is sent again, by another one.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError
from aiokafka.partitioner import DefaultPartitioner

from runstream.shipping.topic import Topic, find_topic
from runstream.shipping.transport import TransportError
from runstream_schemas.chunk import TYPE_HEADER, value_type
from runstream_schemas.kafka import Connection, causes_kept, connection, explain, may_retry
from runstream_schemas.kafka_settings import KAFKA_COMPRESSION
from runstream_schemas.streams import KafkaStream

__all__ = ["KafkaTransport"]

_WINDOW: Final = 8 << 20
"""Bytes that are on their way at a time, of all calls together."""
_OVERHEAD: Final = 512
"""Bytes of a record batch of Kafka beside the one value that it holds, and more."""
_BATCH: Final = 1 << 20
"""Bytes that Kafka's client gathers for one partition, where the topic takes them."""
_LEAST_LIMIT: Final = 4096
_START: Final = 15.0
_STALLED: Final = 30.0
_STOP: Final = 5.0
"""Seconds: for connecting; without any acknowledgement; for closing."""
_METADATA: Final = 10_000
_REQUEST: Final = 10_000
"""Milliseconds: after which changes of the topic are noticed; for a request."""

_T = TypeVar("_T")
_partition = DefaultPartitioner()
_log = structlog.get_logger(__name__)


class KafkaTransport:
    """A topic, by aiokafka."""

    def __init__(self, stream: KafkaStream, *, stalled: float = _STALLED) -> None:
        """``stalled``: seconds without any acknowledgement after which the brokers are taken for gone."""
        self._stream = stream
        self._stalled = stalled
        self._producer: AIOKafkaProducer | None = None
        self._window = _Window(_WINDOW)
        self._ceiling = 1 << 30
        """What is known to be refused where the topic's own limit may not be read."""
        self._acknowledged = 0.0
        self._ending: set[asyncio.Task[None]] = set()
        self.limit = 0

    async def open(self) -> None:
        """Connect, and find the topic or make it."""
        await self.close()
        try:
            async with asyncio.timeout(_START):
                settings = await asyncio.to_thread(connection, self._stream)
                topic = await find_topic(settings, self._stream)
                self._adopt(topic)
                await self._start(settings)
        except Exception as error:
            await self.close()
            raise self._explained(error) from error

    async def send(self, key: bytes, values: Iterable[bytes]) -> None:
        """Put values on one partition."""
        producer = self._producer
        if producer is None:
            raise TransportError(f"{self._stream} is not open", may_retry=True)
        try:
            await self._send(producer, key, values)
        except Exception as error:
            large = isinstance(error, MessageSizeTooLargeError)
            raise (self._too_large(error) if large else self._explained(error)) from error

    async def close(self) -> None:
        """Let go of the producer; what it holds may still arrive."""
        producer, self._producer = self._producer, None
        self._window = _Window(_WINDOW)
        if producer is not None:
            ending = asyncio.create_task(_end(producer))
            self._ending.add(ending)
            ending.add_done_callback(self._ended)
            await asyncio.wait({ending}, timeout=_STOP)

    def _ended(self, ending: "asyncio.Task[None]") -> None:
        self._ending.discard(ending)
        if not ending.cancelled() and (error := ending.exception()) is not None:
            _log.warning("a Kafka producer did not end well", reason=str(error))

    def _adopt(self, topic: Topic) -> None:
        most = topic.max_message_bytes if topic.is_known else min(topic.max_message_bytes, self._ceiling)
        if most < _LEAST_LIMIT:
            raise TransportError(
                f"{self._stream} takes only {most} bytes a message; raise its max.message.bytes (kafka-configs.sh "
                f"--alter --topic {self._stream.topic} --add-config max.message.bytes=1048588 ...)",
                may_retry=False,
            )
        self.limit = most - _OVERHEAD

    async def _start(self, settings: Connection) -> None:
        compression = KAFKA_COMPRESSION.get()
        producer = AIOKafkaProducer(
            **settings.arguments(),
            acks="all",
            enable_idempotence=True,
            compression_type=None if compression == "none" else compression,
            max_batch_size=min(self.limit + _OVERHEAD, _BATCH),
            max_request_size=self.limit + _OVERHEAD,
            metadata_max_age_ms=_METADATA,
            request_timeout_ms=_REQUEST,
        )
        self._producer = producer
        with causes_kept():
            await producer.start()
        self._acknowledged = time.monotonic()

    async def _send(self, producer: AIOKafkaProducer, key: bytes, values: Iterable[bytes]) -> None:
        topic = self._stream.topic
        partitions = sorted(await self._in_time(producer.partitions_for(topic)))
        partition = _partition(key, partitions, partitions)
        on_the_way: deque[tuple[asyncio.Future[Any], int]] = deque()
        window = self._window
        take = _taker(values)
        try:
            while (value := await take()) is not None:
                while window.is_full_for(len(value)) and on_the_way:
                    await self._one_acknowledged(on_the_way, window)
                await self._in_time(window.take(len(value)))
                headers = [(TYPE_HEADER, value_type(value).encode())]
                sent = await self._in_time(producer.send(topic, value, key, partition, headers=headers))
                on_the_way.append((sent, len(value)))
            while on_the_way:
                await self._one_acknowledged(on_the_way, window)
        finally:
            for sent, size in on_the_way:
                sent.cancel()
                window.give(size)

    async def _one_acknowledged(self, on_the_way: "deque[tuple[asyncio.Future[Any], int]]", window: "_Window") -> None:
        sent, size = on_the_way[0]
        await self._in_time(sent)
        self._acknowledged = time.monotonic()
        on_the_way.popleft()
        window.give(size)

    async def _in_time(self, work: Awaitable[_T]) -> _T:
        """Wait for something as long as the brokers acknowledge anything at all.  Raises TimeoutError."""
        task = asyncio.ensure_future(work)
        began = time.monotonic()
        try:
            while not task.done():
                left = max(began, self._acknowledged) + self._stalled - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"nothing was acknowledged for {self._stalled:.0f} s")
                await asyncio.wait({task}, timeout=left)
            return task.result()
        finally:
            task.cancel()

    def _too_large(self, error: Exception) -> TransportError:
        """Somebody has lowered what the topic takes: the next time it is opened it says how far, or less is tried."""
        self._ceiling = self.limit // 2
        return TransportError(explain(error, self._stream), may_retry=True)

    def _explained(self, error: Exception) -> TransportError:
        if isinstance(error, TransportError):
            return error
        return TransportError(explain(error, self._stream), may_retry=may_retry(error))


class _Window:
    """Bytes that may be on their way; one value may always be, however large it is."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._used = 0
        self._waiting: list[asyncio.Future[None]] = []

    def is_full_for(self, size: int) -> bool:
        """Whether it must be waited for."""
        return self._used > 0 and self._used + size > self._size

    async def take(self, size: int) -> None:
        """Wait for room, and take it."""
        while self.is_full_for(size):
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            await waiting
        self._used += size

    def give(self, size: int) -> None:
        """Give room back."""
        self._used -= size
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if not one.done():
                one.set_result(None)


def _taker(values: Iterable[bytes]) -> Callable[[], Awaitable[bytes | None]]:
    """What gives one value after the other, and None at the end: in a thread, unless they are in memory already."""
    left = iter(values)
    in_memory = isinstance(values, Sequence)

    async def take() -> bytes | None:
        return next(left, None) if in_memory else await asyncio.to_thread(next, left, None)

    return take


async def _end(producer: AIOKafkaProducer) -> None:
    """Close a producer without what it holds: aiokafka's own `stop` waits for that, for ever where no broker is.

    Its task ends when the request that is under way does.
    """
    producer._closed = True  # noqa: SLF001 - aiokafka has no other way to give up what a producer holds
    sender = producer._sender.sender_task  # noqa: SLF001
    if sender is not None:
        sender.cancel()
        await asyncio.wait({sender})
    await producer.client.close()
