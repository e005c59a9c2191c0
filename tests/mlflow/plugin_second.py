"""A second program on the same stream, which goes on with the runs and models of the first.

Run by an interpreter that has mlflow.  The arguments are the tracking URI, a file, in which what the program saw is
written as JSON, the id of a run, and that of its model.
"""

import json
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
warnings.simplefilter("ignore")

from mlflow.entities import LoggedModelInput, Metric, RunStatus  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402

import mlflow  # noqa: E402 - the environment is set before

seen: dict[str, Any] = {}


def code(call: Callable[[], Any]) -> str:
    """The code of the error that a call raises."""
    try:
        call()
    except MlflowException as error:
        return str(error.error_code)
    return "nothing"


def models(client: Any, run_id: str, model_id: str) -> None:
    """The first program's model, and metrics of models."""
    held = client.get_logged_model(model_id)
    seen["model"] = [held.name, held.source_run_id == run_id, str(held.status)]
    client.set_logged_model_tags(model_id, {"seen": "yes"})
    client.log_inputs(run_id, models=[LoggedModelInput(model_id)])
    seen["inputs"] = [one.model_id == model_id for one in client.get_run(run_id).inputs.model_inputs]
    seen["ordered"] = code(
        lambda: client.search_logged_models(["0"], order_by=[{"field_name": "name", "ascending": True}])
    )
    with mlflow.start_run() as run:
        mlflow.log_metric("m", float("nan"), step=0)
        mlflow.log_metric("m", 1.0, step=1)
        told = client.get_metric_history(run.info.run_id, "m")
        copies = [Metric(one.key, one.value, one.timestamp, one.step, model_id=model_id) for one in told]
        client.log_batch(run.info.run_id, [*copies, Metric("m", 2.0, 5, 2, model_id=model_id)])
    seen["points"] = [repr(one.value) for one in client.get_metric_history(run.info.run_id, "m")]


def runs(client: Any, run_id: str) -> None:
    """The first program's run, which this one does not remember."""
    client.log_param(run_id, "second", "x")
    client.set_tag(run_id, "t", "a")
    client.delete_tag(run_id, "t")
    client.update_run(run_id, status="SCHEDULED")
    client.update_run(run_id, name="renamed")
    read = client.get_run(run_id)
    seen["run"] = [read.info.run_name, read.info.status, read.data.params["second"], "t" in read.data.tags]
    client.set_terminated(run_id)
    waited = mlflow.log_metric("later", 1.0, run_id=run_id, synchronous=False)
    waited.wait()
    mlflow.flush_async_logging()
    seen["later"] = client.get_run(run_id).data.metrics["later"]
    failed = client.log_param("x", "p", 1, synchronous=False)
    seen["failed later"] = code(failed.wait)
    seen["status"] = RunStatus.is_terminated(RunStatus.from_string(client.get_run(run_id).info.status))


def others(client: Any, run_id: str) -> None:
    """Its experiment, and what there is not."""
    experiment = client.get_run(run_id).info.experiment_id
    client.set_experiment_tag(experiment, "a", "b")
    client.set_experiment_tag(experiment, "gone", "c")
    client.delete_experiment_tag(experiment, "gone")
    seen["tags"] = client.get_experiment(experiment).tags
    page = client._tracking_client.store.get_metric_history(run_id, "later", max_results=1)
    seen["page"] = [len(page), page.token]
    seen["nothing"] = client.list_artifacts(client.create_run("0").info.run_id)
    try:
        client.link_traces_to_run(["t"], run_id)
    except (MlflowException, NotImplementedError) as error:
        seen["traces"] = type(error).__name__


def main() -> None:
    """Do it, and write down what was seen."""
    uri, target, run_id, model_id = sys.argv[1:]
    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient()
    models(client, run_id, model_id)
    runs(client, run_id)
    others(client, run_id)
    Path(target).write_text(json.dumps(seen))


if __name__ == "__main__":
    main()
