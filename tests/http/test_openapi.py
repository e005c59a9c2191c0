"""The OpenAPI document says what the native API does; whatever is sent to it, nothing fails unforeseen."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from schemathesis import openapi
from schemathesis.schemas import BaseSchema

from support.http_sink import http_sink_apart
from support.openapi import Sent, operations, requests

RUN = "0194fdc2fa2f7fcc841d6e9e2f1e0a3b"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Of a sink that holds an experiment and a run with something of each kind."""
    with (
        http_sink_apart(tmp_path_factory.mktemp("sink")) as sink,
        httpx.Client(base_url=sink.url, timeout=60.0) as client,
    ):
        client.post("/api/v1/experiments", json={"name": "known"}).raise_for_status()
        client.post("/api/v1/runs", json={"run_id": RUN}).raise_for_status()
        rows = [{"a": 1, "b": "x"}, {"a": 2.5, "b": None}]
        batch = {"metrics": [{"key": "m", "value": 1}], "rows": [{"table": "t", "rows": rows}], "params": {"p": "1"}}
        client.post(f"/api/v1/runs/{RUN}/log", json=batch).raise_for_status()
        client.put(f"/api/v1/runs/{RUN}/artifacts/f.txt", content=b"text").raise_for_status()
        yield client


@pytest.fixture(scope="module")
def document(client: httpx.Client) -> dict[str, Any]:
    """What the server says of itself."""
    found: dict[str, Any] = client.get("/schema").raise_for_status().json()
    return found


@pytest.fixture(scope="module")
def anything(document: dict[str, Any]) -> st.SearchStrategy[Sent]:
    """Requests to all operations."""
    return st.one_of([requests(document, operation, KNOWN) for operation in operations(document)])


KNOWN: dict[str, st.SearchStrategy[Any]] = {
    "run_id": st.sampled_from([RUN, "0" * 32]),
    "run_ids": st.lists(st.sampled_from([RUN, "0" * 32]), max_size=3),
    "experiment_id": st.sampled_from(["0", "7", str((1 << 63) - 1), str(1 << 63)]),
    "experiment_ids": st.lists(st.sampled_from(["0", "7"]), max_size=2),
    "path": st.sampled_from(["f.txt", "d/g.html", "../x", "a//b"]),
    "table": st.sampled_from(["t", "u.csv", "d/t", ".csv"]),
    "key": st.sampled_from(["m", "p", "tag", "a/b", "\x01"]),
    "filter": st.sampled_from(["", "metrics.m > 0", "name = 'x'", "a > 1", "b LIKE '%x%'", "params.p = '1' AND"]),
    "order_by": st.lists(st.sampled_from(["metrics.m DESC", "name", "a", "b DESC", "nothing"]), max_size=2),
    "cursor": st.sampled_from(["1:1", "1:1:1:1:1", "x", "999999999999999999999:1"]) | st.none(),
    "sha256": st.sampled_from(["0" * 64, "x"]),
    "since": st.sampled_from(["a-1", "-", "x-99999999999999999999"]),
}


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_nothing_that_can_be_sent_fails_unforeseen(
    client: httpx.Client, anything: st.SearchStrategy[Sent], data: st.DataObject
) -> None:
    """Every operation of the document takes whatever its parameters and body may be, and refuses with a problem."""
    sent = data.draw(anything)
    content = sent.content if isinstance(sent.content, bytes) else None
    if content is None and sent.content is not None:
        content = json.dumps(sent.content).encode()
    headers = {"content-type": "application/json"} if content is not None else {}
    with client.stream(
        sent.method, sent.path, params=httpx.QueryParams(sent.params), content=content, headers=headers
    ) as answer:
        assert answer.status_code < 500, answer.read()
        if answer.headers["content-type"].startswith("text/event-stream"):
            return
        answer.read()
    if answer.status_code >= 400 and answer.status_code != 416:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code


@pytest.fixture(scope="module")
def described(client: httpx.Client) -> BaseSchema:
    """What Schemathesis makes of the document."""
    return openapi.from_url(f"{client.base_url}/schema")


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_nothing_that_schemathesis_makes_up_fails(described: BaseSchema, data: st.DataObject) -> None:
    """Requests to each operation but the endless one, with its own idea of what the document allows."""
    found = [one.ok() for one in described.exclude(path="/api/v1/changes").get_all_operations()]
    case = data.draw(st.sampled_from([one for one in found if one is not None]).flatmap(lambda one: one.as_strategy()))
    assert case.call(base_url=str(described.location).removesuffix("/schema"), timeout=60).status_code < 500


def test_the_document_is_whole(document: dict[str, Any]) -> None:
    """Each operation has a summary, and each reference leads somewhere; examples keep to their schemas."""
    assert document["openapi"].startswith("3.1")
    assert len(operations(document)) >= 34
    for operation in operations(document):
        assert operation.described.get("summary"), operation
        assert operation.described.get("description"), operation
        for status, answer in operation.described["responses"].items():
            problem = int(status) >= 400
            assert (list(answer["content"]) == ["application/problem+json"]) == problem, (operation, status)
    schemas = document["components"]["schemas"]
    for name, schema in schemas.items():
        Draft202012Validator.check_schema(schema)
        for held, inner in schema.get("properties", {}).items():
            for example in inner.get("examples", ()):
                Draft202012Validator({**inner, "components": document["components"]}).validate(example), (name, held)
