"""Which file holds what: artifacts and tables of a run never collide."""

from pathlib import Path

import pytest

import runstream
from runstream_sink import placement as module
from runstream_sink import query
from runstream_sink.location import StoreLocation
from runstream_sink.placement import Placement
from runstream_sink.store.sqlite import SqliteStore
from support.pipeline import Pipeline

RUN = "0" * 31 + "1"


def test_artifacts_and_tables_of_one_name_lie_side_by_side(pipeline: Pipeline) -> None:
    """Whoever comes first has the name, also over deliveries; contents are not mixed."""
    with runstream.start_run() as run:
        runstream.log_text("an artifact", "x.csv")
        pipeline.drain()
        runstream.log_prediction({"a": 1}, "x")
        runstream.log_prediction({"a": 1}, "y")
        pipeline.drain()
        runstream.log_text("another", "y.csv")
        runstream.log_text("in a directory", "x.csv/inside.txt")
        runstream.log_text("upper case", "X.CSV")
        pipeline.drain()
        runstream.log_text("again", "y.csv")
        runstream.log_prediction({"a": 2, "b": 3}, "y")
    pipeline.drain()
    for path, text in {
        "x.csv": "an artifact",
        "y.csv": "again",
        "x.csv/inside.txt": "in a directory",
        "X.CSV": "upper case",
    }.items():
        assert pipeline.artifact(run.run_id, path).decode() == text
    assert pipeline.rows(run.run_id, "x") == [{"a": 1}]
    assert pipeline.rows(run.run_id, "y") == [{"a": 1, "b": None}, {"a": 2, "b": 3}]
    artifacts = [held.file for held in pipeline.ask(query.list_artifacts, run.run_id)]
    parts = [part.file for table in pipeline.ask(query.list_tables, run.run_id) for part in table.parts]
    files = [f"{run.run_id}/{file}" for file in artifacts] + parts
    assert len({file.casefold() for file in files}) == len(files) == 7
    assert pipeline.replay("replayed")[0] == pipeline.digest()


async def test_the_memory_of_runs_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were used last are remembered, and all of the present delivery."""
    monkeypatch.setattr(module, "_RUNS_REMEMBERED", 2)
    store = SqliteStore(StoreLocation.parse(str(tmp_path)))
    await store.open()
    try:
        placement = Placement(store)
        runs = [f"{number:032x}" for number in range(5)]
        await placement.load(runs)
        assert {placement.artifact(run, "a.txt") for run in runs} == {"a.txt"}
        await placement.load(runs[:1])
        await placement.load(runs[4:])
        assert list(placement._runs) == [runs[0], runs[4]]
    finally:
        await store.close()


async def test_what_was_placed_for_a_failed_commit_is_forgotten(tmp_path: Path) -> None:
    """The store knows nothing of it, so the name is free again."""
    store = SqliteStore(StoreLocation.parse(str(tmp_path)))
    await store.open()
    try:
        placement = Placement(store)
        await placement.load([RUN])
        assert placement.part(RUN, "t", 1) == f"{RUN}/t.csv"
        assert placement.artifact(RUN, "t.csv") == placement.artifact(RUN, "t.csv") == "t~2.csv"
        placement.forget()
        await placement.load([RUN])
        assert placement.artifact(RUN, "t.csv") == "t.csv"
        assert placement.part(RUN, "t", 1) == f"{RUN}/t~2.csv"
    finally:
        await store.close()
