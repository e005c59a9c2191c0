"""Runs name their tables in the tag by which MLflow's UI shows a file as a table."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from support.graphql import RUN, ask
from support.mlflow_api import Api, mlflow_api

TAG = "mlflow.loggedArtifacts"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """Of a sink that begins empty."""
    with mlflow_api(tmp_path_factory.mktemp("sink")) as api:
        yield api


def _run(api: Api, *tables: str, tag: str | None = None) -> str:
    run_id = api.run(experiment_id="0")
    rows = [{"table": table, "rows": [{"a": 1}]} for table in tables]
    api.client.post(f"/api/v1/runs/{run_id}/log", json={"rows": rows}).raise_for_status()
    if tag is not None:
        api.post("runs/set-tag", run_id=run_id, key=TAG, value=tag)
    return run_id


def _noted(run: Any) -> str | None:
    tags = {tag["key"]: tag["value"] for tag in run["data"].get("tags", [])}
    return tags.get(TAG)


def _entries(*paths: str) -> list[dict[str, str]]:
    return [{"path": path, "type": "table"} for path in paths]


def test_a_run_names_its_tables_wherever_it_is_read(api: Api) -> None:
    """By its id, by a search and by a query; a run without tables has no such tag."""
    run_id, other = _run(api, "b", "dir/a"), api.run(experiment_id="0")
    found = {run["info"]["run_id"]: run for run in api.post("runs/search", experiment_ids=["0"])["runs"]}
    queried = ask(api.client, RUN, {"runId": run_id})["data"]["mlflowGetRun"]["run"]
    for run in (api.get("runs/get", run_id=run_id)["run"], found[run_id], queried):
        assert json.loads(_noted(run) or "") == _entries("b.json", "dir/a.json")
    assert _noted(found[other]) is None


def test_what_mlflows_client_has_noted_stays(api: Api) -> None:
    """A table that both name is named once."""
    run_id = _run(api, "x", "y", tag=json.dumps(_entries("own.json", "y.json")))
    run = api.get("runs/get", run_id=run_id)["run"]
    assert json.loads(_noted(run) or "") == _entries("own.json", "y.json", "x.json")


@pytest.mark.parametrize("tag", ["no JSON", '{"path": "x"}', "[1]"])
def test_a_tag_that_is_no_list_of_files_stays_as_it_is(api: Api, tag: str) -> None:
    """It may be anybody's."""
    assert _noted(api.get("runs/get", run_id=_run(api, "x", tag=tag))["run"]) == tag


def test_the_tag_is_no_longer_than_mlflows(api: Api) -> None:
    """Tables that find no place in it are files like others."""
    run_id = _run(api, *(f"{number:03}-{'n' * 100}" for number in range(60)))
    noted = _noted(api.get("runs/get", run_id=run_id)["run"]) or ""
    assert 4_800 < len(noted) <= 5_000
    assert len(json.loads(noted)) < 60
