"""A run: the typed calls that become events.

Log calls check what the caller passed, encode at once (what is logged is what the value was then) and leave the event
in the journal.  They raise `InvalidInputError` for what can never be logged, and nothing else; the exceptions are the
artifact calls, which read files.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self
from weakref import WeakValueDictionary

from runstream import files, media, rows, tables
from runstream.active import leave
from runstream.client import Client
from runstream.inputs import (
    as_float,
    as_integer,
    as_key,
    as_local_path,
    as_text,
    check_mapping,
    check_tags,
    join_path,
    known_keys,
    known_tables,
    learn_key,
    learn_table,
)
from runstream_schemas import events as ev
from runstream_schemas.errors import InvalidInputError, ParamConflictError
from runstream_schemas.events import encode_event
from runstream_schemas.names import check_key, check_path
from runstream_schemas.values import to_text

__all__ = ["DEFAULT_TABLE", "Run", "RunInfo", "find_run"]

DEFAULT_TABLE: Final = "predictions"

_time_ns = time.time_ns
_LEAST, _MOST = -(1 << 63), (1 << 63) - 1
_TEXT: Final = frozenset({str})


class RunInfo(NamedTuple):
    """What this process knows of a run; names as in MLflow's ``run.info``."""

    run_id: str
    experiment_id: str
    run_name: str | None
    user_id: str | None
    status: str
    start_time: int | None
    """Milliseconds since the epoch; None for a run that another process started."""
    end_time: int | None
    artifact_uri: str
    lifecycle_stage: str = "active"


