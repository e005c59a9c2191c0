"""The part of MLflow's tracking store that is about logged models; see `model_records` for how they are kept."""

import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, Final
from uuid import uuid4

import msgspec
from mlflow.entities import LoggedModel, LoggedModelStatus, RunTag
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.tracking.abstract_store import AbstractStore
from msgspec.structs import replace

from runstream import run_names
from runstream.inputs import as_text
from runstream.mlflow_plugin.entities import SCHEME, speaking_mlflow
from runstream.mlflow_plugin.memory import Memory
from runstream.mlflow_plugin.model_records import (
    HAS_MODELS,
    MODEL,
    OUTPUT,
    ModelRecord,
    models_of,
    selector,
)
from runstream.mlflow_plugin.session import Session
from runstream.tracking.records import Page
from runstream_schemas.errors import InvalidInputError
from runstream_schemas.names import check_path

__all__ = ["ModelMethods"]

_MOST: Final = 1000
"""Models that are remembered."""


class ModelMethods(AbstractStore):  # type: ignore[misc]
    """What `TrackingStore` does for logged models."""

    _session: Session
    _memory: Memory

    def __init__(self) -> None:
        super().__init__()
        self._models: OrderedDict[str, ModelRecord] = OrderedDict()

    def create_logged_model(
        self,
        experiment_id: str,
        name: str | None = None,
        source_run_id: str | None = None,
        tags: Iterable[Any] | None = None,
        params: Iterable[Any] | None = None,
        model_type: str | None = None,
    ) -> LoggedModel:
        """Make a model, an artifact of the run that logs it."""
        if source_run_id is None:
            raise MlflowException(
                "runstream keeps a model among the artifacts of a run: log it in a run, for example inside "
                "`with mlflow.start_run():`",
                INVALID_PARAMETER_VALUE,
            )
        model_id, now = f"m-{uuid4().hex}", time.time_ns() // 1_000_000
        name = name or run_names.generate(self._session.client.random)
        with speaking_mlflow():
            path = check_path(name if self._is_first(source_run_id, name) else f"models/{model_id}", "the model's name")
        record = ModelRecord(
            model_id,
            name,
            str(experiment_id),
            source_run_id,
            path,
            now,
            now,
            model_type,
            str(LoggedModelStatus.PENDING),
            _texts(params),
            _texts(tags),
        )
        return self._keep(record)

    def log_logged_model_params(self, model_id: str, params: Iterable[Any]) -> None:
        """Add params to a model."""
        held = self._model(model_id)
        self._keep(held, params={**held.params, **_texts(params)})

    def finalize_logged_model(self, model_id: str, status: Any) -> LoggedModel:
        """Its files are there, or never will be."""
        return self._keep(self._model(model_id), status=str(LoggedModelStatus(status)))

    def set_logged_model_tags(self, model_id: str, tags: Iterable[Any]) -> None:
        """Set tags of a model."""
        held = self._model(model_id)
        self._keep(held, tags={**held.tags, **_texts(tags)})

    def delete_logged_model_tag(self, model_id: str, key: str) -> None:
        """Remove a tag of a model."""
        held = self._model(model_id)
        if key not in held.tags:
            raise MlflowException(
                f"No tag with key {key!r} found for model with ID {model_id!r}.", RESOURCE_DOES_NOT_EXIST
            )
        self._keep(held, tags={name: value for name, value in held.tags.items() if name != key})

    def delete_logged_model(self, model_id: str) -> None:
        """Forget a model; its files stay artifacts of the run."""
        held = self._model(model_id)
        self._models.pop(model_id, None)
        self.delete_tag(held.source_run_id, MODEL + model_id)

    def get_logged_model(self, model_id: str, allow_deleted: bool = False) -> LoggedModel:
        """One model."""
        del allow_deleted
        return _entity(self._model(model_id))

    def search_logged_models(
        self,
        experiment_ids: list[str],
        filter_string: str | None = None,
        datasets: list[dict[str, Any]] | None = None,
        max_results: int | None = None,
        order_by: list[dict[str, Any]] | None = None,
        page_token: str | None = None,
    ) -> Any:
        """The models of some experiments that meet a filter of equalities, the newest first."""
        with speaking_mlflow():
            if datasets or order_by:
                raise InvalidInputError("models are found by neither datasets nor another order than the newest first")
            wanted = selector(filter_string or "")
            found = {record.model_id: record for run in self._runs_with_models(experiment_ids) for record in run}
        ours = [one for one in self._models.values() if one.experiment_id in experiment_ids]
        found |= {record.model_id: record for record in ours}
        ordered = sorted(filter(wanted, found.values()), key=lambda one: (-one.created, one.model_id))
        start = int(page_token or 0)
        end = start + (max_results or _MOST)
        return PagedList(map(_entity, ordered[start:end]), str(end) if end < len(ordered) else None)

    def log_outputs(self, run_id: str, models: Iterable[Any]) -> None:
        """Models are outputs of a run, each at a step."""
        self._set_tags(run_id, {OUTPUT + one.model_id: str(one.step) for one in models})

    def record_logged_model(self, run_id: str, mlflow_model: Any) -> None:
        """Older versions of MLflow tell of a model's files so; they are artifacts already."""

    def _set_tags(self, run_id: str, tags: dict[str, str]) -> None:
        self.log_batch(run_id, (), (), [RunTag(key, value) for key, value in tags.items()])

    def _is_first(self, run_id: str, name: str) -> bool:
        """Whether this process knows that a run has no model of that name."""
        run = self._memory.run(run_id)
        return run is not None and all(one.name != name for one in models_of(run.tags))

    def _model(self, model_id: str) -> ModelRecord:
        held = self._models.get(model_id)
        if held is not None:
            return held
        term = f"tags.`{MODEL}{model_id}` LIKE '%'"
        with speaking_mlflow():
            runs = self._session.read(lambda source: source.search_runs(None, term, (), "all", Page(1))).runs
        for record in (one for run in runs for one in models_of(run.tags) if one.model_id == model_id):
            return record
        raise MlflowException(f"Logged model with ID '{model_id}' not found.", RESOURCE_DOES_NOT_EXIST)

    def _runs_with_models(self, experiment_ids: Sequence[str]) -> Iterable[Iterable[ModelRecord]]:
        self._session.settle()
        source, cursor = self._session.source, None
        while True:
            term, page = f"tags.`{HAS_MODELS}` = 'true'", Page(_MOST, cursor)
            found = source.search_runs(list(experiment_ids), term, (), "active", page)
            yield from (models_of(run.tags) for run in found.runs)
            cursor = found.cursor
            if cursor is None:
                return

    def _keep(self, record: ModelRecord, **changes: Any) -> LoggedModel:
        if changes:
            record = replace(record, updated=time.time_ns() // 1_000_000, **changes)
        self._models[record.model_id] = record
        if len(self._models) > _MOST:
            self._models.popitem(last=False)
        text = msgspec.json.encode(record).decode()
        self._set_tags(record.source_run_id, {HAS_MODELS: "true", MODEL + record.model_id: text})
        return _entity(record)


def _texts(pairs: Iterable[Any] | None) -> dict[str, str]:
    return {as_text(one.key): as_text(one.value) for one in pairs or ()}


def _entity(held: ModelRecord) -> LoggedModel:
    return LoggedModel(
        experiment_id=held.experiment_id,
        model_id=held.model_id,
        name=held.name,
        artifact_location=f"{SCHEME}:/{held.source_run_id}/{held.path}",
        creation_timestamp=held.created,
        last_updated_timestamp=held.updated,
        model_type=held.model_type,
        source_run_id=held.source_run_id,
        status=LoggedModelStatus(held.status),
        tags=held.tags,
        params=held.params,
    )
