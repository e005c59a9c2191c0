"""Whatever is sent to any endpoint of MLflow's API, the answer is no failure of the server."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from runstream_sink.http.mlflow import SERVED
from support.mlflow_api import Api, mlflow_api

KEYS = sorted(key for key in SERVED if not key[1].startswith("/ajax-api/"))
JSON = {"content-type": "application/json"}
RUN = "<run>"
TEXT = st.text(st.characters(exclude_categories=()), max_size=20) | st.sampled_from(
    ["", "0", RUN, "m", "..", "a/b", "NaN", "-1", "1e400", "ALL", "FINISHED", "metrics.m > 1", "name = 'x'", "m DESC"]
)
SCALAR = st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats() | TEXT
PAIR = st.fixed_dictionaries({"key": TEXT, "value": SCALAR}, optional={"timestamp": SCALAR, "step": SCALAR})
DATASET = st.fixed_dictionaries({"dataset": st.dictionaries(st.sampled_from(["name", "digest", "schema"]), SCALAR)})
VALUE = SCALAR | st.lists(SCALAR | PAIR | DATASET, max_size=3) | PAIR


@st.composite
def requests(draw: st.DrawFn) -> tuple[tuple[str, str], dict[str, Any], str]:
    """An endpoint, what is said to it, and the rest of its path."""
    key = draw(st.sampled_from(KEYS))
    values = draw(st.fixed_dictionaries({}, optional={field.name: VALUE for field in SERVED[key].fields}))
    rest = draw(TEXT | st.just(f"0/{RUN}/artifacts/x")) if key[1].endswith("/") else ""
    return key, values, rest


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """Of a sink that begins empty."""
    with mlflow_api(tmp_path_factory.mktemp("sink")) as api:
        yield api


@pytest.fixture(scope="module")
def run(api: Api) -> str:
    """A run."""
    return api.run(run_name="one")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@example(asked=(("POST", "/api/2.0/mlflow/runs/set-tag"), {"run_id": RUN, "key": "k", "value": "\ud800"}, ""))
@example(asked=(("POST", "/api/2.0/mlflow/runs/update"), {"run_id": RUN, "status": [], "run_name": "\0"}, ""))
@given(asked=requests())
def test_nothing_fails(api: Api, run: str, asked: tuple[tuple[str, str], dict[str, Any], str]) -> None:
    """Answers are good, or errors of MLflow's form that blame the request."""
    (method, path), values, rest = asked
    given = {name: run if value == RUN else value for name, value in values.items()}
    address = path + rest.replace(RUN, run).encode("utf-8", "replace").decode()
    if method == "GET":
        query = {name: _as_text(value) for name, value in given.items()}
        answer = api.client.request(method, quote(address), params=query)
    else:
        answer = api.client.request(method, quote(address), content=json.dumps(given).encode(), headers=JSON)
    assert answer.status_code in {200, 400, 404, 501}, (answer.status_code, answer.text)
    if answer.status_code != 200 and path.startswith("/api/"):
        assert {"error_code", "message"} <= set(answer.json())


def _as_text(value: Any) -> str:
    return str(value).encode("utf-8", "replace").decode()
