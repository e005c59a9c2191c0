"""An interpreter that has mlflow, which the environment of the tests need not have."""

import os
import subprocess
import sysconfig
from pathlib import Path

from support.components import missing

__all__ = ["mlflow_python", "run_measured"]

ROOT = Path(__file__).parent.parent.parent
_PATIENT = {"RUNSTREAM_READ_WAIT": "300"}
"""What a program reads is what it wrote, on a slow machine too."""
_MEASURED = """
import contextlib, runpy, sys
sys.path.append(sys.argv[1])
with contextlib.suppress(ImportError):
    import coverage
    coverage.process_startup()
sys.path.remove(sys.argv[1])
del sys.argv[0], sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs a program so that its lines count: its interpreter has no coverage, that of the tests has."""


def mlflow_python(*, previous: bool = False) -> Path:
    """That of the environment which ``make test`` makes for it; where there is none, the test that asks ends.

    ``previous`` is the minor version before, which ``make test-long`` makes an environment for.
    """
    name = "mlflow-previous" if previous else "mlflow"
    path = ROOT / f".venv-{name}" / "bin" / "python"
    if not path.exists():
        missing(f"{name} (make .venv-{name}/.{name})")
    return path


def run_measured(
    program: Path, *arguments: str, cwd: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Have that interpreter run a program, whose use of our packages counts as covered."""
    site = sysconfig.get_path("platlib")
    return subprocess.run(
        [str(mlflow_python()), "-c", _MEASURED, site, str(program), *arguments],
        env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", **_PATIENT, **environment},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
