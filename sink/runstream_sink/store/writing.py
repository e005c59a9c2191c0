"""One commit as one SQLite transaction, run as a whole in the connection's thread."""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from runstream_sink.changes import Changes, MetricPoint
from runstream_sink.intervals import IntervalSet
from runstream_sink.store.ids import IdCache, Resolved, wanted
from runstream_sink.store.lru import LruCache
from runstream_sink.store.points import Metric, Points, insert_points, latest_point, latest_row, points_by_metric
from runstream_sink.store.protocol import Commit, FencedError
from runstream_sink.store.rollup_rows import MetricRollups
from runstream_sink.store.statements import SQL, execute_all
from runstream_sink.store.table_rows import TableRows
from runstream_sink.tables.parts import TableState

__all__ = ["Writer"]

_RUNS_CACHED: Final = 50_000
_KEYS_CACHED: Final = 50_000
_PRODUCERS_CACHED: Final = 50_000
_INTERVALS_CACHED: Final = 100_000
_NONE: Final = (None, None, None, None)


class Writer:
    """The transactions of a store, and what is remembered between them.

    Used by one thread.  What a transaction learns goes into the caches when it is committed, never before.
    """

    def __init__(self) -> None:
        self._runs: IdCache[str] = IdCache("run", _RUNS_CACHED)
        self._keys: IdCache[str] = IdCache("key", _KEYS_CACHED)
        self._producers: IdCache[bytes] = IdCache("producer", _PRODUCERS_CACHED)
        self._seen: LruCache[bytes, IntervalSet] = LruCache(_INTERVALS_CACHED, _intervals)
        self._tables = TableRows()
        self._rollups = MetricRollups()

    def seen(self, connection: sqlite3.Connection, producer_ids: Iterable[bytes]) -> dict[bytes, IntervalSet]:
        """The seqs that were applied, by producer."""
        held, missing = self._seen.find(producer_ids)
        if missing:
            loaded = {producer_id: IntervalSet() for producer_id in missing}
            for producer_id, first, last in connection.execute(SQL["find_seen"], (wanted(missing),)):
                loaded[producer_id].add(first, last)
            self._seen.update(loaded)
            held |= loaded
        return held

    def tables(
        self, connection: sqlite3.Connection, keys: Iterable[tuple[str, str]]
    ) -> dict[tuple[str, str], TableState]:
        """States of tables, by (run_id, table)."""
        return self._tables.states(connection, keys)

    def commit(self, connection: sqlite3.Connection, commit: Commit, now: int) -> None:
        """Write ``commit``; ``now`` is the time in milliseconds since the epoch."""
        connection.execute("BEGIN IMMEDIATE")
        try:
            seen = self._write(connection, commit, now)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            for cache in self._caches():
                cache.rollback()
            raise
        for cache in self._caches():
            cache.commit()
        self._seen.update(seen)

    def _write(self, connection: sqlite3.Connection, commit: Commit, now: int) -> dict[bytes, IntervalSet]:
        """Write everything; return the new intervals by producer."""
        changes = commit.changes
        _move_positions(connection, commit)
        producers = self._producers.resolve(connection, _producer_ids(commit))
        execute_all(connection, "insert_producer", producers.new.items())
        keys = self._keys.resolve(connection, _keys(changes))
        execute_all(connection, "insert_key", keys.new.items())
        runs = self._runs.resolve(connection, _run_ids(commit))
        seen = self._write_seen(connection, changes, producers.ids)
        _write_experiments(connection, changes, keys.ids)
        execute_all(connection, "insert_run", _new_runs(changes, runs.new))
        if len(runs.new) < len(runs.ids):
            _update_runs(connection, changes, {name: run for name, run in runs.ids.items() if name not in runs.new})
        _write_values(connection, commit, runs.ids, keys.ids)
        if changes.metrics:
            self._write_metrics(connection, commit, runs, keys.ids, producers.ids)
        self._tables.write(connection, commit, runs.ids)
        _write_incidents(connection, commit, producers.ids, now)
        return seen

    def _caches(self) -> tuple[IdCache[str] | IdCache[bytes] | TableRows | MetricRollups, ...]:
        return self._runs, self._keys, self._producers, self._tables, self._rollups

    def _write_metrics(
        self,
        connection: sqlite3.Connection,
        commit: Commit,
        runs: Resolved[str],
        keys: Mapping[str, int],
        producers: Mapping[bytes, int],
    ) -> None:
        """Points, how many each metric has, its rollup and its latest point."""
        metrics = added = points_by_metric(commit.changes.metrics, runs.ids, keys)
        if commit.retried:  # somebody may have retried the same dead letter before
            added = {metric: _missing(connection, metric, held.points, producers) for metric, held in metrics.items()}
        insert_points(connection, added, producers)
        counts = self._rollups.write(connection, added, runs.new.values())
        latest = (
            (*latest_row(metric, latest_point(held.points)), counts.get(metric, len(added[metric])))
            for metric, held in metrics.items()
        )
        execute_all(connection, "put_latest_metric", latest)
        execute_all(connection, "set_metric_points", ((*metric, count) for metric, count in counts.items()))

    def _write_seen(
        self, connection: sqlite3.Connection, changes: Changes, producers: Mapping[bytes, int]
    ) -> dict[bytes, IntervalSet]:
        held = self.seen(connection, changes.seen)
        after: dict[bytes, IntervalSet] = {}
        gone: list[tuple[int, int]] = []
        put: list[tuple[int, int, int]] = []
        for producer_id, intervals in changes.seen.items():
            before = held[producer_id]
            now = after[producer_id] = before.copy()
            for first, last in intervals:
                if now.missing(first, last) != [(first, last)]:
                    raise FencedError(
                        f"events {first} to {last} of producer {producer_id.hex()} were applied meanwhile"
                    )
                now.add(first, last)
            old, new = dict(before), dict(now)
            producer = producers[producer_id]
            gone += [(producer, first) for first in old if first not in new]
            put += [(producer, first, last) for first, last in new.items() if old.get(first) != last]
        execute_all(connection, "delete_seen", gone)
        execute_all(connection, "put_seen", put)
        return after


