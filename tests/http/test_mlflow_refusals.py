"""What MLflow's REST API refuses, in MLflow's words, and lifecycles, which decide much of it."""

from collections.abc import Iterator
from typing import Any

import pytest

from support.mlflow_api import UNKNOWN, Api, mlflow_api

MANY = [{"key": f"k{number}", "value": "1"} for number in range(101)]
POINTS = [{"key": "k", "value": 1, "timestamp": 1, "step": number} for number in range(1001)]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """Of a sink that begins empty."""
    with mlflow_api(tmp_path_factory.mktemp("sink")) as api:
        yield api


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("experiments/create", {"name": "x" * 501}, "'name' exceeds the maximum length of 500 characters"),
        ("experiments/create", {"name": "x", "tags": [{"key": "a", "value": "x" * 20_001}]}, "'value' exceeds the max"),
        ("experiments/get", {"experiment_id": "abc"}, "Invalid experiment ID 'abc'. Experiment ID must be a valid"),
        ("experiments/search", {"max_results": 0}, "It must be a positive integer"),
        ("experiments/search", {"max_results": 50_001}, "It must be at most 50000"),
        ("runs/create", {"run_name": "a", "tags": [{"key": "mlflow.runName", "value": "b"}]}, "Both 'run_name' argum"),
        ("runs/log-metric", {"key": "a", "value": 1, "timestamp": -1}, "Timestamp must be a nonnegative long"),
        ("runs/log-metric", {"key": "k" * 251, "value": 1, "timestamp": 1}, "'Metric name' exceeds the maximum length"),
        ("runs/log-metric", {"key": "a/../b", "value": 1, "timestamp": 1}, "This name would resolve to 'b'"),
        ("runs/log-parameter", {"key": "k" * 251}, "'Param key' exceeds the maximum length of 250 characters"),
        ("runs/set-tag", {"key": "a!"}, "Names may only contain alphanumerics"),
        ("runs/log-batch", {"run_id": "z!"}, "Invalid value \"z!\" for parameter 'run_id' supplied."),
        ("runs/log-batch", {"params": [{"value": "x"}]}, "Missing value for required parameter 'params[0].key'."),
        ("runs/log-batch", {"metrics": [{"key": "x"}]}, "Missing value for required parameter 'metrics[0].value'."),
        ("runs/log-batch", {"tags": [{"key": "../x", "value": "1"}]}, "for parameter 'tags[0].key' supplied"),
        ("runs/log-batch", {"params": MANY}, "can contain at most 100 params. Got 101 params."),
        ("runs/log-batch", {"metrics": POINTS}, "can contain at most 1000 metrics. Got 1001 metrics."),
        ("runs/log-batch", {"params": [MANY[0], MANY[0]]}, "Duplicate parameter keys have been submitted: ['k0']"),
        (
            "runs/log-inputs",
            {"datasets": [{"dataset": {"digest": "1" * 37}}]},
            "'digest' exceeds the maximum length of 36",
        ),
        ("runs/log-inputs", {"datasets": [{"dataset": {}, "tags": [{"value": "x" * 501}]}]}, "'value' exceeds the max"),
        ("runs/search", {"experiment_ids": ["0"], "max_results": -1}, "It must be a positive integer"),
        ("runs/search", {"experiment_ids": ["0"], "filter": "foo.bar = 1"}, "there is nothing called 'foo'"),
    ],
)
def test_a_request_is_refused_in_mlflows_words(api: Api, path: str, body: dict[str, Any], message: str) -> None:
    """With status 400; nothing of it is done."""
    method = "GET" if path.endswith("/get") else "POST"
    given = {"run_id": UNKNOWN, "experiment_id": "0"} if path.startswith("runs/") else {}
    status, code, told = api.refused(method, path, **{**given, **body})
    assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
    assert message in told


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"max_results": 0}, "max_results must be between 1 and 2500"),
        ({"start_step": 1}, "both must be specified"),
        ({"start_step": 3, "end_step": 1}, "Found start_step=3 and end_step=1."),
    ],
)
def test_a_sample_is_refused_in_mlflows_words(api: Api, query: dict[str, Any], message: str) -> None:
    """Of the points of a metric."""
    what = {"run_ids": [UNKNOWN], "metric_key": "m", **query}
    assert message in api.refused("GET", "metrics/get-history-bulk-interval", **what)[2]


def test_other_histories_are_refused_too(api: Api) -> None:
    """Of no size, and of no run."""
    refused = api.refused("GET", "metrics/get-history", run_id=UNKNOWN, metric_key="m", max_results=0)
    assert refused[2] == "Invalid value 0 for parameter 'max_results' supplied. It must be a positive integer."
    refused = api.refused("GET", "metrics/get-history-bulk", metric_key="m")
    assert refused[2] == "GetMetricHistoryBulk request must specify at least one run_id."


