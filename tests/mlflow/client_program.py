"""What MLflow's own client gets from a tracking server; run by an interpreter that has mlflow.

The arguments are the address of the server and a directory, in which ``results.json`` is written: by the name of
each call, in order, what it returned or which error it raised.  Ids are replaced by labels in the order in which they
are made, and times that the server gives by ``"now"``, so that two servers can be compared.
"""

import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ |= {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)

import pandas as pd  # noqa: E402
import requests  # noqa: E402
from mlflow.entities import (  # noqa: E402
    Dataset,
    DatasetInput,
    InputTag,
    Metric,
    Param,
    RunTag,
    ViewType,
)
from mlflow.exceptions import MlflowException  # noqa: E402
from mlflow.utils.rest_utils import http_request  # noqa: E402

import mlflow  # noqa: E402 - the environment is set before

UNKNOWN = "f" * 32
NOW = 1_700_000_000_000  # times after it are given by a server
NAMED = re.compile(r"^[a-z]+-[a-z]+-\d+$")


class Recorder:
    """Calls functions, and notes what comes back."""

    def __init__(self) -> None:
        self.results: dict[str, Any] = {}
        self._labels: dict[str, str] = {}

    def label(self, found: str, label: str) -> str:
        """Call an id by another name from now on."""
        self._labels[found] = label
        return found

    def __call__(self, name: str, function: Callable[[], Any]) -> Any:
        """The result, None where an MLflow error came."""
        assert name not in self.results, name
        try:
            result = function()
        except MlflowException as error:
            self.results[name] = {"error": error.error_code, "message": self._text(str(error.message))}
            return None
        except requests.HTTPError as error:
            self.results[name] = {"error": error.response.status_code, "message": ""}
            return None
        self.results[name] = self.plain(result)
        return result

    def plain(self, value: Any, field: str = "") -> Any:
        """JSON of entities of MLflow and others, with labels."""
        if isinstance(value, str):
            return self._labels.get(value, value) if field == "experiment_id" else self._text(value)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return "now" if value > NOW else value
        if isinstance(value, float):
            return repr(value)
        if isinstance(value, dict):
            return {self._text(str(key)): self.plain(item, str(key)) for key, item in sorted(value.items())}
        if isinstance(value, list | tuple | set):
            return [self.plain(item) for item in value]
        if isinstance(value, pd.DataFrame):
            rows = json.loads(value.astype(object).to_json(orient="records", date_format="iso", default_handler=str))
            return [self.plain(row) for row in rows]
        if hasattr(value, "to_dictionary"):
            return self.plain(value.to_dictionary())
        return {key.strip("_"): self.plain(item, key.strip("_")) for key, item in sorted(vars(value).items())}

    def _text(self, text: str) -> str:
        if NAMED.match(text):
            return "made-up-name"
        for found, label in self._labels.items():
            before = "" if len(found) == 32 else r"(?<=artifacts:/)|(?<=id=)|(?<=id )|(?<=experiment )"
            text = re.sub(rf"(?:{before}){found}(?![0-9a-f])", label, text)
        return text


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


