"""How the results of calls are noted."""

import json
import re
from collections.abc import Callable
from typing import Any

import pandas as pd
import requests
from mlflow.exceptions import MlflowException
from mlflow.utils.rest_utils import http_request

UNKNOWN = "f" * 32
NOW = 1_700_000_000_000  # times after it are given by a server
NAMED = re.compile(r"^[a-z]+-[a-z]+-\d+$")


class Recorder:
    """Calls functions, and notes what comes back."""

    def __init__(self) -> None:
        self.results: dict[str, Any] = {}
        self._labels: dict[str, str] = {}

    def label(self, found: str, label: str) -> str:
        """Call an id by another name from now on."""
        self._labels[found] = label
        return found

    def __call__(self, name: str, function: Callable[[], Any]) -> Any:
        """The result, None where an MLflow error came."""
        assert name not in self.results, name
        try:
            result = function()
        except MlflowException as error:
            self.results[name] = {"error": error.error_code, "message": self._text(str(error.message))}
            return None
        except requests.HTTPError as error:
            self.results[name] = {"error": error.response.status_code, "message": ""}
            return None
        self.results[name] = self.plain(result)
        return result

    def plain(self, value: Any, field: str = "") -> Any:
        """JSON of entities of MLflow and others, with labels."""
        if isinstance(value, str):
            return self._labels.get(value, value) if field == "experiment_id" else self._text(value)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return "now" if value > NOW else value
        if isinstance(value, float):
            return repr(value)
        if isinstance(value, dict):
            return {self._text(str(key)): self.plain(item, str(key)) for key, item in sorted(value.items())}
        if isinstance(value, list | tuple | set):
            return [self.plain(item) for item in value]
        if isinstance(value, pd.DataFrame):
            rows = json.loads(value.astype(object).to_json(orient="records", date_format="iso", default_handler=str))
            return [self.plain(row) for row in rows]
        if hasattr(value, "to_dictionary"):
            return self.plain(value.to_dictionary())
        return {key.strip("_"): self.plain(item, key.strip("_")) for key, item in sorted(vars(value).items())}

    def _text(self, text: str) -> str:
        if NAMED.match(text):
            return "made-up-name"
        for found, label in self._labels.items():
            before = "" if len(found) == 32 else r"(?<=artifacts:/)|(?<=id=)|(?<=id )|(?<=experiment )"
            text = re.sub(rf"(?:{before}){found}(?![0-9a-f])", label, text)
        return text


def labelled(record: Recorder, client: Any, experiment: str, label: str, **arguments: Any) -> Any:
    """A new run, by label."""
    run = client.create_run(experiment, **arguments)
    record.label(run.info.run_id, label)
    return run


def labels(found: Any) -> list[str]:
    """Of runs."""
    return [run.info.run_id for run in found]


def names(found: Any) -> list[str]:
    """Of experiments."""
    return [experiment.name for experiment in found]


def pages(search: Any, **arguments: Any) -> list[list[str]]:
    """What is on each page."""
    found, token = [], None
    while True:
        page = search(page_token=token, **arguments)
        found.append(
            [item.name if hasattr(item, "name") else item.data.tags.get("n", item.info.run_name) for item in page]
        )
        token = page.token
        if not token:
            return found


def raw(client: Any, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """A request that the client would not make."""
    credentials = client._tracking_client.store.get_host_creds()
    answer = http_request(credentials, f"/api/2.0/mlflow/{path}", "POST", json=body)
    found = answer.json()
    kept = {name: found[name] for name in ("error_code", "message") if name in found}
    return {"status": answer.status_code, **(kept or found)}


def query(client: Any, path: str, parameters: dict[str, Any]) -> Any:
    """A GET request of the UI."""
    credentials = client._tracking_client.store.get_host_creds()
    answer = http_request(credentials, f"/ajax-api/2.0/mlflow/{path}", "GET", params=parameters)
    found = answer.json()
    kept = {name: found[name] for name in ("error_code", "message") if name in found}
    return {"status": answer.status_code, **(kept or found)}
