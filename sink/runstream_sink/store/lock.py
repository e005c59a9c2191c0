"""The lock that makes one sink the only writer of a store."""

import fcntl
import os
from pathlib import Path

from runstream_schemas.errors import EnvironmentUnavailableError, StoreInUseError

__all__ = ["StoreLock"]


class StoreLock:
    """An exclusive flock on a file that holds the owner's process id.  The kernel frees it when the process dies."""

    def __init__(self, path: Path, store: str) -> None:
        self._path = path
        self._store = store
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock without waiting.

        Raises `StoreInUseError` if another sink holds it, `EnvironmentUnavailableError` if the file cannot be made.
        """
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise EnvironmentUnavailableError(f"the lock of store {self._store} cannot be made: {error}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError:
            owner = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise StoreInUseError(self._in_use(owner)) from None
        except OSError as error:
            os.close(descriptor)
            raise EnvironmentUnavailableError(f"the lock of store {self._store} cannot be taken: {error}") from error
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the lock back; a lock that is not held stays so."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _in_use(self, owner: str) -> str:
        process = f"process {owner}" if owner else "another process"
        return (
            f"the store {self._store} is in use by {process}, which holds {self._path}; "
            "a store in SQLite has one sink at a time: stop that one, start this one with --standby, so that it takes "
            "over when that one ends, give it another store, or keep the store in PostgreSQL, which several sinks share"
        )