def experiments(record: Recorder, client: Any) -> str:
    """Experiments, from none on."""
    record("default by id", lambda: client.get_experiment("0"))
    record("default by name", lambda: client.get_experiment_by_name("Default"))
    record("search at the beginning", lambda: list(client.search_experiments()))
    first: str = client.create_experiment("first", tags={"team": "a", "mlflow.note.content": "text"})
    record.label(first, "<first>")
    record("get experiment", lambda: client.get_experiment(first))
    record("get experiment by name", lambda: client.get_experiment_by_name("first"))
    record("no such name", lambda: client.get_experiment_by_name("nobody"))
    record("no such id", lambda: client.get_experiment("77777"))
    record("what is no id", lambda: client.get_experiment("abc"))
    record("name taken", lambda: client.create_experiment("first"))
    record("name empty", lambda: client.create_experiment(""))
    record("name too long", lambda: client.create_experiment("x" * 501))
    record("name of 500", lambda: bool(client.create_experiment("y" * 500)))
    second = record.label(client.create_experiment("Zweites Experiment ü"), "<second>")
    record("set tag", lambda: client.set_experiment_tag(first, "k", "v"))
    record("set tag again", lambda: client.set_experiment_tag(first, "k", "w"))
    record("set empty tag", lambda: client.set_experiment_tag(first, "empty", ""))
    record("set number", lambda: client.set_experiment_tag(first, "n", 1.5))
    record("set bad tag", lambda: client.set_experiment_tag(first, "a/../b", "v"))
    record("set long tag", lambda: client.set_experiment_tag(first, "k", "v" * 20_001))
    record("delete tag", lambda: client.delete_experiment_tag(first, "k"))
    record("delete tag again", lambda: client.delete_experiment_tag(first, "k"))
    record("after tags", lambda: client.get_experiment(first))
    record("rename", lambda: client.rename_experiment(second, "second"))
    record("rename to a taken one", lambda: client.rename_experiment(second, "first"))
    record("rename nothing", lambda: client.rename_experiment("77777", "x"))
    record("after rename", lambda: client.get_experiment(second))
    record("old name is free", lambda: client.get_experiment_by_name("Zweites Experiment ü"))
    record("delete experiment", lambda: client.delete_experiment(second))
    record("delete experiment again", lambda: client.delete_experiment(second))
    record("rename the deleted", lambda: client.rename_experiment(second, "third"))
    record("tag the deleted", lambda: client.set_experiment_tag(second, "a", "b"))
    record("run in the deleted", lambda: client.create_run(second))
    record("create the deleted", lambda: client.create_experiment("second"))
    record("set the deleted", lambda: mlflow.set_experiment("second"))
    record("get the deleted", lambda: client.get_experiment(second))
    record("search active", lambda: names(client.search_experiments(order_by=["name"])))
    record("search deleted", lambda: names(client.search_experiments(ViewType.DELETED_ONLY)))
    record("search all", lambda: names(client.search_experiments(ViewType.ALL, order_by=["name DESC"])))
    record("search by name", lambda: names(client.search_experiments(filter_string="name LIKE 'fir%'")))
    record("search by tag", lambda: names(client.search_experiments(filter_string="tags.team = 'a'")))
    record("search by nonsense", lambda: client.search_experiments(filter_string="nonsense = 'a'"))
    record("search pages", lambda: pages(client.search_experiments, order_by=["name"], max_results=1))
    record("search none", lambda: client.search_experiments(max_results=0))
    record("search too many", lambda: client.search_experiments(max_results=50_001))
    record("restore experiment", lambda: client.restore_experiment(second))
    record("restore experiment again", lambda: client.restore_experiment(second))
    return first


def names(found: Any) -> list[str]:
    """Of experiments."""
    return [experiment.name for experiment in found]


def pages(search: Any, **arguments: Any) -> list[list[str]]:
    """What is on each page."""
    found, token = [], None
    while True:
        page = search(page_token=token, **arguments)
        found.append(
            [item.name if hasattr(item, "name") else item.data.tags.get("n", item.info.run_name) for item in page]
        )
        token = page.token
        if not token:
            return found


def runs(record: Recorder, client: Any, experiment: str) -> None:
    """Runs: created and changed."""
    run = record("create run", lambda: labelled(record, client, experiment, "<run>", run_name="one", start_time=1000))
    run_id = run.info.run_id
    record("get run", lambda: client.get_run(run_id))
    record(
        "create run with tags",
        lambda: labelled(record, client, experiment, "<tagged>", start_time=0, tags={"mlflow.user": "me", "a": "1"}),
    )
    record(
        "name from tag",
        lambda: labelled(record, client, experiment, "<named>", start_time=5, tags={"mlflow.runName": "from tag"}),
    )
    record("two names", lambda: client.create_run(experiment, run_name="x", tags={"mlflow.runName": "y"}))
    record("no such experiment", lambda: client.create_run("77777"))
    record("no such run", lambda: client.get_run(UNKNOWN))
    record("what is no run", lambda: client.get_run("zz"))
    record("update name", lambda: client.update_run(run_id, name="other"))
    record("update status", lambda: client.update_run(run_id, status="SCHEDULED"))
    record("after update", lambda: client.get_run(run_id))
    record("terminate", lambda: client.set_terminated(run_id, "FAILED", end_time=2000))
    record("after the end", lambda: client.get_run(run_id))
    record("run again", lambda: client.update_run(run_id, status="RUNNING"))
    record("after running again", lambda: client.get_run(run_id))
    record("terminate nothing", lambda: client.set_terminated(UNKNOWN))
    record("name by tag", lambda: client.set_tag(run_id, "mlflow.runName", "by tag"))
    record("after name by tag", lambda: client.get_run(run_id).info)
    record("set name by empty tag", lambda: client.set_tag(run_id, "mlflow.runName", ""))
    record("after empty name", lambda: client.get_run(run_id).info)


def labelled(record: Recorder, client: Any, experiment: str, label: str, **arguments: Any) -> Any:
    """A new run, by label."""
    run = client.create_run(experiment, **arguments)
    record.label(run.info.run_id, label)
    return run


