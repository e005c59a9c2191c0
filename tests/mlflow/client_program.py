"""What MLflow's own client gets from a tracking server; run by an interpreter that has mlflow.

The arguments are the address of the server and a directory, in which ``results.json`` is written: by the name of
each call, in order, what it returned or which error it raised.  Ids are replaced by labels in the order in which they
are made, and times that the server gives by ``"now"``, so that two servers can be compared.
"""

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from client_calls import experiments, histories, logging_, runs, searches
from client_recorder import UNKNOWN, Recorder, labelled, labels, names
from mlflow.entities import (
    RunTag,
    ViewType,
)

import mlflow


def main(uri: str, work: Path) -> dict[str, Any]:
    """All calls."""
    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient(uri)
    record = Recorder()
    first = experiments(record, client)
    runs(record, client, first)
    logged = logging_(record, client, first)
    searches(record, client, first)
    histories(record, client, logged)
    artifacts(record, client, logged, work)
    tables(record, client, first)
    lifecycles(record, client, first, logged)
    fluent(record, work)
    outside(record, client)
    return record.results


def artifacts(record: Recorder, client: Any, run_id: str, work: Path) -> None:
    """Artifacts, up and down."""
    source = work / "up"
    (source / "deep" / "er").mkdir(parents=True)
    (source / "a.txt").write_text("text of a")
    (source / "deep" / "b.bin").write_bytes(bytes(range(256)) * 40)
    (source / "deep" / "er" / "ü c.json").write_text('{"x": [1]}')
    record("nothing listed", lambda: client.list_artifacts(run_id))
    record("log file", lambda: client.log_artifact(run_id, str(source / "a.txt")))
    record("log file below", lambda: client.log_artifact(run_id, str(source / "a.txt"), "sub/dir"))
    record("log directory", lambda: client.log_artifacts(run_id, str(source), "all"))
    record("log text", lambda: client.log_text(run_id, "héllo", "notes/n.md"))
    record("log dict", lambda: client.log_dict(run_id, {"a": 1}, "d.json"))
    record("log text again", lambda: client.log_text(run_id, "second", "notes/n.md"))
    for path in (None, "all", "all/deep/er", "notes", "sub", "nobody", "a.txt"):
        record(f"list {path}", lambda path=path: client.list_artifacts(run_id, path))
    record("list above", lambda: client.list_artifacts(run_id, "../other"))

    def fetched(path: str) -> Any:
        found = Path(client.download_artifacts(run_id, path, str(work)))
        files = [found] if found.is_file() else sorted(item for item in found.rglob("*") if item.is_file())
        return {item.name: len(item.read_bytes()) for item in files}

    for path in ("a.txt", "notes/n.md", "all", "all/deep/er/ü c.json"):
        record(f"download {path}", lambda path=path: fetched(path))
    record("load text", lambda: mlflow.artifacts.load_text(f"runs:/{run_id}/notes/n.md"))
    record("load dict", lambda: mlflow.artifacts.load_dict(f"runs:/{run_id}/d.json"))
    record("load a missing one", lambda: mlflow.artifacts.load_text(f"runs:/{run_id}/nobody.txt"))


def tables(record: Recorder, client: Any, experiment: str) -> None:
    """Tables as MLflow's client writes and reads them."""
    run_id = labelled(record, client, experiment, "<table>", run_name="table", start_time=30).info.run_id
    other = labelled(record, client, experiment, "<other table>", run_name="other table", start_time=31).info.run_id
    record("log table", lambda: client.log_table(run_id, {"q": ["a", "b"], "n": [1, 2]}, "t.json"))
    record("append to table", lambda: client.log_table(run_id, pd.DataFrame({"q": ["c"], "n": [3]}), "t.json"))
    record("log other table", lambda: client.log_table(other, {"q": ["z"], "n": [9]}, "t.json"))
    record("load table", lambda: client.load_table(experiment, "t.json", [run_id]))
    record("load tables", lambda: client.load_table(experiment, "t.json", extra_columns=["run_id"]))
    record("load no table", lambda: client.load_table(experiment, "nobody.json"))
    record("tag of tables", lambda: client.get_run(run_id).data.tags)


def lifecycles(record: Recorder, client: Any, experiment: str, run_id: str) -> None:
    """Deleted and restored."""
    record("delete run", lambda: client.delete_run(run_id))
    record("delete run again", lambda: client.delete_run(run_id))
    record("delete no run", lambda: client.delete_run(UNKNOWN))
    record("the deleted", lambda: client.get_run(run_id).info)
    record("log into the deleted", lambda: client.log_metric(run_id, "m", 1.0))
    record("param of the deleted", lambda: client.log_param(run_id, "new", "1"))
    record("tag of the deleted", lambda: client.set_tag(run_id, "new", "1"))
    record("batch into the deleted", lambda: client.log_batch(run_id, tags=[RunTag("a", "1")]))
    record("update the deleted", lambda: client.update_run(run_id, name="x"))
    record("deleted runs", lambda: labels(client.search_runs([experiment], run_view_type=ViewType.DELETED_ONLY)))
    record("all runs", lambda: len(client.search_runs([experiment], run_view_type=ViewType.ALL)))
    record("restore run", lambda: client.restore_run(run_id))
    record("restore run again", lambda: client.restore_run(run_id))
    record("restore no run", lambda: client.restore_run(UNKNOWN))
    record("the restored", lambda: client.get_run(run_id).info)
    record("delete all", lambda: client.delete_experiment(experiment))
    record("deleted with its experiment", lambda: client.get_run(run_id).info)
    record("restore all", lambda: client.restore_experiment(experiment))
    record("restored with its experiment", lambda: client.get_run(run_id).info)


