"""Searches for runs and experiments in a store."""

import math
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runstream_schemas import events as ev
from runstream_schemas.errors import InvalidInputError
from runstream_sink import query
from runstream_sink.store import SqliteReader, search_sql
from support.stores import batch, ingest, opened, reading, run_id

P = b"p" * 16
LONG = "x" * 70
EVENTS: list[Any] = [
    ev.ExperimentCreated("7", "seven", 70, {"team": "a"}),
    ev.ExperimentCreated("8", "Seven%", 80, {"team": "b", "gone": "x"}),
    ev.ExperimentTagDeleted("8", "gone"),
    ev.ExperimentDeleted("8"),
    *(ev.RunStarted(run_id(n), "7", 100 * n, f"run {n}", "me" if n % 2 else "you") for n in range(1, 7)),
    ev.RunStarted(run_id(7), "8", 700, "in the deleted one"),
    ev.RunStarted(run_id(8), "9", 600),
    ev.ParamsLogged(run_id(9), {"model": "before its start"}),
    *(ev.MetricLogged(run_id(n), "loss", float(n % 3), 0, 1) for n in (1, 2, 3, 4)),
    ev.MetricLogged(run_id(5), "loss", math.nan, 0, 1),
    ev.ParamsLogged(run_id(1), {"model": "Llama-8b", "only": LONG + "a"}),
    ev.ParamsLogged(run_id(2), {"model": "llama-70b", "only": LONG + "b"}),
    ev.ParamsLogged(run_id(3), {"model": "ünï"}),
    ev.TagsSet(run_id(1), {"t": "x", "gone": "x"}),
    ev.TagDeleted(run_id(1), "gone"),
    ev.RunEnded(run_id(1), "FINISHED", 900),
    ev.RunEnded(run_id(2), "FAILED", 800),
    ev.RunDeleted(run_id(6)),
]


@pytest.mark.parametrize(("order", "looked_at"), [("start_time", False), ("end_time", True)])
async def test_what_is_few_depends_on_whether_there_is_a_walk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str, looked_at: bool
) -> None:
    """Without an index that has the order, all runs would be looked at instead of those of a term."""
    monkeypatch.setattr(search_sql, "_VERY_FEW", 0)
    monkeypatch.setattr(search_sql, "_FEW", len(EVENTS))
    asked: list[str] = []
    select = search_sql._RunQuery._select

    def noted(query_: Any, source: str, *rest: Any) -> Any:
        asked.append(source)
        return select(query_, source, *rest)

    monkeypatch.setattr(search_sql._RunQuery, "_select", noted)
    async with opened(tmp_path) as store:
        await ingest(store, [batch(P, EVENTS)])
    async with reading(tmp_path) as reader:
        await query.search_runs(reader, ["7"], "", [order], limit=1)
    assert asked
    assert all(("AS found" in source) is looked_at for source in asked)


@pytest.fixture(params=[0, search_sql._FEW], ids=["walking", "looking at few"])
async def reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> AsyncIterator[SqliteReader]:
    """A reader of a store with some runs, which are searched in either way."""
    monkeypatch.setattr(search_sql, "_FEW", request.param)
    async with opened(tmp_path) as store:
        await ingest(store, [batch(P, EVENTS)])
    async with reading(tmp_path) as reader:
        yield reader


async def _found(reader: SqliteReader, *texts: Any, **options: Any) -> list[int]:
    """Numbers of the runs that a filter and orders find, in pages of every size alike."""
    text, *order = texts or ("",)
    whole = await query.search_runs(reader, options.pop("experiments", None), text, order, **options)
    found = [int(run.run_id, 16) for run in whole.runs]
    assert whole.cursor is None
    for limit in (1, 2, 3):
        assert await _paged(reader, text, order, limit, options) == found
    return found


