"""An interpreter that has mlflow, which the environment of the tests has not."""

import os
from pathlib import Path

import pytest

__all__ = ["mlflow_python"]

ROOT = Path(__file__).parent.parent.parent


def mlflow_python() -> Path:
    """RUNSTREAM_MLFLOW_PYTHON, or the interpreter of the benchmarks; where there is none, the test that asks ends."""
    named = os.environ.get("RUNSTREAM_MLFLOW_PYTHON")
    path = Path(named) if named else ROOT / ".venv-bench" / "bin" / "python"
    if not path.exists():
        pytest.skip("no interpreter with mlflow (RUNSTREAM_MLFLOW_PYTHON): this behaviour was not compared")
    return path
