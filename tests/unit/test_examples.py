"""The examples, run as a user runs them: as processes of their own, with the real command line beside them."""

import asyncio
import csv
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples"
RUNSTREAM = str(Path(sys.executable).with_name("runstream"))


def _run(directory: Path, *command: str) -> str:
    environ = {key: value for key, value in os.environ.items() if not key.startswith("RUNSTREAM_")}
    done = subprocess.run(command, cwd=directory, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _rows(store: Path, run_id: str, table: str) -> list[dict[str, str]]:
    with (store / "artifacts" / run_id / f"{table}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _runs(directory: Path, store: Path) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(
        _run(directory, RUNSTREAM, "runs", "list", "--store", str(store), "--json")
    )
    return listed


@pytest.fixture
def humaneval(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module examples/humaneval.py."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import humaneval as module

    return module


def test_each_call_of_the_batch_inference_adds_two_runs_and_a_replay_equals_the_store(tmp_path: Path) -> None:
    """The demo, on a few prompts, twice into the same directory."""
    store = tmp_path / "data" / "store"
    for call in (1, 2):
        demo = str(EXAMPLES / "batch_inference.py")
        printed = _run(tmp_path, sys.executable, demo, "--dir", "data", "--limit", "12").splitlines()
        assert f"equal; the results lie in {store}" in printed
        assert f"  runstream sink --stream queue:{tmp_path / 'data' / 'queue'} --store {store}" in printed
        runs = _runs(tmp_path, store)
        assert len(runs) == 2 * call
        assert {run["status"] for run in runs} == {"FINISHED"}
        assert [path.name for path in (tmp_path / "data").glob("replay-*")] == []


def test_the_batch_inference_logs_params_metrics_rows_and_artifacts(tmp_path: Path) -> None:
    """What is said of the demo is in its store, fewer tokens give fewer answers that pass; the analysis shows it."""
    _run(tmp_path, sys.executable, str(EXAMPLES / "batch_inference.py"), "--dir", str(tmp_path), "--limit", "24")
    runs = {run["params"]["max_tokens"]: run for run in _runs(tmp_path, tmp_path / "store")}
    rates = {tokens: run["metrics"]["pass_rate"]["value"] for tokens, run in runs.items()}
    assert rates["256"] == 1.0
    assert 0 < rates["48"] < 1
    for tokens, run in runs.items():
        rows = _rows(tmp_path / "store", run["run_id"], "predictions")
        assert len({row["task_id"] for row in rows}) == 24
        assert sum(row["passed"] == "true" for row in rows) == pytest.approx(24 * rates[tokens])
        assert {row["error"] == "" for row in rows if row["passed"] == "true"} == {True}
        files = tmp_path / "store" / "artifacts" / run["run_id"]
        assert (files / "pass_rate.png").read_bytes()[:4] == b"\x89PNG"
        assert (files / "results.parquet").read_bytes()[:4] == b"PAR1"
        assert json.loads((files / "model" / "card.json").read_text())["pass_rate"] == rates[tokens]
    analysed = _run(
        tmp_path, "env", f"RUNSTREAM_STORE={tmp_path / 'store'}", sys.executable, str(EXAMPLES / "analysis.py")
    )
    shown = [float(line.split()[-2]) for line in analysed.splitlines()[1:3]]
    assert shown == pytest.approx([rates["48"], 1.0], abs=1e-5)
    assert "HumanEval/" in analysed
    assert (tmp_path / "analysis.png").read_bytes()[:4] == b"\x89PNG"


def test_the_quick_start_logs_one_run(tmp_path: Path) -> None:
    """Program, `runstream sink --once`, files: as its docstring says."""
    run_id = _run(tmp_path, sys.executable, str(EXAMPLES / "quickstart.py")).split()[1]
    _run(tmp_path, RUNSTREAM, "sink", "--once")
    store = tmp_path / "runstream-data" / "store"
    assert [row["words"] for row in _rows(store, run_id, "predictions")] == ["3", "4", "0"]
    assert (store / "artifacts" / run_id / "notes.txt").read_text() == "All prompts were answered.\n"


def test_a_thousand_concurrent_tasks_log_a_run_each(tmp_path: Path) -> None:
    """Tasks do not see each other's runs: each run has its own prompt in its table."""
    assert "0 dropped" in _run(tmp_path, sys.executable, str(EXAMPLES / "asyncio_serving.py"))
    _run(tmp_path, RUNSTREAM, "sink", "--once")
    store = tmp_path / "runstream-data" / "store"
    listed = _run(tmp_path, RUNSTREAM, "runs", "list", "--experiment", "serving", "--limit", "2000", "--json")
    runs = {run["run_id"]: run["name"] for run in json.loads(listed)}
    assert len(runs) == 1000
    for run_id, name in runs.items():
        (row,) = _rows(store, run_id, "requests")
        assert row["prompt"].startswith(f"request {name.removeprefix('request-')} ")


async def test_reference_solutions_pass_and_what_does_nothing_fails(humaneval: ModuleType) -> None:
    """Passing is decided by executing the program."""
    problems = humaneval.load(4)
    solved = await asyncio.gather(*(humaneval.check(one, one.canonical_solution) for one in problems))
    idle = await asyncio.gather(*(humaneval.check(one, "    pass\n") for one in problems))
    assert solved == [humaneval.Verdict(passed=True)] * 4
    assert [verdict.passed for verdict in idle] == [False] * 4
    assert all(verdict.error for verdict in idle)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("    while True: pass\n", "no end within"),
        ("    return bytearray(1 << 40)\n", "MemoryError"),
        ("    return open('file', 'wb', 0).write(b'x')\n", "OSError: [Errno 27] File too large"),
        ("    raise SystemExit(0)\n", "exit code 0"),
        ("    return (\n", "SyntaxError"),
    ],
)
async def test_a_program_that_misbehaves_fails_and_says_why(
    humaneval: ModuleType, monkeypatch: pytest.MonkeyPatch, body: str, complaint: str
) -> None:
    """Time, memory and files are limited, and an early exit does not pass."""
    monkeypatch.setattr(humaneval, "TIME_LIMIT", 1.0 if "while" in body else 30.0)
    verdict = await humaneval.check(humaneval.load(1)[0], body)
    assert not verdict.passed
    assert complaint in verdict.error


