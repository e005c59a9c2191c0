"""Experiments and runs as the query layer shows them."""

import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from runstream_schemas import events as ev
from runstream_schemas.errors import InvalidInputError
from runstream_schemas.names import experiment_id_of
from runstream_sink import query
from runstream_sink.store import SqliteReader
from support.stores import batch, ingest, opened, reading, run_id

P = b"p" * 16
SEVEN = experiment_id_of("seven")
EVENTS: list[Any] = [
    ev.ExperimentCreated(SEVEN, "seven", 70, {"team": "a", "gone": "x"}),
    ev.ExperimentTagDeleted(SEVEN, "gone"),
    ev.RunStarted(run_id(1), SEVEN, 100, "one", "me"),
    ev.RunStarted(run_id(2), SEVEN, 300),
    ev.RunStarted(run_id(3), "8", 200),
    ev.RunStarted(run_id(4), SEVEN, 300),
    ev.RunEnded(run_id(1), "FINISHED", 500),
    ev.ParamsLogged(run_id(1), {"lr": "0.1", "only": "x"}),
    ev.ParamsLogged(run_id(2), {"lr": "0.2"}),
    ev.TagsSet(run_id(1), {"a": "1", "b": "2"}),
    ev.TagDeleted(run_id(1), "b"),
    ev.MetricLogged(run_id(1), "loss", 2.0, 0, 10),
    ev.MetricLogged(run_id(1), "loss", math.nan, 1, 20),
    ev.MetricLogged(run_id(2), "loss", 1.0, 0, 10),
    ev.MetricsLogged(run_id(2), {"other": -1.0}, 5, 6),
    ev.ParamsLogged(run_id(5), {"before": "its start"}),
    ev.RunDeleted(run_id(4)),
]


@pytest.fixture
async def reader(tmp_path: Path) -> AsyncIterator[SqliteReader]:
    """A reader of a store with some runs."""
    async with opened(tmp_path) as store:
        await ingest(store, [batch(P, EVENTS)])
    async with reading(tmp_path) as reader:
        yield reader


def _numbers(page: query.RunPage) -> list[int]:
    return [int(run.run_id, 16) for run in page.runs]


async def test_a_run_is_shown_in_full(reader: SqliteReader) -> None:
    """Params, tags without tombstones, the latest point of each metric."""
    run = await query.get_run(reader, run_id(1))
    nan = run.metrics["loss"]
    assert math.isnan(nan.value)
    assert (nan.step, nan.timestamp) == (1, 20)
    assert (run.experiment_id, run.name, run.user, run.status) == (SEVEN, "one", "me", "FINISHED")
    assert (run.start_time, run.end_time, run.lifecycle) == (100, 500, "active")
    assert (run.params, run.tags) == ({"lr": "0.1", "only": "x"}, {"a": "1"})


async def test_a_run_whose_start_has_not_come_has_what_has_come(reader: SqliteReader) -> None:
    """A placeholder."""
    run = await query.get_run(reader, run_id(5))
    assert run == query.Run(run_id(5), None, None, None, None, None, None, "active", {"before": "its start"}, {}, {})


async def test_a_run_that_is_not_there_is_not_found(reader: SqliteReader) -> None:
    """The message names it."""
    with pytest.raises(query.NotFoundError, match=run_id(9)):
        await query.get_run(reader, run_id(9))


async def test_the_history_of_a_metric_is_in_order_of_its_steps(reader: SqliteReader) -> None:
    """A metric that is not there has none."""
    points = await query.metric_history(reader, run_id(1), "loss")
    assert [(point.step, point.timestamp) for point in points] == [(0, 10), (1, 20)]
    assert await query.metric_history(reader, run_id(1), "none") == []
    assert await query.metric_history(reader, run_id(9), "loss") == []


async def test_runs_are_listed_newest_first_and_those_without_a_start_last(reader: SqliteReader) -> None:
    """Deleted ones only if asked for."""
    assert _numbers(await query.list_runs(reader)) == [2, 3, 1, 5]
    assert _numbers(await query.list_runs(reader, lifecycle=None)) == [4, 2, 3, 1, 5]
    assert _numbers(await query.list_runs(reader, lifecycle="deleted")) == [4]


async def test_runs_are_filtered_by_experiment_and_status(reader: SqliteReader) -> None:
    """Both together, too."""
    assert _numbers(await query.list_runs(reader, experiment_id=SEVEN)) == [2, 1]
    assert _numbers(await query.list_runs(reader, status="RUNNING")) == [2, 3]
    assert _numbers(await query.list_runs(reader, experiment_id=SEVEN, status="FINISHED")) == [1]
    assert _numbers(await query.list_runs(reader, experiment_id="12345")) == []


