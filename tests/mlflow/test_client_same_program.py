"""The same program with ``import mlflow`` on MLflow's own server, and with ``import runstream as mlflow``."""

import json
from pathlib import Path
from typing import Any

import pytest

from support.http_sink import http_sink_apart
from support.mlflow import run_measured
from support.mlflow_server import mlflow_server

pytestmark = pytest.mark.server

PROGRAM = Path(__file__).parent / "client_same_program.py"


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the program sees with MLflow."""
    root = tmp_path_factory.mktemp("theirs")
    (root / "server").mkdir()
    with mlflow_server(root / "server") as url:
        return _run(root, "mlflow", {"MLFLOW_TRACKING_URI": url})


@pytest.mark.parametrize("reads", ["http", "store"])
def test_the_program_sees_the_same(tmp_path: Path, theirs: dict[str, Any], reads: str) -> None:
    """All that it reads back, whether it reads over HTTP or from the store."""
    with http_sink_apart(tmp_path) as sink:
        place = {"RUNSTREAM_URL": sink.url} if reads == "http" else {"RUNSTREAM_STORE": str(tmp_path / "store")}
        ours = _run(tmp_path, "runstream", {"RUNSTREAM_STREAM": f"queue:{tmp_path / 'queue'}", **place})
    assert list(ours) == list(theirs)
    assert {name: (ours[name], theirs[name]) for name in ours if ours[name] != theirs[name]} == {}


def _run(root: Path, module: str, environment: dict[str, str]) -> dict[str, Any]:
    target = root / "seen.json"
    done = run_measured(PROGRAM, module, str(target), cwd=root, environment=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(target.read_text())
    return found
