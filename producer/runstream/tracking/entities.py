"""What programs get, with the attribute names that MLflow's entities have."""

from typing import Final

from msgspec import Struct

from runstream.tracking.datasets import DatasetInput, split_inputs
from runstream.tracking.records import ExperimentRecord, RunRecord, Source

__all__ = [
    "Experiment",
    "FileInfo",
    "Metric",
    "Param",
    "Run",
    "RunData",
    "RunInfo",
    "RunInputs",
    "RunTag",
    "ViewType",
    "experiment_of",
    "run_of",
]


class ViewType:
    """MLflow's numbers for what of runs and experiments is wanted, by whether they were deleted."""

    ACTIVE_ONLY: Final = 1
    DELETED_ONLY: Final = 2
    ALL: Final = 3


class Metric(Struct, frozen=True):
    """One point of a metric; ``timestamp`` is in milliseconds since the epoch."""

    key: str
    value: float
    timestamp: int
    step: int


class Param(Struct, frozen=True):
    """A param, as `MlflowClient.log_batch` takes it."""

    key: str
    value: str


class RunTag(Struct, frozen=True):
    """A tag, as `MlflowClient.log_batch` takes it."""

    key: str
    value: str


class FileInfo(Struct, frozen=True):
    """What lies in a directory of artifacts: a file of so many bytes, or a directory, which has no size."""

    path: str
    is_dir: bool
    file_size: int | None


class RunInfo(Struct, frozen=True):
    """What a run is.  Times are in milliseconds since the epoch."""

    run_id: str
    experiment_id: str | None
    run_name: str | None
    user_id: str | None
    status: str | None
    start_time: int | None
    end_time: int | None
    lifecycle_stage: str
    artifact_uri: str


class RunData(Struct, frozen=True):
    """What was logged to a run: of each metric the latest value."""

    metrics: dict[str, float]
    params: dict[str, str]
    tags: dict[str, str]


class RunInputs(Struct, frozen=True):
    """The datasets that a run has read."""

    dataset_inputs: list[DatasetInput]


class Run(Struct, frozen=True):
    """A run that was read back."""

    info: RunInfo
    data: RunData
    inputs: RunInputs


class Experiment(Struct, frozen=True):
    """An experiment that was read back.  Times are in milliseconds since the epoch."""

    experiment_id: str
    name: str | None
    lifecycle_stage: str
    tags: dict[str, str]
    creation_time: int | None
    last_update_time: int | None


def run_of(held: RunRecord, source: Source) -> Run:
    """A run as programs get it; its name is a tag as well, as in MLflow."""
    info = RunInfo(
        held.run_id,
        held.experiment_id,
        held.name,
        held.user,
        held.status,
        held.start_time,
        held.end_time,
        held.lifecycle,
        source.artifact_uri(held.run_id),
    )
    tags, inputs = split_inputs(held.tags)
    if held.name is not None:
        tags["mlflow.runName"] = held.name
    metrics = {key: float(point.value) for key, point in held.metrics.items()}
    return Run(info, RunData(metrics, held.params, tags), RunInputs(inputs))


def experiment_of(held: ExperimentRecord) -> Experiment:
    """An experiment as programs get it."""
    return Experiment(
        held.experiment_id, held.name, held.lifecycle, held.tags, held.creation_time, held.last_update_time
    )
