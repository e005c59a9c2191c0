"""Autologging, models, datasets and tables through the plugin; run by an interpreter that has mlflow.

The arguments are the tracking URI and a file, in which what the program saw is written as JSON.
"""

import json
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
warnings.simplefilter("ignore")

import mlflow.sklearn  # noqa: E402
import pandas as pd  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402
from sklearn.linear_model import LinearRegression  # noqa: E402

import mlflow  # noqa: E402 - the environment is set before

seen: dict[str, Any] = {}
warned: list[str] = []
ROWS = pd.DataFrame({"x": [0.0, 1.0, 2.0, 3.0], "z": [1.0, 0.0, 1.0, 0.0]})
TARGET = [1.0, 3.0, 5.0, 7.0]


class Warned(logging.Handler):
    """Remembers what MLflow warns of."""

    def emit(self, record: logging.LogRecord) -> None:
        """Remember it; that pickle files can be dangerous is said in any case."""
        if record.levelno >= logging.WARNING and "pickle" not in record.getMessage():
            warned.append(record.getMessage())


def autolog() -> str:
    """Training that logs by itself, with the model, which is its default."""
    mlflow.sklearn.autolog()
    with mlflow.start_run(run_name="auto") as run:
        model = LinearRegression().fit(ROWS, TARGET)
        seen["score"] = round(model.score(ROWS, TARGET), 3)
    mlflow.sklearn.autolog(disable=True)
    logged = mlflow.last_logged_model()
    seen["id"] = logged.model_id
    seen["model"] = [logged.name, str(logged.status), logged.source_run_id == run.info.run_id]
    return str(run.info.run_id)


def read(run_id: str) -> None:
    """What the training logged, read back by MLflow's own functions."""
    run = mlflow.get_run(run_id)
    seen["params"] = run.data.params["fit_intercept"]
    seen["metrics"] = sorted(run.data.metrics)
    seen["tags"] = run.data.tags["estimator_name"]
    seen["hidden"] = [key for key in run.data.tags if key.startswith("runstream.")]
    seen["dataset"] = [tag.value for one in run.inputs.dataset_inputs for tag in one.tags]
    logged = mlflow.last_logged_model()
    seen["output"] = [one.model_id == logged.model_id for one in run.outputs.model_outputs]
    client = mlflow.MlflowClient()
    seen["points"] = {key: len(client.get_metric_history(run_id, key)) for key in run.data.metrics}
    seen["files"] = [one.path for one in client.list_artifacts(run_id)]
    seen["model files"] = sorted(one.path for one in client.list_artifacts(run_id, "model"))
    expected = [round(value) for value in TARGET]
    for name, uri in (("by run", f"runs:/{run_id}/model"), ("by id", logged.model_uri)):
        loaded = mlflow.sklearn.load_model(uri)
        seen[name] = [round(value) for value in loaded.predict(ROWS)] == expected


def models() -> None:
    """Two models of one name, tags, searches, and a model without a run."""
    client = mlflow.MlflowClient()
    with mlflow.start_run(run_name="models") as run:
        first = mlflow.sklearn.log_model(
            LinearRegression().fit(ROWS, TARGET), name="m", pip_requirements=["scikit-learn"]
        )
        second = mlflow.sklearn.log_model(
            LinearRegression().fit(ROWS, [0, 0, 0, 0]), name="m", pip_requirements=["scikit-learn"]
        )
        mlflow.log_metric("acc", 1.0, step=0)
    experiment = run.info.experiment_id
    client.set_logged_model_tags(first.model_id, {"stage": "a", "gone": "b"})
    client.delete_logged_model_tag(first.model_id, "gone")
    seen["no such tag"] = code(lambda: client.delete_logged_model_tag(first.model_id, "gone"))
    client.log_model_params(first.model_id, {"depth": "3"})
    held = client.get_logged_model(first.model_id)
    seen["tags of model"] = [held.tags.get("stage"), "gone" in held.tags, held.params["depth"]]
    found = mlflow.search_logged_models([experiment], "name = 'm' AND source_run_id = '" + run.info.run_id + "'")
    seen["found"] = len(found)
    by_tag = mlflow.search_logged_models([experiment], "tags.stage = 'a'", output_format="list")
    seen["by tag"] = [one.model_id == first.model_id for one in by_tag]
    seen["bad filter"] = code(lambda: mlflow.search_logged_models([experiment], "metrics.acc > 1"))
    page = client.search_logged_models([experiment], max_results=1)
    seen["pages"] = [len(page), len(client.search_logged_models([experiment], page_token=page.token))]
    predicted = [mlflow.sklearn.load_model(one.model_uri).predict(ROWS)[3].round() for one in (first, second)]
    seen["apart"] = [float(value) for value in predicted]
    client.delete_logged_model(second.model_id)
    seen["deleted"] = code(lambda: client.get_logged_model(second.model_id))
    seen["no run"] = code(lambda: mlflow.sklearn.log_model(LinearRegression().fit(ROWS, TARGET), name="m"))


def inputs_and_tables() -> None:
    """`log_input` and `log_table`, read back."""
    data = mlflow.data.from_pandas(ROWS, name="rows", targets="z")
    with mlflow.start_run(run_name="tables") as run:
        mlflow.log_input(data, context="test", tags={"k": "v"})
        mlflow.log_metric("acc", 0.5, dataset=data)
        mlflow.log_table({"q": ["a", "b"], "n": [1, 2]}, "t.json")
        mlflow.log_table(pd.DataFrame({"q": ["c"], "n": [3]}), "t.json")
    (held,) = mlflow.get_run(run.info.run_id).inputs.dataset_inputs
    seen["input"] = [held.dataset.name, sorted([tag.key, tag.value] for tag in held.tags)]
    seen["found input"] = mlflow.data.get_source(held.dataset) is not None
    seen["table"] = mlflow.load_table("t.json", [run.info.run_id]).to_dict("list")
    seen["tables"] = len(mlflow.load_table("t.json", extra_columns=["run_id"]))


def code(call: Any) -> str:
    """The code of the error that a call raises."""
    try:
        call()
    except MlflowException as error:
        return str(error.error_code)
    return "nothing"


def main() -> None:
    """Do it, and write down what was seen."""
    logging.getLogger("mlflow").addHandler(Warned())
    mlflow.set_tracking_uri(sys.argv[1])
    seen["registry"] = mlflow.get_registry_uri() == sys.argv[1]
    mlflow.set_experiment("auto")
    seen["registry after"] = mlflow.get_registry_uri() == sys.argv[1]
    run_id = autolog()
    seen["run"] = run_id
    if sys.argv[3:] != ["alone"]:
        read(run_id)
        models()
        inputs_and_tables()
    seen["warned"] = warned
    Path(sys.argv[2]).write_text(json.dumps(seen))


if __name__ == "__main__":
    main()