def logging_(record: Recorder, client: Any, experiment: str) -> str:
    """Params, metrics, tags."""
    run_id: str = labelled(record, client, experiment, "<logged>", run_name="logged", start_time=2000).info.run_id
    record("metric", lambda: client.log_metric(run_id, "m", 1.5, timestamp=10, step=1))
    record("metric of an int", lambda: client.log_metric(run_id, "whole", 3, timestamp=10))
    record("metric of nan", lambda: client.log_metric(run_id, "nan", float("nan"), timestamp=11, step=2))
    record("metric of infinity", lambda: client.log_metric(run_id, "inf", float("inf"), timestamp=11, step=2))
    record("metric of a long name", lambda: client.log_metric(run_id, "k" * 250, 1.0, timestamp=1))
    record("metric of a longer name", lambda: client.log_metric(run_id, "k" * 251, 1.0, timestamp=1))
    record("metric of a bad name", lambda: client.log_metric(run_id, "a!b", 1.0, timestamp=1))
    record("metric of a path", lambda: client.log_metric(run_id, "../x", 1.0, timestamp=1))
    record("metric of spaces", lambda: client.log_metric(run_id, "a b/c:d", 1.0, timestamp=1))
    record("metric of a bad time", lambda: client.log_metric(run_id, "m", 1.0, timestamp=-5))
    record("metric without a run", lambda: client.log_metric(UNKNOWN, "m", 1.0))
    record("older step", lambda: client.log_metric(run_id, "m", 9.0, timestamp=99, step=0))
    record("newer step", lambda: client.log_metric(run_id, "m", 0.5, timestamp=1, step=7))
    record("negative step", lambda: client.log_metric(run_id, "m", 0.1, timestamp=2, step=-3))
    record("latest", lambda: client.get_run(run_id).data)
    record("param", lambda: client.log_param(run_id, "p", "1"))
    record("param again", lambda: client.log_param(run_id, "p", "1"))
    record("param changed", lambda: client.log_param(run_id, "p", "2"))
    record("param of a number", lambda: client.log_param(run_id, "number", 0.1))
    record("param of nothing", lambda: client.log_param(run_id, "none", None))
    record("param empty", lambda: client.log_param(run_id, "empty", ""))
    record("param of 6000", lambda: client.log_param(run_id, "long", "é" * 6000))
    record("param of a bad name", lambda: client.log_param(run_id, "a\nb", "1"))
    record("param without a run", lambda: client.log_param(UNKNOWN, "a", "1"))
    record("tag", lambda: client.set_tag(run_id, "t", "1"))
    record("tag again", lambda: client.set_tag(run_id, "t", "2"))
    record("tag of 8000", lambda: client.set_tag(run_id, "long", "x" * 8000))
    record("tag of a bad name", lambda: client.set_tag(run_id, "..", "1"))
    record("delete run tag", lambda: client.delete_tag(run_id, "t"))
    record("delete run tag again", lambda: client.delete_tag(run_id, "t"))
    record(
        "batch",
        lambda: client.log_batch(
            run_id,
            metrics=[Metric("b", float(i), i, i) for i in range(100)] + [Metric("b2", 1.0, 5, 5)],
            params=[Param("bp", "1"), Param("bq", "x y")],
            tags=[RunTag("bt", "1"), RunTag("n", "logged")],
        ),
    )
    record("batch of nothing", lambda: client.log_batch(run_id))
    record(
        "batch with a param changed",
        lambda: client.log_batch(run_id, metrics=[Metric("not logged", 1.0, 1, 1)], params=[Param("bp", "2")]),
    )
    record("batch with a param twice", lambda: client.log_batch(run_id, params=[Param("z", "1"), Param("z", "2")]))
    record("batch with a bad metric", lambda: client.log_batch(run_id, metrics=[Metric("x!", 1.0, 1, 1)]))
    record(
        "batch with too many params",
        lambda: raw(
            client, "runs/log-batch", {"run_id": run_id, "params": [{"key": f"k{i}", "value": "1"} for i in range(101)]}
        ),
    )
    record(
        "batch with too many metrics",
        lambda: raw(
            client,
            "runs/log-batch",
            {"run_id": run_id, "metrics": [{"key": "k", "value": 1, "timestamp": 1, "step": i} for i in range(1001)]},
        ),
    )
    record("batch without a run", lambda: client.log_batch(UNKNOWN, tags=[RunTag("a", "1")]))
    dataset = Dataset("ds", "abc", "local", '{"uri": "x"}', "schema", '{"rows": 3}')
    record(
        "inputs", lambda: client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "train")])])
    )
    record("everything", lambda: client.get_run(run_id))
    return run_id