class Run:
    """A run that this process logs to.  Thread-safe.  Works in ``with`` and ``async with``, which end it."""

    def __init__(
        self,
        client: Client,
        run_id: str,
        experiment_id: str,
        *,
        name: str | None = None,
        user: str | None = None,
        start_time: int | None = None,
    ) -> None:
        self.run_id = run_id
        self.experiment_id = experiment_id
        self.name = name
        self._client = client
        self._user = user
        self._start_time = start_time
        self._end_time: int | None = None
        self._status = "RUNNING"
        self._params: dict[str, str] = {}
        _runs[run_id] = self

    @property
    def info(self) -> RunInfo:
        """What this process knows of the run."""
        return RunInfo(
            self.run_id,
            self.experiment_id,
            self.name,
            self._user,
            self._status,
            self._start_time,
            self._end_time,
            self.artifact_uri(),
        )

    def log_param(self, key: str, value: Any) -> Any:
        """Log a param: text, by ``str()``.  Returns the value.

        Raises `ParamConflictError` if this process gave it another value before.
        """
        self.log_params({as_key(key, "param"): value})
        return value

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log several params: all of them, or none where one of them raises."""
        if type(params) is not dict:
            check_mapping(params, "params")
        texts = {}
        for key, value in params.items():
            if key not in known_keys:
                learn_key(key, "param")
            text = texts[key] = as_text(value)
            held = self._params.get(key)
            if held is not None and held != text:
                raise ParamConflictError(
                    f"param {key!r} of run {self.run_id} has the value {held!r:.200} and cannot be changed to "
                    f"{text!r:.200}; log it under another key"
                )
        if texts:
            self._params.update(texts)
            self._client.emit(ev.ParamsLogged(self.run_id, texts))

    def log_metric(self, key: str, value: float, step: int | None = None, timestamp: int | None = None) -> None:
        """Log one point of a metric: a double, at a step (default 0) and a time (milliseconds, default now).

        The value may be anything that ``float()`` takes; step and timestamp are integers of 64 bits.
        """
        if type(key) is not str or key not in known_keys:
            learn_key(key, "metric")
        if type(value) is not float:
            value = as_float(key, value)
        if step is None:
            step = 0
        elif type(step) is not int or not _LEAST <= step <= _MOST:
            step = as_integer(step, "step")
        now = _time_ns()
        timestamp = now // 1_000_000 if timestamp is None else as_integer(timestamp, "timestamp")
        event = ev.MetricLogged(self.run_id, key, value, step, timestamp)
        client = self._client
        if client.samples_points:
            client.emit_points(event)
        else:
            client.emit_body(encode_event(event), now)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None, timestamp: int | None = None) -> None:
        """Log one point of each of several metrics, at one step and time."""
        if type(metrics) is not dict:
            check_mapping(metrics, "metrics")
        values = {}
        for key, value in metrics.items():
            if key not in known_keys:
                learn_key(key, "metric")
            values[key] = value if type(value) is float else as_float(key, value)
        if step is None:
            step = 0
        elif type(step) is not int or not _LEAST <= step <= _MOST:
            step = as_integer(step, "step")
        now = _time_ns()
        timestamp = now // 1_000_000 if timestamp is None else as_integer(timestamp, "timestamp")
        if not values:
            return
        event = ev.MetricsLogged(self.run_id, values, step, timestamp)
        client = self._client
        if client.samples_points:
            client.emit_points(event)
        else:
            client.emit_body(encode_event(event), now)

    def set_tag(self, key: str, value: Any) -> None:
        """Set a tag: text, by ``str()``; the last value holds."""
        self.set_tags({as_key(key, "tag"): value})

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Set several tags."""
        texts = check_tags(tags)
        if texts:
            self._client.emit(ev.TagsSet(self.run_id, texts))

    def delete_tag(self, key: str) -> None:
        """Remove a tag."""
        self._client.emit(ev.TagDeleted(self.run_id, check_key(key, "tag")))

    def log_prediction(self, row: Mapping[str, Any], table: str = DEFAULT_TABLE) -> None:
        """Append one row, column name to value, to a table.  Values: see `runstream_schemas.values`."""
        if type(row) is not dict and not isinstance(row, Mapping):
            raise InvalidInputError(
                f"a prediction is a dict of column to value, not {type(row).__name__}: {to_text(row):.100}"
            )
        name = known_tables.get(table) if type(table) is str else None
        if name is None:
            name = learn_table(table)
        client = self._client
        if client.shapes_rows:
            shaped = rows.shape(client, self.run_id, row)
            if shaped is None:
                return
            row = shaped
        row = dict(row)  # at one moment: another thread may be changing it
        columns, values = list(row), list(row.values())
        if not columns or not _TEXT.issuperset(map(type, columns)):
            (block,) = tables.to_columns([row])
            columns = block.columns
        body = client.encoder.encode(ev.RowsLogged(self.run_id, name, columns, [values]))
        if len(body) > client.claim_size:
            rows.log_large_row(client, self.run_id, name, columns, values)
        else:
            client.emit_body(body)

    def log_predictions(
        self,
        rows: Any = None,
        table: str = DEFAULT_TABLE,
        *,
        inputs: Any = None,
        outputs: Any = None,
        prompts: Any = None,
    ) -> None:
        """Append rows (a list of dicts, a dict of columns, a DataFrame), or ``inputs``, ``outputs`` and ``prompts``.

        The second form is the habit of MLflow's LLM logging: three lists of equal length become three columns.
        """
        if rows is None:
            rows = tables.predictions(inputs, outputs, prompts)
        elif inputs is not None or outputs is not None or prompts is not None:
            raise InvalidInputError("log_predictions takes either rows, or inputs, outputs and prompts; not both")
        self.log_table(rows, table)

    def log_table(self, data: Any, artifact_file: str) -> None:
        """Append rows to a table: a dict of columns, a list of rows, or a DataFrame.

        ``artifact_file`` names the table; ``x.csv``, ``x.json`` and ``x`` are the same one.
        """
        rows.log_table(self._client, self.run_id, learn_table(artifact_file), data)

    def log_artifact(self, local_path: str | Path, artifact_path: str | None = None) -> None:
        """Log a file, or a directory with all in it, as it is now.  It may be changed or removed right after.

        Except a file above ``background_size``, which is copied in the background: where the file system cannot clone
        it, it may be removed but not written to until `flush` returns; if it is, it is reported as lost.

        Raises `InvalidInputError` if it does not exist, `EnvironmentUnavailableError` if it cannot be read or staged.
        """
        source = as_local_path(local_path)
        if source.is_dir():
            self.log_artifacts(source, join_path(artifact_path, source.resolve().name))
            return
        path = check_path(join_path(artifact_path, source.name), "the artifact's path")
        files.log_file(self._client, self.run_id, path, source)

    async def alog_artifact(self, local_path: str | Path, artifact_path: str | None = None) -> None:
        """`log_artifact` in a thread, so that the event loop goes on."""
        import asyncio

        await asyncio.to_thread(self.log_artifact, local_path, artifact_path)

    def log_artifacts(self, local_dir: str | Path, artifact_path: str | None = None) -> None:
        """Log all files of a directory, with their paths in it.

        Raises `InvalidInputError`, before anything is logged, if it is no directory or a file has a name that cannot
        be logged; `EnvironmentUnavailableError` if a file cannot be read or staged.
        """
        files.log_directory(self._client, self.run_id, as_local_path(local_dir), artifact_path)

    def log_text(self, text: str, artifact_file: str) -> None:
        """Log text as a file."""
        path = check_path(artifact_file, "the artifact's path")
        files.log_bytes(self._client, self.run_id, path, media.text_bytes(text))

    def log_dict(self, dictionary: Any, artifact_file: str) -> None:
        """Log a dict (or list) as a JSON file, or as YAML where the name ends so."""
        path = check_path(artifact_file, "the artifact's path")
        files.log_bytes(self._client, self.run_id, path, media.dict_bytes(dictionary, path))

    def log_image(
        self,
        image: Any,
        artifact_file: str | None = None,
        *,
        key: str | None = None,
        step: int | None = None,
        timestamp: int | None = None,
    ) -> None:
        """Log a PIL image or a numpy array as an image file; or, with ``key`` and ``step``, as one of a series."""
        if (artifact_file is None) == (key is None):
            raise InvalidInputError("log_image takes either artifact_file or key")
        if artifact_file is None:
            check_key(key, "image")
            milliseconds = _time_ns() // 1_000_000 if timestamp is None else as_integer(timestamp, "timestamp")
            unique = f"{self._client.random.getrandbits(128):032x}"
            artifact_file = media.image_path(str(key), as_integer(step or 0, "step"), milliseconds, unique)
        path = check_path(artifact_file, "the artifact's path")
        picture = media.as_picture(image)
        files.log_bytes(self._client, self.run_id, path, media.image_bytes(picture, path))
        if key is not None:
            if preview := media.preview_bytes(picture):
                files.log_bytes(self._client, self.run_id, media.preview_path(path), preview)
            self.set_tag("mlflow.loggedImages", "True")

    def log_figure(self, figure: Any, artifact_file: str, *, save_kwargs: Mapping[str, Any] | None = None) -> None:
        """Log a matplotlib or plotly figure, in the format that the file's name says."""
        path = check_path(artifact_file, "the artifact's path")
        files.log_bytes(self._client, self.run_id, path, media.figure_bytes(figure, path, save_kwargs))

    def artifact_uri(self, artifact_path: str | None = None) -> str:
        """Where the sink puts this run's artifacts."""
        root = f"{self._client.config.artifacts}/{self.run_id}"
        return root if artifact_path is None else f"{root}/{check_path(artifact_path, 'the artifact path')}"

    def rename(self, name: str) -> None:
        """Change the run's name."""
        self.name = as_text(name)
        self._client.emit(ev.RunUpdated(self.run_id, name=self.name))

    def resume(self, name: str | None = None) -> None:
        """Go on with a run that was ended, here or elsewhere, perhaps under another name."""
        self._status, self._end_time = "RUNNING", None
        if name is not None:
            self.name = name
        self._client.emit(ev.RunUpdated(self.run_id, name=name, status="RUNNING"))

    def end(self, status: str = "FINISHED") -> None:
        """End the run with one of MLflow's statuses: FINISHED, FAILED, KILLED (or RUNNING or SCHEDULED).

        It is no longer the active run of this context.
        """
        if status not in ev.RUN_STATUSES:
            raise InvalidInputError(f"run status {status!r:.80} is none of {', '.join(ev.RUN_STATUSES)}")
        leave(self)
        self._status, self._end_time = status, _time_ns() // 1_000_000
        self._client.active_runs.pop(self.run_id, None)
        self._client.emit(ev.RunEnded(self.run_id, status, self._end_time))

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything logged so far is on the disk; False if ``timeout`` seconds were not enough."""
        return self._client.flush(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        leave(self)
        if self.run_id in self._client.active_runs:  # else it was ended, or it is a forked child that leaves the block
            self.end("FINISHED" if kind is None else "FAILED")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def __repr__(self) -> str:
        return f"<Run {self.run_id} {self.name!r}>"


def find_run(run_id: str) -> Run | None:
    """The `Run` of this process with that id, if one is still in use."""
    return _runs.get(run_id)


_runs: WeakValueDictionary[str, Run] = WeakValueDictionary()
