"""Counts and rollups of metrics as rows, kept while points are written."""

import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from runstream_sink.store.ids import wanted
from runstream_sink.store.lru import LruCache
from runstream_sink.store.points import Metric, Points
from runstream_sink.store.rollup import Summary, coarsen, fit, fold, is_rolled, merge_into
from runstream_sink.store.statements import SQL, execute_all

__all__ = ["MetricRollups", "rebuild"]

_METRICS_CACHED: Final = 100_000
_POINTS_AT_ONCE: Final = 1 << 16


class _State(NamedTuple):
    """What a metric has: how many points, and if it is rolled up the scale and the outermost buckets."""

    points: int = 0
    scale: int = 0
    low: int = 0
    high: int = 0


class MetricRollups:
    """How many points each metric has, and the rollups of those that have many.

    What a transaction writes is remembered by ``commit`` only.
    """

    def __init__(self) -> None:
        self._cache: LruCache[Metric, _State] = LruCache(_METRICS_CACHED)
        self._pending: dict[Metric, _State] = {}

    def write(
        self, connection: sqlite3.Connection, added: Mapping[Metric, Points], new_runs: Iterable[int]
    ) -> dict[Metric, int]:
        """Fold in points, which are in the table ``metrics`` already; returns the counts of the metrics of old runs.

        ``new_runs`` had none before.
        """
        fresh = set(new_runs)
        grown = [metric for metric, points in added.items() if metric[0] not in fresh or is_rolled(len(points))]
        held = self._states(connection, grown)
        gone: list[Metric] = []
        put: list[tuple[Any, ...]] = []
        for metric in grown:
            before = held[metric]
            points = before.points + len(added[metric])
            state = before._replace(points=points)
            if is_rolled(points):
                state, summaries = _roll(connection, metric, state, before, added[metric])
                if is_rolled(before.points) and state.scale != before.scale:
                    gone.append(metric)
                put += [(*metric, bucket, state.scale, *summary) for bucket, summary in summaries.items()]
            self._pending[metric] = state
        execute_all(connection, "delete_rollup", gone)
        execute_all(connection, "put_rollup", put)
        return {metric: self._pending[metric].points for metric in grown if metric[0] not in fresh}

    def commit(self) -> None:
        """Remember what was written: its transaction is committed."""
        self._cache.update(self._pending)
        self._pending = {}

    def rollback(self) -> None:
        """Forget what was written: its transaction is gone."""
        self._pending = {}

    def _states(self, connection: sqlite3.Connection, metrics: Iterable[Metric]) -> dict[Metric, _State]:
        held, missing = self._cache.find(metrics)
        if missing:
            held |= dict.fromkeys(missing, _State())
            for run, key, points, *rollup in connection.execute(SQL["find_metric_states"], (wanted(missing),)):
                held[run, key] = _State(points, *(rollup if is_rolled(points) else ()))
        return held


def rebuild(connection: sqlite3.Connection) -> None:
    """Make the rollups of all metrics anew, from their points and the counts of these."""
    connection.execute(SQL["delete_rollups"])
    counts = connection.execute(SQL["all_metric_counts"]).fetchall()
    for run, key, points in counts:
        if is_rolled(points):
            state, summaries = _scan(connection, (run, key), points)
            execute_all(
                connection,
                "put_rollup",
                [(run, key, bucket, state.scale, *summary) for bucket, summary in summaries.items()],
            )


def _roll(
    connection: sqlite3.Connection, metric: Metric, state: _State, before: _State, added: Points
) -> tuple[_State, dict[int, Summary]]:
    """The state afterwards, and the summaries that change: all of them where the scale does."""
    if not is_rolled(before.points):
        return _scan(connection, metric, state.points)
    if not added:
        return state, {}
    more = added.value_rows()
    low = min(state.low, more[0][0] >> state.scale)
    high = max(state.high, more[-1][0] >> state.scale)
    scale = fit(low, high, state.scale)
    bits = scale - state.scale
    fresh = fold(more, scale)
    first, last = (state.low, state.high) if bits else (min(fresh), max(fresh))
    held = coarsen(connection.execute(SQL["find_rollup"], (*metric, first, last)).fetchall(), bits)
    merge_into(held, fresh)
    changed = held if bits else {bucket: held[bucket] for bucket in fresh}
    return _State(state.points, scale, low >> bits, high >> bits), changed


def _scan(connection: sqlite3.Connection, metric: Metric, points: int) -> tuple[_State, dict[int, Summary]]:
    """The whole rollup, from the points in the store."""
    low, high = connection.execute(SQL["find_extent"], {"run": metric[0], "key": metric[1]}).fetchone()
    scale = fit(low, high)
    found: dict[int, Summary] = {}
    cursor = connection.execute(SQL["find_points"], metric)
    while rows := cursor.fetchmany(_POINTS_AT_ONCE):
        merge_into(found, fold(rows, scale))
    return _State(points, scale, low >> scale, high >> scale), found
