"""Datasets that are inputs of runs are kept, shown and searched for, and what a run notes of its models."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from support.mlflow_api import UNKNOWN, Api, mlflow_api

PREFIX = "runstream.input."
MODEL: dict[str, Any] = {
    "artifact_path": "model",
    "flavors": {"sklearn": {"version": "1", "config": {"secret": 1}}, "other": 3},
    "utc_time_created": "2026-01-01 00:00:00",
    "run_id": "r",
    "signature": None,
}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """Of a sink that begins empty."""
    with mlflow_api(tmp_path_factory.mktemp("sink")) as api:
        yield api


def _dataset(name: str, digest: str, *contexts: str) -> dict[str, Any]:
    tags = [{"key": "mlflow.data.context", "value": context} for context in contexts]
    return {"dataset": {"name": name, "digest": digest, "source_type": "local", "source": "x"}, "tags": tags}


@pytest.fixture(scope="module")
def runs(api: Api) -> dict[str, str]:
    """Their names by their ids: with one dataset, with two, with none, and with tags that only look like datasets."""
    experiment = api.experiment("datasets")
    ids = {name: api.run(experiment_id=experiment, run_name=name) for name in ("one", "two", "none", "odd", "gone")}
    api.post("runs/log-inputs", run_id=ids["one"], datasets=[_dataset("iris", "1", "train")])
    api.post("runs/log-inputs", run_id=ids["two"], datasets=[_dataset("Iris", "2", "eval"), _dataset("wine", "3")])
    api.post("runs/log-inputs", run_id=ids["gone"], datasets=[_dataset("iris", "1", "train")])
    for number, value in enumerate(("no JSON", "[1]", '"text"', '{"dataset": 1, "tags": ["x", 1, {"key": 5}]}')):
        api.post("runs/set-tag", run_id=ids["odd"], key=f"{PREFIX}{number}", value=value)
    (key,) = [key for key in _raw_tags(api, ids["gone"]) if key.startswith(PREFIX)]
    api.post("runs/delete-tag", run_id=ids["gone"], key=key)
    return {run_id: name for name, run_id in ids.items()}


def _raw_tags(api: Api, run_id: str) -> dict[str, str]:
    """Of the native API, which shows inputs as the tags that they are."""
    tags: dict[str, str] = api.client.get(f"/api/v1/runs/{run_id}").raise_for_status().json()["tags"]
    return tags


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("datasets.name = 'iris'", {"one"}),
        ("dataset.name ILIKE 'IRIS'", {"one", "two"}),
        ("dataset.name LIKE '%i%'", {"one", "two"}),
        ("dataset.name != 'iris'", {"two"}),
        ("dataset.name IN ('wine', 'iris')", {"one", "two"}),
        ("dataset.name NOT IN ('wine')", {"one", "two"}),
        ("dataset.digest = '3'", {"two"}),
        ("dataset.context = 'train'", {"one"}),
        ("dataset.context != 'train'", {"two"}),
        ("dataset.name = 'wine' AND dataset.context = 'eval'", {"two"}),
        ("dataset.name = 'nobody'", set()),
    ],
)
def test_runs_are_found_by_their_datasets(api: Api, runs: dict[str, str], text: str, found: set[str]) -> None:
    """Each term by one of them; what is no dataset is none, whatever tag it stands in."""
    experiment = api.get("experiments/get-by-name", experiment_name="datasets")["experiment"]["experiment_id"]
    answer = api.post("runs/search", experiment_ids=[experiment], filter=text).get("runs", [])
    assert {runs[run["info"]["run_id"]] for run in answer} == found
    assert len(answer) == len(found)


def test_datasets_of_experiments_are_told(api: Api, runs: dict[str, str]) -> None:
    """Each once, with its context; of some experiments, and not of too many."""
    assert runs
    experiment = api.get("experiments/get-by-name", experiment_name="datasets")["experiment"]["experiment_id"]
    told = api.post("experiments/search-datasets", experiment_ids=[experiment])["dataset_summaries"]
    assert [(item["name"], item["digest"], item.get("context")) for item in told] == [
        ("Iris", "2", "eval"),
        ("iris", "1", "train"),
        ("wine", "3", None),
    ]
    none = api.refused("POST", "experiments/search-datasets", experiment_ids=[])
    assert none[2] == "SearchDatasets request must specify at least one experiment_id."
    many = api.refused("POST", "experiments/search-datasets", experiment_ids=["0"] * 21)
    assert "cannot specify more than 20 experiment_ids. Received 21 experiment_ids." in many[2]


def test_where_no_run_has_a_dataset_none_is_found(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Also by what would meet any."""
    with mlflow_api(tmp_path_factory.mktemp("empty")) as api:
        api.run()
        assert api.post("runs/search", experiment_ids=["0"], filter="dataset.name != 'x'") == {}


def test_a_logged_model_is_noted_in_a_tag(api: Api) -> None:
    """Without its settings; what else the tag held is replaced."""
    run = api.run()
    api.post("runs/set-tag", run_id=run, key="mlflow.log-model.history", value="nothing")
    for model_uuid in (None, "u"):
        assert api.post("runs/log-model", run_id=run, model_json=json.dumps({**MODEL, "model_uuid": model_uuid})) == {}
    api.post("runs/set-tag", run_id=run, key="other", value="{}")
    noted = json.loads(_raw_tags(api, run)["mlflow.log-model.history"])
    assert [item["model_uuid"] for item in noted] == [None, "u"]
    assert noted[0]["flavors"] == {"sklearn": {"version": "1"}, "other": 3}
    assert list(noted[0]) == ["run_id", "artifact_path", "utc_time_created", "model_uuid", "flavors"]
    api.post("runs/set-tag", run_id=run, key="mlflow.log-model.history", value='{"no": "list"}')
    api.post("runs/log-model", run_id=run, model_json=json.dumps(MODEL))
    assert len(json.loads(_raw_tags(api, run)["mlflow.log-model.history"])) == 1


@pytest.mark.parametrize(
    ("model_json", "message"),
    [
        ("{", "is not a valid JSON"),
        ("[" * 100_000, "is not a valid JSON"),
        ("[]", "must be a JSON object"),
        ("{}", "Model json is missing mandatory fields"),
        (json.dumps({**MODEL, "flavors": 1}), "its flavors must be a JSON object"),
    ],
)
def test_what_describes_no_model_is_refused(api: Api, model_json: str, message: str) -> None:
    """Before the run is looked for."""
    refused = api.refused("POST", "runs/log-model", run_id=UNKNOWN, model_json=model_json)
    assert refused[:2] == (400, "INVALID_PARAMETER_VALUE")
    assert message in refused[2]


def test_models_are_neither_inputs_nor_outputs(api: Api) -> None:
    """Refused with a sentence; a run that has none is as it was."""
    run = api.run()
    assert api.post("runs/outputs", run_id=run, models=[]) == {}
    for path in ("runs/outputs", "runs/log-inputs"):
        status, code, message = api.refused("POST", path, run_id=run, models=[{"model_id": "m", "step": 1}])
        assert (status, code) == (501, "NOT_IMPLEMENTED")
        assert "runstream keeps no models" in message
    assert api.refused("POST", "runs/outputs", run_id=UNKNOWN, models=[])[1] == "RESOURCE_DOES_NOT_EXIST"
