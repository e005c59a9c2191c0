"""The same requests to MLflow's own server and to a sink, and their answers in a form in which equal ones are equal.

Ids, page tokens, times that a server gives and names that it makes up differ for good reasons: they are replaced by
labels.  What else may differ is listed in `ALLOWED`, each with its reason; docs/mlflow.md says the same to users.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx

from support.http_sink import http_sink_apart
from support.mlflow_server import mlflow_server

__all__ = ["ALLOWED", "Answer", "Asked", "Pair", "Session", "mlflow_pair"]

_LARGEST = 1.7976931348623157e308
_HINT = "Hint: Value was of type"
_PAST = 1_700_000_000_000
_MADE_UP = re.compile(r"[a-z]+-[a-z]+-\d+")
_ID = re.compile(r"<(experiment|run) (\d+)>")
_TOKENS = frozenset({"next_page_token"})
_SETS = frozenset({"dataset_inputs", "dataset_summaries"})
_UNORDERED = frozenset({"metrics", "params", "tags"})
"""Lists by key: those of a run come in the order of a database."""


class Asked(NamedTuple):
    """A request.  ``<experiment 0>`` and ``<run 0>`` in texts are the ids of what the session made first."""

    method: str
    path: str
    """Behind the server's address."""
    given: Mapping[str, Any]
    """The query of a GET, else the JSON document."""
    content: bytes | None = None
    """Sent instead of a document."""


class Answer(NamedTuple):
    """What came back."""

    status: int
    body: Any


class Allowed(NamedTuple):
    """A difference that is meant to be."""

    reason: str
    holds: Callable[[Asked, Answer, Answer], bool]
    """Of the request, MLflow's answer and ours."""


def _code(answer: Answer) -> Any:
    return answer.body.get("error_code") if isinstance(answer.body, dict) else None


def _same_code(theirs: Answer, ours: Answer) -> bool:
    return theirs.status == ours.status and _code(theirs) is not None and _code(theirs) == _code(ours)


def _odd(asked: Asked, theirs: Answer, ours: Answer) -> bool:
    """Not a text, an integer or a number where one belongs; MLflow takes some of them and fails at others."""
    del asked
    return ours.status == 400 and "of a wrong type" in str(ours.body).replace(_HINT, "of a wrong type")


ALLOWED: tuple[Allowed, ...] = (
    Allowed(
        "searches: errors name the place in the text",
        lambda asked, theirs, ours: "search" in asked.path and _same_code(theirs, ours),
    ),
    Allowed(
        "a name that is taken: MLflow tells its database's error",
        lambda asked, theirs, ours: (
            asked.path.endswith(("experiments/create", "experiments/update"))
            and _same_code(theirs, ours)
            and "already exists" in str(ours.body)
        ),
    ),
    Allowed(
        "renaming a deleted experiment: MLflow answers 500, and clients try again",
        lambda asked, theirs, ours: (
            asked.path.endswith("experiments/update") and _code(theirs) == _code(ours) == "INVALID_STATE"
        ),
    ),
    Allowed(
        "a run without an experiment: MLflow tells its database's error",
        lambda asked, theirs, ours: (
            asked.path.endswith("runs/create") and _code(theirs) == _code(ours) == "BAD_REQUEST"
        ),
    ),
    Allowed(
        "the same tag twice for something new: the last one holds, and is no error of a database",
        lambda asked, theirs, ours: asked.path.endswith("/create") and "UNIQUE constraint failed" in str(theirs.body),
    ),
    Allowed(
        "above runs nothing is listed: the directory of artifacts holds those of runs only",
        lambda asked, theirs, ours: asked.path.endswith("mlflow-artifacts/artifacts") and ours == Answer(200, {}),
    ),
    Allowed(
        "an error in MLflow's form where MLflow's server sends a page",
        lambda asked, theirs, ours: str(theirs.body).startswith("<!doctype html>") and theirs.status == ours.status,
    ),
    Allowed(
        "a request at which MLflow's server fails",
        lambda asked, theirs, ours: theirs.status == 500 and ours.status < 500,
    ),
    Allowed("values of a type that protobuf does not take are refused, and not logged as something else", _odd),
)


