"""Runs over MLflow's REST API: what is logged at once, twice, by several, and in forms that the client does not use."""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from support.mlflow_api import UNKNOWN, Api, mlflow_api

DATASET = {"name": "d", "digest": "1", "source_type": "local", "source": "{}"}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """Of a sink that begins empty."""
    with mlflow_api(tmp_path_factory.mktemp("sink")) as api:
        yield api


def data(api: Api, run: str) -> dict[str, Any]:
    """What was logged, by key."""
    held = api.get("runs/get", run_id=run)["run"]["data"]
    return {kind: {item["key"]: item["value"] for item in held[kind]} for kind in held}


def test_the_old_name_of_an_id_is_taken_too(api: Api) -> None:
    """Clients send ``run_uuid`` beside or instead of ``run_id``."""
    run = api.run()
    api.post("runs/set-tag", run_uuid=run, key="a", value="b")
    assert api.get("runs/get", run_uuid=run)["run"]["info"]["run_id"] == run
    assert data(api, run)["tags"]["a"] == "b"


def test_a_run_needs_its_experiment(api: Api) -> None:
    """MLflow's database refuses it as well."""
    assert api.refused("POST", "runs/create")[:2] == (400, "BAD_REQUEST")


def test_a_bad_tag_creates_no_run(api: Api) -> None:
    """It is refused before."""
    refused = api.refused("POST", "runs/create", experiment_id="0", tags=[{"key": "a!", "value": "b"}])
    assert refused[:2] == (400, "INVALID_PARAMETER_VALUE")


def test_numbers_come_as_protobuf_writes_them(api: Api) -> None:
    """Integers as texts, NaN and infinities as words, and answers in the same form."""
    run = api.run(start_time="77")
    for value in ("NaN", "-Infinity", "1e3", 5):
        api.post("runs/log-metric", run_id=run, key=f"m {value}", value=value, timestamp="12", step="3")
    found = {item["key"]: item for item in api.get("runs/get", run_id=run)["run"]["data"]["metrics"]}
    assert {key: item["value"] for key, item in found.items()} == {
        "m NaN": "NaN",
        "m -Infinity": "-Infinity",
        "m 1e3": 1000.0,
        "m 5": 5.0,
    }
    assert {(item["timestamp"], item["step"]) for item in found.values()} == {(12, 3)}


@pytest.mark.parametrize(
    "change",
    [
        {"value": "x"},
        {"value": True},
        {"value": "inf"},
        {"value": []},
        {"timestamp": 1.5},
        {"step": 1 << 64},
        {"step": []},
        {"key": 5},
    ],
)
def test_other_types_are_refused(api: Api, change: dict[str, Any]) -> None:
    """With the value and the name of the field."""
    body = {"run_id": UNKNOWN, "key": "k", "value": 1, "timestamp": 1, **change}
    status, code, message = api.refused("POST", "runs/log-metric", **body)
    assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
    assert f"parameter '{next(iter(change))}'" in message


@pytest.mark.parametrize(
    "metric",
    [{"key": "a", "value": [], "timestamp": 1}, {"key": 1, "value": 1, "timestamp": 1}, "text"],
)
def test_a_batch_with_another_type_is_refused(api: Api, metric: object) -> None:
    """Nothing of it is logged."""
    run = api.run()
    refused = api.refused("POST", "runs/log-batch", run_id=run, metrics=[metric], tags=[{"key": "t", "value": "1"}])
    assert refused[:2] == (400, "INVALID_PARAMETER_VALUE")
    assert "t" not in data(api, run)["tags"]


def test_points_of_a_batch_keep_their_steps(api: Api) -> None:
    """Those at one step and time travel together, equal ones too."""
    run = api.run()
    points = [("a", 1.0, 1, 1), ("b", 2.0, 1, 1), ("a", 1.0, 1, 1), ("a", 3.0, 2, 2)]
    metrics = [{"key": key, "value": value, "timestamp": at, "step": step} for key, value, at, step in points]
    api.post("runs/log-batch", run_id=run, metrics=metrics)
    found = api.get("metrics/get-history", run_id=run, metric_key="a")["metrics"]
    assert [(point["value"], point["step"]) for point in found] == [(1.0, 1), (1.0, 1), (3.0, 2)]
    assert data(api, run)["metrics"] == {"a": 3.0, "b": 2.0}


def test_a_param_with_another_value_stops_the_whole_batch(api: Api) -> None:
    """Params, metrics and tags are logged together or not at all."""
    run = api.run()
    api.post("runs/log-parameter", run_id=run, key="p", value="1")
    params = [{"key": "p", "value": "2"}, {"key": "q", "value": "1"}]
    refused = api.refused("POST", "runs/log-batch", run_id=run, params=params, tags=[{"key": "t", "value": "1"}])
    assert refused[:2] == (400, "INVALID_PARAMETER_VALUE")
    held = data(api, run)
    assert held["params"] == {"p": "1"}
    assert "t" not in held["tags"]


def test_of_many_values_of_a_param_one_wins(api: Api) -> None:
    """All others are told so."""
    run = api.run()

    def log(value: int) -> int:
        body = {"run_id": run, "key": "p", "value": str(value)}
        return api.client.post("/api/2.0/mlflow/runs/log-parameter", json=body).status_code

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(log, range(8))) == [200] + [400] * 7


