"""What tests of the import do in MLflow's environment: steps such as ``fill URI``, joined by ``then``."""

import hashlib
import json
import math
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
os.environ["GIT_PYTHON_REFRESH"] = "quiet"


def fill(uri: str) -> None:
    """Runs of all kinds."""
    from mlflow.entities import Metric

    import mlflow

    client = _client(uri)
    first = client.create_experiment("alpha äöü", tags={"team": "a"})
    mlflow.set_experiment("alpha äöü")
    with mlflow.start_run(run_name="parent", tags={"note": "x"}, description="what it is"):
        mlflow.log_params({"depth": 3, "model": "8b", "a b": "/"})
        points = [Metric("loss", 1 / (step + 1), 1_790_000_000_000 + step, step) for step in range(2500)]
        for start in range(0, len(points), 1000):
            client.log_batch(mlflow.active_run().info.run_id, points[start : start + 1000])
        mlflow.log_metrics({"nan": math.nan, "up": math.inf, "down": -math.inf, "zero": -0.0}, step=7)
        mlflow.log_metric("many", 1.0)
        mlflow.log_metric("many", 1.0)
        mlflow.log_table({"q": ["a", "ü", None], "n": [1, 2, 3], "deep": [{"x": [1]}, None, {}]}, "tables/t.json")
        mlflow.log_table({"q": ["p"], "n": [0.5]}, "p.parquet")
        mlflow.log_text("hello", "notes/deep/a.txt")
        mlflow.log_dict({"a": 1}, "b.json")
        _log_input()
        _log_model()
        with mlflow.start_run(run_name="child", nested=True):
            mlflow.log_metric("acc", 0.5, step=3)
    failed = client.create_run(first, start_time=1_700_000_000_123, run_name="failed", tags={"mlflow.user": "ada"})
    client.set_terminated(failed.info.run_id, "FAILED", 1_700_000_009_456)
    client.create_run(first, run_name="running")
    scheduled = client.create_run(first, run_name="scheduled")
    client.update_run(scheduled.info.run_id, status="SCHEDULED")
    client.delete_run(client.create_run("0", run_name="deleted").info.run_id)
    gone = client.create_experiment("gone")
    client.create_run(gone, run_name="of a deleted experiment")
    client.delete_experiment(gone)


def grow(uri: str) -> None:
    """More for a run that was there, a run that goes on, another experiment."""
    import mlflow

    client = _client(uri)
    (parent,) = _named(client, "parent")
    with mlflow.start_run(run_id=parent.info.run_id):
        for step in range(2500, 2510):
            mlflow.log_metric("loss", 1 / (step + 1), step=step)
        mlflow.log_metric("new", 3.0)
        mlflow.set_tags({"note": "y", "more": "z"})
        mlflow.log_param("late", 1)
        mlflow.log_table({"q": ["more"], "n": [4], "deep": [{"y": 2}]}, "tables/t.json")
        mlflow.log_text("hello, world", "notes/deep/a.txt")
        mlflow.log_text("", "empty.txt")
    client.delete_tag(_named(client, "child")[0].info.run_id, "mlflow.source.type")
    (running,) = _named(client, "running")
    client.log_metric(running.info.run_id, "m", 1.0)
    client.set_terminated(running.info.run_id)
    other = client.create_experiment("beta")
    client.log_metric(client.create_run(other, run_name="b").info.run_id, "m", 2.0)


def many(uri: str) -> None:
    """Some dozens of small runs."""
    from mlflow.entities import Metric

    client = _client(uri)
    for number in range(20):
        run = client.create_run("0", run_name=f"r{number}").info.run_id
        client.log_batch(run, [Metric("m", number / 7, 1_790_000_000_000, step) for step in range(3)])
        client.log_text(run, f"of {number}", "a.txt")
        client.set_terminated(run)


def break_one(directory: str) -> None:
    """Have one artifact of a file store lead nowhere."""
    path = min(Path(directory).glob("*/*/artifacts/a.txt"))
    path.rename(path.with_name("away"))
    path.symlink_to("nowhere")


def mend(directory: str) -> None:
    """Bring it back."""
    (path,) = Path(directory).glob("*/*/artifacts/away")
    path.rename(path.with_name("a.txt"))


def dump(uri: str, target: str) -> None:
    """All that a client sees, as JSON, by run."""
    from mlflow.entities import ViewType

    client = _client(uri)
    found = {}
    for experiment in client.search_experiments(ViewType.ALL):
        for run in client.search_runs([experiment.experiment_id], "", ViewType.ALL, 1000):
            found[run.info.run_id] = {"experiment": experiment.name, **_described(client, run)}
    Path(target).write_text(json.dumps(found))


def _described(client: Any, run: Any) -> dict[str, Any]:
    info, run_id = run.info, run.info.run_id
    points = {key: client.get_metric_history(run_id, key) for key in run.data.metrics}
    return {
        "info": [info.run_name, info.user_id, info.status, info.start_time, info.end_time, info.lifecycle_stage],
        "params": run.data.params,
        "tags": run.data.tags,
        "points": {key: sorted([p.step, p.timestamp, repr(p.value)] for p in found) for key, found in points.items()},
        "inputs": [[one.dataset.name, one.dataset.digest, len(one.tags)] for one in run.inputs.dataset_inputs],
        "files": _files(client, run_id),
    }


def _files(client: Any, run_id: str) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as directory:
        if not client.list_artifacts(run_id):
            return {}
        root = Path(client.download_artifacts(run_id, "", directory))
        for output in client.get_run(run_id).outputs.model_outputs:
            client.download_artifacts(run_id, client.get_logged_model(output.model_id).name, directory)
        return {
            str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in root.rglob("*")
            if path.is_file() and path.name != "registered_model_meta"  # which MLflow adds to what it downloads
        }


def _log_input() -> None:
    from mlflow.data.pandas_dataset import from_pandas
    from pandas import DataFrame

    import mlflow

    mlflow.log_input(from_pandas(DataFrame({"x": [1, 2]}), name="train ü"), context="training")


def _log_model() -> None:
    """A logged model, whose files lie outside the run's."""
    import mlflow

    class Echo(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, model_input: list[str]) -> list[str]:
            return model_input

    mlflow.pyfunc.log_model(name="echo", python_model=Echo(), pip_requirements=[])


def _client(uri: str) -> Any:
    import mlflow

    mlflow.set_tracking_uri(uri)
    return mlflow.MlflowClient(uri)


def _named(client: Any, name: str) -> list[Any]:
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(ids, f"attributes.run_name = '{name}'"))


def _import(*arguments: str) -> int:
    from runstream.cli import main

    return main(["import-mlflow", *arguments])


def _import_anyhow(*arguments: str) -> None:
    _import(*arguments)


def _import_in_small_batches(*arguments: str) -> int:
    from runstream.mlflow_import import importer

    importer._RUNS = 3
    return _import(*arguments)


if __name__ == "__main__":
    done = {
        "fill": fill,
        "grow": grow,
        "many": many,
        "break": break_one,
        "mend": mend,
        "dump": dump,
        "import": _import,
        "import-anyhow": _import_anyhow,
        "import-in-small-batches": _import_in_small_batches,
    }
    for step in " ".join(sys.argv[1:]).split(" then "):
        what, *given = step.split(" ")
        code = done[what](*given)
        if code:
            sys.exit(code)
