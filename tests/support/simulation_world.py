"""A world in which everything goes wrong, decided by one number: the seed.

Programs log, sinks apply, retention frees, and between any two steps of theirs a process is killed, the power is cut, a
disk is full or slow, a bit rots, or a clock is set.  Everything runs in one thread on real code; what is simulated is
the disk (`simulation_disk`), the clock, and who is when at work.  At the end all is well again, every store takes in
what is left, and `simulation_checks` compares.

Here the stream is a queue directory; in `simulation_kafka` it is a topic.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol, Self
from unittest import mock

from runstream_schemas import retention
from runstream_schemas.errors import EnvironmentUnavailableError, StoreInUseError
from runstream_sink.source import ReassignedError, StreamReplacedError
from runstream_sink.tables import files
from support.journals import Killed
from support.simulation_disk import Disk, Image
from support.simulation_faults import Faults
from support.simulation_programs import SECOND, Programs
from support.simulation_runtime import Runtime, VirtualTime, single_threaded
from support.simulation_sink import Sink, source_of_queue

__all__ = ["Process", "World"]

_MEMORY: Final = Path("/dev/shm")


class Process(Protocol):
    """Whatever can be killed beside the programs that log."""

    name: str

    def die(self) -> None:
        """End as a killed process does: all that it held is let go of.  What that does to files does not count."""


class World(Programs):
    """One run of the simulation.  Used as a context manager, so that its directory goes when it ends."""

    accidents_there_are: ClassVar = ("power", "full", "rot", "free", "second", "slow", "clock")
    stream_is_queue: ClassVar = True

    def __init__(self, seed: int, steps: int = 45) -> None:
        super().__init__(seed, self.accidents_there_are)
        self.freed = False
        """Something is gone that a store may not have had."""
        self._steps = steps
        self._calm = False

    def __enter__(self) -> Self:
        self._stack = contextlib.ExitStack()
        place = tempfile.mkdtemp(prefix="runstream-simulation-", dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None)
        self._stack.callback(shutil.rmtree, place, ignore_errors=True)
        self.root = Path(place).resolve() / "machine"
        self.queue = self.root / "queue"
        self.disk = Disk(self.root, Path(place).resolve() / "links", self.choice)
        self._faults = Faults(self.disk, self.choice, self._note, self._others_go_on)
        self.disk.step, self.disk.waiting = self._faults.step, self._others_go_on
        self.runtime = Runtime(VirtualTime(), self._faults.statement)
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
            for process in self._processes():
                process.die()

    def run(self) -> None:
        """Let the schedule happen, then let everything end well."""
        self._note(f"accidents: {', '.join(sorted(self.accidents)) or 'kills only'}")
        actions = self._actions()
        for action in self.choice.choices(list(actions), list(actions.values()), k=self._steps):
            action()
            self.runtime.time.now += self.choice.random()
        self._end_well()

    def _actions(self) -> dict[Callable[[], None], int]:
        """What may happen, and how often relative to the rest."""
        return {
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

    def _processes(self) -> list[Process]:
        return [*self.sinks]

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
        self._drain()
        self._note("end: everything drained")

    def _drain(self) -> None:
        """Every store takes in what is left."""
        for sink in self.sinks:
            if not sink.running:
                self._attempt(sink, sink.start)
                assert sink.running
            with contextlib.suppress(OSError):  # what was read ahead may have failed before all was well again
                sink.step()
            while sink.step() or sink.step():  # what was read ahead may be older than what has come since
                pass
            sink.stop()

    def _new_sink(self) -> Sink:
        self._born += 1
        return self.sink(f"store-{self._born - 1}")

    def sink(self, name: str) -> Sink:
        """A sink of the stream, with a store of its own that is still to be made."""
        return Sink(name, self.root / name, self.runtime.time, source_of_queue(self.queue))

    # What sinks do

    def _consume(self) -> None:
        sink = self.choice.choice(self.sinks)
        if not sink.running:
            self._attempt(sink, sink.start)
        for _ in range(self.choice.choice([1, 2, 5])):
            if sink.running:
                self._attempt(sink, sink.step)

    def _consume_with_fault(self) -> None:
        self._plan_fault()
        self._consume()
        self._faults.countdown = -1

    def _plan_fault(self) -> None:
        """What will strike the process that is at work next."""
        faults = ["kill", "kill", "kill at commit"]
        faults += ["power"] * 2 * ("power" in self.accidents) + ["full"] * ("full" in self.accidents)
        self._faults.fault = self.choice.choice(faults)
        self._faults.countdown = self.choice.randrange(self.choice.choice([5, 25, 60]))

    def _attempt(self, process: Process, action: Callable[[], Any], what: str = "") -> None:
        self._faults.active = True
        if isinstance(process, Sink) and process.offered is None:
            process.late = self.freed
        try:
            action()
            if self.disk.dead:  # what died was a task that nobody has waited for yet
                raise Killed  # noqa: TRY301 - as if somebody had
        except Killed:
            self._died(process)
        except (StoreInUseError, StreamReplacedError):
            raise
        except (OSError, EnvironmentUnavailableError, ReassignedError) as error:
            self._note(f"{process.name}: {error}")
        else:
            self._note(f"{process.name}: {what or action.__name__}")
        finally:
            self._faults.active = False

    def _kill(self, process: Process) -> None:
        """Kill it between two steps."""
        self._faults.fault = "kill"
        self._faults.image, self.disk.dead = self.disk.capture(), True
        self._died(process)

    def _died(self, process: Process) -> None:
        image, self._faults.image = self._faults.image, None
        assert image is not None
        process.die()
        self.disk.restore(image)
        self.disk.dead = False
        self._faults.active = False
        self._note(f"{process.name} is killed: {self._faults.fault}")
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
            self._kill(sink)

    def _add_sink(self) -> None:
        if len(self.sinks) < 2:
            self.sinks.append(self._new_sink())
            self._note(f"{self.sinks[-1].name} is added")

    def _free(self) -> None:
        sink = self.choice.choice(self.sinks)
        if self.choice.random() < 0.2:
            self._faults.fault, self._faults.countdown = "kill", self.choice.randrange(6)
        before = _segments(self.queue)
        self._attempt(sink, lambda: retention.free(self.queue, 0.0, 0, now=2e9), "free")
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
            self._now += self.choice.randrange(5 * SECOND)
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
        self._lose_programs(self._processes())
        self._power_returns(self.disk.after_power_cut(image))

    def _lose_programs(self, besides: Collection[Process]) -> None:
        """Programs that log, and others, end without a word; what the disk sees of that does not count."""
        self.disk.dead = True
        for producer in list(self._producers):
            self._end(producer, "without power")
        for process in besides:
            process.die()

    def _power_returns(self, left: Image, spared: Collection[Path] = ()) -> None:
        """The disk is what is left of it, and with it what programs have logged."""
        self._restore(left, spared)
        known = self._known()
        for name, ledger in self.ledgers.items():
            ledger.lose_power(known.get(name, ()))

    def _restore(self, left: Image, spared: Collection[Path] = ()) -> None:
        self.disk.restore(left)
        self.disk.sync_everything(spared)
        self.disk.dead = False
        self.power_cuts += 1
        self._note("the power is cut" + f"; not that of {', '.join(path.name for path in spared)}" * bool(spared))

    def _known(self) -> dict[str, set[int]]:
        """By producer, the events that must stay, come what may, as something durable outside the journals has them."""
        known: dict[str, set[int]] = {}
        for sink in self.sinks:
            for producer, seqs in sink.known().items():
                known.setdefault(producer, set()).update(seqs)
        return known

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


def _segments(queue: Path) -> set[str]:
    journals = queue / "journals"
    return {str(path.relative_to(journals)) for path in journals.glob("*/*.seg")}