def fluent(record: Recorder, work: Path) -> None:
    """The fluent API."""
    made = record("set experiment", lambda: named(record, mlflow.set_experiment("fluent")))
    record("set experiment again", lambda: mlflow.set_experiment("fluent"))
    record("set experiment by id", lambda: mlflow.set_experiment(experiment_id=made.experiment_id))
    with mlflow.start_run(run_name="parent", tags={"k": "v"}, description="of it") as parent:
        record.label(parent.info.run_id, "<parent>")
        record("active run", lambda: mlflow.active_run().info)
        record("log_params", lambda: mlflow.log_params({"a": 1, "b": "x", "c": None}))
        record("log_param changed", lambda: mlflow.log_param("a", 2))
        record("log_metrics", lambda: mlflow.log_metrics({"x": 1.0, "y": 2.0}, step=3, timestamp=5))
        record("log_metric", lambda: mlflow.log_metric("x", 2.0, step=4, timestamp=6))
        record("set_tags", lambda: mlflow.set_tags({"s": "1", "u": 2}))
        record("set_experiment_tag", lambda: mlflow.set_experiment_tag("team", "b"))
        record("artifact uri", mlflow.get_artifact_uri)
        record("log_text", lambda: mlflow.log_text("x", "x.txt"))
        record("log_dict", lambda: mlflow.log_dict({"y": 1}, "y.yaml"))
        record("log_table", lambda: mlflow.log_table({"a": [1, 2]}, "f.json"))
        for number in range(2):
            with mlflow.start_run(run_name=f"child{number}", nested=True) as child:
                record.label(child.info.run_id, f"<child{number}>")
                record(f"child {number}", lambda number=number: mlflow.log_metric("c", number, timestamp=1))
    record("parent", lambda: without_source(mlflow.get_run(parent.info.run_id)))
    record(
        "children",
        lambda: sorted(
            run.info.run_name
            for run in mlflow.search_runs(
                [made.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'", output_format="list"
            )
        ),
    )
    record("load_table", lambda: mlflow.load_table("f.json"))
    record("resumed", lambda: resumed(parent.info.run_id))
    record("after resuming", lambda: mlflow.get_run(parent.info.run_id).data.metrics)
    record("failed", lambda: failed(record))
    record("last active run", lambda: mlflow.last_active_run().info.run_name)
    record("search_experiments", lambda: sorted(names(mlflow.search_experiments()))[:1])
    record("list", lambda: mlflow.artifacts.list_artifacts(run_id=parent.info.run_id))
    record(
        "download",
        lambda: Path(
            mlflow.artifacts.download_artifacts(
                run_id=parent.info.run_id, artifact_path="x.txt", dst_path=str(work / "down")
            )
        ).read_text(),
    )
    record("delete_run", lambda: mlflow.delete_run(parent.info.run_id))
    record("delete_experiment", lambda: mlflow.delete_experiment(made.experiment_id))


def named(record: Recorder, experiment: Any) -> Any:
    """An experiment, by label."""
    record.label(experiment.experiment_id, "<fluent>")
    return experiment


def without_source(run: Any) -> Any:
    """A run without what tells of the program and the machine."""
    found = run.to_dictionary()
    found["data"]["tags"] = {
        key: value
        for key, value in found["data"]["tags"].items()
        if not key.startswith(("mlflow.source", "mlflow.user"))
    }
    found["info"].pop("user_id")
    return found


def resumed(run_id: str) -> str:
    """A run that is taken up again."""
    with mlflow.start_run(run_id=run_id) as run:
        mlflow.log_metric("later", 1.0, timestamp=1)
    return mlflow.get_run(run.info.run_id).info.status


def failed(record: Recorder) -> str:
    """A run that an exception ends."""
    try:
        with mlflow.start_run(run_name="failed") as run:
            record.label(run.info.run_id, "<failed>")
            run.info.nobody  # noqa: B018 - raises
    except AttributeError:
        return mlflow.get_run(run.info.run_id).info.status


def outside(record: Recorder, client: Any) -> None:
    """What only MLflow has: an error, and nothing that hangs."""
    record("registered models", lambda: [model.name for model in client.search_registered_models()])
    record("create model", lambda: client.create_registered_model("model").name)
    record("traces", lambda: list(client.search_traces(locations=["0"])))


if __name__ == "__main__":
    directory = Path(sys.argv[2])
    (directory / "results.json").write_text(json.dumps(main(sys.argv[1], directory)))
