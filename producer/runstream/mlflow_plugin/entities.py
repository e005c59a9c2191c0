"""Between our records and MLflow's entities, and from our errors to MLflow's."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from mlflow.entities import (
    Dataset,
    DatasetInput,
    Experiment,
    ExperimentTag,
    InputTag,
    LoggedModelInput,
    LoggedModelOutput,
    Metric,
    Param,
    Run,
    RunData,
    RunInfo,
    RunInputs,
    RunOutputs,
    RunTag,
)
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    INVALID_PARAMETER_VALUE,
    RESOURCE_DOES_NOT_EXIST,
    TEMPORARILY_UNAVAILABLE,
)

from runstream.mlflow_plugin.model_records import MODEL_INPUT, OUTPUT, is_about_models
from runstream.tracking.datasets import DatasetInput as KeptInput
from runstream.tracking.datasets import split_inputs
from runstream.tracking.records import ExperimentRecord, RunRecord
from runstream_schemas.errors import InvalidInputError, NotFoundError, RunstreamError

__all__ = ["RUN_NAME", "SCHEME", "USER", "experiment_entity", "run_entity", "speaking_mlflow"]

SCHEME = "runstream-artifacts"
"""Of the addresses of artifacts."""
RUN_NAME = "mlflow.runName"
USER = "mlflow.user"


def run_entity(held: RunRecord) -> Run:
    """A run as MLflow has it; its name is a tag as well."""
    info = RunInfo(
        run_id=held.run_id,
        experiment_id=held.experiment_id or "0",
        user_id=held.user or "",
        status=held.status or "RUNNING",
        start_time=held.start_time,
        end_time=held.end_time,
        lifecycle_stage=held.lifecycle,
        artifact_uri=f"{SCHEME}:/{held.run_id}",
        run_name=held.name or "",
    )
    tags, datasets = split_inputs(held.tags)
    inputs, outputs = _models(tags)
    tags = {key: value for key, value in tags.items() if not is_about_models(key)}
    if held.name:
        tags[RUN_NAME] = held.name
    return Run(
        info,
        RunData(
            [Metric(key, float(point.value), point.timestamp, point.step) for key, point in held.metrics.items()],
            [Param(key, value) for key, value in held.params.items()],
            [RunTag(key, value) for key, value in tags.items()],
        ),
        RunInputs([_dataset_input(one) for one in datasets], inputs),
        RunOutputs(outputs),
    )


def _models(tags: Mapping[str, str]) -> tuple[list[LoggedModelInput], list[LoggedModelOutput]]:
    """The models that are a run's inputs and outputs."""
    return (
        [LoggedModelInput(key.removeprefix(MODEL_INPUT)) for key in tags if key.startswith(MODEL_INPUT)],
        [
            LoggedModelOutput(key.removeprefix(OUTPUT), int(step))
            for key, step in tags.items()
            if key.startswith(OUTPUT) and step.lstrip("-").isdecimal()
        ],
    )


def _dataset_input(held: KeptInput) -> DatasetInput:
    dataset = held.dataset
    return DatasetInput(
        Dataset(dataset.name, dataset.digest, dataset.source_type, dataset.source, dataset.schema, dataset.profile),
        [InputTag(tag.key, tag.value) for tag in held.tags],
    )


def experiment_entity(held: ExperimentRecord) -> Experiment:
    """An experiment as MLflow has it."""
    return Experiment(
        experiment_id=held.experiment_id,
        name=held.name or held.experiment_id,
        artifact_location=f"{SCHEME}:/",
        lifecycle_stage=held.lifecycle,
        tags=[ExperimentTag(key, value) for key, value in held.tags.items()],
        creation_time=held.creation_time,
        last_update_time=held.last_update_time,
    )


@contextmanager
def speaking_mlflow() -> Iterator[None]:
    """Our errors become MLflow's."""
    try:
        yield
    except NotFoundError as error:
        raise MlflowException(str(error), RESOURCE_DOES_NOT_EXIST) from error
    except InvalidInputError as error:
        raise MlflowException(str(error), INVALID_PARAMETER_VALUE) from error
    except RunstreamError as error:
        raise MlflowException(str(error), TEMPORARILY_UNAVAILABLE) from error