def _intervals(seen: IntervalSet) -> int:
    """What a cached set weighs."""
    return 1 + sum(1 for _ in seen)


def _move_positions(connection: sqlite3.Connection, commit: Commit) -> None:
    for part, (expected, new) in commit.positions.items():
        row = connection.execute(SQL["find_position"], (commit.stream, part)).fetchone()
        held = row[0] if row else None
        if held != expected:
            raise FencedError(
                f"part {part} of stream {commit.stream} stands at {held}, not at {expected}: another sink consumes it"
            )
        connection.execute(SQL["put_position"], (commit.stream, part, new))


def _producer_ids(commit: Commit) -> Iterator[bytes]:
    changes = commit.changes
    yield from changes.seen
    yield from (producer_id for producer_id, _, _ in changes.losses)
    yield from (hole.producer_id for hole in changes.holes)
    yield from (letter.producer_id for letter in changes.dead)
    yield from (producer_id for producer_id, _ in changes.resolved)
    yield from (producer_id for producer_id, _ in commit.retried)


def _keys(changes: Changes) -> set[str]:
    keys = {key for _, key in changes.metrics}
    for values in (changes.params, changes.tags, changes.experiment_tags):
        keys |= {key for _, key in values}
    return keys


def _run_ids(commit: Commit) -> set[str]:
    run_ids = set(commit.changes.run_ids)
    run_ids |= {state.run_id for state in commit.tables}
    return run_ids | {run_id for run_id, _, _ in commit.parts}


def _write_experiments(connection: sqlite3.Connection, changes: Changes, keys: Mapping[str, int]) -> None:
    ids = {start.experiment_id for start in changes.run_starts.values()}
    ids |= {experiment_id for experiment_id, _ in changes.experiment_tags}
    ids.update(changes.experiments, changes.experiment_names, changes.experiment_lifecycles)
    execute_all(connection, "insert_experiment", [(int(experiment_id),) for experiment_id in ids])
    created = [(int(e), c.name, c.creation_time, c.order) for e, c in changes.experiments.items()]
    execute_all(connection, "create_experiment", created)
    renamed = [(int(e), name.value, name.order) for e, name in changes.experiment_names.items()]
    execute_all(connection, "rename_experiment", renamed)
    moved = [(int(e), stage.value, stage.order) for e, stage in changes.experiment_lifecycles.items()]
    execute_all(connection, "move_experiment", moved)
    tags = [(int(e), keys[key], tag.value, tag.order) for (e, key), tag in changes.experiment_tags.items()]
    execute_all(connection, "put_experiment_tag", tags)


