"""`runstream.load_table`: logged rows as a DataFrame, from wherever it is called."""

import asyncio
from pathlib import Path

import pandas as pd
import pytest

import runstream
from runstream_schemas.errors import EnvironmentUnavailableError, InvalidInputError, RunstreamError
from support.pipeline import Pipeline


def test_rows_of_several_runs_stand_one_below_the_other(pipeline: Pipeline) -> None:
    """With the runs' fields beside them, if asked."""
    ids = []
    for number in range(2):
        with runstream.start_run() as run:
            run.log_table({"n": [number, number + 10], "text": ["a", None]}, "t.json")
            ids.append(run.run_id)
    pipeline.drain()
    loaded = runstream.load_table("t.csv", ids, extra_columns=["run_id"])
    assert loaded["n"].tolist() == [0, 10, 1, 11]
    assert loaded["text"].tolist()[0] == "a"
    assert loaded["text"].isna().tolist() == [False, True, False, True]
    assert loaded["run_id"].tolist() == [ids[0], ids[0], ids[1], ids[1]]


def test_without_run_ids_all_runs_of_the_experiment_that_have_the_table_are_read(pipeline: Pipeline) -> None:
    """Others are passed over."""
    runstream.set_experiment("mine")
    with runstream.start_run() as run:
        run.log_prediction({"answer": 1.5})
    with runstream.start_run():
        pass
    runstream.set_experiment("other")
    with runstream.start_run() as run:
        run.log_prediction({"answer": 2.5})
    runstream.set_experiment("mine")
    pipeline.drain()
    assert runstream.load_table("predictions")["answer"].tolist() == [1.5]


async def test_it_can_be_called_inside_a_running_event_loop(pipeline: Pipeline) -> None:
    """As in a notebook."""
    with runstream.start_run() as run:
        run.log_prediction({"answer": True})
    await asyncio.to_thread(pipeline.drain)
    assert runstream.load_table("predictions", [run.run_id])["answer"].tolist() == [True]


def test_what_is_not_there_is_a_clear_error(pipeline: Pipeline, tmp_path: Path) -> None:
    """No table, no such field, no store."""
    with runstream.start_run() as run:
        run.log_prediction({"answer": 1})
    pipeline.drain()
    with pytest.raises(RunstreamError, match="has no table 'nothing'"):
        runstream.load_table("nothing", [run.run_id])
    with pytest.raises(RunstreamError, match="has a table 'nothing'"):
        runstream.load_table("nothing")
    with pytest.raises(InvalidInputError, match="no field of a run"):
        runstream.load_table("predictions", [run.run_id], extra_columns=["colour"])
    runstream.configure(store=str(tmp_path / "none"))
    with pytest.raises(EnvironmentUnavailableError, match="no store"):
        runstream.load_table("predictions")


def test_a_thin_installation_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pandas, or without the sink."""
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(EnvironmentUnavailableError, match=r"pip install 'runstream\[sink\]' pandas"):
        runstream.load_table("predictions")
    assert pd is not None
