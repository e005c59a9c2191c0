"""A topic in memory, and logs that read it: partitions, a group that shares them, retention, and faults on command."""

import asyncio
from collections.abc import Iterable, Mapping

from runstream_sink.kafka.log import Extent, LogRecord, OutOfRangeError
from runstream_sink.source import ReassignedError, StreamUnavailableError

__all__ = ["MemoryLog", "Topic", "away"]


class Topic:
    """Records by partition; an offset whose value is None is there and is no record."""

    def __init__(self, partitions: int = 1, name: str = "cluster/topic") -> None:
        self.name = name
        self.partitions: list[list[bytes | None]] = [[] for _ in range(partitions)]
        self.begins = [0] * partitions
        self.times: dict[tuple[int, int], int] = {}
        self.committed: dict[str, dict[int, int]] = {}
        self.members: list[MemoryLog] = []

    def add(self, partition: int, *values: bytes | None) -> None:
        """Send values to a partition."""
        self.partitions[partition] += values

    def raise_partitions(self, count: int) -> None:
        """Add partitions."""
        while len(self.partitions) < count:
            self.partitions.append([])
            self.begins.append(0)
        self.rebalance()

    def remove_before(self, partition: int, offset: int) -> None:
        """What retention does."""
        self.begins[partition] = offset

    def rebalance(self) -> None:
        """Share the partitions among the members anew."""
        shared = [member for member in self.members if not member.whole]
        for member in self.members:
            member.generation += 1
            member.mine = frozenset(
                p for p in range(len(self.partitions)) if member.whole or p % len(shared) == shared.index(member)
            )


class MemoryLog:
    """A `Log` of a topic in memory; each error in `faults` is raised by the next call of the method that it names."""

    def __init__(self, topic: Topic, *, shared: bool = False, at_once: int = 3) -> None:
        self.topic = topic
        self.whole = not shared
        self.generation = 0
        self.mine: frozenset[int] = frozenset()
        self.faults: dict[str, Exception] = {}
        self.opened = 0
        self.is_open = False
        self._at_once = at_once
        self._group = ""
        self._next: dict[int, int] = {}

    @property
    def name(self) -> str:
        """The topic's."""
        return self.topic.name

    async def open(self, group: str) -> None:
        """Join."""
        self._fail("open")
        assert not self.is_open, "opened twice"
        self.is_open = True
        self.opened += 1
        self._group = group
        self.topic.members.append(self)
        self.topic.rebalance()

    async def partitions(self) -> frozenset[int]:
        """Those of this member."""
        self._fail("partitions")
        return self.mine

    async def extents(self, partitions: Iterable[int]) -> dict[int, Extent]:
        """Where they begin and end."""
        self._fail("extents")
        return {p: Extent(self.topic.begins[p], len(self.topic.partitions[p])) for p in partitions}

    async def offsets_at(self, timestamps: Mapping[int, int]) -> dict[int, int | None]:
        """By the times that the topic was given."""
        found = {}
        for partition, timestamp in timestamps.items():
            known = range(self.topic.begins[partition], len(self.topic.partitions[partition]))
            found[partition] = next((at for at in known if self._time(partition, at) >= timestamp), None)
        return found

    async def record_at(self, offsets: Mapping[int, int]) -> dict[int, LogRecord]:
        """The first record there or behind."""
        self._fail("record_at")
        found = {}
        for partition, offset in offsets.items():
            values = self.topic.partitions[partition]
            at = next(at for at in range(offset, len(values)) if values[at] is not None)
            found[partition] = LogRecord(partition, at, self._time(partition, at), values[at] or b"")
        return found

    def seek(self, offsets: Mapping[int, int]) -> None:
        """Read on from there."""
        self._fail("seek")
        if not offsets.keys() <= self.mine:
            raise ReassignedError("taken")
        self._next = dict(offsets)

    async def fetch(self, limit: int, wait: float) -> list[LogRecord]:
        """Some records of each partition in turn."""
        assert self.is_open
        self._fail("fetch")
        await asyncio.sleep(min(wait, 0.001))
        records: list[LogRecord] = []
        for partition, offset in self._next.items():
            values = self.topic.partitions[partition]
            if offset < self.topic.begins[partition] or offset > len(values):
                raise OutOfRangeError("out of range")
            end = min(len(values), offset + self._at_once)
            for at in range(offset, end):
                value = values[at]
                if value is not None:
                    records.append(LogRecord(partition, at, self._time(partition, at), value))
            self._next[partition] = end
        return records

    async def reached(self) -> dict[int, int]:
        """What is read next."""
        return dict(self._next)

    async def commit(self, offsets: Mapping[int, int]) -> None:
        """Note them."""
        self._fail("commit")
        self.topic.committed.setdefault(self._group, {}).update(offsets)

    async def close(self) -> None:
        """Leave."""
        if self.is_open:
            self.is_open = False
            self.topic.members.remove(self)
            self.topic.rebalance()

    def _time(self, partition: int, offset: int) -> int:
        return self.topic.times.get((partition, offset), 1_000)

    def _fail(self, method: str) -> None:
        error = self.faults.pop(method, None)
        if error is not None:
            raise error


def away() -> StreamUnavailableError:
    """The brokers are gone."""
    return StreamUnavailableError("no broker answers")