def _new_runs(changes: Changes, new: Mapping[str, int]) -> Iterator[tuple[Any, ...]]:
    """Whole rows of runs that have none yet."""
    starts, names, statuses = changes.run_starts, changes.run_names, changes.run_statuses
    for run_id, run in new.items():
        start, name = starts.get(run_id), names.get(run_id)
        status, stage = statuses.get(run_id), changes.run_lifecycles.get(run_id)
        yield (
            *(run, run_id),
            *((int(start.experiment_id), start.start_time, start.user, start.order) if start else _NONE),
            *((name.value, name.order) if name else _NONE[:2]),
            *((status.status, status.end_time, status.order) if status else _NONE[:3]),
            *((stage.value, stage.order) if stage else _NONE[:2]),
        )


def _update_runs(connection: sqlite3.Connection, changes: Changes, runs: Mapping[str, int]) -> None:
    """What changes in runs that have a row."""
    starts = [
        (run, int(start.experiment_id), start.start_time, start.user, start.order)
        for run, start in _of(runs, changes.run_starts)
    ]
    execute_all(connection, "start_run", starts)
    execute_all(connection, "name_run", [(run, *reversed(name)) for run, name in _of(runs, changes.run_names)])
    statuses = [(run, status.status, status.end_time, status.order) for run, status in _of(runs, changes.run_statuses)]
    execute_all(connection, "set_run_status", statuses)
    execute_all(connection, "move_run", [(run, *reversed(stage)) for run, stage in _of(runs, changes.run_lifecycles)])


def _of(runs: Mapping[str, int], values: Mapping[str, Any]) -> Iterator[tuple[int, Any]]:
    return ((runs[run_id], value) for run_id, value in values.items() if run_id in runs)


def _write_values(
    connection: sqlite3.Connection, commit: Commit, runs: Mapping[str, int], keys: Mapping[str, int]
) -> None:
    changes, files = commit.changes, commit.files
    params = [(runs[run_id], keys[key], param.value, param.order) for (run_id, key), param in changes.params.items()]
    execute_all(connection, "put_param", params)
    tags = [(runs[run_id], keys[key], tag.value, tag.order) for (run_id, key), tag in changes.tags.items()]
    execute_all(connection, "put_tag", tags)
    artifacts = [
        (runs[run_id], path, bytes.fromhex(a.sha256), a.size, a.media_type, files.get((run_id, path), path), a.order)
        for (run_id, path), a in changes.artifacts.items()
    ]
    execute_all(connection, "put_artifact", artifacts)


def _missing(
    connection: sqlite3.Connection, metric: Metric, points: Iterable[MetricPoint], producers: Mapping[bytes, int]
) -> Points:
    """The points that the store does not have."""

    def is_held(point: MetricPoint) -> bool:
        step, timestamp, _, producer_id, seq, idx = point
        identity = (*metric, step, timestamp, producers[producer_id], seq, idx)
        return connection.execute(SQL["find_point"], identity).fetchone() is not None

    return Points(point for point in points if not is_held(point))


def _write_incidents(connection: sqlite3.Connection, commit: Commit, producers: Mapping[bytes, int], now: int) -> None:
    """Losses, holes and dead letters."""
    changes = commit.changes
    losses = [(producers[p], segment, reason, count) for (p, segment, reason), count in changes.losses.items()]
    execute_all(connection, "put_loss", losses)
    execute_all(connection, "put_hole", [(producers[h.producer_id], h.first, h.last, h.reason) for h in changes.holes])
    retried = [(now, producers[producer_id], seq) for producer_id, seq in commit.retried]
    execute_all(connection, "retry_dead_letter", retried)
    dead = [(producers[d.producer_id], d.seq, d.emit_ts, d.reason, d.detail, d.raw, now) for d in changes.dead]
    execute_all(connection, "put_dead_letter", dead)
    resolved = [(now, producers[producer_id], seq) for producer_id, seq in changes.resolved]
    execute_all(connection, "resolve_dead_letter", resolved)
