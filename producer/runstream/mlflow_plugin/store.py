"""MLflow's tracking store on our stream.

Whatever is logged is an event in this process's journal: no call waits for a server.  Reads wait until the sink has
applied what was written before (see `session`); where it has not in time, and for a run of this process that has not
ended, the answer is what this process itself has logged.
"""

import os
import time
from concurrent.futures import Future
from importlib.util import find_spec
from typing import Any, Final
from uuid import uuid4

from mlflow.entities import Metric, Run, RunStatus, ViewType
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_ALREADY_EXISTS
from mlflow.store.entities.paged_list import PagedList
from mlflow.utils.async_logging.run_operations import RunOperations

import mlflow
from runstream import run_names
from runstream.inputs import as_float, as_integer, as_text
from runstream.mlflow_plugin.entities import RUN_NAME, USER, experiment_entity, run_entity, speaking_mlflow
from runstream.mlflow_plugin.model_records import MODEL_INPUT
from runstream.mlflow_plugin.models import ModelMethods
from runstream.mlflow_plugin.session import session_of
from runstream.tracking.datasets import input_tag
from runstream.tracking.records import ExperimentRecord, Page, Point, RunRecord
from runstream_schemas import events as ev
from runstream_schemas.errors import EnvironmentUnavailableError, NotFoundError
from runstream_schemas.names import DEFAULT_EXPERIMENT, check_key, check_run_id, experiment_id_of

__all__ = ["TrackingStore"]

_LIFECYCLES: Final = {ViewType.ACTIVE_ONLY: "active", ViewType.DELETED_ONLY: "deleted", ViewType.ALL: "all"}
_MOST: Final = 10_000
"""Items that a page may have."""
_MOST_TOLD: Final = 100_000
"""Points that are remembered because they may be copied."""


