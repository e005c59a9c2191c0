"""Histories of metrics over MLflow's REST API, long ones too."""

from collections.abc import Iterator
from typing import Any

import pytest

from support.mlflow_api import UNKNOWN, Api, mlflow_api

MANY = 26_000


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """Of a sink that begins empty."""
    with mlflow_api(tmp_path_factory.mktemp("sink")) as api:
        yield api


@pytest.fixture(scope="module")
def long(api: Api) -> str:
    """A run with a metric ``m`` of very many points, each at its step, and of ``few`` against their steps."""
    run = api.run()
    for start in range(0, MANY, 1000):
        points = [
            {"key": "m", "value": float(step % 97), "timestamp": step, "step": step}
            for step in range(start, start + 1000)
        ]
        api.post("runs/log-batch", run_id=run, metrics=points)
    few = [{"key": "few", "value": float(at), "timestamp": 100 - at, "step": at} for at in range(5)]
    api.post("runs/log-batch", run_id=run, metrics=few)
    return run


def pages(api: Api, **query: Any) -> list[list[int]]:
    """The steps on each page."""
    found: list[list[int]] = []
    token = None
    while True:
        page = api.get("metrics/get-history", **query, **({"page_token": token} if token else {}))
        found.append([point["step"] for point in page["metrics"]])
        token = page.get("next_page_token")
        if token is None:
            return found


def test_points_come_in_the_order_of_time(api: Api, long: str) -> None:
    """As from MLflow's server, in pages too."""
    assert pages(api, run_id=long, metric_key="few") == [[4, 3, 2, 1, 0]]
    assert pages(api, run_id=long, metric_key="few", max_results=2) == [[4, 3], [2, 1], [0]]


def test_a_long_history_comes_page_by_page(api: Api, long: str) -> None:
    """By step, every point once; or at once without a page's size."""
    found = pages(api, run_id=long, metric_key="m", max_results=10_000)
    assert [len(page) for page in found] == [10_000, 10_000, 6_000]
    assert [step for page in found for step in page] == list(range(MANY))
    assert pages(api, run_id=long, metric_key="m") == [list(range(MANY))]


@pytest.mark.parametrize("token", ["x", "YnkgdGltZSB4", "YnkgdGltZQ==", "YnkgdGltZSAtMQ==", "/w=="])
def test_a_token_that_is_none_is_refused(api: Api, long: str, token: str) -> None:
    """It must be that of the page before."""
    refused = api.refused("GET", "metrics/get-history", run_id=long, metric_key="m", page_token=token)
    assert refused[:2] == (400, "INVALID_PARAMETER_VALUE")


def test_the_histories_of_many_runs_have_a_limit(api: Api, long: str) -> None:
    """Of runs and of points; runs come by id."""
    other = api.run()
    api.post("runs/log-metric", run_id=other, key="few", value=7, timestamp=1)
    both = api.get("metrics/get-history-bulk", run_id=[long, other, UNKNOWN], metric_key="few")["metrics"]
    assert [point["run_id"] for point in both] == sorted([long] * 5 + [other])
    part = api.get("metrics/get-history-bulk", run_id=[long, other], metric_key="few", max_results=3)["metrics"]
    assert part == both[:3]
    refused = api.refused("GET", "metrics/get-history-bulk", run_id=[long] * 101, metric_key="few")
    assert refused[:2] == (400, "INVALID_PARAMETER_VALUE")
    assert api.refused("GET", "metrics/get-history-bulk", run_id=long)[2].endswith("must specify a metric_key.")


def test_a_chart_gets_few_points_of_many(api: Api, long: str) -> None:
    """The first of each bucket of steps, and the last one of all."""
    found = api.get("metrics/get-history-bulk-interval", run_ids=[long], metric_key="m", max_results=100)["metrics"]
    steps = [point["step"] for point in found]
    assert 32 <= len(steps) <= 100
    assert steps == sorted(steps)
    assert (steps[0], steps[-1]) == (0, MANY - 1)
    last = api.get("metrics/get-history-bulk-interval", run_ids=long, metric_key="m", max_results=1)["metrics"]
    assert [point["step"] for point in last] == [MANY - 1]


def test_a_chart_gets_all_points_of_some_steps(api: Api, long: str) -> None:
    """Both ends included."""
    query = {"run_ids": [long, UNKNOWN], "metric_key": "m", "start_step": 5, "end_step": 9}
    found = api.get("metrics/get-history-bulk-interval", **query)["metrics"]
    assert [point["step"] for point in found] == [5, 6, 7, 8, 9]


def test_a_chart_of_too_many_runs_is_refused(api: Api) -> None:
    """With MLflow's limit."""
    refused = api.refused("GET", "metrics/get-history-bulk-interval", run_ids=["x"] * 101, metric_key="m")
    assert "at most 100 run_ids. Received 101" in refused[2]
