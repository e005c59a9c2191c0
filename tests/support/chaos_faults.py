"""What a seed decides: which faults come when, for how long, and to whom.

A fault ends some time after it began; several may hold at once.  What it does to brokers, shippers, sinks and
connections is told by `FAULTS`: each entry begins a fault and returns what ends it.
"""

import asyncio
import contextlib
import heapq
import itertools
import os
import random
import signal
import time
import urllib.error
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from aiokafka.errors import KafkaError

from support.crash_round import Victim
from support.kafka import KafkaCluster, wait_for
from support.toxiproxy import Proxy

__all__ = ["FAULTS", "Agenda", "Fault", "Target", "plan", "signal_shipper"]

_LEADER_TIMEOUT: Final = 3.0
_PARTITIONS: Final = 3
End = Callable[[], None]


class Fault(NamedTuple):
    """One of them."""

    kind: str
    start: float
    """Seconds after the round's begin."""
    seconds: float
    """How long it lasts."""
    seed: int
    """Decides what else is to be chosen."""

    def __str__(self) -> str:
        return f"{self.kind} (planned at {self.start:.2f} s, for {self.seconds:.2f} s)"


class Target(Protocol):
    """What faults are done to."""

    cluster: KafkaCluster
    topic: str

    @property
    def sinks(self) -> list[Victim]:
        """Those that run."""

    def replace_sink(self, at: int) -> None:
        """Kill one, and start another."""

    def shipper(self) -> int | None:
        """The process id of the shipper that leads."""


class Agenda:
    """What is to be done at certain times; `run` does it, later where the machine is slow, until nothing is left."""

    def __init__(self, done: list[str]) -> None:
        """``done`` gets a line for everything that was done."""
        self._done = done
        self._due: list[tuple[float, int, str, Callable[[], object]]] = []
        self._numbers = itertools.count()
        self._began = time.monotonic()

    @property
    def now(self) -> float:
        """Seconds since the begin."""
        return time.monotonic() - self._began

    def add(self, when: float, text: str, action: Callable[[], object]) -> None:
        """Have something done."""
        heapq.heappush(self._due, (when, next(self._numbers), text, action))

    def run(self) -> None:
        """Do it all, and what is added meanwhile."""
        while self._due:
            when, _, text, action = heapq.heappop(self._due)
            time.sleep(max(0.0, when - self.now))
            self._done.append(f"at {self.now:.2f} s: {text}")
            action()


def plan(seed: int, seconds: float) -> list[Fault]:
    """The faults of a round of so many seconds, by their beginning."""
    choice = random.Random(seed)
    kinds = choice.choices(list(_WEIGHTS), list(_WEIGHTS.values()), k=choice.randint(8, 14))
    faults = [
        Fault(kind, choice.uniform(0, seconds), _duration(kind, choice), choice.getrandbits(32)) for kind in kinds
    ]
    return sorted(faults, key=lambda fault: fault.start)


def _duration(kind: str, choice: random.Random) -> float:
    """Mostly short; a broker or a process is sometimes gone longer than its session (3 s) lasts."""
    if kind == "pause a broker":
        return choice.choice([0.3, 1.0, 4.5]) * choice.uniform(0.8, 1.2)
    return choice.choice([0.1, 0.5, 1.5, 4.0]) * choice.uniform(0.5, 1.2)


def _kill_leader(target: Target, choice: random.Random) -> End:
    node = target.cluster.nodes[_leader(target, choice)]
    node.kill()

    def restart() -> None:
        if not node.running:
            node.launch()

    return restart


def _pause_broker(target: Target, choice: random.Random) -> End:
    node = target.cluster.nodes[_leader(target, choice)]
    if not node.running:
        return _nothing
    node.pause()

    def resume() -> None:
        if node.running:
            node.resume()

    return resume


def _leader(target: Target, choice: random.Random) -> int:
    """Of some partition; any node where nobody says who leads."""
    fallback, partition = choice.choice(sorted(target.cluster.nodes)), choice.randrange(_PARTITIONS)
    with contextlib.suppress(KafkaError, OSError, TimeoutError, IndexError):
        asking = target.cluster.leader(target.topic, partition)
        return wait_for(asyncio.wait_for(asking, _LEADER_TIMEOUT))
    return fallback


