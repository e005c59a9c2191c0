"""Experiments over MLflow's REST API, where they differ from what its client can be seen to get."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from runstream_schemas.names import experiment_id_of
from support.mlflow_api import Api, mlflow_api


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """Of a sink that begins empty."""
    with mlflow_api(tmp_path_factory.mktemp("sink")) as api:
        yield api


def test_an_id_follows_from_the_name(api: Api) -> None:
    """So that programs which log without a server mean the same experiment."""
    assert api.experiment("by name") == experiment_id_of("by name")


def test_a_name_that_is_free_again_gets_another_id(api: Api) -> None:
    """The experiment that had it first keeps its id, and by name each is found."""
    first = api.experiment("moved")
    api.post("experiments/update", experiment_id=first, new_name="moved away")
    second = api.experiment("moved")
    assert second != first
    assert api.get("experiments/get-by-name", experiment_name="moved")["experiment"]["experiment_id"] == second
    assert api.get("experiments/get", experiment_id=first)["experiment"]["name"] == "moved away"


def test_an_experiment_may_be_given_the_name_that_it_has(api: Api) -> None:
    """That is no other experiment's."""
    held = api.experiment("stays")
    api.post("experiments/update", experiment_id=held, new_name="stays")
    assert api.get("experiments/get", experiment_id=held)["experiment"]["name"] == "stays"


def test_of_many_who_create_the_same_one_succeeds(api: Api) -> None:
    """The others are told that the name is taken."""
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(
                lambda _: api.client.post("/api/2.0/mlflow/experiments/create", json={"name": "contested"}), range(8)
            )
        )
    assert sorted(answer.status_code for answer in answers) == [200] + [400] * 7
    assert {answer.json().get("error_code") for answer in answers} == {None, "RESOURCE_ALREADY_EXISTS"}


def test_the_place_of_artifacts_cannot_be_chosen(api: Api) -> None:
    """It is the sink's for all experiments."""
    status, code, message = api.refused("POST", "experiments/create", name="elsewhere", artifact_location="s3://b/c")
    assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
    assert "RUNSTREAM_ARTIFACTS" in message


def test_tags_may_come_with_the_experiment(api: Api) -> None:
    """They are checked before anything is created."""
    refused = api.refused("POST", "experiments/create", name="tagged", tags=[{"value": "x"}])
    assert refused[:2] == (400, "INVALID_PARAMETER_VALUE")
    made = api.post("experiments/create", name="tagged", tags=[{"key": "a", "value": "b"}, {"key": "c"}])
    found = api.get("experiments/get", **made)["experiment"]
    assert found["tags"] == [{"key": "a", "value": "b"}, {"key": "c", "value": ""}]


def test_pages_follow_each_other(api: Api) -> None:
    """A token is of the search that made it."""
    first = api.post("experiments/search", max_results=2, order_by=["name ASC"])
    token = first["next_page_token"]
    second = api.post("experiments/search", max_results=2, order_by=["name ASC"], page_token=token)
    names = [found["name"] for found in (*first["experiments"], *second["experiments"])]
    assert len(set(names)) == 4
    refused = api.refused("POST", "experiments/search", max_results=2, page_token=token)
    assert refused[:2] == (400, "INVALID_PARAMETER_VALUE")


@pytest.mark.parametrize("view", ["DELETED_ONLY", 2, "2"])
def test_views_are_named_or_numbered(api: Api, view: object) -> None:
    """As protobuf takes them."""
    assert api.post("experiments/search", max_results=5, view_type=view) == {}


def test_a_view_of_another_type_is_refused(api: Api) -> None:
    """What is unknown, on the other hand, means nothing."""
    assert api.refused("POST", "experiments/search", max_results=5, view_type=True)[1] == "INVALID_PARAMETER_VALUE"
    assert api.post("experiments/search", max_results=1, view_type="OTHER")["experiments"]


def test_an_experiment_that_only_a_run_names_is_called_by_its_id(api: Api) -> None:
    """A program may log to it before anybody has created it."""
    api.client.post("/api/v1/runs", json={"experiment_id": "0"}).raise_for_status()
    assert api.get("experiments/get", experiment_id="0")["experiment"]["name"] == "Default"


def test_ids_are_numbers(api: Api) -> None:
    """However they are written; and nothing that is none."""
    assert api.get("experiments/get", experiment_id="000")["experiment"]["experiment_id"] == "0"
    for number in ("-1", str(1 << 70)):
        assert api.refused("GET", "experiments/get", experiment_id=number)[:2] == (404, "RESOURCE_DOES_NOT_EXIST")