def test_a_text_is_cut_after_whole_tokens(humaneval: ModuleType) -> None:
    """A token is a word or another character, with the white space before it."""
    text = "    return first_one + 2  # sum\n"
    assert humaneval.truncate(text, 4) == humaneval.Answer("    return first_one + 2", 4)
    assert humaneval.truncate(text, 6) == humaneval.Answer(text, 6)
    assert humaneval.truncate(text, 0) == humaneval.Answer("", 0)


class _Chat(BaseHTTPRequestHandler):
    """An OpenAI-compatible server that answers every prompt in the same way."""

    def do_POST(self) -> None:
        """Answer with what was asked, fenced; with an error where the model is unknown."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if asked["model"] != "known":
            self.send_error(404)
            return
        text = f"Here:\n```python\n# {self.path} {asked['max_tokens']} {self.headers['Authorization']}\n```\n"
        reply = {"choices": [{"message": {"content": text}}], "usage": {"completion_tokens": 7}}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(reply).encode())

    def log_message(self, *arguments: object) -> None:
        """Keep quiet."""


@pytest.fixture
def server() -> Iterator[str]:
    """The base URL of a running `_Chat`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Chat) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}/v1"
        listening.shutdown()
        thread.join()


async def test_a_server_is_asked_and_its_fenced_code_is_the_answer(
    humaneval: ModuleType, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request is that of the chat completions API; the key comes from the environment."""
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    model = humaneval.Server(server, "known", 0.0, 2)
    answer = await model.answer(humaneval.load(1)[0], 99)
    assert answer == humaneval.Answer("# /v1/chat/completions 99 Bearer secret\n", 7)


async def test_a_server_that_refuses_gives_an_answer_with_an_error(humaneval: ModuleType, server: str) -> None:
    """One prompt that fails does not end a batch."""
    answer = await humaneval.Server(server, "unknown", 0.0, 2).answer(humaneval.load(1)[0], 99)
    assert (answer.text, answer.tokens) == ("", 0)
    assert answer.error == "HTTPError: HTTP Error 404: Not Found"
