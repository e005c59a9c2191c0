"""Events to changes: pure, and commutative, so that order, redelivery and partitioning cannot change a store.

Rules (each competition is decided by the events' order, never by the user's timestamps):

===================================  =====================================================
a run's start, a param               first wins
names, statuses, tags, lifecycles,
an artifact's content at a path      last wins; a deletion is a tombstone in the same order
metric points, table rows            a set by identity: all of them
===================================  =====================================================

An event that cannot be applied becomes a dead letter with its reason and its bytes; the stream goes on.  An applier
checks everything before it changes anything, so that a dead event leaves nothing behind.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final

from runstream_schemas import events as ev
from runstream_schemas.batch import Batch
from runstream_schemas.errors import CorruptDataError, InvalidInputError, RunstreamError
from runstream_schemas.events import Event, decode_event
from runstream_schemas.names import check_key, check_path
from runstream_schemas.segment import Hole, Record
from runstream_sink.changes import (
    ARTIFACT_PENDING,
    ArtifactChange,
    Changes,
    DeadLetter,
    ExperimentCreation,
    HoleSeen,
    MetricPoint,
    RowsEntry,
    RunStart,
    RunStatus,
    TagValue,
    order_of,
)
from runstream_sink.intervals import IntervalSet
from runstream_sink.rules import (
    INT64,
    check_columns,
    check_experiment,
    check_point,
    check_rows,
    check_status,
    check_time,
    keep_first,
    keep_last,
    touch_run,
)
from runstream_sink.unreadable import reason_of

__all__ = ["apply"]


def apply(batches: Iterable[Batch], seen: Mapping[bytes, IntervalSet]) -> Changes:
    """What the events of ``batches`` that are not in ``seen`` (by producer_id) change.  ``seen`` is left as it is."""
    changes = Changes()
    known: dict[bytes, IntervalSet] = {}
    for batch in batches:
        producer_id = batch.producer_id
        if producer_id not in known:
            known[producer_id] = seen[producer_id].copy() if producer_id in seen else IntervalSet()
        fresh = _fresh_records(batch, known[producer_id], changes)
        _apply_records(changes, producer_id, fresh)
        _apply_holes(changes, batch, known[producer_id])
    return changes


def _fresh_records(batch: Batch, known: IntervalSet, changes: Changes) -> list[Record]:
    """The records that were not seen before; they are seen from here on."""
    records = batch.records
    if not records:
        return records
    first, last = records[0][0], records[-1][0]
    if last - first + 1 == len(records) and known.missing(first, last) == [(first, last)]:
        fresh = records
        _see(changes, batch.producer_id, known, first, last)
    else:
        fresh = []
        for record in records:
            if record[0] not in known:
                fresh.append(record)
                _see(changes, batch.producer_id, known, record[0], record[0])
    changes.events += len(fresh)
    changes.duplicates += len(records) - len(fresh)
    return fresh


def _see(changes: Changes, producer_id: bytes, known: IntervalSet, first: int, last: int) -> None:
    known.add(first, last)
    changes.seen.setdefault(producer_id, []).append((first, last))


def _apply_holes(changes: Changes, batch: Batch, known: IntervalSet) -> None:
    for hole in batch.holes:
        for first, last in known.missing(hole.first, hole.last):
            _see(changes, batch.producer_id, known, first, last)
            _note_hole(changes, batch.producer_id, Hole(first, last, hole.reason, hole.raw))


def _note_hole(changes: Changes, producer_id: bytes, hole: Hole) -> None:
    changes.holes.append(HoleSeen(producer_id, hole.first, hole.last, hole.reason))
    if hole.raw:
        detail = f"damaged bytes in the journal, in place of events {hole.first} to {hole.last}"
        changes.dead.append(DeadLetter(producer_id, hole.first, 0, hole.reason, detail, hole.raw))


def _apply_records(changes: Changes, producer_id: bytes, records: list[Record]) -> None:
    for record in records:
        seq, emit_ts, body = record
        try:
            event = decode_event(body)
            _APPLIERS[type(event)](changes, event, emit_ts, producer_id, seq)
        except CorruptDataError as error:
            _bury(changes, producer_id, record, *reason_of(error, body))
        except InvalidInputError as error:
            _bury(changes, producer_id, record, "invalid", error)
        except Exception as error:  # noqa: BLE001 - poison never stops the stream, not even through a mistake of ours
            _bury(changes, producer_id, record, "failed", error)


def _bury(changes: Changes, producer_id: bytes, record: Record, reason: str, error: Exception) -> None:
    changes.dead.append(DeadLetter(producer_id, *record[:2], reason, _described(error), record[2]))


def _described(error: Exception) -> str:
    return str(error) if isinstance(error, RunstreamError) else f"{type(error).__name__}: {error}"


def _apply_metric(changes: Changes, event: ev.MetricLogged, _emit_ts: int, producer_id: bytes, seq: int) -> None:
    step, timestamp = event.step, event.timestamp
    check_point(step, timestamp)
    points = changes.metrics.get((event.run_id, event.key))
    if points is None:
        points = _metric(changes, event.run_id, event.key)
    points.append((step, timestamp, event.value, producer_id, seq, 0))


def _apply_metrics(changes: Changes, event: ev.MetricsLogged, _emit_ts: int, producer_id: bytes, seq: int) -> None:
    check_point(event.step, event.timestamp)
    for key in event.metrics:
        check_key(key, "metric")
    touch_run(changes, event.run_id)
    for idx, (key, value) in enumerate(event.metrics.items()):
        points = _metric(changes, event.run_id, key)
        points.append((event.step, event.timestamp, value, producer_id, seq, idx))


def _metric(changes: Changes, run_id: str, key: str) -> list[MetricPoint]:
    """The points of a metric."""
    points = changes.metrics.get((run_id, key))
    if points is None:
        check_key(key, "metric")
        touch_run(changes, run_id)
        points = changes.metrics[run_id, key] = []
    return points


def _apply_params(changes: Changes, event: ev.ParamsLogged, emit_ts: int, producer_id: bytes, seq: int) -> None:
    for key in event.params:
        check_key(key, "param")
    touch_run(changes, event.run_id)
    order = order_of(emit_ts, producer_id, seq)
    for key, value in event.params.items():
        keep_first(changes.params, (event.run_id, key), TagValue(order, value))


def _apply_tags(changes: Changes, event: ev.TagsSet, emit_ts: int, producer_id: bytes, seq: int) -> None:
    for key in event.tags:
        check_key(key, "tag")
    touch_run(changes, event.run_id)
    order = order_of(emit_ts, producer_id, seq)
    for key, value in event.tags.items():
        keep_last(changes.tags, (event.run_id, key), TagValue(order, value))


def _apply_tag_deletion(changes: Changes, event: ev.TagDeleted, emit_ts: int, producer_id: bytes, seq: int) -> None:
    check_key(event.key, "tag")
    touch_run(changes, event.run_id)
    keep_last(changes.tags, (event.run_id, event.key), TagValue(order_of(emit_ts, producer_id, seq), None))


def _apply_rows(changes: Changes, event: ev.RowsLogged, emit_ts: int, producer_id: bytes, seq: int) -> None:
    table = _checked_table(event.table)
    columns = event.columns
    check_rows(table, len(columns), event.rows)
    held = changes.rows.get((event.run_id, table), ())
    if held and held[-1].columns == columns:
        columns = held[-1].columns  # one list for all events that have the same
    else:
        check_columns(table, columns)
        touch_run(changes, event.run_id)
    entry = RowsEntry(producer_id, seq, emit_ts, columns, event.rows)
    changes.rows.setdefault((event.run_id, table), []).append(entry)


@lru_cache(maxsize=10_000)
def _checked_table(name: str) -> str:
    """Few tables have very many rows."""
    return check_path(name, "the table's name")


def _apply_artifact(changes: Changes, event: ev.ArtifactLogged, emit_ts: int, producer_id: bytes, seq: int) -> None:
    path = check_path(event.path, "the artifact's path")
    if len(event.sha256) != 64 or not _HEXADECIMAL.issuperset(event.sha256) or not 0 <= event.size < INT64:
        raise InvalidInputError(f"artifact {path!r}: sha256 {event.sha256!r:.80} or size {event.size} is none")
    touch_run(changes, event.run_id)
    change = ArtifactChange(order_of(emit_ts, producer_id, seq), event.sha256, event.size, event.media_type)
    keep_last(changes.artifacts, (event.run_id, path), change)


def _apply_inlined(changes: Changes, event: ev.ArtifactInlined, emit_ts: int, producer_id: bytes, seq: int) -> None:
    path = check_path(event.path, "the artifact's path")
    touch_run(changes, event.run_id)
    content = event.content
    order = order_of(emit_ts, producer_id, seq)
    change = ArtifactChange(order, sha256(content).hexdigest(), len(content), event.media_type, content)
    keep_last(changes.artifacts, (event.run_id, path), change)


def _apply_pending(changes: Changes, event: ev.ArtifactPending, emit_ts: int, producer_id: bytes, seq: int) -> None:
    """Until its bytes come, the event is dead: nothing tells a process that is still copying from one that is gone."""
    path = check_path(event.path, "the artifact's path")
    touch_run(changes, event.run_id)
    detail = (
        f"artifact {path!r:.300} of run {event.run_id}, {event.size} bytes, is being copied; if its process has ended, "
        "it never came"
    )
    raw = ev.encode_event(event)
    changes.dead.append(DeadLetter(producer_id, seq, emit_ts, ARTIFACT_PENDING, detail, raw))


def _apply_completed(
    changes: Changes, event: ev.ArtifactCompleted, _emit_ts: int, _producer_id: bytes, _seq: int
) -> None:
    origin = _pending_of(event)
    if not -INT64 <= event.emit_ts < INT64:
        raise InvalidInputError(f"time {event.emit_ts} does not fit into 64 bits")
    logged = ev.ArtifactLogged(event.run_id, event.path, event.sha256, event.size, event.media_type)
    _apply_artifact(changes, logged, event.emit_ts, *origin)
    changes.resolved.add(origin)


def _apply_failed(changes: Changes, event: ev.ArtifactFailed, emit_ts: int, producer_id: bytes, seq: int) -> None:
    origin = _pending_of(event)
    path = check_path(event.path, "the artifact's path")
    touch_run(changes, event.run_id)
    detail = f"artifact {path!r:.300} of run {event.run_id} is lost: {event.detail:.300}"
    raw = ev.encode_event(event)
    changes.dead.append(DeadLetter(producer_id, seq, emit_ts, f"artifact_{event.reason:.50}", detail, raw))
    changes.resolved.add(origin)


def _pending_of(event: ev.ArtifactCompleted | ev.ArtifactFailed) -> tuple[bytes, int]:
    """Identity of the `ArtifactPending` whose end this is."""
    if len(event.journal) != 32 or not _HEXADECIMAL.issuperset(event.journal) or not 0 <= event.seq < INT64:
        raise InvalidInputError(f"journal {event.journal!r:.80} or seq {event.seq} of an artifact is none")
    return bytes.fromhex(event.journal), event.seq


def _apply_run_start(changes: Changes, event: ev.RunStarted, emit_ts: int, producer_id: bytes, seq: int) -> None:
    check_experiment(event.experiment_id)
    check_time(event.start_time)
    touch_run(changes, event.run_id)
    order = order_of(emit_ts, producer_id, seq)
    start = RunStart(order, event.experiment_id, event.start_time, event.user)
    keep_first(changes.run_starts, event.run_id, start)
    keep_last(changes.run_statuses, event.run_id, RunStatus(order, "RUNNING", None))
    if event.name is not None:
        keep_last(changes.run_names, event.run_id, TagValue(order, event.name))


def _apply_run_update(changes: Changes, event: ev.RunUpdated, emit_ts: int, producer_id: bytes, seq: int) -> None:
    if event.status is not None:
        check_status(event.status)
    touch_run(changes, event.run_id)
    order = order_of(emit_ts, producer_id, seq)
    if event.status is not None:
        keep_last(changes.run_statuses, event.run_id, RunStatus(order, event.status, None))
    if event.name is not None:
        keep_last(changes.run_names, event.run_id, TagValue(order, event.name))


def _apply_run_end(changes: Changes, event: ev.RunEnded, emit_ts: int, producer_id: bytes, seq: int) -> None:
    check_status(event.status)
    check_time(event.end_time)
    touch_run(changes, event.run_id)
    status = RunStatus(order_of(emit_ts, producer_id, seq), event.status, event.end_time)
    keep_last(changes.run_statuses, event.run_id, status)


def _apply_run_lifecycle(
    changes: Changes, event: ev.RunDeleted | ev.RunRestored, emit_ts: int, producer_id: bytes, seq: int
) -> None:
    touch_run(changes, event.run_id)
    stage = "deleted" if isinstance(event, ev.RunDeleted) else "active"
    keep_last(changes.run_lifecycles, event.run_id, TagValue(order_of(emit_ts, producer_id, seq), stage))


def _apply_experiment(
    changes: Changes, event: ev.ExperimentCreated, emit_ts: int, producer_id: bytes, seq: int
) -> None:
    check_experiment(event.experiment_id)
    check_time(event.creation_time)
    for key in event.tags:
        check_key(key, "tag")
    order = order_of(emit_ts, producer_id, seq)
    keep_first(changes.experiments, event.experiment_id, ExperimentCreation(order, event.creation_time, event.name))
    for key, value in event.tags.items():
        keep_last(changes.experiment_tags, (event.experiment_id, key), TagValue(order, value))


def _apply_experiment_name(
    changes: Changes, event: ev.ExperimentRenamed, emit_ts: int, producer_id: bytes, seq: int
) -> None:
    check_experiment(event.experiment_id)
    order = order_of(emit_ts, producer_id, seq)
    keep_last(changes.experiment_names, event.experiment_id, TagValue(order, event.name))


def _apply_experiment_tags(
    changes: Changes, event: ev.ExperimentTagsSet, emit_ts: int, producer_id: bytes, seq: int
) -> None:
    check_experiment(event.experiment_id)
    for key in event.tags:
        check_key(key, "tag")
    order = order_of(emit_ts, producer_id, seq)
    for key, value in event.tags.items():
        keep_last(changes.experiment_tags, (event.experiment_id, key), TagValue(order, value))


def _apply_experiment_tag_deletion(
    changes: Changes, event: ev.ExperimentTagDeleted, emit_ts: int, producer_id: bytes, seq: int
) -> None:
    check_experiment(event.experiment_id)
    check_key(event.key, "tag")
    order = order_of(emit_ts, producer_id, seq)
    keep_last(changes.experiment_tags, (event.experiment_id, event.key), TagValue(order, None))


def _apply_experiment_lifecycle(
    changes: Changes,
    event: ev.ExperimentDeleted | ev.ExperimentRestored,
    emit_ts: int,
    producer_id: bytes,
    seq: int,
) -> None:
    check_experiment(event.experiment_id)
    stage = "deleted" if isinstance(event, ev.ExperimentDeleted) else "active"
    order = order_of(emit_ts, producer_id, seq)
    keep_last(changes.experiment_lifecycles, event.experiment_id, TagValue(order, stage))


def _apply_loss(changes: Changes, event: ev.LossNotice, _emit_ts: int, _producer_id: bytes, _seq: int) -> None:
    try:
        key = (bytes.fromhex(event.journal), event.segment, event.reason)
    except ValueError:
        raise InvalidInputError(f"loss notice for journal {event.journal!r:.80}, which is no hexadecimal id") from None
    if not (0 <= event.segment < INT64 and 0 <= event.count < INT64):
        raise InvalidInputError(f"loss notice: segment {event.segment} or count {event.count} is below 0 or too large")
    changes.losses[key] = max(event.count, changes.losses.get(key, 0))


def _apply_abandoned(changes: Changes, event: ev.Abandoned, _emit_ts: int, producer_id: bytes, seq: int) -> None:
    _note_hole(changes, producer_id, Hole(seq, seq, event.reason, event.raw))  # in a journal it has one seq


_HEXADECIMAL: Final = frozenset("0123456789abcdef")

_Applier = Callable[[Changes, Any, int, bytes, int], None]
_APPLIERS: Final[dict[type[Event], _Applier]] = {
    ev.RunStarted: _apply_run_start,
    ev.RunUpdated: _apply_run_update,
    ev.RunEnded: _apply_run_end,
    ev.ParamsLogged: _apply_params,
    ev.MetricLogged: _apply_metric,
    ev.MetricsLogged: _apply_metrics,
    ev.TagsSet: _apply_tags,
    ev.TagDeleted: _apply_tag_deletion,
    ev.RowsLogged: _apply_rows,
    ev.ArtifactLogged: _apply_artifact,
    ev.ArtifactInlined: _apply_inlined,
    ev.ArtifactPending: _apply_pending,
    ev.ArtifactCompleted: _apply_completed,
    ev.ArtifactFailed: _apply_failed,
    ev.ExperimentCreated: _apply_experiment,
    ev.ExperimentRenamed: _apply_experiment_name,
    ev.ExperimentTagsSet: _apply_experiment_tags,
    ev.ExperimentTagDeleted: _apply_experiment_tag_deletion,
    ev.ExperimentDeleted: _apply_experiment_lifecycle,
    ev.ExperimentRestored: _apply_experiment_lifecycle,
    ev.RunDeleted: _apply_run_lifecycle,
    ev.RunRestored: _apply_run_lifecycle,
    ev.LossNotice: _apply_loss,
    ev.Abandoned: _apply_abandoned,
}
