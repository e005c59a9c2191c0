"""`experiments`, `runs` and `tables`: lists for people and as JSON, comparisons, exports."""

import csv
import json
import os
import threading
from pathlib import Path

import pandas as pd
import pytest

import runstream
from support.commands import invoke, invoke_json, start
from support.pipeline import Pipeline

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def runs(pipeline: Pipeline) -> list[str]:
    """The ids of two runs that differ in some things, one after the other."""
    ids = []
    runstream.set_experiment("first \x1b[31mred")
    for number, loss in enumerate((0.5, float("nan"))):
        with runstream.start_run(f"run {number}") as run:
            ids.append(str(run.info.run_id))
            runstream.log_params({"lr": 0.1 * (number + 1), "model": "m"})
            runstream.log_metrics({"loss": loss, "same": float("nan")})
            runstream.set_tag("note", "line\nbreak")
            runstream.log_table({"question": ["a", None], "answer": [number, 2]}, "qa.json")
            runstream.log_text("hello", "hello.txt")
    runstream.set_experiment("second")
    with runstream.start_run("failed") as run:
        ids.append(str(run.info.run_id))
        run.log_param("only", "here")
        run.end("FAILED")
    runstream.close()
    pipeline.drain()
    return ids


def test_runs_are_listed_with_the_names_of_their_experiments(
    pipeline: Pipeline, runs: list[str], capsys: Capture
) -> None:
    """Ids tell a person nothing; a run that has not started has none."""
    runstream.log_metric("m", 1.0, run_id="ab" * 16)
    pipeline.drain()
    text = invoke(capsys, "runs", "list", "--store", pipeline.store).out
    assert "second" in text
    assert "ab" * 16 in text


def test_experiments_are_listed(pipeline: Pipeline, runs: list[str], capsys: Capture) -> None:
    """The default one, too; what a terminal would obey is shown and not sent."""
    experiments = invoke_json(capsys, "experiments", "list", "--store", pipeline.store)
    assert [experiment["name"] for experiment in experiments].count("second") == 1
    assert {"Default", "second", "first \x1b[31mred"} == {experiment["name"] for experiment in experiments}
    text = invoke(capsys, "experiments", "list", "--store", pipeline.store).out
    assert "first \\x1b[31mred" in text
    assert "\x1b" not in text


