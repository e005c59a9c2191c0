"""What this process has logged to the runs and experiments that it made: the answer where no sink has one yet."""

import math
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, Final

from msgspec.structs import replace

from runstream.artifacts import Staged
from runstream.tracking.records import ExperimentRecord, Point, RunRecord

__all__ = ["Memory"]

_MOST: Final = 1000


class Memory:
    """The newest runs and experiments that were made here.  Thread-safe."""

    def __init__(self) -> None:
        self._runs: OrderedDict[str, RunRecord] = OrderedDict()
        self._experiments: OrderedDict[str, ExperimentRecord] = OrderedDict()
        self._files: OrderedDict[str, dict[str, Staged]] = OrderedDict()
        self._lock = threading.Lock()

    def add_run(self, run: RunRecord) -> None:
        """A run was made."""
        _add(self._runs, run.run_id, run, self._lock)

    def add_experiment(self, experiment: ExperimentRecord) -> None:
        """An experiment was made."""
        _add(self._experiments, experiment.experiment_id, experiment, self._lock)

    def add_file(self, run_id: str, path: str, staged: Staged) -> None:
        """A file was logged."""
        with self._lock:
            self._files.setdefault(run_id, {})[path] = staged
            if len(self._files) > _MOST:
                self._files.popitem(last=False)

    def files(self, run_id: str) -> dict[str, Staged]:
        """By path, the files that were logged one by one to a run."""
        with self._lock:
            return {**self._files.get(run_id, {})}

    def run(self, run_id: str) -> RunRecord | None:
        """What was logged to a run, in dicts of the caller's own; None if it was not made here."""
        with self._lock:
            held = self._runs.get(run_id)
            if held is None:
                return None
            return replace(held, params={**held.params}, metrics={**held.metrics}, tags={**held.tags})

    def param(self, run_id: str, key: str) -> str | None:
        """A param of a run that was made here."""
        held = self._runs.get(run_id)
        return None if held is None else held.params.get(key)

    def is_running(self, run_id: str) -> bool:
        """Whether it is a run that was made here and has not ended."""
        held = self._runs.get(run_id)
        return held is not None and held.status == "RUNNING"

    def experiment(self, experiment_id: str) -> ExperimentRecord | None:
        """An experiment; None if it was not made here."""
        return self._experiments.get(experiment_id)

    def change_run(self, run_id: str, **fields: Any) -> None:
        """Something of a run is otherwise now."""
        with self._lock:
            held = self._runs.get(run_id)
            if held is not None:
                self._runs[run_id] = replace(held, **fields)

    def change_experiment(self, experiment_id: str, **fields: Any) -> None:
        """Something of an experiment is otherwise now."""
        with self._lock:
            held = self._experiments.get(experiment_id)
            if held is not None:
                self._experiments[experiment_id] = replace(held, **fields)

    def log(
        self, run_id: str, params: Mapping[str, str], tags: Mapping[str, str], points: Iterable[tuple[str, Point]]
    ) -> None:
        """Something was logged to a run."""
        with self._lock:
            held = self._runs.get(run_id)
            if held is None:
                return
            for key, value in params.items():
                held.params.setdefault(key, value)
            held.tags.update(tags)
            for key, point in points:
                latest = held.metrics.get(key)
                if latest is None or _rank(point) >= _rank(latest):
                    held.metrics[key] = point

    def delete_tag(self, run_id: str, key: str) -> None:
        """A tag of a run was removed."""
        with self._lock:
            held = self._runs.get(run_id)
            if held is not None:
                held.tags.pop(key, None)


def _add(held: OrderedDict[str, Any], key: str, value: Any, lock: threading.Lock) -> None:
    with lock:
        held[key] = value
        if len(held) > _MOST:
            held.popitem(last=False)


def _rank(point: Point) -> tuple[int, int, float]:
    """The latest point of a metric has the greatest step, then timestamp, then value, NaN being the least."""
    value = float(point.value)
    return point.step, point.timestamp, -math.inf if math.isnan(value) else value
