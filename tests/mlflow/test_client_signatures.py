"""`runstream.MlflowClient` has the tracking methods of the real one, with its parameters."""

import inspect
import json
from pathlib import Path
from typing import Any

import pytest

import runstream
from support.mlflow import run_measured

pytestmark = pytest.mark.server

OUTSIDE = (
    "model",
    "mcp",
    "prompt",
    "trace",
    "span",
    "webhook",
    "workspace",
    "dataset",
    "latest_versions",
    "log_outputs",
)
"""What the names of methods have in them that are about other things than runs and experiments."""


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[list[Any]]]:
    """By method of MLflow's class, its parameters: name, kind, default."""
    directory = tmp_path_factory.mktemp("signatures")
    program = Path(__file__).parent / "client_signatures.py"
    done = run_measured(program, str(directory / "found.json"), cwd=directory, environment={})
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, list[list[Any]]] = json.loads((directory / "found.json").read_text())
    return found


def test_each_method_that_tracks_is_there_with_its_parameters(theirs: dict[str, list[list[Any]]]) -> None:
    """Names, kinds, order and defaults."""
    tracking = {name for name in theirs if not any(part in name for part in OUTSIDE)}
    ours = inspect.getmembers(runstream.MlflowClient, inspect.isfunction)
    public = {name: method for name, method in ours if name == "__init__" or not name.startswith("_")}
    assert set(public) == tracking
    for name, method in public.items():
        parameters = inspect.signature(method).parameters.values()
        assert [
            [one.name, one.kind.name, None if one.default is one.empty else repr(one.default)] for one in parameters
        ] == theirs[name], name


def test_each_other_method_is_refused_with_a_sentence(theirs: dict[str, list[list[Any]]]) -> None:
    """As any name that the class does not have, so that `hasattr` tells the truth."""
    client = runstream.MlflowClient()
    for name in theirs:
        if any(part in name for part in OUTSIDE):
            with pytest.raises(AttributeError, match=f"{name}.* but no models, registry, traces"):
                getattr(client, name)
