"""A simulated topic: partitions that only grow, what is on its way to them, and the shipper's way there.

What a session has sent goes to each partition in its order.  A session that fails, or whose shipper is killed, leaves
values on their way: they arrive later, between those of the sessions after it, or never.  What has arrived is on all
replicas; the topic outlives every machine of the simulation.

The topic looks into what it is given: a batch that refers to bytes which did not come before it in its partition, or
that cannot be decoded, is an error there and then.
"""

import asyncio
import random
import zlib
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from runstream.shipping.transport import TransportError
from runstream_schemas.batch import Batch, decode_batch
from runstream_schemas.chunk import decode_chunk, is_chunk
from runstream_sink.kafka.log import Extent, LogRecord

__all__ = ["Partition", "SimulatedTransport", "Topic"]

_LATENCY: Final = 0.05
"""Seconds that an answer takes at most."""

Events = dict[str, set[int]]
"""Seqs by producer."""


class Partition:
    """One log.  Offsets of which nothing can be read are between, and behind, what can."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.begin = 0
        self.end = 0
        self.records: list[LogRecord] = []
        self.events: list[tuple[str, set[int]]] = []
        """For each record the producer, and what it holds of it."""
        self._pieces: dict[str, dict[int, bytes]] = {}

    def append(self, timestamp: int, value: bytes, skipped: int) -> None:
        """Add a record; ``skipped`` offsets behind it are no records."""
        self.records.append(LogRecord(self.number, self.end, timestamp, value))
        self.events.append(self._events_of(value))
        self.end += 1 + skipped

    def extent(self) -> Extent:
        """What can be read."""
        return Extent(self.begin, self.end)

    def index(self, offset: int) -> int:
        """Of the first record at an offset or behind it."""
        return bisect_left(self.records, offset, key=lambda record: record.offset)

    def retain(self, offset: int) -> None:
        """Remove what lies before an offset."""
        self.begin = max(self.begin, offset)
        first = self.index(self.begin)
        del self.records[:first], self.events[:first]

    def _events_of(self, value: bytes) -> tuple[str, set[int]]:
        if is_chunk(value):
            chunk = decode_chunk(value)
            self._pieces.setdefault(chunk.sha256, {})[chunk.offset] = chunk.data
            return "", set()
        batch = decode_batch(value, self._payload)
        return batch.producer_id.hex(), _seqs(batch)

    def _payload(self, sha256: str, size: int) -> bytes:
        whole = bytearray(size)
        for offset, data in self._pieces.get(sha256, {}).items():
            whole[offset : offset + len(data)] = data
        return bytes(whole)


class _Session:
    """What one connection has sent."""

    def __init__(self) -> None:
        self.poisoned = False
        self.on_the_way: dict[int, deque[bytes]] = {}


class Topic:
    """The topic, and its brokers."""

    name = "cluster/events"

    def __init__(self, choice: random.Random, clock: Callable[[], int], partitions: int) -> None:
        """``clock`` says the time in nanoseconds."""
        self.partitions = [Partition(number) for number in range(partitions)]
        self.limit = 1 << 20
        self.reachable = True
        self.restless = False
        """Now and then, an answer is lost."""
        self.epoch = 0
        """Changes with partitions, their leaders, and who reads them."""
        self.held: Events = {}
        """All that ever arrived."""
        self.acknowledged: Events = {}
        self.groups: dict[str, dict[int, int]] = {}
        self._choice = choice
        self._clock = clock
        self._known: dict[bytes, tuple[str, set[int]]] = {}
        """By value: the producer, and what it holds of it."""
        self._left: list[_Session] = []

    def add_partitions(self, count: int) -> None:
        """Raise their number."""
        first = len(self.partitions)
        self.partitions += [Partition(first + number) for number in range(count)]
        self.epoch += 1

    def fails(self) -> bool:
        """Whether the brokers do not answer just now."""
        return not self.reachable or (self.restless and self._choice.random() < 0.04)

    def arrive(self, session: _Session, partition: int, most: int) -> None:
        """Some of what is on its way to a partition arrives."""
        waiting = session.on_the_way.get(partition, deque())
        for _ in range(min(most, len(waiting))):
            self._append(partition, waiting.popleft())

    def leave(self, session: _Session) -> None:
        """Nobody waits for this session any more."""
        if any(session.on_the_way.values()):
            self._left.append(session)

    def drift(self, *, settle: bool = False) -> None:
        """What was left on its way goes on, or is lost; all of it with ``settle``."""
        for session in self._left.copy():
            for partition, waiting in session.on_the_way.items():
                if self._choice.random() < 0.5 or settle:
                    self.arrive(session, partition, self._choice.choice([1, 3, len(waiting)]))
                if self._choice.random() < 0.1 or settle:
                    waiting.clear()
            if not any(session.on_the_way.values()):
                self._left.remove(session)

    def acknowledge(self, values: Iterable[bytes]) -> None:
        """A shipper knows that these have arrived."""
        for value in values:
            name, seqs = self._known[value]
            self.acknowledged.setdefault(name, set()).update(seqs)

    def retained(self) -> set[tuple[str, int]]:
        """What it holds now: producer and seq."""
        return {(name, seq) for one in self.partitions for name, seqs in one.events for seq in seqs}

    def _append(self, partition: int, value: bytes) -> None:
        skipped = self._choice.choice([0] * 9 + [2])
        one = self.partitions[partition]
        one.append(self._clock() // 1_000_000, value, skipped)
        self._known[value] = name, seqs = one.events[-1]
        self.held.setdefault(name, set()).update(seqs)


class SimulatedTransport:
    """A `Transport` to the topic.  ``step`` is called before whatever goes out or comes back; it may raise."""

    def __init__(self, topic: Topic, choice: random.Random, step: Callable[[str], None]) -> None:
        self.limit = 0
        self._topic = topic
        self._choice = choice
        self._step = step
        self._session: _Session | None = None

    async def open(self) -> None:
        """Connect."""
        assert self._session is None, "opened twice"
        await self._wait("connecting")
        if self._topic.fails():
            raise TransportError("the brokers cannot be reached", may_retry=self._choice.random() < 0.8)
        self.limit = self._topic.limit
        self._session = _Session()

    async def send(self, key: bytes, values: Iterable[bytes]) -> None:
        """Send, and wait until all has arrived."""
        session = self._session
        assert session is not None, "used before it was opened, or after it was closed"
        partition = zlib.crc32(key) % len(self._topic.partitions)
        waiting = session.on_the_way.setdefault(partition, deque())
        sent = []
        for value in values:
            assert 0 < len(value) <= self.limit, f"a value of {len(value)} bytes, and {self.limit} are allowed"
            self._step("sending")
            waiting.append(value)
            sent.append(value)
            if self._choice.random() < 0.2:
                await self._go_on(session, partition)
        while waiting:
            await self._go_on(session, partition)
        await self._go_on(session, partition)  # the acknowledgement may be lost, too
        self._step("being acknowledged")
        self._topic.acknowledge(sent)

    async def close(self) -> None:
        """Leave what is on its way to itself."""
        session, self._session = self._session, None
        if session is not None:
            self._topic.leave(session)

    async def _go_on(self, session: _Session, partition: int) -> None:
        """Time passes, in which something arrives, or the connection breaks."""
        await self._wait("waiting for an acknowledgement")
        if not session.poisoned:
            self._topic.arrive(session, partition, self._choice.choice([0, 1, 4, 100]))
        session.poisoned |= self._topic.fails()
        if session.poisoned:
            raise TransportError("nothing is acknowledged any more", may_retry=True)

    async def _wait(self, what: str) -> None:
        self._step(what)
        await asyncio.sleep(self._choice.random() * _LATENCY)
        self._step(what)


def _seqs(batch: Batch) -> set[int]:
    found = {seq for seq, _, _ in batch.records}
    for hole in batch.holes:
        found.update(range(hole.first, hole.last + 1))
    return found
