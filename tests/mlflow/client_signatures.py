"""The signatures of MLflow's client, as JSON; run by an interpreter that has mlflow, with a file as its argument."""

import inspect
import json
import sys
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

__all__ = ["signatures"]


def signatures(of: type) -> dict[str, list[list[Any]]]:
    """By public method: each parameter's name, kind and default, in order."""
    found = inspect.getmembers(of, inspect.isfunction)
    return {
        name: [
            [one.name, one.kind.name, None if one.default is one.empty else repr(one.default)]
            for one in inspect.signature(method).parameters.values()
        ]
        for name, method in found
        if name == "__init__" or not name.startswith("_")
    }


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(signatures(MlflowClient)))