async def _paged(reader: SqliteReader, text: str, order: list[str], limit: int, options: dict[str, Any]) -> list[int]:
    found: list[int] = []
    cursor = None
    while True:
        page = await query.search_runs(reader, None, text, order, limit=limit, cursor=cursor, **options)
        found += [int(run.run_id, 16) for run in page.runs]
        cursor = page.cursor
        if cursor is None:
            return found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", [8, 5, 4, 3, 2, 1, 9]),
        ("metrics.loss > 0.5", [4, 2, 1]),
        ("metrics.loss = 0", [3]),
        ("metrics.loss != 1", [5, 3, 2]),
        ("metrics.loss <= 1 AND metric.loss >= 1", [4, 1]),
        ("metrics.nobody > 0", []),
        ("metrics.nobody != 0", []),
        ("params.model = 'llama-70b'", [2]),
        ("params.model != 'llama-70b'", [3, 1, 9]),
        ("params.model LIKE 'llama%'", [2]),
        ("params.model ILIKE 'LLAMA%'", [2, 1]),
        ("params.model ILIKE 'ÜN_'", []),
        ("params.model LIKE '%ama-%'", [2, 1]),
        ("params.model LIKE '\U0010ffff%'", []),
        ("params.model LIKE '\ud7ff%'", []),
        (f"params.only = '{LONG}b'", [2]),
        (f"params.only LIKE '{LONG}%'", [2, 1]),
        ("params.only IS NULL", [8, 5, 4, 3, 9]),
        ("params.only IS NOT NULL", [2, 1]),
        ("params.nobody IS NULL AND status = 'FAILED'", [2]),
        ("tags.gone IS NULL AND tags.t IS NOT NULL", [1]),
        ("tags.gone IS NOT NULL", []),
        ("tags.gone != 'y'", []),
        ("tags.t = 'x'", [1]),
        ("status IN ('FAILED', 'FINISHED')", [2, 1]),
        ("status != 'RUNNING'", [2, 1]),
        ("run_name = 'run 3'", [3]),
        ("tags.`mlflow.runName` LIKE 'run%' AND run_name != 'run 3'", [5, 4, 2, 1]),
        ("tags.`mlflow.runName` IS NULL", [8, 9]),
        ("user_id = 'you'", [4, 2]),
        ("start_time >= 400", [8, 5, 4]),
        ("start_time < 200.5", [2, 1]),
        ("start_time != 600", [5, 4, 3, 2, 1]),
        ("end_time > 0", [2, 1]),
        (f"run_id = '{run_id(3)}'", [3]),
        (f"run_id IN ('{run_id(3)}', '{run_id(1)}', '{run_id(3)}', 'none')", [3, 1]),
        (f"run_id NOT IN ('{run_id(3)}', '{run_id(8)}')", [5, 4, 2, 1, 9]),
        (f"artifact_uri LIKE '%/artifacts/{run_id(3)}'", [3]),
        ("dataset.name = 'x'", []),
        ("datasets.digest != 'x'", []),
    ],
)
async def test_a_filter_finds_the_runs_that_meet_it(reader: SqliteReader, text: str, found: list[int]) -> None:
    """Newest first; those that have not started come last."""
    assert await _found(reader, text) == found


