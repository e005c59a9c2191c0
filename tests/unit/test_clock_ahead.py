"""A process whose clock was ahead, and that is gone: `sink --once`, `replay` and `verify` see all that it logged."""

import sqlite3
import time
from contextlib import closing

import pytest

from runstream_schemas.events import ParamsLogged, RunEnded, RunStarted, encode_event
from runstream_sink.verify import verify
from support.pipeline import Pipeline
from support.queues import dead_journal

RUN = "a" * 32
EVENTS = (RunStarted(RUN, "0", 1), ParamsLogged(RUN, {"lr": "0.1"}), RunEnded(RUN, "FINISHED", 2))
YEAR = 365 * 86_400 * 10**9


@pytest.fixture
def ahead(pipeline: Pipeline) -> Pipeline:
    """A queue with one dead journal, whose events are stamped a year from now."""
    dead_journal(pipeline.queue, 1, *map(encode_event, EVENTS), time=time.time_ns() + YEAR)
    return pipeline


def test_once_applies_what_a_clock_that_was_ahead_stamped(ahead: Pipeline) -> None:
    """What is there now is all that a dead process left."""
    assert ahead.drain().events == len(EVENTS)
    assert ahead.run(RUN).params == {"lr": "0.1"}
    assert ahead.drain().events == 0


def test_a_replay_applies_what_a_clock_that_was_ahead_stamped(ahead: Pipeline) -> None:
    """The fresh store says the same as the one that followed the stream."""
    ahead.drain()
    digest, replayed = ahead.replay("fresh")
    assert replayed.progress.events == len(EVENTS)
    assert digest == ahead.digest()


def test_verification_checks_what_a_clock_that_was_ahead_stamped(ahead: Pipeline) -> None:
    """An effect that is gone from the store is found in the stream."""
    ahead.drain()
    assert ahead.ask(verify, ahead.options.artifacts, queue=ahead.queue).counts == {}
    with closing(sqlite3.connect(ahead.options.store.database)) as database, database:
        assert database.execute("DELETE FROM params").rowcount == 1
    assert ahead.ask(verify, ahead.options.artifacts, queue=ahead.queue).counts == {"effect_missing": 1}
