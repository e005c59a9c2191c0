"""A program that uses MLflow's own client on our stream; run by an interpreter that has mlflow.

The arguments are the tracking URI and a file, in which what the program saw is written as JSON.
"""

import json
import logging
import math
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)

from mlflow.entities import Metric, ViewType  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402

import mlflow  # noqa: E402
from mlflow import MlflowClient  # noqa: E402 - the environment is set before

seen: dict[str, Any] = {}


def code(call: Callable[[], Any]) -> str:
    """The code of the error that a call raises."""
    try:
        call()
    except MlflowException as error:
        return str(error.error_code)
    return "nothing"


def fluent() -> str:
    """The fluent API, and what the client reads right after."""
    experiment = mlflow.set_experiment("mine")
    with mlflow.start_run(run_name="first", tags={"kind": "x"}) as run:
        mlflow.log_params({"model": "8b", "depth": 3})
        mlflow.log_metrics({"acc": 0.5, "f1": math.inf}, step=2)
        for step in range(100):
            mlflow.log_metric("loss", 1.0 / (step + 1), step=step)
        mlflow.set_tag("mlflow.note.content", "about")
        mlflow.set_tag("gone", "soon")
        mlflow.delete_tag("gone")
        mlflow.log_text("hello", "notes/a.txt")
        mlflow.log_dict({"a": 1}, "b.json")
        seen["while running"] = mlflow.get_run(run.info.run_id).data.metrics["acc"]
        with mlflow.start_run(run_name="inner", nested=True) as inner:
            mlflow.log_metric("acc", 0.75)
        seen["param changed"] = code(lambda: mlflow.log_param("model", "70b"))
    read = mlflow.get_run(run.info.run_id)
    seen["fluent"] = {
        "status": read.info.status,
        "name": read.info.run_name,
        "experiment": read.info.experiment_id == experiment.experiment_id,
        "params": read.data.params,
        "metrics": {key: repr(value) for key, value in read.data.metrics.items()},
        "tags": {key: read.data.tags.get(key) for key in ("kind", "mlflow.note.content", "mlflow.runName", "gone")},
    }
    history = MlflowClient().get_metric_history(run.info.run_id, "loss")
    seen["history"] = [point.step for point in history] == list(range(100))
    frame = mlflow.search_runs(order_by=["attributes.start_time", "attributes.run_name"])
    seen["search"] = sorted(frame["tags.mlflow.runName"])
    found = mlflow.search_runs(filter_string="metrics.acc > 0.6", output_format="list")
    seen["nested"] = [one.info.run_id == inner.info.run_id for one in found]
    seen["parent"] = found[0].data.tags["mlflow.parentRunId"] == run.info.run_id
    return str(run.info.run_id)


def artifacts(run_id: str, directory: Path) -> None:
    """Listed, downloaded, from a table and a directory."""
    client = MlflowClient()
    seen["artifacts"] = [(one.path, one.is_dir, one.file_size) for one in client.list_artifacts(run_id)]
    seen["inside"] = [(one.path, one.is_dir, one.file_size) for one in client.list_artifacts(run_id, "notes")]
    seen["of a file"] = client.list_artifacts(run_id, "b.json")
    seen["text"] = mlflow.artifacts.load_text(f"runs:/{run_id}/notes/a.txt")
    folder = Path(client.download_artifacts(run_id, "notes"))
    seen["folder"] = sorted(path.name for path in folder.iterdir())
    (directory / "sub").mkdir()
    (directory / "sub" / "c.txt").write_text("deep")
    client.log_artifacts(run_id, str(directory), "more")
    seen["logged"] = [one.path for one in client.list_artifacts(run_id, "more/sub")]
    seen["below"] = mlflow.artifacts.list_artifacts(f"{mlflow.get_run(run_id).info.artifact_uri}/more")[0].path