def test_experiments_are_listed_page_by_page(
    pipeline: Pipeline, runs: list[str], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are."""
    monkeypatch.setattr("runstream_sink.cli.experiments._PAGE", 1)
    assert len(invoke_json(capsys, "experiments", "list", "--store", pipeline.store)) == 3


def test_runs_are_listed_the_newest_first(
    pipeline: Pipeline, runs: list[str], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Page by page, up to the limit."""
    monkeypatch.setattr("runstream_sink.cli.runs._PAGE", 1)
    store = ("--store", pipeline.store)
    listed = [run["run_id"] for run in invoke_json(capsys, "runs", "list", *store)]
    assert sorted(listed) == sorted(runs)
    assert len(invoke_json(capsys, "runs", "list", "--limit", 2, *store)) == 2
    text = invoke(capsys, "runs", "list", *store).out
    assert all(run_id in text for run_id in runs)
    assert "FAILED" in text


def test_runs_are_filtered_by_experiment_and_status(pipeline: Pipeline, runs: list[str], capsys: Capture) -> None:
    """By name or id of the experiment; a status in any case."""
    store = ("--store", pipeline.store)
    (found,) = invoke_json(capsys, "runs", "list", "--experiment", "second", *store)
    assert found["run_id"] == runs[2]
    by_id = invoke_json(capsys, "runs", "list", "--experiment", found["experiment_id"], *store)
    assert by_id == [found]
    assert invoke_json(capsys, "runs", "list", "--status", "failed", *store) == [found]
    assert invoke(capsys, "runs", "list", "--status", "lazy", *store).code == 2
    assert invoke(capsys, "runs", "list", "--experiment", "third", *store).code == 7


def test_runs_are_searched_by_mlflows_grammar(pipeline: Pipeline, runs: list[str], capsys: Capture) -> None:
    """A filter, beside the other options, and an order of several keys; an error shows the place."""
    store = ("--store", pipeline.store)

    def found(*options: str) -> list[str]:
        return [run["run_id"] for run in invoke_json(capsys, "runs", "list", *options, *store)]

    assert found("--filter", "metrics.loss <= 0.5 AND params.model LIKE 'm%'") == runs[:1]
    assert found("--filter", "params.only = 'here'", "--status", "failed") == runs[2:]
    assert found("--filter", "params.only = 'here'", "--status", "finished") == []
    assert found("--order", "params.only", "--order", "params.lr DESC") == [runs[2], runs[1], runs[0]]
    refused = invoke(capsys, "runs", "list", "--filter", "metrics.loss LIKE 1", *store)
    assert refused.code == 2
    assert "line 1, column 14" in refused.err


def test_experiments_are_searched_by_mlflows_grammar(pipeline: Pipeline, runs: list[str], capsys: Capture) -> None:
    """By name, say."""
    (found,) = invoke_json(capsys, "experiments", "list", "--filter", "name LIKE 'sec%'", "--store", pipeline.store)
    assert found["name"] == "second"


def test_a_run_is_shown_in_full(pipeline: Pipeline, runs: list[str], capsys: Capture) -> None:
    """Params, latest metrics, tags, tables, artifacts; numbers that JSON lacks are texts."""
    document = invoke_json(capsys, "runs", "show", runs[1], "--store", pipeline.store)
    assert document["run"]["params"]["model"] == "m"
    assert document["run"]["metrics"]["loss"]["value"] == "NaN"
    assert document["tables"] == [{"name": "qa", "rows": 2, "columns": ["question", "answer"]}]
    assert [artifact["path"] for artifact in document["artifacts"]] == ["hello.txt"]
    text = invoke(capsys, "runs", "show", runs[1], "--store", pipeline.store).out
    for shown in (runs[1], "run 1", "model", "NaN", "line\\nbreak", "qa", "question, answer", "hello.txt", "5 B"):
        assert shown in text


def test_a_run_is_found_by_the_beginning_of_its_id(pipeline: Pipeline, runs: list[str], capsys: Capture) -> None:
    """As long as it is the only one."""
    store = ("--store", pipeline.store)
    common = len(os.path.commonprefix(runs))  # noqa: RUF071 - these are texts, not paths
    assert invoke_json(capsys, "runs", "show", runs[0][:-1], *store)["run"]["run_id"] == runs[0]
    several = invoke(capsys, "runs", "show", runs[0][:common], *store)
    assert several.code == 2
    assert f"several runs begin with '{runs[0][:common]}'" in several.err
    assert invoke(capsys, "runs", "show", "zzz", *store).code == 7
    assert invoke(capsys, "runs", "show", "", *store).code == 2


def test_runs_are_compared_side_by_side(pipeline: Pipeline, runs: list[str], capsys: Capture) -> None:
    """What differs has a star; NaN does not differ from NaN, and a missing value does differ."""
    text = invoke(capsys, "runs", "compare", *runs, "--store", pipeline.store).out
    marked = {line.split()[2] if line.startswith("*") else "": line for line in text.splitlines()}
    assert {"lr", "loss", "only"} <= set(marked)
    unmarked = invoke(capsys, "runs", "compare", *runs[:2], "--store", pipeline.store).out
    assert {line.split()[2] for line in unmarked.splitlines() if line.startswith("*")} == {"lr", "loss"}
    document = invoke_json(capsys, "runs", "compare", *runs[:2], "--store", pipeline.store)
    assert document["params"]["lr"] == {"values": ["0.1", "0.2"], "differs": True}
    assert document["metrics"]["same"] == {"values": ["NaN", "NaN"], "differs": False}
    assert [run["run_id"] for run in document["runs"]] == runs[:2]


def test_compared_runs_are_headed_by_what_tells_them_apart(
    pipeline: Pipeline, runs: list[str], capsys: Capture
) -> None:
    """Ids of runs that begin at the same time begin alike."""
    header = invoke(capsys, "runs", "compare", *runs[:2], "--store", pipeline.store).out.splitlines()[0].split()
    assert header[0] == "run"
    assert header[1] != header[2]
    assert runs[0].startswith(header[1])
    assert runs[1].startswith(header[2])
    same = invoke(capsys, "runs", "compare", runs[0], runs[0], "--store", pipeline.store)
    assert same.code == 0
    assert "*" not in same.out


def test_tables_are_listed(pipeline: Pipeline, runs: list[str], capsys: Capture) -> None:
    """With rows, types of columns, and the files that hold them."""
    (table,) = invoke_json(capsys, "tables", "list", runs[0], "--store", pipeline.store)
    assert (table["name"], table["rows"], table["columns"]) == ("qa", 2, {"question": "text", "answer": "int"})
    assert table["files"] == [f"{runs[0]}/qa.csv"]
    assert "question, answer" in invoke(capsys, "tables", "list", runs[0], "--store", pipeline.store).out


def test_a_table_is_exported_in_each_format(
    pipeline: Pipeline, runs: list[str], capsys: Capture, tmp_path: Path
) -> None:
    """The rows are the same; a file is replaced as a whole, and nothing else is left beside it."""
    expected = [{"question": "a", "answer": 1}, {"question": None, "answer": 2}]
    folder = tmp_path / "exports"
    folder.mkdir()
    for form in ("csv", "jsonl", "parquet"):
        target = folder / f"qa.{form}"
        target.write_text("old")
        result = invoke(
            capsys, "tables", "export", runs[1], "qa", "--format", form, "-o", target, "--store", pipeline.store
        )
        assert (result.code, result.out) == (0, "")
        assert "2 rows of qa" in result.err
    assert sorted(path.name for path in folder.iterdir()) == ["qa.csv", "qa.jsonl", "qa.parquet"]
    assert [json.loads(line) for line in (folder / "qa.jsonl").read_text().splitlines()] == expected
    frame = pd.read_parquet(folder / "qa.parquet")
    assert frame["answer"].tolist() == [1, 2]
    with (folder / "qa.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["question", "answer"], ["a", "1"], ["", "2"]]


def test_an_export_tells_where_rows_come_from_if_asked(
    pipeline: Pipeline, runs: list[str], capsys: Capture, tmp_path: Path
) -> None:
    """Two more columns."""
    target = tmp_path / "out.jsonl"
    arguments = ("tables", "export", runs[0], "qa.csv", "--format", "jsonl", "-o", target, "--provenance")
    assert invoke(capsys, *arguments, "--store", pipeline.store).code == 0
    row = json.loads(target.read_text().splitlines()[0])
    assert list(row) == ["question", "answer", "_logged_at", "_event"]


def test_an_export_to_standard_output_is_the_data_alone(pipeline: Pipeline, runs: list[str]) -> None:
    """For pipes."""
    result = start(*("tables", "export", runs[0], "qa", "--format", "csv", "-o", "-"), *("--store", pipeline.store))
    assert (result.code, result.out, result.err) == (0, "question,answer\na,0\n,2\n", "")


def test_an_export_to_a_named_pipe_goes_through_it(
    pipeline: Pipeline, runs: list[str], capsys: Capture, tmp_path: Path
) -> None:
    """What is no file is not replaced by one."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    arguments = ("tables", "export", runs[0], "qa", "--format", "csv", "-o", pipe)
    assert invoke(capsys, *arguments, "--store", pipeline.store).code == 0
    reader.join()
    assert read == ["question,answer\na,0\n,2\n"]
    assert pipe.is_fifo()


def test_an_export_that_fails_leaves_what_was_there(
    pipeline: Pipeline, runs: list[str], capsys: Capture, tmp_path: Path
) -> None:
    """A damaged table, a table that is not there, a folder that is not there."""
    target = tmp_path / "kept" / "out.csv"
    target.parent.mkdir()
    target.write_text("old")
    arguments = ("--format", "csv", "-o", target, "--store", pipeline.store)
    assert invoke(capsys, "tables", "export", runs[0], "no_such_table", *arguments).code == 7
    (pipeline.options.artifacts / runs[0] / "qa.csv").write_text("damaged")
    assert invoke(capsys, "tables", "export", runs[0], "qa", *arguments).code == 6
    assert [path.name for path in target.parent.iterdir()] == ["out.csv"]
    assert target.read_text() == "old"
    nowhere = ("--format", "csv", "-o", tmp_path / "no" / "out.csv", "--store", pipeline.store)
    assert invoke(capsys, "tables", "export", runs[1], "qa", *nowhere).code == 3
