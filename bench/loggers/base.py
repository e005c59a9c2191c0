"""What a logger is to the benchmark."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

__all__ = ["METRIC", "ROW", "Logger", "Setting", "durations"]

METRIC = ("loss", 0.5)
ROW = {"prompt": "p" * 1400, "output": "o" * 600, "latency_ms": 12.5, "tokens": 321}


class Setting:
    """Where a logger works: a directory of its own, and the address of a Kafka broker, empty if there is none."""

    def __init__(self, directory: Path, broker: str) -> None:
        self.directory = directory
        self.broker = broker


class Logger:
    """One way to log, set up by its making; ends with its process."""

    durability: ClassVar[str]
    """What has become of an event when its call returns."""
    overload: ClassVar[str]
    """What happens to what is logged faster than it is carried away."""
    share: ClassVar[float] = 1
    """Of the calls of a round: fewer where a call takes long."""
    needs: ClassVar[str] = ""
    """The package that it comes from."""
    broker: ClassVar[bool] = False
    """Whether it works only with a broker."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    def metric(self, step: int) -> Any:
        """Log a metric."""
        raise NotImplementedError

    def row(self, step: int) -> Any:
        """Log a row."""
        raise NotImplementedError

    def subjects(self) -> dict[str, Callable[[int], Any]]:
        """What it can log."""
        return {"metric": self.metric, "2 KB row": self.row}

    def durations(self, subject: str, calls: int) -> list[int]:
        """Nanoseconds of each of so many calls."""
        return durations(self.subjects()[subject], calls)

    def settle(self) -> None:
        """Carry away what was logged, or give it up."""


def durations(call: Callable[[int], Any], calls: int) -> list[int]:
    """Nanoseconds of each of so many calls."""
    clock = time.perf_counter_ns
    taken = [0] * calls
    for step in range(calls):
        begin = clock()
        call(step)
        taken[step] = clock() - begin
    return taken