def test_an_experiment_is_deleted_and_restored_with_its_runs(api: Api) -> None:
    """Meanwhile it cannot be changed, and its name stays taken."""
    experiment = api.experiment("comes and goes")
    run = api.run(experiment_id=experiment)
    api.post("experiments/set-experiment-tag", experiment_id=experiment, key="k", value="v")
    assert api.post("experiments/delete", experiment_id=experiment) == {}
    for path, body, code in (
        ("experiments/delete", {}, "RESOURCE_DOES_NOT_EXIST"),
        ("experiments/update", {"new_name": "other"}, "INVALID_STATE"),
        ("experiments/set-experiment-tag", {"key": "k", "value": "w"}, "INVALID_PARAMETER_VALUE"),
        ("experiments/delete-experiment-tag", {"key": "k"}, "INVALID_PARAMETER_VALUE"),
        ("runs/create", {}, "INVALID_PARAMETER_VALUE"),
    ):
        assert api.refused("POST", path, experiment_id=experiment, **body)[1] == code
    taken = api.refused("POST", "experiments/create", name="comes and goes")
    assert taken[:2] == (400, "RESOURCE_ALREADY_EXISTS")
    assert "restore it" in taken[2]
    assert api.get("runs/get", run_id=run)["run"]["info"]["lifecycle_stage"] == "deleted"
    assert api.post("experiments/restore", experiment_id=experiment) == {}
    assert api.refused("POST", "experiments/restore", experiment_id=experiment)[1] == "RESOURCE_DOES_NOT_EXIST"
    assert api.get("runs/get", run_id=run)["run"]["info"]["lifecycle_stage"] == "active"
    assert api.post("experiments/delete-experiment-tag", experiment_id=experiment, key="k") == {}
    gone = api.refused("POST", "experiments/delete-experiment-tag", experiment_id=experiment, key="k")
    assert gone == (404, "RESOURCE_DOES_NOT_EXIST", f"No tag with name: k in experiment with id {experiment}")


def test_a_taken_name_is_given_to_nobody_else(api: Api) -> None:
    """Nor is one found that nobody has."""
    api.experiment("taken")
    other = api.experiment("other")
    refused = api.refused("POST", "experiments/update", experiment_id=other, new_name="taken")
    assert refused[:2] == (400, "BAD_REQUEST")
    assert api.refused("GET", "experiments/get-by-name", experiment_name="nobody")[:2] == (
        404,
        "RESOURCE_DOES_NOT_EXIST",
    )
    assert api.get("experiments/get-by-name", experiment_name="Default")["experiment"]["experiment_id"] == "0"


def test_a_run_is_deleted_and_restored(api: Api) -> None:
    """As often as anyone likes; meanwhile nothing is logged to it."""
    run = api.run(run_name="kept")
    for _ in range(2):
        assert api.post("runs/delete", run_id=run) == {}
    for path, body in (
        ("runs/log-metric", {"key": "k", "value": 1, "timestamp": 1}),
        ("runs/log-parameter", {"key": "k"}),
        ("runs/set-tag", {"key": "k"}),
        ("runs/delete-tag", {"key": "k"}),
        ("runs/log-batch", {}),
        ("runs/log-inputs", {}),
        ("runs/update", {"run_name": "other"}),
    ):
        refused = api.refused("POST", path, run_id=run, **body)
        message = f"The run {run} must be in the 'active' state. Current state is deleted."
        assert refused == (400, "INVALID_PARAMETER_VALUE", message)
    found = api.post("runs/search", experiment_ids=["0"], run_view_type="DELETED_ONLY")["runs"]
    assert [item["info"]["run_id"] for item in found] == [run]
    for _ in range(2):
        assert api.post("runs/restore", run_id=run) == {}
    for path in ("runs/delete", "runs/restore", "runs/update"):
        assert api.refused("POST", path, run_id=UNKNOWN)[:2] == (404, "RESOURCE_DOES_NOT_EXIST")


def test_a_param_and_a_tag_have_their_rules(api: Api) -> None:
    """The first value of a param holds; a tag can be removed once."""
    run = api.run()
    for _ in range(2):
        api.post("runs/log-parameter", run_id=run, key="p", value="1")
    refused = api.refused("POST", "runs/log-parameter", run_id=run, key="p", value="2")
    assert refused[2].endswith(f"logged with value='1' for run ID='{run}'. Attempted logging new value '2'.")
    api.post("runs/set-tag", run_id=run, key="t", value="1")
    assert api.post("runs/delete-tag", run_id=run, key="t") == {}
    gone = api.refused("POST", "runs/delete-tag", run_id=run, key="t")
    assert gone == (404, "RESOURCE_DOES_NOT_EXIST", f"No tag with name: t in run with id {run}")
