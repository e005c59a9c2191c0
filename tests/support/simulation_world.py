"""A world in which everything goes wrong, decided by one number: the seed.

Programs log, sinks apply, retention frees, and between any two steps of theirs a process is killed, the power is cut, a
disk is full or slow, a bit rots, or a clock is set.  Everything runs in one thread on real code; what is simulated is
the disk (`simulation_disk`), the clock, and who is when at work.  At the end all is well again, every store takes in
what is left, and `simulation_checks` compares.
"""

import contextlib
import errno
import os
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Self
from unittest import mock

from runstream_schemas import retention
from runstream_schemas.errors import EnvironmentUnavailableError, StoreInUseError
from runstream_sink.tables import files
from support.journals import Killed
from support.simulation_disk import Disk
from support.simulation_events import Ledger
from support.simulation_faults import Faults
from support.simulation_producer import Producer
from support.simulation_runtime import Runtime, single_threaded
from support.simulation_sink import Sink

__all__ = ["World"]

_START: Final = 1_700_000_000_000_000_000
_SECOND: Final = 1_000_000_000
_MEMORY: Final = Path("/dev/shm")
_PRODUCERS: Final = 3
_ACCIDENTS: Final = ("power", "full", "rot", "free", "second", "slow", "clock")


class World:
    """One run of the simulation.  Used as a context manager, so that its directory goes when it ends."""

    def __init__(self, seed: int, steps: int = 45) -> None:
        self.seed = seed
        self.schedule: list[str] = []
        """What happened, line by line."""
        self.ledgers: dict[str, Ledger] = {}
        self.choice = random.Random(seed)
        self.accidents = {accident for accident in _ACCIDENTS if self.choice.random() < 0.5}
        """What may happen beside kills and restarts."""
        self.power_cuts = 0
        self.freed = False
        self.rotted = False
        self._steps = steps
        self._now = _START
        self._numbers = 0
        self._born = 0
        self._skew = 0
        self._calm = False
        self._producers: list[Producer] = []

    def __enter__(self) -> Self:
        self._stack = contextlib.ExitStack()
        place = tempfile.mkdtemp(prefix="runstream-simulation-", dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None)
        self._stack.callback(shutil.rmtree, place, ignore_errors=True)
        self.root = Path(place).resolve() / "machine"
        self.queue = self.root / "queue"
        self.disk = Disk(self.root, Path(place).resolve() / "links", self.choice)
        self._faults = Faults(self.disk, self.choice, self._note, self._others_go_on)
        self.disk.step, self.disk.waiting = self._faults.step, self._others_go_on
        self.runtime = Runtime(self._faults.statement)
        self.sinks = [self._new_sink()]
        part_limit, delivery = self.choice.choice([600, 1 << 20]), self.choice.choice([1, 2_000, 1 << 22])
        most_synced = self.choice.choice([1, files.MAX_SYNCED])
        self._stack.enter_context(mock.patch.object(files, "MAX_SYNCED", most_synced))
        self._stack.enter_context(single_threaded(self.runtime, self.choice, self._time_ns, part_limit, delivery))
        self._stack.enter_context(self.disk.installed())
        return self

    def __exit__(self, *_: object) -> None:
        with self._stack:
            self.disk.dead = True
            for producer in self._producers:
                producer.disk.die()
            for sink in self.sinks:
                sink.die()

    def run(self) -> None:
        """Let the schedule happen, then let everything end well."""
        self._note(f"accidents: {', '.join(sorted(self.accidents)) or 'kills only'}")
        actions: dict[Callable[[], None], int] = {
            self._emit: 12,
            self._tend: 3,
            self._sync: 4,
            self._consume: 12,
            self._consume_with_fault: 5,
            self._kill_producer: 1,
            self._close_producer: 1,
            self._emit_with_fault: 3,
            self._restart_sink: 2,
            self._cut_power: 2 * ("power" in self.accidents),
            self._fill_disk: 2 * ("full" in self.accidents),
            self._rot: 1 * ("rot" in self.accidents),
            self._free: 3 * ("free" in self.accidents),
            self._add_sink: 1 * ("second" in self.accidents),
            self._set_clock: 2 * ("clock" in self.accidents),
        }
        for action in self.choice.choices(list(actions), list(actions.values()), k=self._steps):
            action()
        self._end_well()

    def _end_well(self) -> None:
        self._calm = self._faults.calm = True
        self._faults.countdown = -1
        for producer in list(self._producers):
            producer.disk.calm()
            if self.choice.random() < 0.5:
                self._end(producer, "killed")
            else:
                producer.journal.close()
                self._end(producer, "closed")
        for sink in self.sinks:
            if not sink.running:
                self._attempt(sink, sink.start)
                assert sink.running
            while sink.step() or sink.step():  # what was read ahead may be older than what has come since
                pass
            sink.stop()
        self._note("end: everything drained")

    def _note(self, text: str) -> None:
        self.schedule.append(f"{len(self.schedule):3} {text}")

    def _time_ns(self) -> int:
        self._now += 1_000
        return self._now + self._skew

    def _new_sink(self) -> Sink:
        name = f"store-{self._born}"
        self._born += 1
        return Sink(name, self.root / name, self.queue, self.runtime)

    # What programs do

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

    # What sinks do

    def _consume(self) -> None:
        sink = self.choice.choice(self.sinks)
        if not sink.running:
            self._attempt(sink, sink.start)
        for _ in range(self.choice.choice([1, 2, 5])):
            if sink.running:
                self._attempt(sink, sink.step)

    def _consume_with_fault(self) -> None:
        faults = ["kill", "kill", "kill at commit"]
        faults += ["power"] * 2 * ("power" in self.accidents) + ["full"] * ("full" in self.accidents)
        self._faults.fault = self.choice.choice(faults)
        self._faults.countdown = self.choice.randrange(self.choice.choice([5, 25, 60]))
        self._consume()
        self._faults.countdown = -1

    def _attempt(self, sink: Sink, action: Callable[[], Any]) -> None:
        self._faults.active = True
        if sink.offered is None:
            sink.late = self.freed
        try:
            action()
            if self.disk.dead:  # what died was a task that nobody has waited for yet
                raise Killed  # noqa: TRY301 - as if somebody had
        except Killed:
            self._sink_died(sink)
        except StoreInUseError:
            raise
        except (OSError, EnvironmentUnavailableError) as error:
            self._note(f"{sink.name}: {error}")
        else:
            self._note(f"{sink.name}: {action.__name__}")
        finally:
            self._faults.active = False

    def _sink_died(self, sink: Sink) -> None:
        image, self._faults.image = self._faults.image, None
        assert image is not None
        sink.die()
        self.disk.restore(image)
        self.disk.dead = False
        self._faults.active = False
        self._note(f"{sink.name} is killed: {self._faults.fault}")
        if self._faults.fault == "power":
            self._cut_power()

    def _restart_sink(self) -> None:
        sink = self.choice.choice(self.sinks)
        if not sink.running:
            return
        if self.choice.random() < 0.5:
            sink.stop()
            self._note(f"{sink.name} stops")
        else:
            self._faults.fault = "kill"
            self._faults.image, self.disk.dead = self.disk.capture(), True
            self._sink_died(sink)

    def _add_sink(self) -> None:
        if len(self.sinks) < 2:
            self.sinks.append(self._new_sink())
            self._note(f"{self.sinks[-1].name} is added")

    def _free(self) -> None:
        sink = self.choice.choice(self.sinks)
        if self.choice.random() < 0.2:
            self._faults.fault, self._faults.countdown = "kill", self.choice.randrange(6)
        before = _segments(self.queue)
        self._attempt(sink, lambda: retention.free(self.queue, 0.0, 0, now=2e9))
        self._faults.countdown = -1
        gone = before - _segments(self.queue)
        self.freed |= bool(gone)
        self._note(f"{len(gone)} segments are freed")

    # What happens to them

    def _others_go_on(self) -> None:
        """While somebody waits for the disk, programs log."""
        if self._calm or self.disk.dead or "slow" not in self.accidents or self.choice.random() < 0.7:
            return
        with self._not_in_sink():
            self._now += self.choice.randrange(5 * _SECOND)
            for producer in self._producers:
                if producer.disk._countdown < 0 and producer.disk._store_countdown < 0:
                    for _ in range(self.choice.randrange(4)):
                        self._emit_one(producer)

    @contextlib.contextmanager
    def _not_in_sink(self) -> Iterator[None]:
        before, self._faults.active = self._faults.active, False
        skew = self._skew
        try:
            yield
        finally:
            self._faults.active, self._skew = before, skew

    def _cut_power(self) -> None:
        image = self.disk.capture()
        self.disk.dead = True
        for producer in list(self._producers):
            self._end(producer, "without power")
        for sink in self.sinks:
            sink.die()
        left = self.disk.after_power_cut(image)
        self.disk.restore(left)
        self.disk.sync_everything()
        self.disk.dead = False
        self.power_cuts += 1
        self._note("the power is cut")
        known = [self._known(sink) for sink in self.sinks if sink.offered is not None]
        for name, ledger in self.ledgers.items():
            ledger.lose_power(seq for held in known for seq in held.get(name, ()))

    def _known(self, sink: Sink) -> dict[str, set[int]]:
        """The events that a store has seen.  A store that was there is there."""
        database = sink.options.store.database
        assert database.exists(), f"{sink.name} has vanished"
        with contextlib.closing(sqlite3.connect(database)) as connection:
            rows = connection.execute(
                "SELECT producer_id, first, last FROM seen JOIN producers ON id = producer"
            ).fetchall()
        known: dict[str, set[int]] = {}
        for producer, first, last in rows:
            known.setdefault(producer.hex(), set()).update(range(first, last + 1))
        return known

    def _fill_disk(self) -> None:
        producer = self._producer()
        if producer is not None:
            producer.disk.full = not producer.disk.full
            self._note(f"{producer.name}'s disk is {'full' if producer.disk.full else 'no longer full'}")

    def _rot(self) -> None:
        segments = sorted(_segments(self.queue))
        if not segments:
            return
        path = self.queue / "journals" / self.choice.choice(segments)
        content = path.read_bytes().rstrip(b"\0")
        if content:
            offset, bit = self.choice.randrange(len(content)), self.choice.randrange(8)
            self.disk.rot(path, offset, bit)
            self.rotted = True
            if path.parent.name in self.ledgers:
                self.ledgers[path.parent.name].rotted = True
            self._note(f"bit {bit} of byte {offset} of {path.name} of {path.parent.name} rots")

    def _set_clock(self) -> None:
        step = self.choice.choice([-3600, -60, -1, 1, 60, 3600]) * _SECOND
        self._now += step
        self._note(f"the clock is set by {step // _SECOND} s")


def _segments(queue: Path) -> set[str]:
    journals = queue / "journals"
    return {str(path.relative_to(journals)) for path in journals.glob("*/*.seg")}
