"""`runstream import-mlflow` from real tracking stores: what MLflow's client made is here as it is there."""

import hashlib
import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from runstream_schemas.names import experiment_id_of
from runstream_sink import query
from support.mlflow import run_measured
from support.mlflow_server import mlflow_server
from support.pipeline import Pipeline

pytestmark = pytest.mark.server

PROGRAM = Path(__file__).parent / "import_program.py"
INPUT = "runstream.input."


@pytest.fixture
def pipe(tmp_path: Path) -> Pipeline:
    """Where to."""
    return Pipeline(tmp_path / "pipe")


def _do(root: Path, *steps: str, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    """Have the program do some steps."""
    (root / "cwd").mkdir(exist_ok=True)
    arguments = " then ".join(steps).split(" ")
    done = run_measured(PROGRAM, *arguments, cwd=root / "cwd", environment=environment)
    assert done.returncode == code, done.stderr[-3000:]
    return done


@pytest.fixture(params=["server", "sqlite", "files"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A tracking store of each kind, as MLflow's client takes it."""
    place = tmp_path / "mlflow"
    place.mkdir()
    if request.param == "server":
        with mlflow_server(place) as address:
            yield address
    else:
        yield (f"sqlite:///{place}/mlflow.db" if request.param == "sqlite" else f"file://{place}/mlruns")


def test_runs_are_here_as_they_are_there(uri: str, tmp_path: Path, pipe: Pipeline) -> None:
    """Brought at once, or in several imports while they grow; a replay has the same, and another address no more."""
    at_once, target = Pipeline(tmp_path / "once"), tmp_path / "seen.json"
    source = uri.removeprefix("file://")
    bring = f"import {source} --deleted --stream"
    steps = [f"fill {uri}", f"{bring} {pipe.stream}", f"{bring} {pipe.stream}", f"grow {uri}", f"{bring} {pipe.stream}"]
    steps += [f"{bring} {at_once.stream}", f"dump {uri} {target}"]
    if uri.startswith("http"):
        steps.append(f"import-anyhow sqlite:///{tmp_path}/mlflow/mlflow.db --stream {pipe.stream}")
    told = [line for line in _do(tmp_path, *steps).stdout.splitlines() if " experiments, " in line]
    first, second, grown, whole, *elsewhere = told
    assert first.startswith("3 experiments, 7 runs (7 new")
    assert "(0 new, 0 with something new, 7 as before): 0 points, 0 rows and 0 artifacts" in second
    assert "8 runs (1 new, 3 with something new" in grown
    assert "8 runs (8 new" in whole
    assert all("0 new, 0 with something new" in line for line in elsewhere)
    for one in (pipe, at_once):
        assert one.drain().dead == 0
    _compare(at_once, json.loads(target.read_text()))
    if not uri.startswith("http"):  # from where an experiment was imported last is one of its tags
        assert pipe.digest() == at_once.digest()
    assert pipe.digest() == pipe.replay("replayed")[0]


def _compare(pipe: Pipeline, source: dict[str, Any]) -> None:
    assert len(source) >= 7
    for run_id, there in source.items():
        run = pipe.run(run_id)
        name, user, status, start, end, stage = there["info"]
        assert (run.name, run.status, run.start_time, run.end_time, run.lifecycle) == (name, status, start, end, stage)
        assert (run.user or "") == user
        assert run.experiment_id == experiment_id_of(there["experiment"])
        assert run.params == there["params"]
        tags = {key: value for key, value in there["tags"].items() if key != "mlflow.runName"}
        assert {key: value for key, value in run.tags.items() if not key.startswith(INPUT)} == tags
        inputs = [json.loads(value) for key, value in run.tags.items() if key.startswith(INPUT)]
        assert [[i["dataset"]["name"], i["dataset"]["digest"], len(i["tags"])] for i in inputs] == there["inputs"]
        assert {key: _points(pipe, run_id, key) for key in run.metrics} == there["points"]
        _compare_files(pipe, run_id, there["files"])


def _points(pipe: Pipeline, run_id: str, key: str) -> list[list[Any]]:
    found, cursor = [], None
    while True:
        page = pipe.ask(query.metric_page, run_id, key, 1000, cursor)
        found += [[point.step, point.timestamp, repr(point.value)] for point in page.points]
        cursor = page.cursor
        if cursor is None:
            return sorted(found)


def _compare_files(pipe: Pipeline, run_id: str, files: dict[str, str]) -> None:
    """Tables in JSON are rows here, all else is a file."""
    held = {one.path for one in pipe.ask(query.list_artifacts, run_id)}
    assert held == files.keys() - {"tables/t.json"}
    for path in held:
        assert hashlib.sha256(pipe.artifact(run_id, path)).hexdigest() == files[path]
    if "tables/t.json" in files:
        rows = pipe.rows(run_id, "tables/t")
        assert [row["q"] for row in rows][:3] == ["a", "ü", None]
        assert [row["n"] for row in rows] == list(range(1, len(rows) + 1))
        assert rows[0]["deep"] in ({"x": [1]}, '{"x":[1]}')
        assert pipe.rows(run_id, "p.parquet")[0] == {"q": "p", "n": 0.5}


def test_an_artifact_that_is_out_of_reach_is_brought_by_the_next_import(tmp_path: Path, pipe: Pipeline) -> None:
    """The rest comes at once, and the command says what is missing."""
    place = tmp_path / "mlruns"
    bring = f"{place} --stream {pipe.stream}"
    steps = [f"many file://{place}", f"break {place}", f"import-anyhow {bring}", f"mend {place}", f"import {bring}"]
    done = _do(tmp_path, *steps)
    assert "its artifacts cannot be listed: the source does not list them" in done.stderr
    first, second = done.stdout.splitlines()[-2:]
    assert "(20 new, 0 with something new, 0 as before): 60 points, 0 rows and 19 artifacts" in first
    assert "(0 new, 1 with something new, 19 as before): 0 points, 0 rows and 1 artifacts" in second
    assert pipe.drain().dead == 0


@contextmanager
def _answering(status: int) -> Iterator[str]:
    """The address of a server that answers everything with that status and a page."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"<html>hello</html>")

        do_GET = do_POST = answer  # noqa: N815 - names that the library looks for

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_sources_that_are_none_are_told_apart(tmp_path: Path, pipe: Pipeline) -> None:
    """Each with what to do."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "holds").mkdir()
    (tmp_path / "holds" / "mlflow.db").write_bytes(b"")
    (tmp_path / "text.db").write_text("no database, and long enough to be looked at " * 50)
    wrong = {
        "http://127.0.0.1:9": "does not answer",
        f"sqlite:///{tmp_path}/none.db": "there is no file",
        f"sqlite:///{tmp_path}/text.db": "is no database of SQLite",
        f"sqlite:///{tmp_path}/holds/mlflow.db": "no database of MLflow's",
        "sqlite://x": "use sqlite:///FILE",
        f"{tmp_path}/none": "there is no directory",
        f"{tmp_path}/text.db": "say sqlite:///",
        f"{tmp_path}/empty": "holds no experiments",
        f"file://{tmp_path}/holds": f"say sqlite:///{tmp_path}/holds/mlflow.db",
        "s3://bucket/x": "is no source that there is",
    }
    with _answering(401) as closed, _answering(404) as other, _answering(200) as page:
        wrong |= {closed: "set MLFLOW_TRACKING_TOKEN", other: "is no MLflow server", page: "is no MLflow server"}
        done = _do(tmp_path, *(f"import-anyhow {source} --stream {pipe.stream}" for source in wrong))
    told = done.stderr.splitlines()
    assert [words for words, line in zip(wrong.values(), told, strict=True) if words not in line] == []
    assert not pipe.queue.exists()