@pytest.mark.parametrize("experiment_id", [None, SEVEN])
@pytest.mark.parametrize("limit", [1, 2, 3, 5])
async def test_pages_hold_every_run_once(reader: SqliteReader, limit: int, experiment_id: str | None) -> None:
    """Runs with one start time and runs without any included."""
    options: dict[str, Any] = {"experiment_id": experiment_id, "lifecycle": None}
    everything = _numbers(await query.list_runs(reader, **options))
    found: list[int] = []
    cursor: str | None = None
    while cursor is not None or not found:
        page = await query.list_runs(reader, limit=limit, cursor=cursor, **options)
        assert len(page.runs) <= limit
        found += _numbers(page)
        cursor = page.cursor
        if cursor is None:
            break
    assert found == everything


@pytest.mark.parametrize("cursor", ["", "x", "1", "1:x", "1:99999999999999999999"])
async def test_a_cursor_that_is_none_is_refused(reader: SqliteReader, cursor: str) -> None:
    """It comes from outside."""
    with pytest.raises(InvalidInputError, match="cursor"):
        await query.list_runs(reader, cursor=cursor)


async def test_runs_are_compared_key_by_key(reader: SqliteReader) -> None:
    """In the order given; what a run does not have is None."""
    comparison = await query.compare_runs(reader, [run_id(2), run_id(1), run_id(2)])
    assert [run.run_id for run in comparison.runs] == [run_id(2), run_id(1), run_id(2)]
    assert comparison.params == {"lr": ["0.2", "0.1", "0.2"], "only": [None, "x", None]}
    assert comparison.metrics["other"] == [-1.0, None, -1.0]
    with pytest.raises(query.NotFoundError, match=r"there is no run f+"):
        await query.compare_runs(reader, [run_id(1), "f" * 32])


async def test_experiments_are_listed_with_those_that_only_runs_name(reader: SqliteReader) -> None:
    """Such a one has no name."""
    experiments = await query.list_experiments(reader)
    assert experiments == [
        query.Experiment("0", "Default", None, "active", {}),
        query.Experiment("8", None, None, "active", {}),
        query.Experiment(SEVEN, "seven", 70, "active", {"team": "a"}, 70),
    ]
    assert await query.list_experiments(reader, after="0", limit=1) == experiments[1:2]
    assert await query.list_experiments(reader, lifecycle="deleted") == []
    with pytest.raises(InvalidInputError, match="experiment id"):
        await query.list_experiments(reader, after="x")


async def test_an_experiment_is_found_by_id_and_by_name(reader: SqliteReader) -> None:
    """Not by anything else."""
    assert (await query.find_experiment(reader, SEVEN)).name == "seven"
    assert (await query.find_experiment(reader, "seven")).experiment_id == SEVEN
    with pytest.raises(query.NotFoundError, match="no experiment 'eight'"):
        await query.find_experiment(reader, "eight")


async def test_of_experiments_with_one_name_the_one_with_the_computed_id_is_found(tmp_path: Path) -> None:
    """Else the one with the least id; a number that is no id may be a name."""
    events = [
        ev.ExperimentCreated("3", "same", 1),
        ev.ExperimentCreated(experiment_id_of("same"), "same", 1),
        ev.ExperimentCreated("5", "12", 1),
        ev.ExperimentCreated("4", "other", 1),
        ev.ExperimentRenamed("4", "12"),
    ]
    async with opened(tmp_path) as store, reading(tmp_path) as reader:
        await ingest(store, [batch(P, events)])
        assert (await query.find_experiment(reader, "same")).experiment_id == experiment_id_of("same")
        assert (await query.find_experiment(reader, "12")).experiment_id == "4"


async def test_a_lifecycle_is_the_later_of_the_runs_and_the_experiments_last_event(tmp_path: Path) -> None:
    """Whatever is deleted or restored first."""
    run = run_id(1)
    steps: list[tuple[Any, str]] = [
        (ev.RunStarted(run, "7", 1), "active"),
        (ev.ExperimentDeleted("7"), "deleted"),
        (ev.RunRestored(run), "active"),
        (ev.RunDeleted(run), "deleted"),
        (ev.ExperimentRestored("7"), "active"),
        (ev.ExperimentDeleted("7"), "deleted"),
    ]
    async with opened(tmp_path) as store, reading(tmp_path) as reader:
        for seq, (event, expected) in enumerate(steps):
            await ingest(store, [batch(P, [event], seq)])
            assert (await query.get_run(reader, run)).lifecycle == expected
            assert _numbers(await query.list_runs(reader, lifecycle=expected)) == [1]
        assert [e.experiment_id for e in await query.list_experiments(reader, lifecycle="deleted")] == ["7"]


async def test_an_experiment_that_lost_its_only_run_to_an_earlier_start_is_not_listed(tmp_path: Path) -> None:
    """The first start decides, so in another order nobody would ever have named it."""
    late, early = ev.RunStarted(run_id(1), "8", 1), ev.RunStarted(run_id(1), "7", 1)
    async with opened(tmp_path) as store, reading(tmp_path) as reader:
        await ingest(store, [batch(P, [late], emit_ts=20)])
        await ingest(store, [batch(b"q" * 16, [early], emit_ts=10)])
        assert [e.experiment_id for e in await query.list_experiments(reader)] == ["0", "7"]
