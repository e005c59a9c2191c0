"""For the tests of programs that log: an in-memory stream.

>>> import runstream
>>> from runstream import testing
>>> from runstream_schemas.events import MetricLogged
>>> with testing.capture() as events:
...     with runstream.start_run("nightly"):
...         runstream.log_metric("loss", 0.25, step=3)
...         runstream.log_text("all well", "report.txt")
>>> [(event.key, event.value, event.step) for event in events.of(MetricLogged)]
[('loss', 0.25, 3)]
>>> events.artifact("report.txt")
b'all well'
"""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, TypeVar

from runstream import active, experiments
from runstream.artifacts import Staged
from runstream.client import client
from runstream_schemas.errors import EnvironmentUnavailableError
from runstream_schemas.events import ArtifactInlined, ArtifactLogged, Event, decode_event

__all__ = ["Captured", "capture"]

T = TypeVar("T")


class Captured(list[Event]):
    """The events that were logged, in their order, as `runstream_schemas.events` defines them."""

    def __init__(self) -> None:
        super().__init__()
        self.contents: dict[str, bytes] = {}
        """Bytes of the artifacts that are no part of their events, by SHA-256 (64 hexadecimal digits)."""

    def of(self, kind: type[T]) -> list[T]:
        """The events of one type."""
        return [event for event in self if isinstance(event, kind)]

    def artifact(self, path: str) -> bytes:
        """The bytes of the artifact that was logged last under a path.  Raises KeyError if none was."""
        for event in reversed(self):
            if isinstance(event, ArtifactInlined) and event.path == path:
                return event.content
            if isinstance(event, ArtifactLogged) and event.path == path:
                return self.contents[event.sha256]
        raise KeyError(path)


@contextmanager
def capture() -> Iterator[Captured]:
    """Record what this process logs, in all of its threads, instead of writing it to the stream.

    Nothing touches the disk, apart from the files that ``log_artifact`` reads.  Where captures are nested, or overlap
    in several threads, the one that began last records.  At the end of the block all is as it was before it: active
    runs, current experiment and settings.
    """
    captured = Captured()
    stack = active.stack()
    if not _captures:
        _saved.update({name: getattr(client, name) for name in _STATE}, experiment=experiments.selected())
        client.active_runs, client.announced = {}, set()
        vars(client).update(emit_body=_emit_body, staging=_MemoryStaging, flush=_flush)
    _captures.append(captured)
    active.restore(())
    try:
        yield captured
    finally:
        active.restore(stack)
        _captures[:] = [held for held in _captures if held is not captured]
        if not _captures:
            for name in ("emit_body", "staging", "flush"):
                del vars(client)[name]
            experiments.select(_saved.pop("experiment"))
            vars(client).update(_saved)
            _saved.clear()


class _MemoryStaging:
    """Takes what `runstream.artifacts.Staging` takes."""

    takes_later = False

    def __init__(self, *, sync: bool = True) -> None:
        """There is no disk to sync."""

    def sync_all(self) -> None:
        """The same."""

    def add_open(self, source: int, path: Path) -> Staged:
        """Read an open file."""
        try:
            with open(source, "rb", closefd=False) as file:
                return self.add_bytes(file.read())
        except OSError as error:
            raise EnvironmentUnavailableError(f"cannot read the file {path}: {error}") from error

    def add_bytes(self, data: bytes) -> Staged:
        """Keep bytes."""
        digest = sha256(data).hexdigest()
        if _captures:
            _captures[-1].contents[digest] = data
        return Staged(digest, len(data))


def _emit_body(body: bytes, now: int = 0) -> None:
    del now
    if _captures:
        _captures[-1].append(decode_event(body))


def _flush(timeout: float | None = None) -> bool:
    del timeout
    return True


_STATE: Final = ("active_runs", "announced", "redact", "_arguments", "_config")
_captures: list[Captured] = []
_saved: dict[str, Any] = {}
