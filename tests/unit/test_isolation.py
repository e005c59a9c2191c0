"""An event that cannot be written is found and left out; everything else is in the store."""

import asyncio
import errno
from collections.abc import Callable, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

import runstream
from runstream_schemas.batch import Batch
from runstream_schemas.errors import CorruptDataError, InvalidInputError
from runstream_schemas.events import MetricLogged, ParamsLogged, RowsLogged, encode_event
from runstream_schemas.segment import Hole
from runstream_sink import apply as applying
from runstream_sink import consumer as consuming
from runstream_sink import query
from runstream_sink.apply import apply
from runstream_sink.changes import Changes
from runstream_sink.isolation import apply_apart, may_be_of_an_event
from runstream_sink.tables import parts
from runstream_sink.verify.run import verify
from support.commands import invoke_json
from support.pipeline import Pipeline
from support.queues import TIME, dead_journal
from support.stores import batch, record, run_id

RUN = run_id(1)
PRODUCER = b"p" * 16


def _separate(batches: Sequence[Batch], is_bad: Callable[[int], bool]) -> list[Changes]:
    """What `apply_apart` commits where commits of changes with certain seqs fail."""
    committed: list[Changes] = []

    async def apply_some(some: Sequence[Batch]) -> Changes:
        return apply(some, {})

    async def commit(changes: Changes) -> None:
        points = [seq for found in changes.metrics.values() for *_, seq, _ in found]
        if any(map(is_bad, points)):
            raise ZeroDivisionError("bad")
        committed.append(changes)

    assert asyncio.run(apply_apart(batches, ZeroDivisionError("bad"), apply_some, commit)) == committed
    return committed


def _metrics(count: int, first: int = 0) -> list[MetricLogged]:
    return [MetricLogged(RUN, "m", 1.0, seq, 0) for seq in range(first, first + count)]


@pytest.mark.parametrize("bad", [{0}, {6}, {3, 4}, set(range(7)), {12}, {6, 7}])
def test_what_fails_is_dead_and_everything_else_is_committed_once(bad: set[int]) -> None:
    """Wherever in a delivery it lies, and however many of it there are."""
    first, second = batch(PRODUCER, _metrics(7)), batch(PRODUCER, _metrics(6, 7), first=7)
    second.holes.append(Hole(13, 14, "torn", b"raw"))
    committed = _separate([first, second], bad.__contains__)
    points = [seq for done in committed for found in done.metrics.values() for *_, seq, _ in found]
    letters = [(letter.seq, letter.reason) for done in committed for letter in done.dead]
    assert points == [seq for seq in range(13) if seq not in bad]
    assert letters == [(seq, "failed") for seq in sorted(bad)] + [(13, "torn")]
    assert sum(done.events for done in committed) == 13


def test_an_error_without_an_event_is_raised() -> None:
    """Nothing can be buried then."""

    async def fail(_changes: Changes) -> None:
        raise ZeroDivisionError("always")

    async def apply_some(some: Sequence[Batch]) -> Changes:
        return apply(some, {})

    for batches in ([], [Batch(PRODUCER, [], [Hole(0, 0, "torn")])], [batch(PRODUCER, _metrics(2))]):
        with pytest.raises(ZeroDivisionError):
            asyncio.run(apply_apart(batches, ZeroDivisionError("first"), apply_some, fail))


def test_a_failing_disk_ends_the_search() -> None:
    """It is not the event's mistake."""

    async def full(_changes: Changes) -> None:
        raise OSError(errno.ENOSPC, "full")

    async def apply_some(some: Sequence[Batch]) -> Changes:
        return apply(some, {})

    with pytest.raises(OSError, match="full"):
        asyncio.run(apply_apart([batch(PRODUCER, _metrics(2))], ZeroDivisionError(), apply_some, full))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "full"), False),
        (OSError(errno.ENAMETOOLONG, "long"), True),
        (OSError(errno.ENOTDIR, "file"), True),
        (CorruptDataError("store"), False),
        (InvalidInputError("wide"), True),
        (OverflowError("large"), True),
    ],
)
def test_errors_are_told_apart(error: Exception, expected: bool) -> None:
    """Those of the disk and the database are waited for, or end the sink."""
    assert may_be_of_an_event(error) is expected


