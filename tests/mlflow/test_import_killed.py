"""An import from a real tracking store that is killed, again and again."""

import signal
import subprocess
import time
from pathlib import Path

import pytest

from support.mlflow import mlflow_python, run_measured
from support.pipeline import Pipeline

pytestmark = [pytest.mark.server, pytest.mark.crash]

PROGRAM = Path(__file__).parent / "import_program.py"


def _do(root: Path, *arguments: str) -> None:
    """Have the program do some steps."""
    (root / "cwd").mkdir(exist_ok=True)
    done = run_measured(PROGRAM, *arguments, cwd=root / "cwd", environment={})
    assert done.returncode == 0, done.stderr[-3000:]


def test_an_import_that_is_killed_goes_on(tmp_path: Path) -> None:
    """Wherever it was: in the end everything is there once."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    pipe, undisturbed = (Pipeline(tmp_path / "killed"), Pipeline(tmp_path / "undisturbed"))
    _do(tmp_path, "many", uri, "then", "import", uri, "--stream", undisturbed.stream)
    command = [str(mlflow_python()), str(PROGRAM), "import-in-small-batches", uri, "--stream", pipe.stream]
    for wanted in (1, 9):
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(command, cwd=tmp_path / "cwd", stdout=log, stderr=log)
            _wait_for_journals(pipe.queue / "journals", wanted, process)
            process.send_signal(signal.SIGKILL)
            process.wait()
    _do(tmp_path, "import", uri, "--stream", pipe.stream)
    assert pipe.drain().dead == 0
    undisturbed.drain()
    assert pipe.digest() == undisturbed.digest()


def _wait_for_journals(journals: Path, wanted: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < until:
        if journals.is_dir() and len(list(journals.iterdir())) >= wanted:
            return
        time.sleep(0.005)  # nobody tells when a journal appears