def runs(run_id: str) -> None:
    """Resumed, renamed, deleted, restored."""
    client = MlflowClient()
    with mlflow.start_run(run_id=run_id):
        mlflow.log_metric("later", 1)
    client.log_batch(run_id, metrics=[Metric("acc", 0.9, 5, 9)])
    client.update_run(run_id, name="renamed")
    read = client.get_run(run_id)
    seen["resumed"] = (read.info.status, read.info.run_name, read.data.metrics["later"], read.data.metrics["acc"])
    other = client.create_run("0", run_name="other")
    client.set_terminated(other.info.run_id, "FAILED")
    seen["failed"] = client.get_run(other.info.run_id).info.status
    client.delete_run(other.info.run_id)
    seen["deleted"] = client.get_run(other.info.run_id).info.lifecycle_stage
    deleted = client.search_runs(["0"], run_view_type=ViewType.DELETED_ONLY)
    seen["found deleted"] = [one.info.run_id == other.info.run_id for one in deleted]
    client.restore_run(other.info.run_id)
    seen["restored"] = client.get_run(other.info.run_id).info.lifecycle_stage
    seen["unknown run"] = code(lambda: client.get_run("f" * 32))
    seen["bad filter"] = code(lambda: client.search_runs(["0"], "nonsense"))
    seen["bad id"] = code(lambda: client.log_metric("x", "acc", 1))
    seen["pages"] = []
    token = None
    while True:
        page = client.search_runs([read.info.experiment_id], max_results=1, page_token=token)
        seen["pages"].append(len(page))
        token = page.token
        if not token:
            break


def experiments() -> None:
    """Made, tagged, renamed, deleted, restored, found."""
    client = MlflowClient()
    made = client.create_experiment("another", tags={"team": "a"})
    client.set_experiment_tag(made, "more", "b")
    client.set_experiment_tag(made, "gone", "c")
    client.delete_experiment_tag(made, "gone")
    read = client.get_experiment(made)
    seen["experiment"] = (read.name, read.tags, read.lifecycle_stage)
    seen["taken"] = code(lambda: client.create_experiment("another"))
    seen["no name"] = code(lambda: client.create_experiment("  "))
    seen["location"] = code(lambda: client.create_experiment("placed", artifact_location="/elsewhere"))
    seen["found"] = [one.name for one in client.search_experiments(filter_string="tags.team = 'a'")]
    client.rename_experiment(made, "other name")
    seen["new name"] = client.get_experiment(made).name
    seen["by name"] = client.get_experiment_by_name("other name").experiment_id == made
    seen["by old name"] = client.get_experiment_by_name("another")
    client.delete_experiment(made)
    seen["gone"] = client.get_experiment(made).lifecycle_stage
    client.restore_experiment(made)
    seen["back"] = client.get_experiment(made).lifecycle_stage
    seen["default"] = client.get_experiment("0").name
    seen["unknown experiment"] = code(lambda: client.get_experiment("7"))


def alone() -> None:
    """What can be done where no sink answers."""
    mlflow.set_experiment("mine")
    begun = time.monotonic()
    with mlflow.start_run(run_name="alone") as run:
        mlflow.log_param("p", 1)
        mlflow.log_metric("m", 2.0, step=2)
        mlflow.log_metric("m", 1.0, step=1)
        mlflow.log_metric("n", math.nan)
        mlflow.log_text("hello", "a.txt")
        mlflow.set_tag("mlflow.runName", "alone again")
        read = mlflow.get_run(run.info.run_id)
        history = MlflowClient().get_metric_history(run.info.run_id, "m")
        seen["latest"] = [point.value for point in history]
        mlflow.log_table({"x": [1]}, "t.json")
        mlflow.log_table({"x": [2]}, "t.json")
        seen["files"] = [(one.path, one.file_size) for one in MlflowClient().list_artifacts(run.info.run_id)]
        seen["not there"] = code(lambda: mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/nobody.txt"))
        seen["no history"] = MlflowClient().get_metric_history(run.info.run_id, "nobody")
    ended = mlflow.get_run(run.info.run_id)
    seen["seconds"] = time.monotonic() - begun
    seen["alone"] = (read.info.status, read.data.params, read.data.metrics["m"], ended.info.status)
    seen["away"] = code(mlflow.search_runs)
    seen["default"] = MlflowClient().get_experiment("0").name
    seen["experiment"] = mlflow.get_experiment_by_name("mine").name
    seen["run"] = run.info.run_id


def main() -> None:
    """Do it, and write down what was seen."""
    uri, target = sys.argv[1], Path(sys.argv[2])
    mlflow.set_tracking_uri(uri)
    if sys.argv[3:] == ["alone"]:
        alone()
    else:
        run_id = fluent()
        directory = target.with_suffix(".files")
        directory.mkdir()
        artifacts(run_id, directory)
        runs(run_id)
        experiments()
    target.write_text(json.dumps(seen))


if __name__ == "__main__":
    main()
