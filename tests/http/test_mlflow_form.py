"""The form of MLflow's API: requests that are odd, answers to what is not there, and the stream away."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runstream_schemas.errors import CorruptDataError
from runstream_sink.http.mlflow import SERVED
from runstream_sink.http.mlflow.errors import to_answer
from runstream_sink.query.records import NotFoundError
from support.http_sink import http_sink
from support.mlflow_api import Api, error_of, mlflow_api

CREATE = "/api/2.0/mlflow/experiments/create"
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """Of a sink that begins empty."""
    with mlflow_api(tmp_path_factory.mktemp("sink")) as api:
        yield api


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/2.0/mlflow/registered-models/search"),
        ("POST", "/api/2.0/mlflow/registered-models/create"),
        ("POST", "/ajax-api/3.0/mlflow/traces/search"),
        ("PATCH", "/api/2.0/mlflow/model-versions/update"),
        ("GET", "/api/2.0/mlflow/gateway-proxy"),
        ("DELETE", "/api/3.0/mlflow/traces/x/assessments/y"),
        ("GET", "/api/2.0/mlflow/runs/create"),
        ("POST", "/api/2.0/mlflow/experiments/list"),
        ("GET", "/api/2.0/anything"),
    ],
)
def test_what_is_not_served_is_an_error_of_mlflows_form(api: Api, method: str, path: str) -> None:
    """One sentence, and never 500."""
    status, code, message = error_of(api.client.request(method, path))
    assert (status, code) == (404, "ENDPOINT_NOT_FOUND")
    assert message.startswith(f"{method} {path} is not served here")
    assert message.endswith(".")


def test_the_server_says_what_it_can(api: Api) -> None:
    """As MLflow's client and UI ask."""
    for prefix in ("/api", "/ajax-api"):
        info = api.client.get(f"{prefix}/3.0/mlflow/server-info").json()
        assert info["multipart_uploads_enabled"] is False
        assert info["features_enabled"] == {"gateway": False}
    assert api.client.get("/version").text.count(".") == 2
    assert api.client.get("/health").text == "OK"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "Missing value for required parameter 'name'."),
        (b"{nothing", "Missing value for required parameter 'name'."),
        (b"[" * 100_000, "Missing value for required parameter 'name'."),
        (b"[1]", "the request's body must be a JSON object"),
        (b'{"name": "\\ud800"}', "Missing value for required parameter 'name'."),
        (b'{"name": ["x"]}', "Invalid value [\"x\"] for parameter 'name' supplied"),
        (b'{"name": "x", "tags": ["y"]}', "Invalid value [\"y\"] for parameter 'tags' supplied"),
        (b'{"name": "x", "run_id": []}', ""),
    ],
)
def test_a_body_that_is_odd_is_no_failure(api: Api, content: bytes, message: str) -> None:
    """Of the server."""
    answer = api.client.post(CREATE, content=content, headers=JSON)
    if message:
        assert answer.status_code == 400
        assert message in answer.json()["message"]
    else:
        assert answer.status_code == 200


def test_a_body_may_be_encoded_twice_or_have_nan(api: Api) -> None:
    """As clients of old do, and as Python does."""
    assert api.client.post(CREATE, content=b'"{\\"name\\": \\"twice\\"}"', headers=JSON).status_code == 200
    nan = b'{"run_id": "x", "key": "k", "value": NaN, "timestamp": 1}'
    answer = api.client.post("/api/2.0/mlflow/runs/log-metric", content=nan, headers=JSON)
    assert error_of(answer) == (404, "RESOURCE_DOES_NOT_EXIST", "Run with id=x not found")


def test_a_body_must_be_json_and_not_endless(api: Api) -> None:
    """What it is must be said."""
    assert "Content-Type header is missing" in error_of(api.client.post(CREATE, content=b"{}"))[2]
    text = api.client.post(CREATE, content=b"{}", headers={"content-type": "text/plain"})
    assert "Content-Type must be one of" in error_of(text)[2]
    large = api.client.post(CREATE, content=b" " * (17 << 20), headers=JSON)
    assert error_of(large)[:2] == (400, "INVALID_PARAMETER_VALUE")


def test_a_slash_at_the_end_means_nothing(api: Api) -> None:
    """Nor does the prefix matter."""
    for prefix in ("/api", "/ajax-api"):
        assert "experiments" in api.client.get(f"{prefix}/2.0/mlflow/experiments/search/?max_results=1").json()


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (CorruptDataError("a file is damaged"), 500, "DATA_LOSS"),
        (NotFoundError("nothing"), 404, "RESOURCE_DOES_NOT_EXIST"),
        (ZeroDivisionError("secret"), 500, "INTERNAL_ERROR"),
    ],
)
def test_errors_have_codes(error: Exception, status: int, code: str) -> None:
    """What nobody foresaw is not told."""
    answer = to_answer(error)
    assert answer.status_code == status
    assert code.encode() in answer.content
    assert b"secret" not in answer.content


def test_without_a_stream_reads_go_on_and_writes_are_refused(tmp_path: Path) -> None:
    """With 503, and the time after which to try again; nothing half done is seen."""

    async def scenario() -> list[Any]:
        async with http_sink(tmp_path) as sink:
            journals = tmp_path / "queue" / "journals"
            journals.rename(tmp_path / "away")
            journals.touch()
            read = await sink.client.get("/api/2.0/mlflow/experiments/search?max_results=5")
            one = await sink.client.get("/api/2.0/mlflow/experiments/get?experiment_id=0")
            written = await sink.client.post(CREATE, json={"name": "after"})
            journals.unlink()
            (tmp_path / "away").rename(journals)
            return [read, one, written]

    read, one, written = asyncio.run(scenario())
    assert [found["name"] for found in read.json()["experiments"]] == ["Default"]
    assert one.status_code == 200
    assert (written.status_code, written.json()["error_code"]) == (503, "TEMPORARILY_UNAVAILABLE")
    assert int(written.headers["retry-after"]) > 0


def test_every_endpoint_is_in_the_documentation() -> None:
    """With its method and its path."""
    page = (Path(__file__).parents[2] / "docs" / "mlflow.md").read_text()
    missing = [
        f"{method} {path}"
        for method, path in SERVED
        if not path.startswith("/ajax-api/") and f"`{path.rstrip('/').partition('/mlflow/')[2] or path}" not in page
    ]
    assert not missing
