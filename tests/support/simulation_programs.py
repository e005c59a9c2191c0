"""What simulated programs do: they log, sync, and end in all ways, and their disks and clocks go wrong."""

import contextlib
import errno
import os
import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from support.journals import Killed
from support.simulation_events import Ledger
from support.simulation_producer import Producer

__all__ = ["SECOND", "Programs"]

SECOND: Final = 1_000_000_000
"""Nanoseconds."""
_START: Final = 1_700_000_000_000_000_000
_PRODUCERS: Final = 3


class Programs(ABC):
    """Programs that log into one directory, and what is known of all that they have logged."""

    queue: Path

    def __init__(self, seed: int, accidents: Sequence[str]) -> None:
        self.seed = seed
        self.schedule: list[str] = []
        """What happened, line by line."""
        self.ledgers: dict[str, Ledger] = {}
        self.choice = random.Random(seed)
        self.accidents = {accident for accident in accidents if self.choice.random() < 0.5}
        """What may happen beside kills and restarts."""
        self.power_cuts = 0
        self.rotted = False
        self._now = _START
        self._numbers = 0
        self._born = 0
        self._skew = 0
        self._producers: list[Producer] = []

    @abstractmethod
    def _cut_power(self) -> None:
        """End everything at once, and take what was not synced."""

    def _note(self, text: str) -> None:
        self.schedule.append(f"{len(self.schedule):3} {text}")

    def _time_ns(self) -> int:
        self._now += 1_000
        return self._now + self._skew

    def _producer(self) -> Producer | None:
        if len(self._producers) < _PRODUCERS and (not self._producers or self.choice.random() < 0.2):
            with contextlib.suppress(OSError):
                producer = Producer(f"p{self._born}", self.queue, self.choice)
                self._born += 1
                self._producers.append(producer)
                self.ledgers[producer.ledger.producer] = producer.ledger
        if not self._producers:
            return None
        producer = self.choice.choice(self._producers)
        self._skew = producer.skew
        return producer

    def _emit(self) -> None:
        producer = self._producer()
        if producer is None:
            return
        count = self.choice.choice([1, 3, 10, 40])
        before = producer.journal.accepted
        for _ in range(count):
            self._emit_one(producer)
        self._note(f"{producer.name} logs {count}: events {before} to {producer.journal.accepted - 1}")

    def _emit_one(self, producer: Producer) -> None:
        self._numbers += 1
        producer.emit(self._numbers, self._now)

    def _emit_with_fault(self) -> None:
        """A kill in the middle of a call, at a store into the mapping or at a file operation."""
        producer = self._producer()
        if producer is None:
            return
        if self.choice.random() < 0.7:
            producer.disk.fail_store(Killed(), self.choice.randrange(60), self.choice.random())
        else:
            producer.disk.fail(Killed(), self.choice.randrange(8))
        try:
            for _ in range(25):
                self._emit_one(producer)
            producer.journal.prepare()
            producer.journal.sync()
        except Killed:
            self._dies_in_a_call(producer)
        except OSError as error:
            self._note(f"{producer.name}: {error}")
        else:
            producer.disk.calm()
            producer.note_synced()
            self._note(f"{producer.name} logs 25 and syncs")

    def _dies_in_a_call(self, producer: Producer) -> None:
        self._end(producer, f"killed in call {producer.journal.accepted}")
        if "power" in self.accidents and self.choice.random() < 0.3:
            self._cut_power()

    def _tend(self) -> None:
        producer = self._producer()
        if producer is not None:
            producer.journal.prepare()

    def _sync(self) -> None:
        producer = self._producer()
        if producer is None:
            return
        if "full" in self.accidents and self.choice.random() < 0.2:
            producer.disk.fail(OSError(errno.EIO, os.strerror(errno.EIO)), self.choice.randrange(3))
        try:
            producer.journal.sync()
        except OSError as error:
            self._note(f"{producer.name} cannot sync: {error}")
        producer.disk.fail(OSError(), -1)
        producer.note_synced()
        self._note(f"{producer.name} has synced {producer.ledger.synced}")

    def _kill_producer(self) -> None:
        producer = self._producer()
        if producer is not None:
            self._end(producer, "killed")

    def _close_producer(self) -> None:
        producer = self._producer()
        if producer is not None:
            producer.disk.calm()
            producer.journal.close()
            self._end(producer, "closed")

    def _end(self, producer: Producer, how: str) -> None:
        producer.note_synced()
        producer.disk.die()
        self._producers.remove(producer)
        self._note(f"{producer.name} is {how}; synced {producer.ledger.synced}")

    def _fill_disk(self) -> None:
        producer = self._producer()
        if producer is not None:
            producer.disk.full = not producer.disk.full
            self._note(f"{producer.name}'s disk is {'full' if producer.disk.full else 'no longer full'}")

    def _set_clock(self) -> None:
        step = self.choice.choice([-3600, -60, -1, 1, 60, 3600]) * SECOND
        self._now += step
        self._note(f"the clock is set by {step // SECOND} s")
