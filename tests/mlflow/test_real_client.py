"""MLflow's own client gets the same from this server as from MLflow's, call by call."""

import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from support.http_sink import http_sink_apart
from support.mlflow import mlflow_python
from support.mlflow_server import mlflow_server

pytestmark = pytest.mark.server

PROGRAM = Path(__file__).parent / "client_program.py"
LARGEST = repr(1.7976931348623157e308)

# What differs, and why.
OTHER_WORDS = {
    # MLflow tells the statement of its database, or the keys in an order of chance; errors here name the place
    "name taken",
    "rename to a taken one",
    "create the deleted",
    "search by nonsense",
    "search runs 'foo.bar = 1'",
    "search runs \"metrics.acc = 'x'\"",
    "search runs 'params.model = 1'",
    "search runs 'metrics.acc > '",
    "order by ['nonsense']",
}
OTHERWISE = {
    # MLflow answers 500, which its client takes for a server that is broken, and tries again
    "rename the deleted": "INVALID_STATE",
    # not kept here
    "registered models": "ENDPOINT_NOT_FOUND",
    "create model": "ENDPOINT_NOT_FOUND",
    "traces": "ENDPOINT_NOT_FOUND",
}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the client got from MLflow's server, and from ours."""
    return _both(tmp_path_factory.mktemp("both"), mlflow_python())


def _both(root: Path, python: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    for name in ("theirs", "ours", "client-theirs", "client-ours"):
        (root / name).mkdir()
    with (
        mlflow_server(root / "theirs") as theirs,
        http_sink_apart(root / "ours") as ours,
        ThreadPoolExecutor(2) as pool,
    ):
        asked = [
            pool.submit(_ask, python, theirs, root / "client-theirs"),
            pool.submit(_ask, python, ours.url, root / "client-ours"),
        ]
        return asked[0].result(), asked[1].result()


def _ask(python: Path, url: str, directory: Path) -> dict[str, Any]:
    command = [str(python), str(PROGRAM), url, str(directory)]
    environment = {**os.environ, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_DISABLE_TELEMETRY": "true"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads((directory / "results.json").read_text())
    return found


def test_the_client_makes_very_many_calls(both: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """More than two hundred, each of which is answered by both servers."""
    theirs, ours = both
    assert list(theirs) == list(ours)
    assert len(ours) > 200


def test_every_call_gets_what_mlflows_own_server_answers(both: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """Results and errors are equal, up to ids, times and what is listed here."""
    assert not _differing(*both)


@pytest.mark.long
def test_the_client_of_the_version_before_gets_the_same(tmp_path: Path) -> None:
    """The minor version before the server's: from MLflow's server and from ours."""
    theirs, ours = _both(tmp_path, mlflow_python(previous=True))
    assert list(theirs) == list(ours)
    assert len(ours) > 200
    assert not _differing(theirs, ours)


def test_what_is_answered_otherwise_is_an_error_with_a_sentence(both: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """The calls that are listed as different have the code that is listed."""
    ours = both[1]
    assert {name: ours[name]["error"] for name in OTHERWISE} == OTHERWISE
    assert all(ours[name]["message"].endswith(".") for name in OTHERWISE)


def _differing(theirs: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    """The calls of which the results differ otherwise than is listed above, with both results."""
    return {
        name: (theirs[name], ours[name])
        for name in ours
        if name not in OTHERWISE and _plain(name, theirs[name]) != _plain(name, ours[name])
    }


def _plain(name: str, result: Any) -> Any:
    """A result without what may differ: words of errors, and infinities, which MLflow keeps as the largest number."""
    if name in OTHER_WORDS:
        return result["error"]
    return json.loads(json.dumps(result).replace('"inf"', f'"{LARGEST}"').replace("Infinity", LARGEST))
