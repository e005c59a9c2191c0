"""The public API: its names, and MLflow's names and parameters where MLflow has them."""

import inspect

import pytest

import runstream
from runstream import Run

MLFLOW = {
    "set_experiment": "experiment_name experiment_id",
    "start_run": "run_id experiment_id run_name nested parent_run_id tags description log_system_metrics",
    "log_param": "key value synchronous",
    "log_params": "params synchronous run_id",
    "log_metric": "key value step synchronous timestamp run_id model_id dataset",
    "log_metrics": "metrics step synchronous run_id timestamp model_id dataset",
    "set_tag": "key value synchronous",
    "set_tags": "tags synchronous",
    "delete_tag": "key",
    "log_artifact": "local_path artifact_path run_id",
    "log_artifacts": "local_dir artifact_path run_id",
    "log_text": "text artifact_file run_id",
    "log_dict": "dictionary artifact_file run_id",
    "log_image": "image artifact_file key step timestamp synchronous",
    "log_figure": "figure artifact_file save_kwargs",
    "log_table": "data artifact_file run_id",
    "get_artifact_uri": "artifact_path",
    "create_experiment": "name artifact_location tags",
    "set_experiment_tag": "key value",
    "set_experiment_tags": "tags",
    "delete_experiment": "experiment_id",
    "delete_experiment_tag": "key",
    "delete_run": "run_id",
    "end_run": "status",
    "active_run": "",
    "last_active_run": "",
}
"""Functions of MLflow's fluent API and their parameters."""

OTHER_ORDER = {"start_run"}
"""A run's name comes first here; a run id in its place is taken as one."""


@pytest.mark.parametrize("name", MLFLOW)
def test_a_function_takes_what_mlflows_takes_in_its_order(name: str) -> None:
    """A call that is written for MLflow binds to the same parameters here."""
    parameters = list(inspect.signature(getattr(runstream, name)).parameters)
    expected = MLFLOW[name].split()
    if name in OTHER_ORDER:
        assert set(expected) <= set(parameters)
    else:
        assert parameters[: len(expected)] == expected


def test_what_is_optional_in_mlflow_is_optional_here() -> None:
    """Only the parameters without which a call means nothing are required."""
    required = {
        name: [
            parameter.name
            for parameter in inspect.signature(getattr(runstream, name)).parameters.values()
            if parameter.default is parameter.empty
        ]
        for name in MLFLOW
    }
    assert required["start_run"] == required["set_experiment"] == required["get_artifact_uri"] == []
    assert required["log_metric"] == ["key", "value"]
    assert required["log_image"] == ["image"]
    assert required["log_table"] == ["data", "artifact_file"]


def test_every_public_name_exists_and_is_documented() -> None:
    """`__all__` holds what `import *` gives, and each function says what it does."""
    for name in runstream.__all__:
        value = getattr(runstream, name)
        assert name == "__version__" or inspect.getdoc(value), name


def test_a_run_has_the_log_functions_as_methods() -> None:
    """What can be logged to the active run can be logged to a `Run`."""
    loggers = [name for name in runstream.__all__ if name.startswith(("log_", "alog_", "set_tag", "delete_tag"))]
    for name in loggers:
        function = inspect.signature(getattr(runstream, name)).parameters
        method = inspect.signature(getattr(Run, name)).parameters
        assert set(method) - {"self"} <= set(function), name