class _Side:
    """One server, and the ids that it gave in this session."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self.made: dict[str, list[str]] = {"experiment": [], "run": []}

    def ask(self, asked: Asked) -> Answer:
        given = {name: self._with_ids(value) for name, value in asked.given.items()}
        path = quote(self._with_ids(asked.path), safe="/%")
        if asked.content is not None:
            sent = self._client.request(asked.method, path, content=asked.content, params=given)
        elif asked.method == "GET":
            sent = self._client.request("GET", path, params=given)
        else:
            content = json.dumps(given).encode()
            sent = self._client.request(
                asked.method, path, content=content, headers={"content-type": "application/json"}
            )
        try:
            body = sent.json()
        except ValueError:
            body = sent.text
        self._note(asked, body)
        return Answer(sent.status_code, self._plain(body, ""))

    def _note(self, asked: Asked, body: Any) -> None:
        if not isinstance(body, dict) or "error_code" in body:
            return
        if asked.path.endswith("experiments/create"):
            self.made["experiment"].append(body["experiment_id"])
        elif asked.path.endswith("runs/create"):
            self.made["run"].append(body["run"]["info"]["run_id"])

    def _with_ids(self, value: Any) -> Any:
        if isinstance(value, str):
            return _ID.sub(self._an_id, value)
        if isinstance(value, list):
            return [self._with_ids(item) for item in value]
        if isinstance(value, dict):
            return {name: self._with_ids(item) for name, item in value.items()}
        return value

    def _an_id(self, found: re.Match[str]) -> str:
        made = self.made[found[1]]
        return made[int(found[2]) % len(made)] if made else "f" * 32 if found[1] == "run" else "99999"

    def _plain(self, value: Any, name: str) -> Any:
        if isinstance(value, dict):
            return {key: self._plain(item, key) for key, item in value.items()}
        if isinstance(value, list):
            plain = [self._plain(item, name) for item in value]
            if name in _SETS:
                return sorted(plain, key=repr)
            if name in _UNORDERED and all(isinstance(item, dict) and "key" in item for item in plain):
                return sorted(_without_equals(plain), key=lambda item: item["key"])  # stable: a history stays as it is
            return plain
        if isinstance(value, bool) or value is None:
            return value
        if isinstance(value, int | float):
            return self._number(value, name)
        return self._text(value, name)

    def _number(self, value: float, name: str) -> Any:
        if name.endswith("_time") and value > _PAST:
            return "now"
        if abs(value) == _LARGEST:
            return "Infinity" if value > 0 else "-Infinity"
        return value

    def _text(self, text: str, name: str) -> str:
        if name in _TOKENS:
            return "token"
        if name == "experiment_id" and text in self.made["experiment"]:
            return f"<experiment {self.made['experiment'].index(text)}>"
        if _MADE_UP.fullmatch(text):
            return "made up"
        if name in {"experiment_id", "artifact_location"} and not any(made in text for made in self.made["experiment"]):
            return "of another session"
        for kind, made in self.made.items():
            for number, found in enumerate(made):
                before = "" if kind == "run" else r"(?<=artifacts:/)|(?<=id=)|(?<=id )|(?<=experiment )|(?<=')"
                text = re.sub(rf"(?:{before}){found}(?![0-9a-f])", f"<{kind} {number}>", text)
        return text


def _without_equals(points: list[Any]) -> list[Any]:
    """Equal points are one on MLflow's server, and kept here."""
    seen: list[Any] = []
    for point in points:
        if point not in seen:
            seen.append(point)
    return seen


class Session:
    """Requests that follow each other, with what they made."""

    def __init__(self, theirs: httpx.Client, ours: httpx.Client) -> None:
        self._theirs = _Side(theirs)
        self._ours = _Side(ours)

    def ask(self, asked: Asked) -> tuple[Answer, Answer]:
        """Both answers: MLflow's and ours."""
        return self._theirs.ask(asked), self._ours.ask(asked)

    def compare(self, asked: Asked) -> bool:
        """Whether the servers hold the same afterwards; AssertionError if answers differ otherwise than is allowed."""
        theirs, ours = self.ask(asked)
        if theirs != ours and not any(allowed.holds(asked, theirs, ours) for allowed in ALLOWED):
            raise AssertionError(f"\nasked  {asked}\ntheirs {theirs}\nours   {ours}")
        return (theirs.status == 200) == (ours.status == 200)


class Pair(NamedTuple):
    """Two servers."""

    theirs: httpx.Client
    ours: httpx.Client

    def session(self) -> Session:
        """A new one, which knows nothing of others."""
        return Session(self.theirs, self.ours)


@contextmanager
def mlflow_pair(root: Path) -> Iterator[Pair]:
    """Both servers, which begin empty."""
    for name in ("theirs", "ours"):
        (root / name).mkdir()
    with (
        mlflow_server(root / "theirs") as url,
        http_sink_apart(root / "ours") as sink,
        httpx.Client(base_url=url, timeout=60.0) as theirs,
        httpx.Client(base_url=sink.url, timeout=60.0) as ours,
    ):
        yield Pair(theirs, ours)
