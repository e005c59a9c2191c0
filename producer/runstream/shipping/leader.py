"""Who ships a journal directory: the process that holds a lock on ``shipper.lock``, and what it says of itself.

``shipper.json`` is replaced as a whole; it stays when the process ends.  ``shipper.starting`` is there while one is
being started, until it leads.  ``shipper.yield`` asks one that only waits for its next try to make way for one with
other settings.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

__all__ = [
    "Status",
    "StatusFile",
    "ask_to_yield",
    "asked_to_yield",
    "is_led",
    "is_starting",
    "leading",
    "lock_identity",
    "note_start",
    "read_status",
]

_LOCK: Final = "shipper.lock"
_STATUS: Final = "shipper.json"
_STARTING: Final = "shipper.starting"
_STARTS: Final = 3.0
"""Seconds that a shipper may take until it leads."""
_YIELD: Final = "shipper.yield"
_TRIES: Final = 10
_PAUSE: Final = 0.02
"""A look by `is_led` may come between: so often, and seconds apart, the lock is tried."""
_INTERVAL: Final = 1.0
"""Seconds between two writes of the status where only a count changes."""


class Status(msgspec.Struct):
    """What a shipper says of itself."""

    pid: int
    state: str
    """``connecting``, ``shipping``, ``waiting`` or ``ended``."""
    error: str
    """Why it waits, or gave up; empty while all is well."""
    shipped: int
    """Events that the brokers acknowledged since it began."""
    since: float
    """When it came into this state, seconds since the epoch."""


def read_status(directory: Path) -> Status | None:
    """What the shipper of a journal directory, or the last one, says; None if it has said nothing."""
    try:
        return msgspec.json.decode((directory / _STATUS).read_bytes(), type=Status)
    except (OSError, msgspec.MsgspecError):
        return None


def is_led(directory: Path) -> bool:
    """Whether a shipper holds a journal directory.  Raises OSError."""
    try:
        descriptor = os.open(directory / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def lock_identity(directory: Path) -> int | None:
    """What stays the same as long as the lock file of a journal directory is the same; None if there is none."""
    try:
        return (directory / _LOCK).stat().st_ino
    except OSError:
        return None


def note_start(directory: Path) -> None:
    """Let others know that a shipper is being started, so that not all of them do it.  Raises OSError."""
    (directory / _STARTING).touch()


def is_starting(directory: Path) -> bool:
    """Whether somebody has just started one, which does not lead yet."""
    try:
        return 0 <= time.time() - (directory / _STARTING).stat().st_mtime < _STARTS
    except OSError:
        return False


def ask_to_yield(directory: Path) -> None:
    """Ask a shipper that waits to end.  Raises OSError."""
    (directory / _YIELD).touch()


def asked_to_yield(directory: Path) -> bool:
    """Whether somebody asks, who is answered by it."""
    try:
        (directory / _YIELD).unlink()
    except OSError:
        return False
    return True


@contextmanager
def leading(directory: Path) -> Iterator[bool]:
    """Whether this process leads a journal directory, as long as the block lasts.  Raises OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        leads = _take(descriptor)
        if leads:
            (directory / _STARTING).unlink(missing_ok=True)
            (directory / _YIELD).unlink(missing_ok=True)
        yield leads
    finally:
        os.close(descriptor)


def _take(descriptor: int) -> bool:
    for _ in range(_TRIES):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(_PAUSE)
    return False


class StatusFile:
    """The shipper's side of ``shipper.json``.  What the disk refuses is left out."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / _STATUS
        self._status = Status(os.getpid(), "", "", 0, 0.0)
        self._written = -_INTERVAL

    def tell(self, state: str, error: str, shipped: int) -> None:
        """Note what has changed; a mere count is written once in a while."""
        before = self._status
        changed = (state, error) != (before.state, before.error)
        since = time.time() if state != before.state else before.since
        self._status = Status(before.pid, state, error, shipped, since)
        if changed or time.monotonic() - self._written >= _INTERVAL:
            self._write()

    def end(self, error: str = "") -> None:
        """The last word."""
        self.tell("ended", error, self._status.shipped)

    def _write(self) -> None:
        self._written = time.monotonic()
        fresh = self._path.with_suffix(".new")
        with contextlib.suppress(OSError):
            fresh.write_bytes(msgspec.json.encode(self._status))
            fresh.rename(self._path)
