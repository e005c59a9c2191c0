"""The queries of MLflow's UI get the same from this server as from MLflow's, up to ids, dates and some orders."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.graphql import EXPERIMENT, FILES, HISTORY, RUN, SEARCH, ask
from support.http_sink import http_sink_apart
from support.mlflow_api import UNKNOWN, Api
from support.mlflow_server import mlflow_server

pytestmark = pytest.mark.server

_DATE = re.compile(r"1[0-9]{12}")
_DATES = ("creationTime", "lastUpdateTime")
_WITH_EXPERIMENT = ("experimentId", "experimentIds", "artifactLocation", "artifactUri", "rootUri")


class Side(Api):
    """One server, with what was logged to it."""

    def __init__(self, client: httpx.Client, root: Path) -> None:
        super().__init__(client, root)
        self.experiment_id = self.experiment("compared")
        self.post("experiments/set-experiment-tag", experiment_id=self.experiment_id, key="team", value="ä")
        self.runs = [self._full(), self._ended(), self._empty()]
        self.post("runs/delete", run_id=self.runs[2])

    def _full(self) -> str:
        run_id = self.run(
            experiment_id=self.experiment_id,
            run_name="full",
            start_time=5,
            user_id="ada",
            tags=[{"key": "mlflow.note.content", "value": "# note"}, {"key": "k", "value": ""}],
        )
        points = [{"key": "loss", "value": 1 / (step + 1), "timestamp": 7 + step, "step": step} for step in range(20)]
        odd = {"odd": "NaN", "up": "Infinity", "down": "-Infinity"}
        points += [{"key": key, "value": value, "timestamp": 2**53 + 1, "step": -3} for key, value in odd.items()]
        params = [{"key": "lr", "value": "0.1"}, {"key": "model/name", "value": "ü" * 300}]
        self.post("runs/log-batch", run_id=run_id, metrics=points, params=params)
        dataset = {"name": "d", "digest": "x", "source_type": "local", "source": "{}", "profile": '{"rows": 1}'}
        tags = [{"key": "mlflow.data.context", "value": "training"}]
        self.post("runs/log-inputs", run_id=run_id, datasets=[{"dataset": dataset, "tags": tags}])
        upload = f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run_id}"
        assert self.client.post(f"{upload}&path=a/b.txt", content=b"hello").status_code == 200
        return run_id

    def _ended(self) -> str:
        run_id = self.run(experiment_id=self.experiment_id, run_name="ended", start_time=9)
        self.post("runs/log-metric", run_id=run_id, key="loss", value=3, timestamp=8, step=2)
        self.post("runs/update", run_id=run_id, status="FAILED", end_time=11)
        return run_id

    def _empty(self) -> str:
        return self.run(experiment_id=self.experiment_id, run_name="empty", start_time=3)

    def answer(self, query: str, data: dict[str, Any]) -> Any:
        """What a query is answered; ids are named, also in what the query says."""
        names = {run: f"RUN{at}" for at, run in enumerate(self.runs)}
        ids = {name: run for run, name in names.items()}
        asked = _renamed(data, ids, ("EXPERIMENT", self.experiment_id))
        return _renamed(ask(self.client, query, asked), names, (self.experiment_id, "EXPERIMENT"))


def _renamed(value: Any, runs: dict[str, str], experiment: tuple[str, str], field: str = "") -> Any:
    """A document with other ids, without dates, and with all lists in the order of their keys."""
    if isinstance(value, dict):
        return {key: _renamed(item, runs, experiment, key) for key, item in value.items()}
    if isinstance(value, list):
        kept = [_renamed(item, runs, experiment, field) for item in value]
        has_keys = kept and isinstance(kept[0], dict) and "key" in kept[0]
        return sorted(kept, key=lambda item: item["key"]) if has_keys else kept
    if not isinstance(value, str):
        return value
    for found, name in runs.items():
        value = value.replace(found, name)
    if field in _WITH_EXPERIMENT:
        value = re.sub(rf"\b{experiment[0]}\b", experiment[1], value)
    return _DATE.sub("DATE", value) if field in _DATES else value


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Side, Side]]:
    """MLflow's server and ours, with the same in them."""
    root = tmp_path_factory.mktemp("both")
    (root / "theirs").mkdir()
    with ExitStack() as held:
        theirs, ours = (
            held.enter_context(mlflow_server(root / "theirs")),
            held.enter_context(http_sink_apart(root / "o")),
        )
        clients = [held.enter_context(httpx.Client(base_url=url, timeout=60.0)) for url in (theirs, ours.url)]
        yield Side(clients[0], root), Side(clients[1], root)