class TrackingStore(ModelMethods):
    """What ``mlflow.set_tracking_uri("runstream+...")`` opens."""

    def __init__(self, store_uri: str, artifact_uri: str | None = None) -> None:
        super().__init__()
        del artifact_uri
        with speaking_mlflow():
            self._session = session_of(store_uri)
        self._memory = self._session.memory
        self._told: set[tuple[str, str, int, int, str]] = set()
        _spare_spark()

    def create_experiment(self, name: str, artifact_location: str | None = None, tags: Any = None) -> str:
        """Make an experiment; its id follows from its name."""
        if artifact_location:
            raise MlflowException("artifact_location cannot be set by an experiment", INVALID_PARAMETER_VALUE)
        if not isinstance(name, str) or not name.strip():
            raise MlflowException(f"an experiment's name is text, not {name!r:.100}", INVALID_PARAMETER_VALUE)
        if self.get_experiment_by_name(name) is not None:
            raise MlflowException(f"Experiment '{name}' already exists.", RESOURCE_ALREADY_EXISTS)
        experiment_id, now = experiment_id_of(name), _now()
        given = {tag.key: as_text(tag.value) for tag in tags or ()}
        self._session.emit(ev.ExperimentCreated(experiment_id, name, now, given))
        self._memory.add_experiment(ExperimentRecord(experiment_id, name, now, "active", {**given}, now))
        return experiment_id

    def get_experiment(self, experiment_id: str) -> Any:
        """One experiment."""
        experiment_id = str(experiment_id)
        held = self._memory.experiment(experiment_id)
        if held is None and experiment_id == experiment_id_of(DEFAULT_EXPERIMENT):
            held = ExperimentRecord(experiment_id, DEFAULT_EXPERIMENT, None, "active", {}, None)
        with speaking_mlflow():
            try:
                if held is not None:
                    self._session.source.get_experiment(experiment_id)  # is it there, without waiting for it?
                    if not self._session.settle():
                        return experiment_entity(held)
                return experiment_entity(self._session.read(lambda source: source.get_experiment(experiment_id)))
            except (EnvironmentUnavailableError, NotFoundError):
                if held is None:
                    raise
                return experiment_entity(held)

    def get_experiment_by_name(self, experiment_name: str) -> Any:
        """The experiment with that name, or None."""
        experiment_id = experiment_id_of(experiment_name)
        if self._memory.experiment(experiment_id) is not None or experiment_name == DEFAULT_EXPERIMENT:
            found = self.get_experiment(experiment_id)
            if found.name == experiment_name:
                return found
        with speaking_mlflow():
            try:
                return experiment_entity(
                    self._session.read(lambda source: source.get_experiment_by_name(experiment_name))
                )
            except (EnvironmentUnavailableError, NotFoundError):
                return None

    def delete_experiment(self, experiment_id: str) -> None:
        """Mark an experiment and its runs deleted."""
        self._session.emit(ev.ExperimentDeleted(str(experiment_id)))
        self._memory.change_experiment(str(experiment_id), lifecycle="deleted")

    def restore_experiment(self, experiment_id: str) -> None:
        """Take a deletion back."""
        self._session.emit(ev.ExperimentRestored(str(experiment_id)))
        self._memory.change_experiment(str(experiment_id), lifecycle="active")

    def rename_experiment(self, experiment_id: str, new_name: str) -> None:
        """Change an experiment's name."""
        self._session.emit(ev.ExperimentRenamed(str(experiment_id), as_text(new_name)))
        self._memory.change_experiment(str(experiment_id), name=as_text(new_name))

    def set_experiment_tag(self, experiment_id: str, tag: Any) -> None:
        """Set a tag of an experiment."""
        with speaking_mlflow():
            key, value = check_key(tag.key, "tag"), as_text(tag.value)
        self._session.emit(ev.ExperimentTagsSet(str(experiment_id), {key: value}))
        held = self._memory.experiment(str(experiment_id))
        if held is not None:
            self._memory.change_experiment(held.experiment_id, tags={**held.tags, key: value})

    def delete_experiment_tag(self, experiment_id: str, key: str) -> None:
        """Remove a tag of an experiment."""
        self._session.emit(ev.ExperimentTagDeleted(str(experiment_id), key))
        held = self._memory.experiment(str(experiment_id))
        if held is not None:
            tags = {name: value for name, value in held.tags.items() if name != key}
            self._memory.change_experiment(held.experiment_id, tags=tags)

    def search_experiments(
        self,
        view_type: int = ViewType.ACTIVE_ONLY,
        max_results: int = 1000,
        filter_string: str | None = None,
        order_by: list[str] | None = None,
        page_token: str | None = None,
    ) -> Any:
        """A page of the experiments that meet a filter."""
        page = Page(min(max_results, _MOST), page_token or None)
        lifecycle = _LIFECYCLES[view_type]
        with speaking_mlflow():
            found = self._session.read(
                lambda source: source.search_experiments(filter_string or "", order_by or (), lifecycle, page)
            )
        return PagedList([experiment_entity(held) for held in found.experiments], found.cursor)

    def create_run(
        self, experiment_id: str, user_id: str | None, start_time: int | None, tags: Any, run_name: str | None
    ) -> Run:
        """Begin a run."""
        given = {tag.key: as_text(tag.value) for tag in tags or ()}
        name = run_name or given.pop(RUN_NAME, None) or run_names.generate(self._session.client.random)
        given.pop(RUN_NAME, None)
        user = user_id or given.get(USER)
        started = _now() if start_time is None else int(start_time)
        run = RunRecord(
            uuid4().hex, str(experiment_id), name, user, "RUNNING", started, None, "active", {}, {}, {**given}
        )
        self._emit(run.run_id, ev.RunStarted(run.run_id, str(experiment_id), started, name, user))
        if given:
            self._emit(run.run_id, ev.TagsSet(run.run_id, given))
        self._memory.add_run(run)
        return run_entity(run)

    def get_run(self, run_id: str) -> Run:
        """One run."""
        held = self._memory.run(run_id)
        if held is not None and held.status == "RUNNING" and held.lifecycle == "active":
            return run_entity(held)
        with speaking_mlflow():
            try:
                if held is not None and not self._session.settle():
                    return run_entity(held)
                return run_entity(self._session.read(lambda source: source.get_run(run_id)))
            except (EnvironmentUnavailableError, NotFoundError):
                if held is None:
                    raise
                return run_entity(held)

    def update_run_info(self, run_id: str, run_status: Any, end_time: int | None, run_name: str | None) -> Any:
        """Change a run's name or status, or end it."""
        if run_name:
            self._rename(run_id, run_name)
        if run_status is not None:
            status = RunStatus.to_string(run_status)
            if RunStatus.is_terminated(run_status):
                ended = _now() if end_time is None else int(end_time)
                self._emit(run_id, ev.RunEnded(run_id, status, ended))
                self._memory.change_run(run_id, status=status, end_time=ended)
            else:
                self._emit(run_id, ev.RunUpdated(run_id, status=status))
                self._memory.change_run(run_id, status=status, end_time=None)
        held = self._memory.run(run_id)
        return self.get_run(run_id).info if held is None else run_entity(held).info

    def delete_run(self, run_id: str) -> None:
        """Mark a run deleted."""
        self._emit(run_id, ev.RunDeleted(run_id))
        self._memory.change_run(run_id, lifecycle="deleted")

    def restore_run(self, run_id: str) -> None:
        """Take a deletion back."""
        self._emit(run_id, ev.RunRestored(run_id))
        self._memory.change_run(run_id, lifecycle="active")

    def log_metric(self, run_id: str, metric: Metric) -> None:
        """Log one point of a metric."""
        self.log_batch(run_id, [metric], (), ())

    def log_param(self, run_id: str, param: Any) -> None:
        """Log a param."""
        self.log_batch(run_id, (), [param], ())

    def set_tag(self, run_id: str, tag: Any) -> None:
        """Set a tag."""
        self.log_batch(run_id, (), (), [tag])

    def delete_tag(self, run_id: str, key: str) -> None:
        """Remove a tag."""
        self._emit(run_id, ev.TagDeleted(run_id, key))
        self._memory.delete_tag(run_id, key)

    def log_batch(self, run_id: str, metrics: Any, params: Any, tags: Any) -> None:
        """Log points of metrics, params and tags: all of them, or none where one of them raises.

        Points that ``log_model`` copies from the run's history, in order to say that they are of the model, are there.
        """
        with speaking_mlflow():
            check_run_id(run_id)
            points = [(check_key(one.key, "metric"), _point(one)) for one in metrics]
            if self._told and any(one.model_id is not None for one in metrics):
                points = self._without_copies(run_id, metrics, points)
            texts = {check_key(one.key, "param"): as_text(one.value) for one in params}
            labels = {check_key(one.key, "tag"): as_text(one.value) for one in tags}
        for key, text in texts.items():
            self._check_param(run_id, key, text)
        name = labels.pop(RUN_NAME, None)
        if name is not None:
            self._rename(run_id, name)
        if texts:
            self._emit(run_id, ev.ParamsLogged(run_id, texts))
        for key, point in points:
            self._emit(run_id, ev.MetricLogged(run_id, key, float(point.value), point.step, point.timestamp))
        if labels:
            self._emit(run_id, ev.TagsSet(run_id, labels))
        self._memory.log(run_id, texts, labels, points)

    def log_batch_async(self, run_id: str, metrics: Any, params: Any, tags: Any) -> RunOperations:
        """The same at once, since it does not wait; a queue in memory, as MLflow has it, is lost with the process.

        Errors are raised where the result is waited for, as there.
        """
        done: Future[None] = Future()
        try:
            self.log_batch(run_id, metrics, params, tags)
            done.set_result(None)
        except MlflowException as error:
            done.set_exception(error)
        return RunOperations([done])

    def flush_async_logging(self) -> None:
        """Wait until what was logged is safe: on the disk or, with Kafka, acknowledged."""
        self._session.client.flush()

    def log_inputs(self, run_id: str, datasets: Any = None, models: Any = None) -> None:
        """Keep datasets and models as inputs of a run, in tags; those that this process has logged before stay."""
        with speaking_mlflow():
            tags = dict(map(input_tag, reversed(datasets or ()))) | {
                MODEL_INPUT + one.model_id: "" for one in models or ()
            }
        held = self._memory.run(run_id)
        self._set_tags(run_id, {key: text for key, text in tags.items() if held is None or key not in held.tags})

    def get_metric_history(
        self, run_id: str, metric_key: str, max_results: int | None = None, page_token: str | None = None
    ) -> Any:
        """All points of a metric, or a page of them."""
        page = Page(min(max_results or _MOST, _MOST), page_token or None)
        with speaking_mlflow():
            points, cursor = self._history(run_id, metric_key, page)
            while cursor is not None and max_results is None:
                more, cursor = self._history(run_id, metric_key, Page(_MOST, cursor))
                points += more
        if self._memory.is_running(run_id):
            if len(self._told) > _MOST_TOLD:
                self._told = set()
            self._told.update(_identity(run_id, metric_key, point) for point in points)
        return PagedList([Metric(metric_key, float(one.value), one.timestamp, one.step) for one in points], cursor)

    def _history(self, run_id: str, key: str, page: Page) -> tuple[list[Point], str | None]:
        """A page of points; of a run of this process that no sink has yet, the latest."""
        try:
            found = self._session.read(lambda source: source.metric_page(run_id, key, page))
        except (EnvironmentUnavailableError, NotFoundError):
            held = self._memory.run(run_id)
            if held is None:
                raise
            return [held.metrics[key]] if key in held.metrics else [], None
        return found.points, found.cursor

    def _without_copies(self, run_id: str, metrics: Any, points: list[tuple[str, Point]]) -> list[tuple[str, Point]]:
        """Points without those of a model that this store has just told."""
        told, pairs = self._told, zip(metrics, points, strict=True)
        kept = [pair for one, pair in pairs if one.model_id is None or _identity(run_id, *pair) not in told]
        self._told = set()
        return kept

    def link_traces_to_run(self, trace_ids: list[str], run_id: str) -> None:
        """There are no traces here."""
        raise NotImplementedError("traces are not kept by runstream")

    def _search_runs(
        self,
        experiment_ids: list[str],
        filter_string: str | None,
        run_view_type: int,
        max_results: int,
        order_by: list[str] | None,
        page_token: str | None,
    ) -> tuple[list[Run], str | None]:
        page, lifecycle = Page(min(max_results, _MOST), page_token or None), _LIFECYCLES[run_view_type]
        ids = [str(one) for one in experiment_ids]
        with speaking_mlflow():
            found = self._session.read(
                lambda source: source.search_runs(ids, filter_string or "", order_by or (), lifecycle, page)
            )
        return [run_entity(held) for held in found.runs], found.cursor

    def _rename(self, run_id: str, name: str) -> None:
        self._emit(run_id, ev.RunUpdated(run_id, name=name))
        self._memory.change_run(run_id, name=name)

    def _check_param(self, run_id: str, key: str, text: str) -> None:
        held = self._memory.param(run_id, key)
        if held is not None and held != text:
            raise MlflowException(
                f"Changing param values is not allowed. Param with key='{key}' was already logged with "
                f"value='{held:.200}' for run ID='{run_id}'. Attempted logging new value '{text:.200}'.",
                INVALID_PARAMETER_VALUE,
            )

    def _emit(self, run_id: str, event: Any) -> None:
        with speaking_mlflow():
            check_run_id(run_id)
        self._session.emit(event)


def _spare_spark() -> None:
    """Spare each log call two looks for a Spark session, which take four times as long as all the rest of it.

    MLflow looks for one that names a model registry where nothing else does.  Where there is no pyspark, the empty
    address says at once what that look would find: that the registry is where the tracking URI says.
    """
    unset = "MLFLOW_REGISTRY_URI" not in os.environ and mlflow.get_registry_uri() == mlflow.get_tracking_uri()
    if unset and find_spec("pyspark") is None:
        mlflow.set_registry_uri("")


def _now() -> int:
    return time.time_ns() // 1_000_000


def _identity(run_id: str, key: str, point: Point) -> tuple[str, str, int, int, str]:
    """What two equal points have in common, NaN included."""
    return run_id, key, point.step, point.timestamp, repr(float(point.value))


def _point(metric: Any) -> Point:
    timestamp = _now() if metric.timestamp is None else as_integer(metric.timestamp, "timestamp")
    return Point(as_float(metric.key, metric.value), as_integer(metric.step or 0, "step"), timestamp)
