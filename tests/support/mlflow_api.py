"""MLflow's REST API of a sink in this process, asked over HTTP."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from support.http_sink import http_sink_apart

__all__ = ["UNKNOWN", "Api", "error_of", "mlflow_api"]

UNKNOWN = "f" * 32
"""A run that is not there."""


class Api:
    """Requests, and what comes back."""

    def __init__(self, client: httpx.Client, root: Path) -> None:
        self.client = client
        self.root = root
        """Where queue and store lie."""

    def post(self, path: str, /, **body: Any) -> dict[str, Any]:
        """What a POST is answered that succeeds."""
        return _good(self.client.post(f"/api/2.0/mlflow/{path}", json=body))

    def get(self, path: str, /, **query: Any) -> dict[str, Any]:
        """What a GET is answered that succeeds."""
        return _good(self.client.get(f"/ajax-api/2.0/mlflow/{path}", params=query))

    def refused(self, method: str, path: str, /, **what: Any) -> tuple[int, str, str]:
        """The status, the code and the message of a request that fails."""
        kept = {"params": what} if method == "GET" else {"json": what}
        return error_of(self.client.request(method, f"/api/2.0/mlflow/{path}", **kept))

    def experiment(self, name: str) -> str:
        """A new one's id."""
        return str(self.post("experiments/create", name=name)["experiment_id"])

    def run(self, **body: Any) -> str:
        """A new one's id; of Default unless it is said otherwise."""
        return str(self.post("runs/create", **{"experiment_id": "0", **body})["run"]["info"]["run_id"])


def error_of(answer: httpx.Response) -> tuple[int, str, str]:
    """The status, the code and the message."""
    document = answer.json()
    return answer.status_code, document["error_code"], document["message"]


def _good(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@contextmanager
def mlflow_api(root: Path) -> Iterator[Api]:
    """A sink and the way to it."""
    with http_sink_apart(root) as sink, httpx.Client(base_url=sink.url, timeout=60.0) as client:
        yield Api(client, root)