@pytest.mark.parametrize(
    ("order", "found"),
    [
        (["metrics.loss"], [3, 4, 1, 2, 5, 8, 9]),
        (["metrics.loss DESC"], [2, 4, 1, 3, 5, 8, 9]),
        (["metrics.loss", "start_time"], [3, 1, 4, 2, 5, 8, 9]),
        (["metrics.loss DESC", "params.model", "run_id DESC"], [2, 1, 4, 3, 5, 9, 8]),
        (["metrics.nobody DESC", "start_time ASC"], [1, 2, 3, 4, 5, 8, 9]),
        (["params.nobody", "end_time"], [2, 1, 8, 5, 4, 3, 9]),
        (["params.model"], [1, 9, 2, 3, 8, 5, 4]),
        (["params.only DESC"], [2, 1, 8, 5, 4, 3, 9]),
        (["tags.gone", "tags.t"], [1, 8, 5, 4, 3, 2, 9]),
        (["start_time"], [1, 2, 3, 4, 5, 8, 9]),
        (["start_time DESC"], [8, 5, 4, 3, 2, 1, 9]),
        (["end_time DESC"], [1, 2, 8, 5, 4, 3, 9]),
        (["run_name DESC"], [5, 4, 3, 2, 1, 8, 9]),
        (["run_id"], [1, 2, 3, 4, 5, 8, 9]),
        (["artifact_uri DESC"], [9, 8, 5, 4, 3, 2, 1]),
        (["user_id", "status DESC"], [5, 3, 1, 4, 2, 8, 9]),
    ],
)
async def test_runs_come_in_the_order_that_mlflow_gives_them(
    reader: SqliteReader, order: list[str], found: list[int]
) -> None:
    """NaN behind all numbers, and what has no value behind that, in either direction."""
    assert await _found(reader, "", *order) == found


async def test_experiments_and_lifecycle_limit_a_search(reader: SqliteReader) -> None:
    """Runs of a deleted experiment are deleted."""
    assert await _found(reader, lifecycle="deleted") == [7, 6]
    assert await _found(reader, lifecycle="all") == [7, 6, 8, 5, 4, 3, 2, 1, 9]
    for ids, found in ((["7"], [5, 4, 3, 2, 1]), (["9", "7", "9"], [8, 5, 4, 3, 2, 1]), (["5"], []), ([], [])):
        page = await query.search_runs(reader, ids)
        assert [int(run.run_id, 16) for run in page.runs] == found
        ordered = await query.search_runs(reader, ids, order_by=["metrics.loss"])
        assert sorted(int(run.run_id, 16) for run in ordered.runs) == sorted(found)


async def test_runs_that_are_found_are_shown_in_full(reader: SqliteReader) -> None:
    """As by their ids."""
    page = await query.search_runs(reader, ["7"], "params.only IS NOT NULL")
    assert page.runs == [await query.get_run(reader, run_id(2)), await query.get_run(reader, run_id(1))]


async def test_the_artifact_uri_is_what_the_caller_says(reader: SqliteReader) -> None:
    """With the run id in its place."""
    page = await query.search_runs(
        reader, None, f"artifact_uri = 'm:/{run_id(2)}/artifacts'", artifact_uri="m:/{run_id}/artifacts"
    )
    assert [run.run_id for run in page.runs] == [run_id(2)]


@pytest.mark.parametrize("order", [[], ["metrics.loss"], ["params.model DESC"]])
async def test_a_page_begins_where_the_one_before_ended_though_runs_have_come_and_moved(
    tmp_path: Path, order: list[str]
) -> None:
    """What stays where it was is shown once; a newer run stands before the place."""
    async with opened(tmp_path) as store:
        await ingest(store, [batch(P, EVENTS)])
        async with reading(tmp_path) as reader:
            before = await _found(reader, "", *order)
            first = await query.search_runs(reader, None, order_by=order, limit=2)
            assert first.cursor is not None
            moved = first.runs[-1].run_id
            events = [
                ev.RunStarted(run_id(77), "7", 10_000, "newer"),
                ev.ParamsLogged(run_id(77), {"model": "zz"}),
                ev.MetricLogged(run_id(77), "loss", -1.0, 0, 1),
                ev.MetricLogged(moved, "loss", -5.0, 10, 10),
            ]
            await ingest(store, [batch(b"q" * 16, events)])
            rest = await query.search_runs(reader, None, order_by=order, cursor=first.cursor)
            assert [int(run.run_id, 16) for run in rest.runs if run.run_id != run_id(77)] == before[2:]