EQUAL = [
    (EXPERIMENT, {"experimentId": "EXPERIMENT"}),
    (EXPERIMENT, {"experimentId": "0"}),
    (EXPERIMENT, {"experimentId": "99999"}),
    (EXPERIMENT, {"experimentId": "no number"}),
    (RUN, {"runId": "RUN0"}),
    (RUN, {"runUuid": "RUN1"}),
    (RUN, {"runId": "RUN2"}),
    (RUN, {"runId": UNKNOWN}),
    (SEARCH, {"experimentIds": ["EXPERIMENT"]}),
    (SEARCH, {"experimentIds": ["EXPERIMENT"], "filter": "metrics.loss > 1"}),
    (SEARCH, {"experimentIds": ["EXPERIMENT"], "filter": "params.lr = '0.1'", "maxResults": 1}),
    (SEARCH, {"experimentIds": ["EXPERIMENT"], "orderBy": ["metrics.loss DESC"]}),
    (SEARCH, {"experimentIds": ["EXPERIMENT"], "filter": "attributes.run_id = 'RUN1'"}),
    (SEARCH, {"experimentIds": []}),
    (SEARCH, {"filter": None}),
    (HISTORY, {"runIds": ["RUN0", "RUN1"], "metricKey": "loss"}),
    (HISTORY, {"runIds": ["RUN0"], "metricKey": "up"}),
    (HISTORY, {"runIds": ["RUN0"], "metricKey": "unknown"}),
    (HISTORY, {"runIds": [], "metricKey": "loss"}),
    (FILES, {"runId": "RUN0"}),
    (FILES, {"runId": "RUN0", "path": "a"}),
    (FILES, {"runId": "RUN1", "path": "none"}),
    ("{ nothing }", {}),
    ("query A($data: String) { __typename }", {}),
    ("query A { __typename } query B { __typename }", {}),
    ("query A($data: MlflowGetRunInput) { mlflowGetRun(input: $data) { run { info { x } } } }", {}),
    ('{ __type(name: "MlflowRunInfo") { fields { name type { kind name } } } }', {}),
    ('{ __type(name: "MlflowRunExtension") { name kind fields { name type { kind name } } } }', {}),
]


@pytest.mark.parametrize(("query", "data"), EQUAL, ids=[f"{at}" for at in range(len(EQUAL))])
def test_both_servers_answer_the_same(both: tuple[Side, Side], query: str, data: dict[str, Any]) -> None:
    """Data and errors."""
    theirs, ours = (side.answer(query, data) for side in both)
    assert ours == theirs


def test_nan_in_a_history_is_null_without_an_error(both: tuple[Side, Side]) -> None:
    """MLflow's server adds the error of its library to it."""
    theirs, ours = (side.answer(HISTORY, {"runIds": ["RUN0"], "metricKey": "odd"}) for side in both)
    assert ours["data"] == theirs["data"]
    assert (ours["errors"], theirs["errors"]) == (None, ["Float cannot represent non numeric value: nan"])


def test_what_a_history_is_limited_to_is_heeded(both: tuple[Side, Side]) -> None:
    """MLflow's server looks for it in the query of the address, which has none."""
    data = {"runIds": ["RUN0"], "metricKey": "loss", "startStep": 3, "endStep": 4}
    counts = [len(side.answer(HISTORY, data)["data"]["mlflowGetMetricHistoryBulkInterval"]["metrics"]) for side in both]
    assert counts == [20, 2]


def test_neither_server_knows_users(both: tuple[Side, Side]) -> None:
    """The UI asks for the one that is logged in, and takes the refusal for what it is."""
    assert [side.client.get("/ajax-api/2.0/mlflow/users/current").status_code for side in both] == [404, 404]


def test_deleted_runs_can_be_asked_for(both: tuple[Side, Side]) -> None:
    """MLflow's server fails to read which runs are wanted."""
    data = {"experimentIds": ["EXPERIMENT"], "runViewType": "DELETED_ONLY"}
    theirs, ours = (side.answer(SEARCH, data) for side in both)
    assert theirs["data"] == {"mlflowSearchRuns": None}
    assert [run["info"]["runId"] for run in ours["data"]["mlflowSearchRuns"]["runs"]] == ["RUN2"]
