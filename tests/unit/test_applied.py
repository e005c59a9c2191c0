"""Waiting for events to be applied: no commit is missed, and dead letters are told of."""

import asyncio

import pytest

from runstream_sink.applied import Applied
from runstream_sink.changes import Changes, DeadLetter

ONE, TWO = b"1" * 16, b"2" * 16


async def test_a_commit_between_the_watch_and_the_wait_is_not_missed() -> None:
    """The consumer may be faster than whoever asks."""
    applied = Applied()
    with applied.watch() as watch:
        applied.tell(Changes(seen={ONE: [(0, 4)], TWO: [(7, 7)]}))
        assert await watch.wait_for({(ONE, 0), (ONE, 4), (TWO, 7)}, 60) == []


async def test_a_wait_ends_with_the_last_of_its_events() -> None:
    """Which may come by several commits, in any order."""
    applied = Applied()
    with applied.watch() as watch:
        waiting = asyncio.create_task(watch.wait_for({(ONE, 1), (TWO, 0)}, 60))
        await asyncio.sleep(0)
        for seen in ({ONE: [(2, 3)]}, {TWO: [(0, 0)]}):
            applied.tell(Changes(seen=seen))
            await asyncio.sleep(0)
            assert not waiting.done()
        applied.tell(Changes(seen={ONE: [(0, 1)]}))
        applied.tell(Changes(seen={ONE: [(4, 5)]}))
        assert await waiting == []


async def test_those_that_became_dead_letters_are_told() -> None:
    """And no others' are."""
    applied = Applied()
    dead = [DeadLetter(ONE, seq, 1, "invalid", "", b"") for seq in (0, 1)]
    with applied.watch() as watch:
        applied.tell(Changes(seen={ONE: [(0, 1)]}, dead=dead))
        assert await watch.wait_for({(ONE, 1)}, 60) == dead[1:]


async def test_a_wait_has_an_end() -> None:
    """After it nothing is kept for who waited."""
    applied = Applied()
    with applied.watch() as watch:
        with pytest.raises(TimeoutError):
            await watch.wait_for({(ONE, 0)}, 0.01)
        applied.tell(Changes(seen={ONE: [(0, 0)]}))
    applied.tell(Changes())


async def test_a_consumer_that_pauses_is_woken() -> None:
    """Whoever waits for an event does not wait for the consumer's pause."""
    applied = Applied()
    pausing = asyncio.create_task(applied.pause(3600))
    await asyncio.sleep(0)
    with applied.watch() as watch:
        waiting = asyncio.create_task(watch.wait_for({(ONE, 0)}, 60))
        await pausing
        await applied.pause(3600)
        applied.tell(Changes(seen={ONE: [(0, 0)]}))
        await waiting


async def test_listeners_hear_of_commits_and_of_how_long_they_take() -> None:
    """Both are told in the order of the commits."""
    applied, heard = Applied(), []
    applied.listen(heard.append)
    applied.time_commits(heard.append)
    changes = Changes()
    applied.tell(changes)
    applied.took(0.5)
    assert heard == [changes, 0.5]
