"""GraphQL as MLflow's UI uses it: what is answered, what is refused, and what one query may cost."""

from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from runstream_sink.http.mlflow.graphql_execution import execute
from runstream_sink.http.mlflow.graphql_limits import LIMITS
from support.graphql import EXPERIMENT, FILES, HISTORY, RUN, SEARCH, ask
from support.mlflow_api import UNKNOWN, Api, error_of, mlflow_api

TYPENAMES = "{ " + " ".join(["__typename"] * 10) + " }"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """Of a sink that begins empty."""
    with mlflow_api(tmp_path_factory.mktemp("sink")) as api:
        yield api


def test_integers_of_64_bits_are_text_and_what_is_not_set_is_empty(api: Api) -> None:
    """JavaScript loses digits of such numbers."""
    run_id = api.run(run_name="first", start_time=5)
    api.post("runs/log-metric", run_id=run_id, key="m", value=2.5, timestamp=2**60 + 1, step=-(2**62))
    run = ask(api.client, RUN, {"runId": run_id})["data"]["mlflowGetRun"]["run"]
    assert (run["info"]["startTime"], run["info"]["endTime"], run["info"]["userId"]) == ("5", "0", "")
    assert run["data"]["metrics"] == [
        {
            "__typename": "MlflowMetricExtension",
            "key": "m",
            "value": 2.5,
            "step": str(-(2**62)),
            "timestamp": str(2**60 + 1),
            "datasetName": "",
            "datasetDigest": "",
            "modelId": "",
            "runId": "",
        }
    ]
    assert (run["data"]["params"], run["modelVersions"], run["outputs"]["modelOutputs"]) == ([], [], [])


@pytest.mark.parametrize(
    ("value", "shown"), [("NaN", None), ("Infinity", 1.7976931348623157e308), ("-Infinity", -1.7976931348623157e308)]
)
def test_numbers_that_json_has_not_become_others(api: Api, value: str, shown: float | None) -> None:
    """NaN is null, and an infinity the greatest number, in runs and in histories."""
    run_id = api.run()
    api.post("runs/log-metric", run_id=run_id, key="m", value=value, timestamp=1, step=0)
    run = ask(api.client, RUN, {"runUuid": run_id})
    assert run["errors"] is None
    assert [point["value"] for point in run["data"]["mlflowGetRun"]["run"]["data"]["metrics"]] == [shown]
    history = ask(api.client, HISTORY, {"runIds": [run_id], "metricKey": "m"})
    assert history["errors"] is None
    assert [point["value"] for point in history["data"]["mlflowGetMetricHistoryBulkInterval"]["metrics"]] == [shown]


def test_runs_of_one_experiment_share_its_document(api: Api) -> None:
    """And each run has its own experiment's."""
    one, other = api.experiment("one"), api.experiment("other")
    for experiment_id in (one, one, other):
        api.run(experiment_id=experiment_id)
    found = ask(api.client, SEARCH, {"experimentIds": [one, other], "maxResults": 10})["data"]["mlflowSearchRuns"]
    assert sorted(run["experiment"]["name"] for run in found["runs"]) == ["one", "one", "other"]
    assert all(run["experiment"]["experimentId"] == run["info"]["experimentId"] for run in found["runs"])


def test_deleted_runs_are_found_where_the_query_says_so(api: Api) -> None:
    """By the names of the REST API."""
    experiment_id = api.experiment("deletions")
    kept, deleted = api.run(experiment_id=experiment_id), api.run(experiment_id=experiment_id)
    api.post("runs/delete", run_id=deleted)
    views = {None: [kept], "ACTIVE_ONLY": [kept], "DELETED_ONLY": [deleted], "ALL": sorted([kept, deleted])}
    for view, expected in views.items():
        answer = ask(api.client, SEARCH, {"experimentIds": [experiment_id], "runViewType": view})
        runs = answer["data"]["mlflowSearchRuns"]["runs"]
        assert sorted(run["info"]["runId"] for run in runs) == expected


def test_a_history_is_sampled_and_cut_as_the_query_says(api: Api) -> None:
    """As by the REST API."""
    run_id = api.run()
    points = [{"key": "m", "value": step, "timestamp": step, "step": step} for step in range(10)]
    api.post("runs/log-batch", run_id=run_id, metrics=points)
    few = ask(api.client, HISTORY, {"runIds": [run_id], "metricKey": "m", "maxResults": 3})
    some = ask(api.client, HISTORY, {"runIds": [run_id], "metricKey": "m", "startStep": 4, "endStep": 5})
    name = "mlflowGetMetricHistoryBulkInterval"
    assert [point["step"] for point in few["data"][name]["metrics"]][::2] == ["0", "9"]
    assert [point["step"] for point in some["data"][name]["metrics"]] == ["4", "5"]
    wrong = ask(api.client, HISTORY, {"runIds": [run_id], "metricKey": "m", "startStep": 5, "endStep": 4})
    assert wrong["data"] == {name: None}
    assert wrong["errors"][0].startswith("end_step must be greater")


