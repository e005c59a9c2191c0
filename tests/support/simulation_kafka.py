"""A world whose stream is a topic: programs log into a journal directory, a shipper ships it, sinks read the topic.

Programs and shipper are on one machine, sinks on another; the topic is on neither.
"""

from collections.abc import Callable
from typing import ClassVar, Final, Self
from unittest import mock

from runstream_schemas.segment import segment_name
from runstream_sink.config import Options
from runstream_sink.kafka import client
from runstream_sink.kafka.bounds import LATEST
from runstream_sink.kafka.positions import parse_position
from runstream_sink.service import kafka_source
from runstream_sink.source import Source
from support.journals import Killed
from support.simulation_log import SimulatedLog
from support.simulation_shipper import SimulatedShipper
from support.simulation_sink import Feed, Sink
from support.simulation_topic import SimulatedTransport, Topic
from support.simulation_world import Process, World

__all__ = ["KafkaWorld"]

_STREAM: Final = "kafka://broker:9092/events"
_LIMITS: Final = (700, 2_500, 1 << 20)
"""Bytes of the largest value that the topic takes."""


class KafkaWorld(World):
    """One run of the simulation, by way of a topic."""

    accidents_there_are: ClassVar = (
        *("power", "full", "rot", "second", "slow", "clock"),
        *("brokers", "partitions", "rebalances", "burn", "retention", "limit"),
    )
    stream_is_queue: ClassVar = False

    def __init__(self, seed: int, steps: int = 60) -> None:
        super().__init__(seed, steps)
        self.retained = False
        """The topic has lost what every store has."""
        self.topic = Topic(self.choice, self._time_ns, self.choice.choice([1, 2, 3]))
        self.topic.limit = self.choice.choice(_LIMITS)
        self.topic.restless = "brokers" in self.accidents
        self._burnt: set[str] = set()
        """Journals that lay on a machine that is no more."""
        self._whole = "rebalances" not in self.accidents or self.choice.random() < 0.3

    def __enter__(self) -> Self:
        super().__enter__()
        self.shipper = SimulatedShipper(
            self.queue, self.runtime.time, lambda: SimulatedTransport(self.topic, self.choice, self._network_step)
        )
        self._stack.enter_context(self.shipper.installed(self.choice))
        self._stack.enter_context(mock.patch.object(client, "KafkaLog", self._log))
        return self

    def sink(self, name: str) -> Sink:
        """See `World.sink`."""
        return Sink(name, self.root / name, self.runtime.time, Feed(_STREAM, self._source, self.topic.retained))

    def _source(self, options: Options) -> Source:
        """A source of the topic; some end where the topic does."""
        until = LATEST if not self._calm and self.choice.random() < 0.2 else None
        return kafka_source(options, options.stream, until=until)

    def _log(self, _stream: object, *, grouped: bool) -> SimulatedLog:
        return SimulatedLog(
            self.topic, self.choice, self._network_step, grouped=grouped, whole=self._whole or not grouped
        )

    def _network_step(self, what: str) -> None:
        """Something goes over the network: a process may be killed there, and a dead one sends nothing."""
        if self.disk.dead:
            raise Killed
        if self._faults.fault != "full":
            self._faults.step(what)

    def _actions(self) -> dict[Callable[[], None], int]:
        actions = super()._actions()
        del actions[self._free]
        return actions | {
            self._ship: 12,
            self._ship_with_fault: 6,
            self._restart_shipper: 2,
            self._lose_brokers: 3 * ("brokers" in self.accidents),
            self._add_partition: 1 * ("partitions" in self.accidents),
            self._rebalance: 3 * ("rebalances" in self.accidents),
            self._burn: 1 * ("burn" in self.accidents),
            self._retain: 2 * ("retention" in self.accidents and "second" not in self.accidents),
            self._set_limit: 2 * ("limit" in self.accidents),
        }

    def _processes(self) -> list[Process]:
        return [*self.sinks, self.shipper]

    def _drain(self) -> None:
        self.topic.reachable, self.topic.restless = True, False
        self.topic.epoch += 1  # every partition is somebody's
        if self.shipper.running:
            self.shipper.finish()
        self.shipper.start(once=False)
        self.shipper.finish()
        self.topic.drift(settle=True)
        self._check_freed()
        for sink in self.sinks:
            sink.stop()  # it may be one that ends where the topic ended
        super()._drain()

    # What the shipper does

    def _ship(self) -> None:
        if not self.shipper.running:
            once = self.choice.random() < 0.2
            self._attempt(self.shipper, lambda: self.shipper.start(once=once), "start, once" if once else "start")
        seconds = self.choice.choice([0.01, 0.1, 0.3, 1.2])
        if self.shipper.running:
            self._attempt(self.shipper, lambda: self.shipper.go(seconds), f"go on for {seconds} s")
        self._check_freed()
        self.topic.drift()

    def _ship_with_fault(self) -> None:
        self._plan_fault()
        self._ship()
        self._faults.countdown = -1

    def _restart_shipper(self) -> None:
        if not self.shipper.running:
            return
        if self.choice.random() < 0.5:
            self._attempt(self.shipper, self.shipper.stop)
        else:
            self._kill(self.shipper)
        self._check_freed()

    def _check_freed(self) -> None:
        """Whatever is gone from the journals had been acknowledged."""
        for name, ledger in self.ledgers.items():
            if name in self._burnt:
                continue
            unknown = ledger.must_be_there() - self.topic.acknowledged.get(name, set())
            directory = self.queue / "journals" / name
            for segment in {ledger.segments[seq] for seq in unknown}:
                there = (directory / segment_name(segment)).exists()
                assert there, f"segment {segment} of {name} is freed, and was not acknowledged"

    # What happens to the topic, and on the way there

    def _lose_brokers(self) -> None:
        self.topic.reachable = not self.topic.reachable
        self._note(f"the brokers can{' again' if self.topic.reachable else 'not'} be reached")

    def _add_partition(self) -> None:
        self.topic.add_partitions(self.choice.choice([1, 2]))
        self._note(f"the topic has {len(self.topic.partitions)} partitions")

    def _rebalance(self) -> None:
        self.topic.epoch += 1
        self._note("partitions are assigned anew")

    def _set_limit(self) -> None:
        self.topic.limit = self.choice.choice(_LIMITS)
        self._note(f"the topic takes values of {self.topic.limit} bytes")

    def _retain(self) -> None:
        """The topic loses something that every store has."""
        for partition in self.topic.partitions:
            applied = min(self._position(sink, partition.number) for sink in self.sinks)
            partition.retain(self.choice.randint(min(partition.begin, applied), applied))
            self.retained |= partition.begin > 0
        self._note(f"the topic begins at {[partition.begin for partition in self.topic.partitions]}")

    def _position(self, sink: Sink, partition: int) -> int:
        texts = dict(sink.query("SELECT part, position FROM positions"))
        return parse_position(texts[str(partition)]).offset if str(partition) in texts else 0

    # What happens to the machines

    def _cut_power(self) -> None:
        """On the one machine, on the other, or on both."""
        where = self.choice.choice(["both", "programs", "sinks"])
        image = self.disk.capture()
        stores = [sink.options.store.database.parent for sink in self.sinks]
        if where == "both":
            self._lose_programs(self._processes())
            self._power_returns(self.disk.after_power_cut(image))
        elif where == "programs":
            self._lose_programs([self.shipper])
            self._power_returns(self.disk.after_power_cut(image, stores), stores)
        else:
            self.disk.dead = True
            for sink in self.sinks:
                sink.die()
            self._restore(self.disk.after_power_cut(image, [self.queue]), [self.queue])

    def _burn(self) -> None:
        """The machine of the programs is gone, with all that it had."""
        image = self.disk.capture()
        stores = [sink.options.store.database.parent for sink in self.sinks]
        self._lose_programs([self.shipper])
        image.directories[image.root].pop(self.queue.name, None)
        for ledger in self.ledgers.values():
            ledger.synced = 0
        self._burnt |= self.ledgers.keys()
        self._note("the programs' machine burns down")
        self._power_returns(image, stores)

    def _known(self) -> dict[str, set[int]]:
        known = super()._known()
        for producer, seqs in self.topic.held.items():
            known.setdefault(producer, set()).update(seqs)
        return known
