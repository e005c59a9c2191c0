"""One program, with ``import mlflow`` or ``import runstream as mlflow``; run by an interpreter that has mlflow.

The arguments are the module's name and a file, in which what the program saw is written as JSON.  Ids are replaced by
labels in the order in which the program got them.
"""

import importlib
import io
import json
import sys
import warnings
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")
mlflow: Any = importlib.import_module(sys.argv[1])
entities: Any = importlib.import_module(f"{sys.argv[1]}.entities")
PARENT = "mlflow.parentRunId"
seen: dict[str, Any] = {}
labels: dict[str, str] = {}


def label(found: str, name: str) -> str:
    """Remember what an id is called."""
    labels[found] = name
    return found


def shown(run: Any) -> dict[str, Any]:
    """What both must say of a run."""
    info, data = run.info, run.data
    return {
        "run": labels[info.run_id],
        "experiment": labels[info.experiment_id],
        "name": info.run_name,
        "status": info.status,
        "ended": info.end_time if info.start_time == 1000 else info.end_time is not None,
        "lifecycle": info.lifecycle_stage,
        "user": info.user_id if info.start_time == 1000 else None,
        "params": data.params,
        "metrics": data.metrics,
        "tags": {key: labels[value] if key == PARENT else value for key, value in data.tags.items() if _is_ours(key)},
        "inputs": [
            [one.dataset.name, one.dataset.digest, one.dataset.schema, [[tag.key, tag.value] for tag in one.tags]]
            for one in run.inputs.dataset_inputs
        ],
    }


def _is_ours(key: str) -> bool:
    """Whether the program has set a tag; those of tables and models are kept otherwise."""
    return not key.startswith("mlflow.") or key in {PARENT, "mlflow.runName", "mlflow.note.content"}


def fluent() -> None:
    """The fluent functions, and reading with them."""
    experiment = mlflow.set_experiment("program")
    label(experiment.experiment_id, "<program>")
    with mlflow.start_run(run_name="outer", tags={"kind": "x"}, description="about") as outer:
        label(outer.info.run_id, "<outer>")
        mlflow.log_params({"a": 1, "b": None})
        mlflow.log_param("c", 2.5)
        for step in range(20):
            mlflow.log_metric("loss", 1 / (step + 1), step=step, timestamp=1000 + step)
        mlflow.log_metrics({"acc": 0.5, "f1": 0.25}, step=3)
        mlflow.set_tags({"s": 1, "gone": 2})
        mlflow.delete_tag("gone")
        mlflow.log_text("héllo", "notes/a.txt")
        mlflow.log_dict({"a": [1]}, "d.json")
        mlflow.log_table({"q": ["x", "y"], "n": [1, 2]}, "t.json")
        with mlflow.start_run(run_name="inner", nested=True) as inner:
            label(inner.info.run_id, "<inner>")
            mlflow.log_metric("acc", 0.75)
        seen["while running"] = mlflow.get_run(outer.info.run_id).info.status
    seen["outer"] = shown(mlflow.get_run(outer.info.run_id))
    seen["parents"] = [
        labels[mlflow.get_parent_run(inner.info.run_id).info.run_id],
        mlflow.get_parent_run(outer.info.run_id),
    ]
    seen["inner"] = shown(mlflow.get_run(inner.info.run_id))
    frame = mlflow.search_runs(filter_string="metrics.acc > 0.1", order_by=["metrics.acc DESC"])
    seen["frame"] = [[labels[one] for one in frame["run_id"]], list(frame["metrics.acc"])]
    seen["columns"] = sorted(column for column in frame.columns if not column.startswith("tags.mlflow."))
    seen["named"] = len(mlflow.search_runs(experiment_names=["program"], output_format="list"))
    seen["table"] = mlflow.load_table("t.json", [outer.info.run_id]).to_dict("list")
    seen["experiment"] = mlflow.get_experiment_by_name("program").experiment_id == experiment.experiment_id


