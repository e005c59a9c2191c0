"""Writes that arrive over HTTP become events on the stream, and are answered when the sink's consumer has applied them.

Promises:

* `Writer.submit` returns when all its events are applied: a read after it finds them.
* It raises `StreamUnavailableError` where that cannot be, at the latest after its deadline.  If the stream takes no
  event, there is none of them on it.  If the deadline passes while events are on their way, they are applied later:
  whoever tries again finds them applied, and would log points and rows twice.
* Nothing waits in the event loop: events are put on the stream by a thread, in the order in which they were submitted.
  Those of requests that come at the same time are applied by one commit.
"""

import asyncio
import contextlib
import hashlib
import os
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from msgspec import Struct

from runstream_schemas.errors import EnvironmentUnavailableError, InvalidInputError
from runstream_schemas.events import Event
from runstream_sink.applied import Applied, Identity
from runstream_sink.source import StreamUnavailableError

__all__ = ["DEADLINE", "Staged", "Staging", "Writer", "Writing", "find_writing"]

DEADLINE: Final = 10.0
"""Seconds after which a write that is not applied is answered with an error."""

_PAUSE: Final = 0.01
_GROUP: Final = "runstream.writing"

T = TypeVar("T")


class Staged(NamedTuple):
    """Content that lies where the sink finds it."""

    sha256: str
    size: int


class Staging(Protocol):
    """Where bytes of artifacts wait, content-addressed."""

    def begin(self) -> tuple[int, Path]:
        """An empty file: its descriptor and its path."""

    def finish(self, target: int, temporary: Path, staged: Any) -> None:
        """Give what was written its name."""


class Writing(Protocol):
    """A way onto a stream, which another package provides."""

    @property
    def staging(self) -> Staging:
        """Where bytes go before their event."""

    @property
    def error(self) -> str:
        """What keeps events from arriving; empty if nothing is known."""

    def emit(self, event: Struct) -> tuple[bytes, int]:
        """Put an event on the stream; raises `EnvironmentUnavailableError` if it is not accepted."""

    def media_type(self, path: str) -> str | None:
        """The media type that a file's name tells."""

    def close(self) -> None:
        """Let go of it."""


def find_writing() -> Callable[[str], Writing]:
    """What opens a way onto a stream.  Raises `EnvironmentUnavailableError` if none is installed."""
    for entry in entry_points(group=_GROUP):
        found: Callable[[str], Writing] = entry.load()
        return found
    raise EnvironmentUnavailableError("nothing that writes on streams is installed; run: pip install 'runstream[sink]'")


class Writer:
    """Puts events on the stream and waits for them."""

    def __init__(
        self,
        applied: Applied,
        open_writing: Callable[[], Writing],
        *,
        trouble: Callable[[], str] = lambda: "",
        deadline: float = DEADLINE,
    ) -> None:
        """``trouble`` says why the consumer applies nothing now, empty while all is well."""
        self._applied = applied
        self._open = open_writing
        self._trouble = trouble
        self._deadline = deadline
        self._thread = ThreadPoolExecutor(1, "runstream-writing")
        self._writing: Writing | None = None
        self._locks: dict[Hashable, tuple[asyncio.Lock, int]] = {}
        self.events = 0
        """Put on the stream so far."""

    async def submit(self, events: Sequence[Event]) -> None:
        """Put events on the stream, in this order, and return when they are applied.

        Raises `StreamUnavailableError`, see above, and `InvalidInputError` if one of them was no event that can be
        applied: it is among the dead letters then, and the others are applied.
        """
        if not events:
            return
        self._check()
        until = time.monotonic() + self._deadline
        with self._applied.watch() as watch:
            try:
                identities = await asyncio.wait_for(self._run(self._emit_all, events, until), self._deadline)
                dead = await watch.wait_for(identities, max(until - time.monotonic(), 0.001))
            except TimeoutError:
                raise StreamUnavailableError(self._late()) from None
        if dead:
            raise InvalidInputError(f"the event cannot be applied: {dead[0].detail or dead[0].reason}")

    @asynccontextmanager
    async def locked(self, key: Hashable) -> AsyncIterator[None]:
        """Nobody else who asks for the same ``key`` is in here: for a check before the write that it decides."""
        lock, users = self._locks.get(key) or (asyncio.Lock(), 0)
        self._locks[key] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            users = self._locks[key][1] - 1
            self._locks[key] = (lock, users)
            if not users:
                del self._locks[key]

    async def stage(self, chunks: AsyncIterable[bytes]) -> Staged:
        """Stage bytes as they come, for an `ArtifactLogged`; they are on the disk then.

        Raises `EnvironmentUnavailableError` if they cannot be; if ``chunks`` raises, nothing stays.
        """
        self._check()
        staging = (await self._run(self._opened)).staging
        target, temporary = await asyncio.to_thread(staging.begin)
        try:
            staged = await _fill(target, chunks)
            await asyncio.to_thread(staging.finish, target, temporary, staged)
        except OSError as error:
            raise EnvironmentUnavailableError(f"the bytes cannot be staged: {error}; free space there") from error
        finally:
            await asyncio.to_thread(_discard, target, temporary)
        return staged

    async def media_type(self, path: str) -> str | None:
        """The media type that a file's name tells."""
        return await self._run(lambda: self._opened().media_type(path))

    @property
    def error(self) -> str:
        """What keeps writes from being applied, as far as it is known; empty if nothing."""
        return self._trouble() or (self._writing.error if self._writing is not None else "")

    async def close(self) -> None:
        """Let go of the stream.  Writes that are under way are finished first."""
        await self._run(self._shut)
        await asyncio.to_thread(self._thread.shutdown)

    def _run(self, function: Callable[..., T], *arguments: Any) -> "asyncio.Future[T]":
        return asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    def _check(self) -> None:
        """Put nothing on the stream while it is known that nothing will be applied."""
        trouble = self._trouble()
        if trouble:
            raise StreamUnavailableError(f"nothing can be written now: {trouble}")

    def _late(self) -> str:
        reason = self.error or "the sink is behind"
        return (
            f"the write was not applied within {self._deadline:g} s and may be later: {reason}; "
            "read what it wrote before you send it again, since points, rows and runs that come twice are kept twice"
        )

    def _opened(self) -> Writing:
        if self._writing is None:
            self._writing = self._open()
        return self._writing

    def _emit_all(self, events: Sequence[Event], until: float) -> list[Identity]:
        """Once the first is accepted the others are tried again until the deadline, so that few are left out."""
        if time.monotonic() >= until:  # it waited for others, and nobody waits for it any more
            raise TimeoutError
        writing = self._opened()
        identities: list[Identity] = []
        for event in events:
            while True:
                try:
                    identities.append(writing.emit(event))
                    break
                except EnvironmentUnavailableError as error:
                    if not identities or time.monotonic() >= until:
                        raise StreamUnavailableError(f"the stream takes no events: {error}") from error
                time.sleep(_PAUSE)
        self.events += len(events)
        return identities

    def _shut(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.close()


async def _fill(target: int, chunks: AsyncIterable[bytes]) -> Staged:
    digest, size = hashlib.sha256(), 0

    def write(chunk: bytes) -> None:
        digest.update(chunk)
        view = memoryview(chunk)
        while view:
            view = view[os.write(target, view) :]

    async for chunk in chunks:
        if chunk:
            await asyncio.to_thread(write, chunk)
            size += len(chunk)
    return Staged(digest.hexdigest(), size)


def _discard(target: int, temporary: Path) -> None:
    """Let go of a file, and of the name that it had until it got another."""
    os.close(target)
    with contextlib.suppress(OSError):
        temporary.unlink()
