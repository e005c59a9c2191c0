"""What a consumer of a queue directory tells producers and retention: which segments it has applied.

A consumer is registered by its directory ``consumers/<consumer>/``; the file of a journal in it holds the index of the
first segment that the consumer has not applied yet, as decimal text.  These files only decide what may be freed; the
truth about positions is the consumer's own (a sink keeps it in its store).
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from runstream_schemas.directories import make_durable
from runstream_schemas.follower import parse_position
from runstream_schemas.reader import Position, journal_names

__all__ = ["APPLIED_ENTIRELY", "Acknowledgements"]

APPLIED_ENTIRELY: Final = 1 << 32
"""What a consumer acknowledges for a journal of which nothing is left to read."""
_AGAIN: Final = 1.0
"""Seconds between tries to acknowledge what the disk has refused."""


def _leave(_name: str) -> None:
    """Nothing is trimmed."""


class Acknowledgements:
    """The files of one consumer.  Blocking; may be called by several threads, except that `resume` runs alone.

    Where the disk refuses a file, it is owed: nothing is freed meanwhile, and the consumer may go on all the same.
    Methods then return the error, for the caller to tell, and do not raise it.
    """

    def __init__(self, directory: Path, consumer: str, trim: Callable[[str], None] = _leave) -> None:
        """``trim`` is called with the name of each journal that is applied entirely: see `Follower.trim`."""
        self._journals = directory / "journals"
        self._consumer = directory / "consumers" / consumer
        self._trim = trim
        self._acknowledged: dict[str, int] = {}
        self._owed: dict[str, int] = {}
        """What is applied and could not be acknowledged yet."""
        self._owed_since = 0.0
        self._settling = threading.Lock()

    def register(self) -> None:
        """Make the consumer known: from now on what it has not applied is kept.  Raises OSError."""
        make_durable(self._consumer)

    def resume(self, positions: Mapping[str, str]) -> OSError | None:
        """The consumer begins, or begins again, at these positions, by journal; all of them are acknowledged.

        After a crash between a commit and its acknowledgement nothing new need come that would make up for it.
        Raises `CorruptDataError` if one is no position, OSError if the files cannot be read.
        """
        self._acknowledged.clear()
        self._owed.clear()
        return self._settle(self._untold(positions)) if positions else None

    def settle(self, positions: Mapping[str, str]) -> OSError | None:
        """The consumer has applied all that lies before these positions, by journal."""
        owed = {}
        for name, text in positions.items():
            first = _first_unapplied(parse_position(text))
            if self._acknowledged.get(name) != first:
                owed[name] = first
        return self._settle(owed)

    def try_again(self) -> OSError | None:
        """Acknowledge what is owed, if there is anything and the last try lies back long enough."""
        if self._owed and time.monotonic() - self._owed_since > _AGAIN:
            return self._settle({})
        return None

    def _settle(self, owed: dict[str, int]) -> OSError | None:
        """Acknowledge what is owed now, and what was owed before."""
        with self._settling:
            self._owed |= owed
            self._owed_since = time.monotonic()
            try:
                for name, first in list(self._owed.items()):
                    self._settle_one(name, first)
                    self._owed.pop(name)
            except OSError as error:
                return error
        return None

    def _settle_one(self, name: str, first: int) -> None:
        if first != APPLIED_ENTIRELY:
            self._write(name, first)
            self._acknowledged[name] = first
            return
        self._trim(name)  # first: on a full disk the acknowledgement may need that room
        self._write(name, first)
        self._acknowledged.pop(name, None)

    def _write(self, name: str, first: int) -> None:
        """Renamed into place: a producer that reads half a number would believe that its quota is used up."""
        fresh = self._consumer / f"{name}.new"
        self._consumer.mkdir(parents=True, exist_ok=True)  # somebody may have removed the consumer
        try:
            fresh.write_text(str(first))
            fresh.rename(self._consumer / name)
        except OSError:
            with contextlib.suppress(OSError):
                fresh.unlink(missing_ok=True)
            raise

    def _untold(self, positions: Mapping[str, str]) -> dict[str, int]:
        """What the files do not say yet, of the journals that are there."""
        told = _sizes(self._consumer)
        untold = {}
        for name in sorted(positions.keys() & set(journal_names(self._journals))):
            position = parse_position(positions[name])
            first = _first_unapplied(position)
            if told.get(name) != len(str(first)) or (not position.done and self._text(name) != str(first)):
                untold[name] = first
        return untold

    def _text(self, name: str) -> str:
        return (self._consumer / name).read_text(errors="replace")


def _first_unapplied(position: Position) -> int:
    return APPLIED_ENTIRELY if position.done else position.segment


def _sizes(directory: Path) -> dict[str, int]:
    """By name, the size of the files in a directory; empty where somebody has removed it."""
    try:
        with os.scandir(directory) as entries:
            return {entry.name: entry.stat().st_size for entry in entries}
    except FileNotFoundError:
        return {}
