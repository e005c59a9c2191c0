"""An interpreter that has mlflow, which the environment of the tests need not have."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

__all__ = ["mlflow_python"]

ROOT = Path(__file__).parent.parent.parent


def mlflow_python() -> Path:
    """RUNSTREAM_MLFLOW_PYTHON, this one if it has mlflow, or that of the benchmarks; else the test that asks ends."""
    named = os.environ.get("RUNSTREAM_MLFLOW_PYTHON")
    spec = find_spec("mlflow")
    here = spec is not None and spec.origin is not None  # else it is the folder of this name among the tests
    path = Path(named or (sys.executable if here else ROOT / ".venv-bench" / "bin" / "python"))
    if not path.exists():
        pytest.skip("no interpreter with mlflow (RUNSTREAM_MLFLOW_PYTHON): this behaviour was not compared")
    return path