def test_a_batch_may_rename_its_run(api: Api) -> None:
    """By the tag that holds the name."""
    run = api.run(run_name="before")
    api.post("runs/log-batch", run_id=run, tags=[{"key": "mlflow.runName", "value": "after"}])
    assert api.get("runs/get", run_id=run)["run"]["info"]["run_name"] == "after"


def test_a_run_keeps_its_name(api: Api) -> None:
    """Name and tag are one: removing the tag does nothing."""
    run = api.run(run_name="named")
    assert api.post("runs/delete-tag", run_id=run, key="mlflow.runName") == {}
    assert data(api, run)["tags"]["mlflow.runName"] == "named"


def test_statuses_are_named_or_numbered(api: Api) -> None:
    """What is unknown means nothing, but for a number; an end leaves the status, and a status the end."""
    run = api.run()
    assert api.post("runs/update", run_id=run, status=3)["run_info"]["status"] == "FINISHED"
    assert api.post("runs/update", run_id=run, status="nothing")["run_info"]["status"] == "FINISHED"
    assert api.post("runs/update", run_id=run, status="6")["run_info"]["status"] == "FINISHED"
    assert "parameter 'status'" in api.refused("POST", "runs/update", run_id=run, status=6)[2]
    ended = api.post("runs/update", run_id=run, end_time=50)["run_info"]
    assert (ended["status"], ended["end_time"]) == ("FINISHED", 50)
    again = api.post("runs/update", run_id=run, status="RUNNING")["run_info"]
    assert (again["status"], again["end_time"]) == ("RUNNING", 50)


def test_inputs_are_kept_and_found(api: Api) -> None:
    """As datasets of the run, not among its tags; the same dataset once, as it was logged first."""
    experiment = api.experiment("with inputs")
    run = api.run(experiment_id=experiment)
    tags = [{"key": "mlflow.data.context", "value": "eval"}]
    api.post("runs/log-inputs", run_id=run, datasets=[{"dataset": DATASET, "tags": tags}, {"dataset": DATASET}])
    api.post("runs/log-inputs", run_id=run, datasets=[{"dataset": {**DATASET, "digest": "2"}, "tags": tags}])
    api.post("runs/log-inputs", run_id=run, datasets=[{"dataset": {**DATASET, "source": "elsewhere"}}])
    found = api.get("runs/get", run_id=run)["run"]
    assert sorted(entry["dataset"]["digest"] for entry in found["inputs"]["dataset_inputs"]) == ["1", "2"]
    assert {entry["dataset"]["source"] for entry in found["inputs"]["dataset_inputs"]} == {DATASET["source"]}
    assert [tag["key"] for tag in found["data"]["tags"]] == ["mlflow.runName"]
    summaries = api.post("experiments/search-datasets", experiment_ids=[experiment, str(1 << 70)])
    assert summaries["dataset_summaries"] == [
        {"experiment_id": experiment, "name": "d", "digest": "1", "context": "eval"},
        {"experiment_id": experiment, "name": "d", "digest": "2", "context": "eval"},
    ]


def test_what_is_no_input_is_refused(api: Api) -> None:
    """So are models, which are not kept; and a tag that looks like an input is shown as nothing."""
    run = api.run()
    for entry in ("text", {"dataset": 5}, {"dataset": DATASET, "tags": ["x"]}):
        assert api.refused("POST", "runs/log-inputs", run_id=run, datasets=[entry])[1] == "INVALID_PARAMETER_VALUE"
    refused = api.refused("POST", "runs/log-inputs", run_id=run, models=[{"model_id": "m"}])
    assert refused[:2] == (501, "NOT_IMPLEMENTED")
    assert api.post("runs/log-inputs", run_id=run) == {}
    api.post("runs/set-tag", run_id=run, key="runstream.input.x", value="no JSON")
    assert api.get("runs/get", run_id=run)["run"]["inputs"] == {}


def test_a_search_takes_no_more_runs_than_mlflow(api: Api) -> None:
    """And says so with its words."""
    refused = api.refused("POST", "runs/search", experiment_ids=["0"], max_results=50_001)
    assert refused[2].startswith("Invalid value 50001 for parameter 'max_results' supplied")
    assert api.post("runs/search", experiment_ids=[str(1 << 70)]) == {}


def test_runs_are_found_by_the_address_of_their_artifacts(api: Api) -> None:
    """The one that the API itself tells."""
    experiment = api.experiment("by address")
    run = api.run(experiment_id=experiment)
    api.run(experiment_id=experiment)
    address = f"mlflow-artifacts:/{experiment}/{run}/artifacts"
    found = api.post("runs/search", experiment_ids=[experiment], filter=f"attributes.artifact_uri = '{address}'")
    assert [item["info"]["artifact_uri"] for item in found["runs"]] == [address]


def test_nan_is_no_number_to_compare(api: Api) -> None:
    """It is kept bit for bit all the same."""
    run = api.run()
    api.post("runs/log-metric", run_id=run, key="n", value="NaN", timestamp=1)
    assert math.isnan(float(data(api, run)["metrics"]["n"]))
