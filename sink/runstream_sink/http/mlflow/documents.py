"""Documents that answers consist of, in protobuf's JSON form: NaN and infinities are texts, empty lists are absent."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
from litestar import Response

from runstream_sink.http.mlflow.inputs import INPUT, inputs_of
from runstream_sink.query.records import Experiment, Point, Run

__all__ = [
    "RUN_NAME",
    "artifact_root",
    "experiment_document",
    "history_document",
    "info_document",
    "json_answer",
    "listed",
    "number",
    "run_document",
]

RUN_NAME: Final = "mlflow.runName"
"""MLflow keeps a run's name twice, and once in this tag; here the tag is made of the name."""


def json_answer(document: Mapping[str, Any]) -> Response[bytes]:
    """A document as an answer."""
    return Response(msgspec.json.encode(document), status_code=200, media_type="application/json")


def listed(**lists: Any) -> dict[str, Any]:
    """A document of what is not empty."""
    return {name: value for name, value in lists.items() if value}


def number(value: float) -> float | str:
    """A double."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def artifact_root(run: Run) -> str:
    """The address of a run's artifacts, as MLflow's server says it when it serves artifacts itself."""
    return f"mlflow-artifacts:/{run.experiment_id or '0'}/{run.run_id}/artifacts"


def experiment_document(experiment: Experiment) -> dict[str, Any]:
    """An experiment; one that nobody created is called by its id."""
    created = experiment.creation_time or 0
    return {
        "experiment_id": experiment.experiment_id,
        "name": experiment.experiment_id if experiment.name is None else experiment.name,
        "artifact_location": f"mlflow-artifacts:/{experiment.experiment_id}",
        "lifecycle_stage": experiment.lifecycle,
        "last_update_time": created if experiment.last_update_time is None else experiment.last_update_time,
        "creation_time": created,
        "workspace": "default",
        **listed(tags=_pairs(experiment.tags.items())),
    }


def info_document(run: Run) -> dict[str, Any]:
    """What a run is, without what was logged."""
    document = {
        "run_uuid": run.run_id,
        "experiment_id": run.experiment_id or "0",
        "run_name": run.name or "",
        "user_id": run.user or "",
        "status": run.status or "RUNNING",
        "start_time": run.start_time or 0,
        "end_time": run.end_time or None,
        "artifact_uri": artifact_root(run),
        "lifecycle_stage": run.lifecycle,
        "run_id": run.run_id,
    }
    return {name: value for name, value in document.items() if value is not None}


def run_document(run: Run) -> dict[str, Any]:
    """A run with its params, tags and latest metrics."""
    named = {} if run.name is None else {RUN_NAME: run.name}
    tags = {key: value for key, value in run.tags.items() if not key.startswith(INPUT)} | named
    return {
        "info": info_document(run),
        "data": listed(
            metrics=[history_document(key, point) for key, point in run.metrics.items()],
            params=_pairs(run.params.items()),
            tags=_pairs(sorted(tags.items())),
        ),
        "inputs": listed(dataset_inputs=inputs_of(run)),
        "outputs": {},
    }


def history_document(key: str, point: Point) -> dict[str, Any]:
    """A point of a metric."""
    return {"key": key, "value": number(point.value), "timestamp": point.timestamp, "step": point.step}


def _pairs(items: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in items]
