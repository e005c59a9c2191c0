"""The methods of ``runstream.MlflowClient`` that make and change runs and log to them: events, and no waiting."""

import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from runstream import files
from runstream.client import client
from runstream.experiments import checked_id
from runstream.inputs import as_integer, as_text, check_tags
from runstream.run import Run, find_run
from runstream.starting import begin
from runstream.tracking.datasets import input_tag
from runstream.tracking.entities import Run as Entity
from runstream.tracking.entities import RunData, RunInputs
from runstream.tracking.entities import RunInfo as Info
from runstream_schemas import events as ev
from runstream_schemas.errors import InvalidInputError
from runstream_schemas.names import check_path, check_run_id

__all__ = ["RunMethods"]

_RUN_NAME: Final = "mlflow.runName"
_REMEMBERED: Final = 1000
"""Runs whose params are remembered, so that a second value raises; and inputs, so that the first one holds."""


class RunMethods:
    """Writing.  ``synchronous``, ``model_id``, ``dataset_name`` and ``dataset_digest`` mean nothing here."""

    def __init__(self) -> None:
        self._runs: OrderedDict[str, Run] = OrderedDict()
        self._inputs: OrderedDict[str, None] = OrderedDict()

    def create_run(
        self,
        experiment_id: str,
        start_time: int | None = None,
        tags: dict[str, Any] | None = None,
        run_name: str | None = None,
    ) -> Entity:
        """Begin a run, which is not made the active one, and is not ended when the program ends."""
        given = check_tags(tags or {})
        name = given.pop(_RUN_NAME, None)
        started = None if start_time is None else as_integer(start_time, "start_time")
        run = begin(checked_id(experiment_id), run_name or name, given.get("mlflow.user", "unknown"), started)
        if given:
            client.emit(ev.TagsSet(run.run_id, given))
        self._remember(run)
        return Entity(
            _info(run),
            RunData({}, {}, {**given, _RUN_NAME: str(run.name)}),
            RunInputs([]),
        )

    def update_run(self, run_id: str, status: str | None = None, name: str | None = None) -> None:
        """Change a run's status or name; it is not ended by that."""
        run = self._run(run_id)
        if name is not None:
            run.rename(name)
        if status is not None:
            client.emit(ev.RunUpdated(run.run_id, status=_checked(status)))

    def set_terminated(self, run_id: str, status: str | None = None, end_time: int | None = None) -> None:
        """End a run with a status, ``FINISHED`` by default, at a time in milliseconds, or now."""
        ended = time.time_ns() // 1_000_000 if end_time is None else as_integer(end_time, "end_time")
        client.emit(ev.RunEnded(check_run_id(run_id), _checked(status or "FINISHED"), ended))

    def delete_run(self, run_id: str) -> None:
        """Mark a run deleted."""
        client.emit(ev.RunDeleted(check_run_id(run_id)))

    def restore_run(self, run_id: str) -> None:
        """Take a deletion back."""
        client.emit(ev.RunRestored(check_run_id(run_id)))

    def log_metric(
        self,
        run_id: str,
        key: str,
        value: float,
        timestamp: int | None = None,
        step: int | None = None,
        synchronous: bool | None = None,
        dataset_name: str | None = None,
        dataset_digest: str | None = None,
        model_id: str | None = None,
    ) -> None:
        """Log one point of a metric."""
        del synchronous, dataset_name, dataset_digest, model_id
        self._run(run_id).log_metric(key, value, step, timestamp)

    def log_param(self, run_id: str, key: str, value: Any, synchronous: bool | None = None) -> Any:
        """Log a param; returns the value."""
        del synchronous
        return self._run(run_id).log_param(key, value)

    def set_tag(self, run_id: str, key: str, value: Any, synchronous: bool | None = None) -> None:
        """Set a tag; ``mlflow.runName`` is the run's name."""
        del synchronous
        self._set_tags(self._run(run_id), {key: value})

    def delete_tag(self, run_id: str, key: str) -> None:
        """Remove a tag."""
        self._run(run_id).delete_tag(key)

    def log_batch(
        self,
        run_id: str,
        metrics: Sequence[Any] = (),
        params: Sequence[Any] = (),
        tags: Sequence[Any] = (),
        synchronous: bool | None = None,
    ) -> None:
        """Log points, params and tags: objects with the attributes of `Metric`, `Param` and `RunTag`."""
        del synchronous
        run = self._run(run_id)
        run.log_params({one.key: one.value for one in params})
        for one in metrics:
            run.log_metric(one.key, one.value, one.step, one.timestamp)
        self._set_tags(run, {one.key: one.value for one in tags})

    def log_inputs(
        self, run_id: str, datasets: Sequence[Any] | None = None, models: Sequence[Any] | None = None
    ) -> None:
        """Keep datasets as inputs of a run, as they were logged first by this client; models are refused."""
        if models:
            raise InvalidInputError("models are not kept by runstream, so they cannot be inputs of a run")
        run = self._run(run_id)
        tags = dict(map(input_tag, reversed(datasets or ())))
        fresh = {key: text for key, text in tags.items() if run_id + key not in self._inputs}
        run.set_tags(fresh)
        self._inputs.update(dict.fromkeys(run_id + key for key in fresh))
        while len(self._inputs) > _REMEMBERED:
            self._inputs.popitem(last=False)

    def log_artifact(self, run_id: str, local_path: str | Path, artifact_path: str | None = None) -> None:
        """Log a file or directory as it is now."""
        self._run(run_id).log_artifact(local_path, artifact_path)

    def log_artifacts(self, run_id: str, local_dir: str | Path, artifact_path: str | None = None) -> None:
        """Log all files of a directory."""
        self._run(run_id).log_artifacts(local_dir, artifact_path)

    def log_stream(self, run_id: str, stream: Any, artifact_file: str) -> None:
        """Log what a binary or text stream holds as a file."""
        content = stream.read()
        data = content.encode() if isinstance(content, str) else bytes(content)
        files.log_bytes(client, check_run_id(run_id), check_path(artifact_file, "the artifact's path"), data)

    def log_text(self, run_id: str, text: str, artifact_file: str) -> None:
        """Log text as a file."""
        self._run(run_id).log_text(text, artifact_file)

    def log_dict(self, run_id: str, dictionary: Any, artifact_file: str) -> None:
        """Log a dict or list as JSON or YAML."""
        self._run(run_id).log_dict(dictionary, artifact_file)

    def log_figure(
        self, run_id: str, figure: Any, artifact_file: str, *, save_kwargs: dict[str, Any] | None = None
    ) -> None:
        """Log a matplotlib or plotly figure."""
        self._run(run_id).log_figure(figure, artifact_file, save_kwargs=save_kwargs)

    def log_image(
        self,
        run_id: str,
        image: Any,
        artifact_file: str | None = None,
        key: str | None = None,
        step: int | None = None,
        timestamp: int | None = None,
        synchronous: bool | None = None,
    ) -> None:
        """Log an image."""
        del synchronous
        self._run(run_id).log_image(image, artifact_file, key=key, step=step, timestamp=timestamp)

    def log_table(self, run_id: str, data: Any, artifact_file: str) -> None:
        """Append rows to a table; see `Run.log_table`."""
        self._run(run_id).log_table(data, artifact_file)

    def _run(self, run_id: str) -> Run:
        run = self._runs.get(run_id) or find_run(check_run_id(run_id)) or Run(client, run_id, "")
        self._remember(run)
        return run

    def _remember(self, run: Run) -> None:
        self._runs[run.run_id] = run
        if len(self._runs) > _REMEMBERED:
            self._runs.popitem(last=False)

    @staticmethod
    def _set_tags(run: Run, tags: dict[str, Any]) -> None:
        name = tags.pop(_RUN_NAME, None)
        if name is not None:
            run.rename(as_text(name))
        run.set_tags(tags)


def _info(run: Run) -> Info:
    held = run.info
    return Info(**{name: getattr(held, name) for name in Info.__struct_fields__})


def _checked(status: str) -> str:
    if status not in ev.RUN_STATUSES:
        raise InvalidInputError(f"run status {status!r:.80} is none of {', '.join(ev.RUN_STATUSES)}")
    return status
