"""Large files are copied by a thread of their own, from the descriptor that was opened at the log call.

The call leaves an `ArtifactPending` event; `ArtifactCompleted` follows when the bytes are staged and on the disk,
`ArtifactFailed` if they cannot be had.  A file that is written to or cut while it is copied is lost, and said to be: it
is never stored as a mixture.  Where the file system can clone, the bytes are those of the call whatever happens to the
file.  A file may be removed or renamed meanwhile.

"Written to" is seen by the modification time and the size, which removal and renaming leave alone.  The kernel moves
the time on at the first write through a mapping only, so a file that was being written through one can change unseen.
"""

import contextlib
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from msgspec import Struct

from runstream.artifacts import Staged, Staging, clone, copy, media_type_of
from runstream_schemas.errors import EnvironmentUnavailableError
from runstream_schemas.events import ArtifactCompleted, ArtifactFailed

__all__ = ["BackgroundCopies", "LargeFile"]

_MOST_WAITING: Final = 32
"""Each file that waits keeps two descriptors open; a call that comes then copies its own."""
_TICK: Final = 20_000_000
"""Nanoseconds within which two writes may leave a file the same modification time."""

Origin = tuple[str, int, int]
"""producer_id (hexadecimal), seq and emit_ts of an `ArtifactPending`."""


class _ChangedError(Exception):
    """The file was written to, or cut, while it was copied."""


class _StoppedError(Exception):
    """The process ends."""


class _State(NamedTuple):
    modified: int
    size: int


class LargeFile:
    """A file as it is now, to be staged later.  Closes ``source`` when it is done, or if it raises.

    Raises `EnvironmentUnavailableError` if the staging directory takes nothing.
    """

    def __init__(self, staging: Staging, source: int) -> None:
        self.staging = staging
        self.descriptors = [source]
        try:
            self._state = _state(source)
            self._target, self._temporary = staging.begin()
            self.descriptors.append(self._target)
            self._cloned = clone(source, self._target)
            if not self._cloned:
                _let_tick_pass(self._state)
        except BaseException:
            self.close()
            raise

    @property
    def size(self) -> int:
        """Bytes."""
        return self._state.size

    def stage(self, stopping: Callable[[], bool]) -> Staged:
        """Copy.  Raises `_ChangedError`, `_StoppedError`, OSError."""
        source = self.descriptors[0]

        def check() -> None:
            if stopping():
                raise _StoppedError
            if not self._cloned and _state(source) != self._state:
                raise _ChangedError

        staged = copy(self._target, None, check) if self._cloned else copy(source, self._target, check)
        check()
        if staged.size != self.size:
            raise _ChangedError
        self.staging.finish(self._target, self._temporary, staged)
        return staged

    def close(self) -> None:
        """Let go of it, and of what is unfinished."""
        if len(self.descriptors) == 2:
            self._temporary.unlink(missing_ok=True)
        self.abandon()

    def abandon(self) -> None:
        """Let go of it in a forked child, whose parent goes on copying."""
        while self.descriptors:
            with contextlib.suppress(OSError):
                os.close(self.descriptors.pop())


class _Copy(NamedTuple):
    file: LargeFile
    run_id: str
    path: str
    origin: Origin


class BackgroundCopies:
    """The thread that copies, started when first needed, and what waits for it."""

    def __init__(self, emit: Callable[[Struct], None]) -> None:
        self._emit = emit
        self._waiting: deque[_Copy] = deque()
        self._changed = threading.Condition()
        self._current: _Copy | None = None
        self._thread: threading.Thread | None = None
        self._stopping = False
        self.lost = 0
        """Files that were not stored, for whatever reason."""

    @property
    def unfinished(self) -> int:
        """Files that are not stored yet."""
        with self._changed:
            return len(self._waiting) + (self._current is not None)

    def add(self, file: LargeFile, run_id: str, path: str, origin: Origin) -> None:
        """Have a file copied; where no thread can do it, or too many wait, it is copied before this returns."""
        job = _Copy(file, run_id, path, origin)
        with self._changed:
            taken = len(self._waiting) < _MOST_WAITING and not self._stopping and self._has_thread()
            if taken:
                self._waiting.append(job)
                self._changed.notify_all()
        if not taken:
            self._finish(job, lambda: False)

    def wait(self, timeout: float | None) -> bool:
        """Wait until all files are stored or lost; False if ``timeout`` seconds were not enough."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_idle() or self._stopping, timeout)
            return self._is_idle()

    def stop(self) -> None:
        """Leave what is not finished; a sink reports it."""
        self._stopping = True
        with self._changed:
            while self._waiting:
                self._waiting.popleft().file.close()
            self._changed.notify_all()

    def abandon(self) -> None:
        """Close the files of the parent, in a forked child."""
        current = self._current
        for job in [*self._waiting, *([] if current is None else [current])]:
            job.file.abandon()

    def _is_idle(self) -> bool:
        return not self._waiting and self._current is None

    def _has_thread(self) -> bool:
        if self._thread is None or not self._thread.is_alive():
            thread = threading.Thread(target=self._run, name="runstream-copies", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the interpreter ends
                return False
            self._thread = thread
        return True

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopping)
                if self._stopping:
                    return
                self._current = self._waiting.popleft()
            self._finish(self._current, lambda: self._stopping)
            with self._changed:
                self._current = None
                self._changed.notify_all()

    def _finish(self, job: _Copy, stopping: Callable[[], bool]) -> None:
        try:
            staged = job.file.stage(stopping)
        except _StoppedError:
            return
        except _ChangedError:
            self._lose(job, "changed", "it was written to while it was copied; log it when it is complete")
        except (OSError, EnvironmentUnavailableError) as error:
            self._lose(job, "unreadable", str(error))
        else:
            kind = media_type_of(job.path)
            self._emit(ArtifactCompleted(job.run_id, job.path, staged.sha256, staged.size, kind, *job.origin))
        finally:
            job.file.close()

    def _lose(self, job: _Copy, reason: str, detail: str) -> None:
        self.lost += 1
        self._emit(ArtifactFailed(job.run_id, job.path, reason, detail, *job.origin[:2]))
        _warn(job, reason, detail)


def _warn(job: _Copy, reason: str, detail: str) -> None:
    import structlog  # here: it loads asyncio

    configured = structlog.is_configured()
    log = structlog.get_logger() if configured else structlog.wrap_logger(structlog.PrintLogger(sys.stderr))
    with contextlib.suppress(Exception):  # what the program has made of its logging may raise anything
        log.warning("an artifact is lost", run_id=job.run_id, path=job.path, reason=reason, detail=detail)


def _state(descriptor: int) -> _State:
    status = os.fstat(descriptor)
    return _State(status.st_mtime_ns, status.st_size)


def _let_tick_pass(state: _State) -> None:
    """Make sure that a write from now on leaves another modification time."""
    age = time.time_ns() - state.modified
    if 0 <= age < _TICK:
        time.sleep((_TICK - age) / 1e9)
