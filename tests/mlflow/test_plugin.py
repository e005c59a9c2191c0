"""MLflow's own client on our stream: what it logs arrives, and what it reads is what it logged just before."""

import json
from pathlib import Path
from typing import Any

import pytest

from support.http_sink import http_sink_apart
from support.mlflow import run_measured
from support.pipeline import Pipeline

pytestmark = pytest.mark.server

PROGRAM = Path(__file__).parent / "plugin_program.py"
SEEN = {
    "while running": 0.5,
    "param changed": "INVALID_PARAMETER_VALUE",
    "fluent": {
        "status": "FINISHED",
        "name": "first",
        "experiment": True,
        "params": {"depth": "3", "model": "8b"},
        "metrics": {"acc": "0.5", "f1": "inf", "loss": "0.01"},
        "tags": {"kind": "x", "mlflow.note.content": "about", "mlflow.runName": "first", "gone": None},
    },
    "history": True,
    "search": ["first", "inner"],
    "nested": [True],
    "parent": True,
    "artifacts": [["b.json", False, 12], ["notes", True, None]],
    "inside": [["notes/a.txt", False, 5]],
    "of a file": [],
    "text": "hello",
    "folder": ["a.txt"],
    "logged": ["more/sub/c.txt"],
    "below": "more/sub",
    "resumed": ["FINISHED", "renamed", 1.0, 0.9],
    "failed": "FAILED",
    "deleted": "deleted",
    "found deleted": [True],
    "restored": "active",
    "unknown run": "RESOURCE_DOES_NOT_EXIST",
    "bad filter": "INVALID_PARAMETER_VALUE",
    "bad id": "INVALID_PARAMETER_VALUE",
    "pages": [1, 1],
    "experiment": ["another", {"team": "a", "more": "b"}, "active"],
    "taken": "RESOURCE_ALREADY_EXISTS",
    "no name": "INVALID_PARAMETER_VALUE",
    "location": "INVALID_PARAMETER_VALUE",
    "found": ["another"],
    "new name": "other name",
    "by name": True,
    "by old name": None,
    "gone": "deleted",
    "back": "active",
    "default": "Default",
    "unknown experiment": "RESOURCE_DOES_NOT_EXIST",
}
"""What a program that reads what it has just logged must see."""


@pytest.mark.parametrize("way", ["store", "url", "sink"])
def test_a_program_sees_what_it_has_logged(tmp_path: Path, way: str) -> None:
    """Whether it reads the store, the sink that RUNSTREAM_URL names, or the one that is its tracking URI."""
    environment = {"RUNSTREAM_STORE": str(tmp_path / "store")}
    stream = f"queue:{tmp_path / 'queue'}"
    with http_sink_apart(tmp_path) as sink:
        if way == "url":
            environment = {"RUNSTREAM_URL": sink.url}
        if way == "sink":
            environment = {"RUNSTREAM_STREAM": stream}
        uri = f"runstream+{sink.url}" if way == "sink" else f"runstream+{stream}"
        assert _run(tmp_path, uri, environment) == SEEN


@pytest.mark.parametrize("store", ["no store", "a store"])
def test_without_a_sink_nothing_waits_and_the_program_sees_what_it_logged(tmp_path: Path, store: str) -> None:
    """A sink that comes later finds everything; where there is no store either, other reads say so."""
    pipe = Pipeline(tmp_path)
    if store == "a store":
        pipe.drain()
    seen = _run(tmp_path, f"runstream+{pipe.stream}", pipe.environment, "alone")
    assert seen["alone"] == ["RUNNING", {"p": "1"}, 2.0, "FINISHED"]
    assert (seen["latest"], seen["no history"]) == ([2.0], [])
    assert [path for path, _ in seen["files"]] == ["a.txt", "t.json"]
    assert seen["not there"] != "nothing"
    assert seen["away"] == ("nothing" if store == "a store" else "TEMPORARILY_UNAVAILABLE")
    assert (seen["default"], seen["experiment"]) == ("Default", "mine")
    pipe.drain()
    run = pipe.run(seen["run"])
    assert (run.name, run.status, run.params) == ("alone again", "FINISHED", {"p": "1"})
    assert run.metrics["m"].value == 2.0
    assert pipe.artifact(run.run_id, "a.txt") == b"hello"
    assert json.loads(pipe.artifact(run.run_id, "t.json")) == {"columns": ["x"], "data": [[1], [2]]}


def test_an_address_that_is_none_is_refused(tmp_path: Path) -> None:
    """In MLflow's words for errors."""
    (tmp_path / "cwd").mkdir()
    done = run_measured(PROGRAM, "runstream+kafka://nowhere", "unused", cwd=tmp_path / "cwd", environment={})
    assert done.returncode != 0
    assert "MlflowException" in done.stderr


def _run(root: Path, uri: str, environment: dict[str, str], *arguments: str) -> dict[str, Any]:
    (root / "cwd").mkdir()
    target = root / "seen.json"
    done = run_measured(PROGRAM, uri, str(target), *arguments, cwd=root / "cwd", environment=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(target.read_text())
    return found
