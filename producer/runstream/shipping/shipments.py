"""How much of what this process has logged the brokers have: what `flush` waits for and `stats` tells."""

import threading
import time
from pathlib import Path
from typing import Final

from runstream.counts import with_nested
from runstream.journal import Journal
from runstream.shipping.progress import shipped_position

__all__ = ["Shipments"]

_PAUSE: Final = 0.01


class Shipments:
    """The journals of this process that are shipped to a topic, from their opening on.  Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._open: list[tuple[Path, Journal]] = []
        self._closed: dict[tuple[Path, str], int] = {}
        """By directory and name: how many events a closed journal has taken."""
        self._arrived = 0
        """Events of journals that were shipped to their end and are forgotten."""

    def add(self, directory: Path, journal: Journal) -> None:
        """A journal was opened in a journal directory."""
        with self._lock:
            self._open.append((directory, journal))

    def settle(self, journal: Journal, *, lost: bool = False) -> None:
        """A journal was closed; one that somebody has removed is ``lost``, and not waited for."""
        with self._lock:
            for directory, one in self._open:
                if one is journal and not lost:
                    self._closed |= _counts(directory, journal)
            self._open = [(directory, one) for directory, one in self._open if one is not journal]

    @property
    def shipped(self) -> int:
        """Events that the brokers have acknowledged."""
        with self._lock:
            counts = self._counts()
            return self._arrived + sum(min(_shipped(*key), count) for key, count in counts.items())

    def wait(self, timeout: float) -> bool:
        """Wait until the brokers have all that was accepted before; False if ``timeout`` seconds were not enough."""
        deadline = time.monotonic() + timeout
        with self._lock:
            wanted = self._counts()
        while True:
            wanted = {key: count for key, count in wanted.items() if _shipped(*key) < count}
            if not wanted or time.monotonic() >= deadline:
                return not wanted
            time.sleep(_PAUSE)

    def _counts(self) -> dict[tuple[Path, str], int]:
        counts = {key: count for key, count in self._closed.items() if _shipped(*key) < count}
        self._arrived += sum(self._closed.values()) - sum(counts.values())
        self._closed = counts.copy()
        for directory, journal in self._open:
            counts |= _counts(directory, journal)
        return counts


def _counts(directory: Path, journal: Journal) -> dict[tuple[Path, str], int]:
    return {(directory, one.directory.name): one.accepted for one in with_nested(journal)}


def _shipped(directory: Path, name: str) -> int:
    """Events of a journal that are acknowledged; all of them where it was freed and is gone."""
    position = shipped_position(directory, name)
    if position is not None:
        return 1 << 62 if position.done else max(position.next_seq, 0)
    return 0 if (directory / "journals" / name).exists() else 1 << 62
