"""A simulated topic as a sink sees it: by itself or as a member of a group, with connections that break."""

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from runstream_sink.kafka.log import Extent, LogRecord, OutOfRangeError
from runstream_sink.source import ReassignedError, StreamUnavailableError
from support.simulation_topic import Topic

__all__ = ["SimulatedLog"]

_MOST_IN_VAIN: Final = 1000
"""Fetches, one after the other, that bring nothing."""


class SimulatedLog:
    """A `Log` of the topic.  ``step`` is called before whatever goes out; it may raise.

    Between a change of `generation` and the `seek` after it, it reads from anywhere.
    """

    def __init__(
        self, topic: Topic, choice: random.Random, step: Callable[[str], None], *, grouped: bool, whole: bool
    ) -> None:
        self.name = ""
        self.whole = whole
        self.generation = 0
        self._topic = topic
        self._choice = choice
        self._step = step
        self._grouped = grouped
        self._group = ""
        self._open = False
        self._broken = False
        self._epoch = -1
        self._assigned: frozenset[int] = frozenset()
        self._places: dict[int, int] = {}
        self._in_vain = 0

    async def open(self, group: str) -> None:
        """See `Log.open`."""
        assert not self._open, "opened twice"
        self._open, self._broken, self._group = True, False, group
        try:
            self._operate("connecting")
        except StreamUnavailableError:
            self._open = False
            raise
        self.name = self._topic.name
        self._epoch = -1
        self._look()

    async def partitions(self) -> frozenset[int]:
        """See `Log.partitions`."""
        self._operate("asking for partitions")
        return self._assigned

    async def extents(self, partitions: Iterable[int]) -> dict[int, Extent]:
        """See `Log.extents`."""
        self._operate("asking for offsets")
        return {number: self._topic.partitions[number].extent() for number in partitions}

    async def offsets_at(self, timestamps: Mapping[int, int]) -> dict[int, int | None]:
        """See `Log.offsets_at`."""
        self._operate("asking for times")
        return {
            number: next((r.offset for r in self._topic.partitions[number].records if r.timestamp >= timestamp), None)
            for number, timestamp in timestamps.items()
        }

    async def record_at(self, offsets: Mapping[int, int]) -> dict[int, LogRecord]:
        """See `Log.record_at`."""
        self._operate("reading again")
        partitions = {number: self._topic.partitions[number] for number in offsets}
        return {number: one.records[one.index(offsets[number])] for number, one in partitions.items()}

    def seek(self, offsets: Mapping[int, int]) -> None:
        """See `Log.seek`."""
        self._check()
        if self._choice.random() < 0.5:
            self._look()
        if not offsets.keys() <= self._assigned:
            raise ReassignedError("other partitions are this member's now")
        self._places = dict(offsets)

    async def fetch(self, limit: int, wait: float) -> list[LogRecord]:
        """See `Log.fetch`."""
        self._operate("reading")
        found: list[LogRecord] = []
        size = 0
        for number in self._choice.sample(sorted(self._places), len(self._places)):
            if size >= limit:
                break
            one = self._topic.partitions[number]
            if self._places[number] < one.begin:
                raise OutOfRangeError(f"partition {number} begins at {one.begin}")
            first = one.index(self._places[number])
            batch = one.records[first : first + self._choice.choice([1, 4, 8, 100])]
            found += batch
            size += sum(len(record.value) for record in batch)
            whole = first + len(batch) == len(one.records)
            self._places[number] = one.end if whole else batch[-1].offset + 1
        self._in_vain = 0 if found else self._in_vain + 1
        assert self._in_vain < _MOST_IN_VAIN, "reads for ever"
        if not found:
            await asyncio.sleep(wait)
        self._look()
        return found

    async def reached(self) -> dict[int, int]:
        """See `Log.reached`."""
        self._operate("asking for positions")
        return self._places.copy()

    async def commit(self, offsets: Mapping[int, int]) -> None:
        """See `Log.commit`."""
        self._operate("telling the group")
        assert all(offset <= self._topic.partitions[number].end for number, offset in offsets.items())
        if self._grouped:
            self._topic.groups.setdefault(self._group, {}).update(offsets)

    async def close(self) -> None:
        """See `Log.close`."""
        self._open = False

    def _operate(self, what: str) -> None:
        self._check()
        self._step(what)
        if self._topic.fails():
            self._broken = True
        if self._broken:
            raise StreamUnavailableError("the brokers cannot be reached")
        if self._epoch >= 0:
            self._look()

    def _check(self) -> None:
        assert self._open, "used before it was opened, or after it was closed"

    def _look(self) -> None:
        """Notice what has changed, and be anywhere then."""
        if self._epoch == self._topic.epoch:
            return
        self._epoch = self._topic.epoch
        self.generation += 1
        everything = range(len(self._topic.partitions))
        is_all = self.whole or not self._topic.restless or self._choice.random() < 0.3
        self._assigned = frozenset(number for number in everything if is_all or self._choice.random() < 0.5)
        self._places = {
            number: self._choice.randint(self._topic.partitions[number].begin, self._topic.partitions[number].end)
            for number in sorted(self._assigned)
        }