def raw(client: Any, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """A request that the client would not make."""
    credentials = client._tracking_client.store.get_host_creds()
    answer = http_request(credentials, f"/api/2.0/mlflow/{path}", "POST", json=body)
    found = answer.json()
    kept = {name: found[name] for name in ("error_code", "message") if name in found}
    return {"status": answer.status_code, **(kept or found)}


def searches(record: Recorder, client: Any, experiment: str) -> None:
    """Runs, searched for."""
    for number in range(8):
        run_id = labelled(
            record, client, experiment, f"<s{number}>", run_name=f"s{number}", start_time=10 + number
        ).info.run_id
        client.log_batch(
            run_id,
            metrics=[Metric("acc", number / 10, 1, 1), Metric("a b", float(-number), 1, 1)],
            params=[Param("model", ["llama-8b", "mistral", "GPT"][number % 3]), Param("lr", str(number))],
            tags=[RunTag("n", f"s{number}"), RunTag("even", str(number % 2 == 0))],
        )
        client.set_terminated(run_id, "FINISHED" if number % 2 else "FAILED", end_time=100 + number)
    filters = [
        "",
        "metrics.acc > 0.3",
        "metrics.acc >= 0.3 and metrics.`a b` < -4",
        "params.model = 'mistral'",
        "params.model ILIKE '%gpt%'",
        "params.model LIKE '%8b%' AND tags.even != 'True'",
        "params.model IS NULL",
        "attributes.status = 'FAILED'",
        "status != 'FAILED' and run_name LIKE 's%'",
        "start_time > 12 and end_time <= 106",
        "tags.`mlflow.runName` = 's3'",
        "dataset.name = 'nobody'",
        "attributes.user_id = 'nobody'",
        "foo.bar = 1",
        "metrics.acc = 'x'",
        "params.model = 1",
        "metrics.acc > ",
    ]
    for text in filters:
        record(f"search runs {text!r}", lambda text=text: labels(client.search_runs([experiment], text)))
    orders = [
        ["metrics.acc DESC"],
        ["params.model", "metrics.acc DESC"],
        ["attributes.end_time ASC"],
        ["tags.n DESC"],
        ["run_name ASC"],
        ["metrics.nobody"],
        ["nonsense"],
    ]
    for order in orders:
        record(
            f"order by {order}",
            lambda order=order: labels(client.search_runs([experiment], "tags.n LIKE 's%'", order_by=order)),
        )
    record("pages of runs", lambda: pages(client.search_runs, experiment_ids=[experiment], max_results=3))
    record("no runs", lambda: client.search_runs([experiment], max_results=0))
    record("too many runs", lambda: raw(client, "runs/search", {"experiment_ids": [experiment], "max_results": 50_001}))
    record("in no experiment", lambda: labels(client.search_runs([])))
    record("in an unknown one", lambda: labels(client.search_runs(["77777"])))
    record("as a frame", lambda: mlflow.search_runs([experiment], "params.model = 'mistral'", order_by=["params.lr"]))
    record("by names", lambda: mlflow.search_runs(experiment_names=["first"], max_results=2, output_format="list"))


def labels(found: Any) -> list[str]:
    """Of runs."""
    return [run.info.run_id for run in found]


def histories(record: Recorder, client: Any, run_id: str) -> None:
    """Histories of metrics."""
    for key in ("m", "nan", "inf", "b2", "nobody"):
        record(f"history of {key}", lambda key=key: client.get_metric_history(run_id, key))
    record("long history", lambda: len(client.get_metric_history(run_id, "b")))
    record("history of nothing", lambda: client.get_metric_history(UNKNOWN, "m"))
    store = client._tracking_client.store
    record("a page of a history", lambda: list(store.get_metric_history(run_id, "b", max_results=3, page_token=None)))
    record(
        "sampled",
        lambda: query(
            client, "metrics/get-history-bulk-interval", {"run_ids": [run_id], "metric_key": "m", "max_results": 10}
        ),
    )
    record(
        "sampled between steps",
        lambda: query(
            client,
            "metrics/get-history-bulk-interval",
            {"run_ids": [run_id], "metric_key": "b", "start_step": 3, "end_step": 5},
        ),
    )
    record("of many", lambda: query(client, "metrics/get-history-bulk", {"run_id": [run_id], "metric_key": "m"}))
    record("of none", lambda: query(client, "metrics/get-history-bulk", {"metric_key": "m"}))


def query(client: Any, path: str, parameters: dict[str, Any]) -> Any:
    """A GET request of the UI."""
    credentials = client._tracking_client.store.get_host_creds()
    answer = http_request(credentials, f"/ajax-api/2.0/mlflow/{path}", "GET", params=parameters)
    found = answer.json()
    kept = {name: found[name] for name in ("error_code", "message") if name in found}
    return {"status": answer.status_code, **(kept or found)}


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
        lambda: [
            run.info.run_name
            for run in mlflow.search_runs(
                [made.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'", output_format="list"
            )
        ],
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
