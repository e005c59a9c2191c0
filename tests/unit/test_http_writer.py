"""Writes by HTTP: applied when answered, refused when nothing can be applied, staged bytes whole or gone."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from runstream.artifacts import Staging
from runstream_schemas.errors import EnvironmentUnavailableError, InvalidInputError
from runstream_schemas.events import RunDeleted, RunRestored
from runstream_sink.applied import Applied
from runstream_sink.changes import Changes, DeadLetter
from runstream_sink.http import writer as module
from runstream_sink.http.writer import Writer, find_writing
from runstream_sink.source import StreamUnavailableError

ME = b"m" * 16
EVENTS = [RunDeleted("0" * 32), RunRestored("0" * 32)]


class Memory:
    """A way onto a stream that is a list, and that refuses events where it is told to."""

    def __init__(self, root: Path) -> None:
        self.staging = Staging(root / "staging")
        self.error = ""
        self.events: list[Struct] = []
        self.refusals: list[bool] = []
        self.accepted: Callable[[int], object] = lambda _: None
        self.closed = 0

    def emit(self, event: Struct) -> tuple[bytes, int]:
        """Accept it, unless a refusal comes first."""
        if self.refusals and self.refusals.pop(0):
            raise EnvironmentUnavailableError("no room")
        self.events.append(event)
        self.accepted(len(self.events) - 1)
        return ME, len(self.events) - 1

    def media_type(self, path: str) -> str | None:
        """None is known."""
        return None

    def close(self) -> None:
        """Count it."""
        self.closed += 1


class Place:
    """A writer, and all that it stands on."""

    def __init__(self, root: Path, deadline: float = 60.0) -> None:
        self.applied = Applied()
        self.memory = Memory(root)
        self.trouble = ""
        self.writer = Writer(self.applied, lambda: self.memory, trouble=lambda: self.trouble, deadline=deadline)

    def apply_at_once(self, dead: list[DeadLetter] | None = None) -> None:
        """Have each event applied as soon as it is accepted."""
        loop = asyncio.get_running_loop()

        def tell(seq: int) -> None:
            changes = Changes(seen={ME: [(seq, seq)]}, dead=[held for held in dead or [] if held.seq == seq])
            loop.call_soon_threadsafe(self.applied.tell, changes)

        self.memory.accepted = tell


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """One with a deadline that no test reaches."""
    return Place(tmp_path)


async def test_a_write_returns_when_it_is_applied(place: Place) -> None:
    """However fast that is; nothing at all needs no stream."""
    await place.writer.submit([])
    assert place.writer._writing is None
    place.apply_at_once()
    await place.writer.submit(EVENTS)
    assert (place.memory.events, place.writer.events) == (EVENTS, 2)
    await place.writer.close()
    assert place.memory.closed == 1


async def test_a_stream_that_takes_nothing_is_said_so_at_once(place: Place) -> None:
    """And nothing is on it, so that a second try doubles nothing."""
    place.memory.refusals = [True]
    with pytest.raises(StreamUnavailableError, match="no room"):
        await place.writer.submit(EVENTS)
    assert place.memory.events == []
    await place.writer.close()


async def test_events_behind_the_first_are_tried_again(place: Place) -> None:
    """A write is not left half done while there is time."""
    place.memory.refusals = [False, True, True]
    place.apply_at_once()
    await place.writer.submit(EVENTS)
    assert place.memory.events == EVENTS
    await place.writer.close()


async def test_a_write_that_is_not_applied_in_time_says_that_it_may_be_later(tmp_path: Path) -> None:
    """With what is known of the reason."""
    place = Place(tmp_path, deadline=0.05)
    with pytest.raises(StreamUnavailableError, match="may be later: the sink is behind"):
        await place.writer.submit(EVENTS[:1])
    place.memory.error = "the broker is away"
    with pytest.raises(StreamUnavailableError, match="the broker is away"):
        await place.writer.submit(EVENTS[:1])
    place.memory.refusals = [False, *[True] * 100_000]
    with pytest.raises(StreamUnavailableError):
        await place.writer.submit(EVENTS)
    await place.writer.close()


async def test_nobody_writes_for_who_has_given_up(tmp_path: Path) -> None:
    """A write that waits for its turn until its deadline is not put on the stream after it."""
    place = Place(tmp_path)
    with pytest.raises(TimeoutError):
        place.writer._emit_all(EVENTS, 0.0)
    assert place.memory.events == []
    await place.writer.close()


async def test_nothing_is_written_while_the_consumer_fails(place: Place) -> None:
    """It would be applied at some time, when nobody knows of it any more."""
    place.trouble = "the disk is full"
    with pytest.raises(StreamUnavailableError, match="the disk is full"):
        await place.writer.submit(EVENTS)
    assert (place.writer.error, place.memory.events) == ("the disk is full", [])
    await place.writer.close()


async def test_an_event_that_cannot_be_applied_is_refused(place: Place) -> None:
    """With the reason that the dead letter has."""
    place.apply_at_once([DeadLetter(ME, 1, 1, "invalid", "no such run", b"")])
    with pytest.raises(InvalidInputError, match="no such run"):
        await place.writer.submit(EVENTS)
    await place.writer.close()


async def test_who_asks_for_the_same_key_waits(place: Place) -> None:
    """Others do not, and no lock is kept."""
    order: list[str] = []

    async def work(key: str, name: str) -> None:
        async with place.writer.locked(key):
            order.append(f"{name} begins")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            order.append(f"{name} ends")

    await asyncio.gather(work("a", "1"), work("a", "2"), work("b", "3"))
    assert order.index("1 ends") < order.index("2 begins")
    assert order.index("3 begins") < order.index("1 ends")
    assert place.writer._locks == {}
    await place.writer.close()


async def test_bytes_are_staged_whole(place: Place) -> None:
    """Under their hash; of those that break off nothing stays."""

    async def pieces(*, broken: bool = False) -> AsyncIterator[bytes]:
        yield b"one"
        yield b""
        if broken:
            raise RuntimeError("broken off")
        yield b"two"

    staged = await place.writer.stage(pieces())
    assert staged == (hashlib.sha256(b"onetwo").hexdigest(), 6)
    assert place.memory.staging.path_of(staged.sha256).read_bytes() == b"onetwo"
    with pytest.raises(RuntimeError, match="broken off"):
        await place.writer.stage(pieces(broken=True))
    assert list((place.memory.staging.root / "tmp").iterdir()) == []
    await place.writer.close()


async def test_bytes_that_cannot_be_staged_say_why(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a full disk."""

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"

    monkeypatch.setattr(place.memory.staging, "finish", full)
    with pytest.raises(EnvironmentUnavailableError, match="No space left"):
        await place.writer.stage(pieces())
    await place.writer.close()


def test_what_writes_is_found_or_said_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to install."""
    assert find_writing().__name__ == "open_writing"
    none: list[EntryPoint] = []
    monkeypatch.setattr(module, "entry_points", lambda **_: none)
    with pytest.raises(EnvironmentUnavailableError, match="pip install"):
        find_writing()
