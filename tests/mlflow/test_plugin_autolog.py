"""Libraries that log by themselves, through the plugin: what they log is kept, models and datasets too."""

import json
from pathlib import Path
from typing import Any

import pytest

from support.http_sink import http_sink_apart
from support.mlflow import run_measured
from support.pipeline import Pipeline

pytestmark = pytest.mark.server

PROGRAM = Path(__file__).parent / "plugin_autolog.py"
SECOND = Path(__file__).parent / "plugin_second.py"
TRANSFORMERS = Path(__file__).parent / "plugin_transformers.py"
METRICS = ["mean_absolute_error", "mean_squared_error", "r2_score", "root_mean_squared_error", "score"]
TRAINING = [f"training_{name}" for name in METRICS]
SEEN = {
    "registry": True,
    "registry after": True,
    "score": 1.0,
    "model": ["model", "READY", True],
    "params": "True",
    "metrics": ["LinearRegression_score_unknown_dataset", *TRAINING],
    "tags": "LinearRegression",
    "hidden": [],
    "dataset": ["train"],
    "output": [True],
    "points": dict.fromkeys(["LinearRegression_score_unknown_dataset", *TRAINING], 1),
    "files": ["estimator.html", "metric_info.json"],
    "model files": [f"model/{name}" for name in ("MLmodel", "conda.yaml", "model.pkl", "python_env.yaml")]
    + ["model/requirements.txt"],
    "by run": True,
    "by id": True,
    "no such tag": "RESOURCE_DOES_NOT_EXIST",
    "tags of model": ["a", False, "3"],
    "found": 2,
    "by tag": [True],
    "bad filter": "INVALID_PARAMETER_VALUE",
    "pages": [1, 2],
    "apart": [7.0, 0.0],
    "deleted": "RESOURCE_DOES_NOT_EXIST",
    "no run": "INVALID_PARAMETER_VALUE",
    "input": ["rows", [["k", "v"], ["mlflow.data.context", "test"]]],
    "found input": True,
    "table": {"q": ["a", "b", "c"], "n": [1, 2, 3]},
    "tables": 3,
    "warned": [],
}
SEEN_BY_ANOTHER = {
    "model": ["model", True, "READY"],
    "inputs": [True],
    "ordered": "INVALID_PARAMETER_VALUE",
    "points": ["nan", "1.0", "2.0"],
    "run": ["renamed", "SCHEDULED", "x", False],
    "later": 1.0,
    "failed later": "INTERNAL_ERROR",
    "status": True,
    "tags": {"a": "b"},
    "page": [1, None],
    "nothing": [],
    "traces": "NotImplementedError",
}
"""What a program must see that goes on with the run and the model of the first."""


def test_what_scikit_learn_logs_by_itself_is_kept_and_read_back(tmp_path: Path) -> None:
    """Params, metrics, artifacts, the dataset and the model, which loads again; and what a program logs of these."""
    uri, place = (f"runstream+queue:{tmp_path / 'queue'}", {"RUNSTREAM_STORE": str(tmp_path / "store")})
    with http_sink_apart(tmp_path):
        seen = _run(tmp_path, uri, place)
        ids = seen.pop("run"), seen.pop("id")
        assert seen == SEEN
        assert _run(tmp_path, uri, place, *ids, program=SECOND) == SEEN_BY_ANOTHER


def test_autologging_needs_no_sink(tmp_path: Path) -> None:
    """Training is not disturbed, nothing is warned of, and a sink that comes later finds the model."""
    pipe = Pipeline(tmp_path)
    seen = _run(tmp_path, f"runstream+{pipe.stream}", pipe.environment, "alone")
    assert (seen["score"], seen["model"], seen["warned"]) == (1.0, ["model", "READY", True], [])
    pipe.drain()
    run = pipe.run(seen["run"])
    assert run.params["fit_intercept"] == "True"
    assert set(TRAINING) < set(run.metrics)
    assert b"sklearn" in pipe.artifact(seen["run"], "model/MLmodel")


def test_what_transformers_callback_logs_is_kept(tmp_path: Path) -> None:
    """Hundreds of params in parts, metrics that are logged asynchronously, tags, and a checkpoint as a model."""
    with http_sink_apart(tmp_path) as sink:
        uri = f"runstream+queue:{tmp_path / 'queue'}"
        seen = _run(tmp_path, uri, {"RUNSTREAM_URL": sink.url}, program=TRANSFORMERS)
    assert seen == {
        "name": "epoch by epoch",
        "status": "FINISHED",
        "tags": "rc1",
        "params": ["16", "20"],
        "many": True,
        "loss": True,
        "model": ["checkpoint-20"],
        "weights": ["weights"],
    }


def _run(root: Path, uri: str, environment: dict[str, str], *arguments: str, program: Path = PROGRAM) -> dict[str, Any]:
    target = root / "seen.json"
    done = run_measured(program, uri, str(target), *arguments, cwd=root, environment=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(target.read_text())
    return found
