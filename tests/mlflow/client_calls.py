"""Calls about experiments, runs, and what is logged and searched."""

from typing import Any

from client_recorder import UNKNOWN, Recorder, labelled, labels, names, pages, query, raw
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    Metric,
    Param,
    RunTag,
    ViewType,
)

import mlflow


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
        "status != 'FAILED' and run_name LIKE 's_'",
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