def test_a_mistake_in_an_applier_buries_the_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the error in its letter; the events around it are applied."""

    def fail(*_arguments: Any) -> None:
        raise KeyError("a mistake")

    monkeypatch.setitem(applying._APPLIERS, ParamsLogged, fail)
    changes = apply([batch(PRODUCER, [*_metrics(1), ParamsLogged(RUN, {}), *_metrics(1)])], {})
    assert [(letter.seq, letter.reason, letter.detail) for letter in changes.dead] == [
        (1, "failed", "KeyError: 'a mistake'")
    ]
    assert [seq for *_, seq, _ in changes.metrics[RUN, "m"]] == [0, 2]


def test_the_sink_goes_on_behind_an_event_that_cannot_be_written(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The letter is applied by a retry once the mistake is repaired, and the store is then as it would have been."""
    with runstream.start_run("rows") as run:
        for number in range(40):
            runstream.log_prediction({"n": number})
            runstream.log_metric("m", number)
    runstream.close()
    real = consuming.append

    def append(state: Any, entries: Any, *rest: Any) -> Any:
        if any(row == [17] for entry in entries for row in entry.rows):
            raise ZeroDivisionError("a mistake")
        return real(state, entries, *rest)

    monkeypatch.setattr(consuming, "append", append)
    progress = pipeline.drain()
    assert (progress.dead, progress.failure) == (1, "")
    assert [row["n"] for row in pipeline.rows(run.run_id)] == [n for n in range(40) if n != 17]
    (letter,) = pipeline.ask(query.list_dead_letters)
    assert (letter.reason, letter.detail) == ("failed", "ZeroDivisionError: a mistake")
    where = ("--stream", pipeline.stream, "--store", pipeline.store)
    assert invoke_json(capsys, "dlq", "retry", "--all", *where, code=1)[0]["detail"] == "ZeroDivisionError('a mistake')"
    monkeypatch.undo()
    assert invoke_json(capsys, "dlq", "retry", "--all", *where)[0]["applied"]
    assert sorted(row["n"] for row in pipeline.rows(run.run_id)) == list(range(40))
    assert pipeline.replay("replayed")[0] == pipeline.digest()


def test_letters_that_fail_together_are_retried_one_by_one(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """So one that still fails keeps no other from being applied."""
    monkeypatch.setattr(parts, "MAX_NAMES", 2)
    with runstream.start_run("rows") as run:
        runstream.log_prediction({"a": 1, "b": 2})
        runstream.log_prediction({"c": 3})
        runstream.log_prediction({"d": 4, "e": 5, "f": 6})
    runstream.close()
    assert pipeline.drain().dead == 2
    monkeypatch.setattr(parts, "MAX_NAMES", 3)
    where = ("--stream", pipeline.stream, "--store", pipeline.store)
    outcomes = invoke_json(capsys, "dlq", "retry", "--all", *where, code=1)
    assert [outcome["applied"] for outcome in outcomes] == [True, False]
    assert [row.get("c") for row in pipeline.rows(run.run_id)] == [None, 3]


def test_the_names_of_a_tables_columns_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """What would go beyond is refused, and nothing is written."""
    rows = RowsLogged(RUN, "t", ["ab", "cd"], [[1, 2], [3, 4]])
    changes = apply([Batch(PRODUCER, [record(0, rows)], [])], {})
    (entries,) = changes.rows.values()
    monkeypatch.setattr(parts, "MAX_NAMES", 4)
    state = parts.append(parts.TableState(RUN, "t"), entries, 1 << 20, str).state
    assert state.rows == 2
    monkeypatch.setattr(parts, "MAX_NAMES", 3)
    with pytest.raises(InvalidInputError, match="table 't'"):
        parts.append(parts.TableState(RUN, "t"), entries, 1 << 20, str)


@pytest.mark.slow
@pytest.mark.parametrize("limit", ["MAX_COLUMNS", "MAX_CELLS"])
def test_very_wide_tables_are_the_same_in_whatever_order_their_rows_come(
    tmp_path: Path, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their parts have the columns of their own rows only, and nothing is refused."""
    monkeypatch.setattr(parts, limit, 3)
    events: list[Any] = [
        RowsLogged(RUN, "t", ["a", "b"], [[1, 2], [3, "x"]]),
        RowsLogged(RUN, "t", ["c"], [[0.5], [None], [[1]]]),
        RowsLogged(RUN, "t", ["d", "a", "e"], [[1, "text", 2]]),
        RowsLogged(RUN, "t", ["b"], [[True]]),
        RowsLogged(RUN, "t", ["f", "g", "h", "i"], []),
    ]
    found = []
    for number, order in enumerate(permutations(range(len(events)))):
        if number % 10:
            continue
        pipeline = Pipeline(tmp_path / str(number))
        for at in order:
            dead_journal(pipeline.queue, at, encode_event(events[at]), time=TIME + at)
            pipeline.drain()
        assert pipeline.ask(query.counts).dead_letters == 0
        assert pipeline.ask(verify, pipeline.options.artifacts, queue=pipeline.queue).ok
        rows = pipeline.rows(RUN, "t")
        found.append((pipeline.digest(), sorted(str(sorted(row.items())) for row in rows)))
        assert found[-1] == found[0]
    assert len(rows) == 7
