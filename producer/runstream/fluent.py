"""MLflow's fluent functions: the same names and signatures, on the run that is active in this context.

The active run is kept in a context variable: concurrent asyncio tasks and threads do not see each other's runs.  A
function that needs a run where none is active starts one, as in MLflow.  ``synchronous``, ``model_id`` and
``dataset`` are accepted and mean nothing here: no call waits.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runstream.active import active_run, enter, innermost, last_active_run
from runstream.client import client
from runstream.context import run_context
from runstream.experiments import (
    Experiment,
    announce,
    checked_id,
    checked_name,
    current_experiment,
    experiment_of_run,
    select,
)
from runstream.inputs import check_tags
from runstream.run import DEFAULT_TABLE, Run, find_run
from runstream.starting import begin
from runstream_schemas import events as ev
from runstream_schemas.errors import InvalidInputError
from runstream_schemas.names import (
    check_key,
    check_run_id,
    is_run_id,
)

__all__ = [
    "Experiment",
    "active_run",
    "aflush",
    "alog_artifact",
    "close",
    "configure",
    "create_experiment",
    "delete_experiment",
    "delete_experiment_tag",
    "delete_run",
    "delete_tag",
    "end_run",
    "flush",
    "get_artifact_uri",
    "last_active_run",
    "log_artifact",
    "log_artifacts",
    "log_dict",
    "log_figure",
    "log_image",
    "log_metric",
    "log_metrics",
    "log_param",
    "log_params",
    "log_prediction",
    "log_predictions",
    "log_table",
    "log_text",
    "restore_experiment",
    "restore_run",
    "set_experiment",
    "set_experiment_tag",
    "set_experiment_tags",
    "set_tag",
    "set_tags",
    "start_run",
    "stats",
]


def configure(**settings: Any) -> None:
    """Set some of this process's settings; each is also an environment variable, see docs/settings.md.

    What is not named stays as an earlier call set it; None goes back to the environment or the default.  Where the
    settings change, the journal that is open is closed.  Raises `InvalidInputError` naming what is wrong.

    ``stream``, ``journal_quota`` (bytes), ``policy`` ("drop" or "block"), ``block_timeout`` (seconds),
    ``sync_interval`` (seconds), ``segment_size`` (bytes), ``experiment``, ``store``, ``artifacts``, ``url``, and
    ``redact``: a callable that is given each prediction or table row as a dict before it is encoded and returns the row
    to log.
    """
    client.configure(**settings)


def set_experiment(experiment_name: str | None = None, experiment_id: str | None = None) -> Experiment:
    """Make an experiment the one of all runs that this process starts from now on; it need not exist."""
    if (experiment_name is None) == (experiment_id is None):
        raise InvalidInputError("set_experiment takes either experiment_name or experiment_id")
    if experiment_id is not None:
        experiment = Experiment(checked_id(experiment_id), "")
    else:
        experiment = announce(checked_name(experiment_name), {})
    select(experiment)
    return experiment


def create_experiment(name: str, artifact_location: str | None = None, tags: dict[str, Any] | None = None) -> str:
    """Create an experiment and return its id, which follows from the name."""
    if artifact_location is not None:
        raise InvalidInputError(
            "artifact_location cannot be set by an experiment; set RUNSTREAM_ARTIFACTS for the sink"
        )
    return announce(checked_name(name), check_tags(tags or {})).experiment_id


def delete_experiment(experiment_id: str) -> None:
    """Mark an experiment and its runs deleted."""
    client.emit(ev.ExperimentDeleted(checked_id(experiment_id)))


def restore_experiment(experiment_id: str) -> None:
    """Take a deletion back."""
    client.emit(ev.ExperimentRestored(checked_id(experiment_id)))


def set_experiment_tag(key: str, value: Any) -> None:
    """Set a tag of the current experiment."""
    set_experiment_tags({key: value})


def set_experiment_tags(tags: dict[str, Any]) -> None:
    """Set tags of the current experiment."""
    client.emit(ev.ExperimentTagsSet(current_experiment().experiment_id, check_tags(tags)))


def delete_experiment_tag(key: str) -> None:
    """Remove a tag of the current experiment."""
    client.emit(ev.ExperimentTagDeleted(current_experiment().experiment_id, check_key(key, "tag")))


def start_run(
    run_name: str | None = None,
    run_id: str | None = None,
    nested: bool = False,
    tags: dict[str, Any] | None = None,
    *,
    experiment_id: str | None = None,
    parent_run_id: str | None = None,
    description: str | None = None,
    log_system_metrics: bool | None = None,
) -> Run:
    """Start a run, or resume the one with ``run_id``, and make it the active one of this context.

    A first positional argument that is a run id (MLflow's order) is taken as one.
    """
    del log_system_metrics
    if run_id is None and isinstance(run_name, str) and is_run_id(run_name):
        run_id, run_name = run_name, None
    outer = active_run()
    if outer is not None and not nested:
        raise InvalidInputError(
            f"run {outer.run_id} is already active; end it with end_run(), or start a nested run with nested=True"
        )
    given = check_tags(tags or {})
    if description is not None:
        given["mlflow.note.content"] = str(description)
    if run_id is not None:
        run = _resume(check_run_id(run_id), run_name)
    else:
        if parent_run_id is not None or outer is not None:
            given["mlflow.parentRunId"] = check_run_id(parent_run_id or (outer.run_id if outer is not None else None))
        given = {**run_context(), **given}
        run = begin(experiment_of_run(experiment_id).experiment_id, run_name, given.get("mlflow.user"))
    if given:
        client.emit(ev.TagsSet(run.run_id, given))
    client.active_runs[run.run_id] = run
    enter(run)
    return run


def end_run(status: str = "FINISHED") -> None:
    """End the active run, if there is one."""
    run = active_run()
    if run is not None:
        run.end(status)


def delete_run(run_id: str) -> None:
    """Mark a run deleted."""
    client.emit(ev.RunDeleted(check_run_id(run_id)))


def restore_run(run_id: str) -> None:
    """Take a deletion back."""
    client.emit(ev.RunRestored(check_run_id(run_id)))


def log_param(key: str, value: Any, synchronous: bool | None = None) -> Any:
    """Log a param of the active run; returns the value."""
    del synchronous
    return _run().log_param(key, value)


def log_params(params: dict[str, Any], synchronous: bool | None = None, run_id: str | None = None) -> None:
    """Log several params."""
    del synchronous
    _run(run_id).log_params(params)


def log_metric(
    key: str,
    value: float,
    step: int | None = None,
    synchronous: bool | None = None,
    timestamp: int | None = None,
    run_id: str | None = None,
    model_id: str | None = None,
    dataset: Any = None,
) -> None:
    """Log one point of a metric."""
    del synchronous, model_id, dataset
    run = innermost() if run_id is None else None
    (run or _run(run_id)).log_metric(key, value, step, timestamp)


def log_metrics(
    metrics: dict[str, float],
    step: int | None = None,
    synchronous: bool | None = None,
    run_id: str | None = None,
    timestamp: int | None = None,
    model_id: str | None = None,
    dataset: Any = None,
) -> None:
    """Log one point of each of several metrics."""
    del synchronous, model_id, dataset
    _run(run_id).log_metrics(metrics, step, timestamp)


def set_tag(key: str, value: Any, synchronous: bool | None = None) -> None:
    """Set a tag of the active run."""
    del synchronous
    _run().set_tag(key, value)


def set_tags(tags: dict[str, Any], synchronous: bool | None = None) -> None:
    """Set several tags of the active run."""
    del synchronous
    _run().set_tags(tags)


def delete_tag(key: str) -> None:
    """Remove a tag of the active run."""
    _run().delete_tag(key)


def log_prediction(row: Mapping[str, Any], table: str = DEFAULT_TABLE, run_id: str | None = None) -> None:
    """Append one row to a table of the active run."""
    _run(run_id).log_prediction(row, table)


def log_predictions(
    rows: Any = None,
    table: str = DEFAULT_TABLE,
    *,
    inputs: Any = None,
    outputs: Any = None,
    prompts: Any = None,
    run_id: str | None = None,
) -> None:
    """Append rows, or inputs, outputs and prompts, to a table of the active run."""
    _run(run_id).log_predictions(rows, table, inputs=inputs, outputs=outputs, prompts=prompts)


def log_table(data: Any, artifact_file: str, run_id: str | None = None) -> None:
    """Append rows to a table; see `Run.log_table`."""
    _run(run_id).log_table(data, artifact_file)


def log_artifact(local_path: str | Path, artifact_path: str | None = None, run_id: str | None = None) -> None:
    """Log a file or directory as it is now."""
    _run(run_id).log_artifact(local_path, artifact_path)


async def alog_artifact(local_path: str | Path, artifact_path: str | None = None, run_id: str | None = None) -> None:
    """`log_artifact` in a thread."""
    await _run(run_id).alog_artifact(local_path, artifact_path)


def log_artifacts(local_dir: str | Path, artifact_path: str | None = None, run_id: str | None = None) -> None:
    """Log all files of a directory."""
    _run(run_id).log_artifacts(local_dir, artifact_path)


def log_text(text: str, artifact_file: str, run_id: str | None = None) -> None:
    """Log text as a file."""
    _run(run_id).log_text(text, artifact_file)


def log_dict(dictionary: Any, artifact_file: str, run_id: str | None = None) -> None:
    """Log a dict or list as JSON or YAML."""
    _run(run_id).log_dict(dictionary, artifact_file)


def log_image(
    image: Any,
    artifact_file: str | None = None,
    key: str | None = None,
    step: int | None = None,
    timestamp: int | None = None,
    synchronous: bool | None = False,
) -> None:
    """Log an image."""
    del synchronous
    _run().log_image(image, artifact_file, key=key, step=step, timestamp=timestamp)


def log_figure(figure: Any, artifact_file: str, *, save_kwargs: dict[str, Any] | None = None) -> None:
    """Log a matplotlib or plotly figure."""
    _run().log_figure(figure, artifact_file, save_kwargs=save_kwargs)


def get_artifact_uri(artifact_path: str | None = None) -> str:
    """Where the sink puts the active run's artifacts."""
    return _run().artifact_uri(artifact_path)


def flush(timeout: float | None = None) -> bool:
    """Wait until everything logged so far is safe; False if ``timeout`` seconds were not enough.

    Safe is on the disk and, with a stream in Kafka, acknowledged by its brokers, which is waited for at most 30 s where
    there is no ``timeout``.
    """
    return client.flush(timeout)


async def aflush(timeout: float | None = None) -> bool:  # noqa: ASYNC109 - the same contract as flush
    """`flush` in a thread."""
    import asyncio

    return await asyncio.to_thread(client.flush, timeout)


def stats() -> dict[str, Any]:
    """Counts since this process began.

    ``accepted`` and ``synced`` events, those ``shipped`` to Kafka (None for a queue), ``dropped`` ones by reason,
    ``stalls`` (calls that had to make a segment themselves), ``converted`` values (see `runstream_schemas.values`), the
    ``stream``, the ``queue`` (or journal) directory, and the last ``error``: of the background thread, of the shipper,
    or which journal was removed while it was in use.
    """
    return client.stats()


def close() -> None:
    """Sync and seal this process's journal.  An event that comes later opens another one."""
    client.close()


def _run(run_id: str | None = None) -> Run:
    """The run meant: by id, or the active one, which is started if there is none."""
    if run_id is not None:
        return find_run(check_run_id(run_id)) or Run(client, run_id, current_experiment().experiment_id)
    return innermost() or start_run()


def _resume(run_id: str, name: str | None) -> Run:
    run = find_run(run_id) or Run(client, run_id, current_experiment().experiment_id)
    run.resume(None if name is None else str(name))
    return run
