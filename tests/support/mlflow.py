"""An interpreter that has mlflow, which the environment of the tests need not have."""

from pathlib import Path

from support.components import missing

__all__ = ["mlflow_python"]

ROOT = Path(__file__).parent.parent.parent


def mlflow_python() -> Path:
    """That of the environment which ``make test`` makes for it; where there is none, the test that asks ends."""
    path = ROOT / ".venv-mlflow" / "bin" / "python"
    if not path.exists():
        missing("mlflow (make .venv-mlflow/.mlflow)")
    return path