async def test_what_is_no_search_is_refused(reader: SqliteReader) -> None:
    """Ids, lifecycles and limits."""
    for experiments, options, problem in (
        (["x"], {}, "experiment id 'x' is not a decimal"),
        (None, {"lifecycle": "gone"}, "lifecycle 'gone' is none of"),
        (None, {"limit": 0}, "the limit 0 is below 1"),
    ):
        with pytest.raises(InvalidInputError, match=problem):
            await query.search_runs(reader, experiments, **options)


async def test_a_cursor_fits_its_own_search_only(reader: SqliteReader) -> None:
    """Neither another's nor one that somebody made up."""
    page = await query.search_runs(reader, None, limit=1)
    assert page.cursor is not None
    plan_digest = msgspec.msgpack.decode(_bytes(page.cursor))[0]
    made_up = [[9, 100, run_id(1)], [0, 1 << 63, run_id(1)], [0, 100], [None, 100, run_id(1)]]
    for cursor in ["", "é", "AAAA", "x" * 99, *(_cursor([plan_digest, place]) for place in made_up)]:
        with pytest.raises(InvalidInputError, match="is none of this search"):
            await query.search_runs(reader, None, limit=1, cursor=cursor)
    with pytest.raises(InvalidInputError, match="is none of this search"):
        await query.search_runs(reader, None, "metrics.loss > 0", limit=1, cursor=page.cursor)
    assert (await query.search_runs(reader, None, limit=5, cursor=page.cursor)).runs


def _bytes(cursor: str) -> bytes:
    return urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))


def _cursor(content: Any) -> str:
    return urlsafe_b64encode(msgspec.msgpack.encode(content)).decode().rstrip("=")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ["7", "0", "9"]),
        ("name = 'seven'", ["7"]),
        ("name ILIKE '%E%'", ["7", "0"]),
        ("name != 'seven'", ["0"]),
        ("experiment_id = '7'", ["7"]),
        ("experiment_id NOT IN ('7', '9')", ["0"]),
        ("creation_time >= 70", ["7"]),
        ("last_update_time <= 70", ["7"]),
        ("tags.team = 'a'", ["7"]),
        ("tags.team IS NULL", ["0", "9"]),
        ("tags.team IS NOT NULL", ["7"]),
        ("tags.nobody IS NULL AND name = 'seven'", ["7"]),
        ("tags.nobody = 'x'", []),
    ],
)
async def test_a_filter_finds_the_experiments_that_meet_it(reader: SqliteReader, text: str, found: list[str]) -> None:
    """Newest first; of those without a time the least id first."""
    assert [e.experiment_id for e in (await query.search_experiments(reader, text)).experiments] == found


async def test_experiments_are_paged_in_any_order(reader: SqliteReader) -> None:
    """As SQLite orders what has no value: lowest."""
    for order, found in (
        (["name"], ["9", "0", "8", "7"]),
        (["name DESC"], ["7", "8", "0", "9"]),
        (["last_update_time"], ["9", "0", "7", "8"]),
        (["experiment_id"], ["0", "7", "8", "9"]),
    ):
        pages: list[str] = []
        cursor = None
        while True:
            page = await query.search_experiments(reader, "", order, "all", 1, cursor)
            pages += [experiment.experiment_id for experiment in page.experiments]
            cursor = page.cursor
            if cursor is None:
                break
        assert pages == found, order
    deleted = await query.search_experiments(reader, "tags.team = 'b'", lifecycle="deleted")
    assert [(e.experiment_id, e.last_update_time, e.tags) for e in deleted.experiments] == [("8", 80, {"team": "b"})]


async def test_an_experiment_is_found_by_its_id_or_by_its_name(reader: SqliteReader) -> None:
    """Not by the other."""
    assert (await query.get_experiment(reader, "7")).name == "seven"
    assert (await query.get_experiment_by_name(reader, "seven")).experiment_id == "7"
    for search, text in ((query.get_experiment, "seven"), (query.get_experiment_by_name, "7")):
        with pytest.raises(query.NotFoundError, match=text):
            await search(reader, text)