def test_the_files_of_a_run_are_listed(api: Api) -> None:
    """Sizes are text."""
    run_id = api.run()
    api.client.post(f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run_id}&path=a/b.txt", content=b"hello")
    assert ask(api.client, FILES, {"runId": run_id, "path": "a"})["data"]["mlflowListArtifacts"]["files"] == [
        {"path": "a/b.txt", "isDir": False, "fileSize": "5"}
    ]
    assert ask(api.client, FILES, {"runId": run_id})["data"]["mlflowListArtifacts"]["files"] == [
        {"path": "a", "isDir": True, "fileSize": "0"}
    ]


def test_what_is_not_there_is_null_and_an_error(api: Api) -> None:
    """The status is 200, as GraphQL has it."""
    assert ask(api.client, RUN, {"runId": UNKNOWN}) == {
        "data": {"mlflowGetRun": None},
        "errors": [f"Run with id={UNKNOWN} not found"],
    }
    assert ask(api.client, EXPERIMENT, {"experimentId": "99"}) == {
        "data": {"mlflowGetExperiment": None},
        "errors": ["No Experiment with id=99 exists"],
    }
    assert ask(api.client, "{ mlflowGetRun { run { info { runId } } } }")["data"] == {"mlflowGetRun": None}


def test_of_several_operations_the_one_that_is_named_is_executed(api: Api) -> None:
    """By ``operationName``."""
    query = "query A { a: __typename } query B { b: __typename }"
    assert ask(api.client, query, operationName="B") == {"data": {"b": "Query"}, "errors": None}
    assert ask(api.client, query)["data"] is None


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("{ nothing }", "Cannot query field 'nothing' on type 'Query'."),
        ("mutation { x }", "mutation operation"),
        ("{ ...lost }", "Unknown fragment 'lost'."),
        (EXPERIMENT, "'MlflowGetExperimentInput!'"),
    ],
)
def test_a_query_that_cannot_be_is_told_why(api: Api, query: str, words: str) -> None:
    """Nothing of it is executed.  What exactly is told depends on the version of the library."""
    answer = ask(api.client, query)
    assert answer["data"] is None
    assert any(words in told for told in answer["errors"])


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "Missing value for required parameter 'query'"),
        ({"query": 5}, "for parameter 'query' supplied"),
        ({"query": "{ a", "variables": {}}, "the query is no GraphQL: Syntax Error"),
        ({"query": "{" * 9_000}, "the query is no GraphQL"),
        ({"query": "{ __typename }", "variables": []}, "for parameter 'variables' supplied"),
        ({"query": "#" * (LIMITS.length + 1)}, f"at most {LIMITS.length} are taken"),
    ],
)
def test_what_is_no_query_is_refused(api: Api, body: dict[str, Any], words: str) -> None:
    """In the form of the REST API."""
    status, code, message = error_of(api.client.post("/graphql", json=body))
    assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
    assert words in message


def _nested(levels: int) -> str:
    return "{ __schema { types " + "{ ofType " * (levels - 3) + "{ name }" + " }" * (levels - 3) + " } }"


@pytest.mark.parametrize(
    ("query", "what"),
    [
        (_nested(LIMITS.depth + 1), "levels"),
        ("{ " + " ".join(f"a{n}: __typename" for n in range(LIMITS.aliases + 1)) + " }", "aliases"),
        ("{ " + "__typename " * (LIMITS.root_fields + 1) + " }", "root fields"),
        (f"query A {TYPENAMES} query B {TYPENAMES}", "root fields"),
        ("{ __schema { types { " + "name " * LIMITS.selections + "} } }", "selections"),
        ("{ __schema { ... { types { ...x } } } } fragment x on __Type { " + "kind " * 500 + "}", "selections"),
        ("{ __typename } fragment unused on __Type { " + "kind " * LIMITS.selections + "}", "selections"),
    ],
)
def test_a_query_that_asks_for_too_much_is_not_executed(api: Api, query: str, what: str) -> None:
    """Whatever it hides that in."""
    answer = ask(api.client, query)
    assert answer["data"] is None
    assert f" {what}" in answer["errors"][0]


def test_what_is_within_the_limits_is_executed(api: Api) -> None:
    """The greatest of each."""
    assert ask(api.client, TYPENAMES) == {"data": {"__typename": "Query"}, "errors": None}
    assert ask(api.client, _nested(LIMITS.depth))["errors"] is None


def test_fragments_that_use_each_other_come_to_an_end(api: Api) -> None:
    """They are counted, and then refused."""
    answer = ask(api.client, "{ ...a } fragment a on Query { ...b } fragment b on Query { ...a __typename }")
    assert answer["data"] is None
    assert "Cannot spread fragment 'a' within itself" in answer["errors"][0]


def test_what_nobody_foresaw_is_logged_and_not_told() -> None:
    """The text of such an error may hold anything."""

    def ask(_path: str, _given: object) -> dict[str, Any]:
        raise ZeroDivisionError("secret")

    with capture_logs() as logs:
        answer = execute("{ mlflowGetRun { run { info { runId } } } }", None, None, ask)
    assert answer == {"data": {"mlflowGetRun": None}, "errors": ["the server made a mistake, and has logged it"]}
    assert [line["reason"] for line in logs] == ["ZeroDivisionError('secret')"]