def client(directory: Path) -> None:
    """`MlflowClient`."""
    one = mlflow.MlflowClient()
    made = label(one.create_experiment("made", tags={"team": "a"}), "<made>")
    one.set_experiment_tag(made, "more", "b")
    one.set_experiment_tag(made, "gone", "c")
    one.delete_experiment_tag(made, "gone")
    run_id = label(one.create_run(made, start_time=1000, tags={"k": "v"}, run_name="first").info.run_id, "<first>")
    seen["new"] = shown(one.get_run(run_id))
    seen["returned"] = one.log_param(run_id, "p", 7)
    one.log_metric(run_id, "m", 2, 1500, 3)
    one.set_tag(run_id, "mlflow.runName", "renamed")
    one.log_batch(
        run_id,
        metrics=[entities.Metric("m", 1.0, 1400, 2), entities.Metric("n", 5.0, 1, 0)],
        params=[entities.Param("q", "x")],
        tags=[entities.RunTag("t", "y")],
    )
    dataset = entities.Dataset("rows", "d1", "local", "{}", schema="{}")
    one.log_inputs(run_id, [entities.DatasetInput(dataset, [entities.InputTag("mlflow.data.context", "train")])])
    one.log_inputs(run_id, [entities.DatasetInput(dataset, [])])
    artifacts(one, run_id, directory)
    one.update_run(run_id, status="FAILED")
    seen["failed"] = shown(one.get_run(run_id))
    one.set_terminated(run_id, end_time=2000)
    seen["ended"] = shown(one.get_run(run_id))
    seen["history"] = [[p.key, p.value, p.timestamp, p.step] for p in one.get_metric_history(run_id, "m")]
    child = one.create_run(made, start_time=1000, tags={PARENT: run_id, "mlflow.user": "me"})
    label(child.info.run_id, "<child>")
    one.update_run(child.info.run_id, name="child")
    seen["child"] = shown(one.get_run(child.info.run_id))
    seen["parent"] = labels[one.get_parent_run(child.info.run_id).info.run_id]
    seen["no parent"] = one.get_parent_run(run_id)
    searches(one, made)
    one.delete_run(child.info.run_id)
    deleted = one.search_runs([made], run_view_type=entities.ViewType.DELETED_ONLY)
    seen["deleted"] = [shown(run) for run in deleted]
    one.restore_run(child.info.run_id)
    seen["restored"] = shown(one.get_run(child.info.run_id))
    experiments(one, made)


def artifacts(one: Any, run_id: str, directory: Path) -> None:
    """Files, up and down, and tables."""
    (directory / "up" / "deep").mkdir(parents=True)
    (directory / "up" / "a.txt").write_text("a")
    (directory / "up" / "deep" / "b.txt").write_text("bb")
    one.log_artifact(run_id, str(directory / "up" / "a.txt"))
    one.log_artifacts(run_id, str(directory / "up"), "all")
    one.log_text(run_id, "text", "notes/n.md")
    one.log_dict(run_id, {"a": 1}, "d.json")
    one.log_stream(run_id, io.BytesIO(b"stream"), "s.bin")
    for path in (None, "all", "all/deep", "nobody"):
        seen[f"list {path}"] = [[f.path, f.is_dir, f.file_size] for f in one.list_artifacts(run_id, path)]
    folder = Path(one.download_artifacts(run_id, "all", str(directory)))
    seen["downloaded"] = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
    seen["file"] = Path(one.download_artifacts(run_id, "notes/n.md")).read_text()
    one.log_table(run_id, {"x": [1, 2], "y": ["a", "b"]}, "table.json")
    one.log_table(run_id, {"x": [3], "y": ["c"]}, "table.json")
    experiment = one.get_run(run_id).info.experiment_id
    frame = one.load_table(experiment, "table.json", extra_columns=["run_id"])
    seen["rows"] = [frame["x"].tolist(), frame["y"].tolist(), [labels[name] for name in frame["run_id"]]]


def searches(one: Any, experiment: str) -> None:
    """Filters, orders and pages."""
    found = one.search_runs([experiment], "params.p = '7'")
    seen["by param"] = [labels[run.info.run_id] for run in found]
    token, seen["pages"] = None, []
    while True:
        page = one.search_runs([experiment], order_by=["attributes.run_name"], max_results=1, page_token=token)
        seen["pages"].append([labels[run.info.run_id] for run in page])
        token = page.token
        if not token:
            break


def experiments(one: Any, made: str) -> None:
    """Found, renamed, deleted, restored."""
    found = one.get_experiment(made)
    seen["made"] = [found.name, found.tags, found.lifecycle_stage]
    seen["by tag"] = [each.name for each in one.search_experiments(filter_string="tags.team = 'a'")]
    first = one.search_experiments(order_by=["name"], max_results=1)
    rest = one.search_experiments(order_by=["name"], page_token=first.token)
    seen["experiments"] = [[each.name for each in first], [each.name for each in rest]]
    one.rename_experiment(made, "other")
    seen["renamed"] = [one.get_experiment_by_name("other").experiment_id == made, one.get_experiment_by_name("made")]
    one.delete_experiment(made)
    seen["gone"] = one.get_experiment(made).lifecycle_stage
    seen["view"] = [each.name for each in one.search_experiments(entities.ViewType.DELETED_ONLY)]
    one.restore_experiment(made)
    seen["back"] = one.get_experiment(made).lifecycle_stage


def main() -> None:
    """Do it, and write down what was seen."""
    target = Path(sys.argv[2])
    directory = target.with_suffix(".files")
    directory.mkdir()
    fluent()
    client(directory)
    target.write_text(json.dumps(seen))


if __name__ == "__main__":
    main()