def _kill_shipper(target: Target, _: random.Random) -> End:
    signal_shipper(target.shipper(), signal.SIGKILL)
    return _nothing


def _end_shipper(target: Target, _: random.Random) -> End:
    signal_shipper(target.shipper(), signal.SIGTERM)
    return _nothing


def _pause_shipper(target: Target, _: random.Random) -> End:
    shipper = target.shipper()
    signal_shipper(shipper, signal.SIGSTOP)
    return lambda: signal_shipper(shipper, signal.SIGCONT)


def _kill_sink(target: Target, choice: random.Random) -> End:
    target.replace_sink(choice.randrange(len(target.sinks)))
    return _nothing


def _kill_sinks(target: Target, _: random.Random) -> End:
    for at in range(len(target.sinks)):
        target.replace_sink(at)
    return _nothing


def _pause_sink(target: Target, choice: random.Random) -> End:
    sink = choice.choice(target.sinks)
    sink.signal(signal.SIGSTOP)
    return lambda: sink.signal(signal.SIGCONT)


def _cut(target: Target, choice: random.Random) -> End:
    proxies = _proxies(target, choice)
    for proxy in proxies:
        proxy.disable()

    def mend() -> None:
        for proxy in proxies:
            proxy.enable()

    return mend


def _toxic(kind: str, attributes: Mapping[str, tuple[int, int]]) -> Callable[[Target, random.Random], End]:
    """A toxic whose attributes lie between bounds, on some connections or all."""

    def begin(target: Target, choice: random.Random) -> End:
        stream = choice.choice(["downstream", "upstream"])
        chosen = {name: choice.randint(*bounds) for name, bounds in attributes.items()}
        toxicity = choice.choice([0.5, 1.0])
        added: list[tuple[Proxy, str]] = []
        for proxy in _proxies(target, choice):
            with contextlib.suppress(urllib.error.HTTPError):  # one of its kind is there already
                added.append((proxy, proxy.add_toxic(kind, stream=stream, toxicity=toxicity, **chosen)))

        def mend() -> None:
            for proxy, name in added:
                proxy.remove_toxic(name)

        return mend

    return begin


def _proxies(target: Target, choice: random.Random) -> list[Proxy]:
    """Of one broker or of all."""
    proxies = [target.cluster.proxies[number] for number in sorted(target.cluster.proxies)]
    return choice.choice([proxies, [choice.choice(proxies)]])


def signal_shipper(process: int | None, number: int) -> None:
    """Send a signal to a shipper, if there is one; to nobody else where that has ended meanwhile."""
    if process is None:
        return
    with contextlib.suppress(OSError):
        if b"runstream.shipping" in Path(f"/proc/{process}/cmdline").read_bytes():
            os.kill(process, number)


def _nothing() -> None:
    """It has ended by itself."""


_TOXICS: Final[Mapping[str, tuple[str, Mapping[str, tuple[int, int]]]]] = {
    "latency": ("latency", {"latency": (20, 600), "jitter": (0, 300)}),
    "resets": ("reset_peer", {"timeout": (0, 500)}),
    "cut in the middle": ("limit_data", {"bytes": (1, 50_000)}),
    "pieces": ("slicer", {"average_size": (10, 2_000), "size_variation": (0, 9), "delay": (10, 2_000)}),
    "a narrow line": ("bandwidth", {"rate": (20, 500)}),
    "a black hole": ("timeout", {"timeout": (0, 0)}),
}
FAULTS: Final[Mapping[str, Callable[[Target, random.Random], End]]] = {
    "kill a leader": _kill_leader,
    "pause a broker": _pause_broker,
    "kill the shipper": _kill_shipper,
    "end the shipper": _end_shipper,
    "pause the shipper": _pause_shipper,
    "kill a sink": _kill_sink,
    "kill all sinks": _kill_sinks,
    "pause a sink": _pause_sink,
    "cut connections": _cut,
    **{name: _toxic(*toxic) for name, toxic in _TOXICS.items()},
}
_OFTEN: Final = {"kill a leader", "kill the shipper", "kill a sink", "cut in the middle"}
_WEIGHTS: Final = {name: 3 if name in _OFTEN else 1 for name in FAULTS}
