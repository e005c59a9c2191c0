"""The events that a stream still holds, against the store: each one that was seen must have had its effect.

The events are applied once more, without a store, and what they change is looked up.  What other events have
overruled since is right as it is.  Events that lie behind the store's position are backlog, and passed over.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from runstream_schemas.batch import Batch
from runstream_schemas.errors import InvalidInputError
from runstream_schemas.follower import parse_position
from runstream_schemas.reader import Position, journal_names
from runstream_sink.apply import apply
from runstream_sink.changes import Changes, Order, origin_of
from runstream_sink.query.operations import list_positions
from runstream_sink.queue_source import QueueSource
from runstream_sink.store.points import bits_of, value_of
from runstream_sink.store.protocol import Row, StoreReader
from runstream_sink.verify.database import Seen
from runstream_sink.verify.report import Collector, Progress
from runstream_sink.verify.seen import EventBits

__all__ = ["check_stream"]

_DELIVERY: Final = 2 << 20
"""Bytes of events that are checked at once."""

_Facts = Mapping[Any, tuple[Order, Any]]
"""By key, the order and the value of what events compete for."""


class _Problem(NamedTuple):
    """An effect that is not there."""

    producer_id: bytes
    seq: int
    kind: str
    subject: str
    detail: str


async def check_stream(
    reader: StoreReader, queue: Path, collector: Collector, seen: Seen, with_rows: EventBits, progress: Progress
) -> None:
    """Check all that the queue directory holds; ``with_rows`` are the events that have rows in tables.

    Raises `EnvironmentUnavailableError` if there is no queue, `InvalidInputError` if the store never read it.
    """
    source = QueueSource(queue, register=False, until=time.time_ns())
    await source.open(reader.store_id)
    try:
        positions = {
            p.part: parse_position(p.position) for p in await list_positions(reader) if p.stream == source.name
        }
        if not positions:
            raise InvalidInputError(
                f"the store {reader.location.text} never read the stream in {queue}; check --stream"
            )
        for name in _unread_continuations(queue, positions):
            positions.pop(name, None)  # what its producer logged has not been read to its end
        done = 0
        while delivery := await source.read(_DELIVERY):
            batches = [_applied(batch, positions, seen, collector) for batch in delivery.batches]
            await _check(reader, collector, apply(batches, {}), with_rows)
            done += delivery.size
            progress("events of the stream", done, 0)
    finally:
        await source.close()


def _unread_continuations(queue: Path, positions: Mapping[str, Position]) -> set[str]:
    """First journals of the producers that have continuations which the store has not read to their end."""
    names = [name for name in journal_names(queue / "journals") if "-" in name]
    return {name.partition("-")[0] for name in names if not positions.get(name, Position()).done}


def _applied(batch: Batch, positions: Mapping[str, Position], seen: Seen, collector: Collector) -> Batch:
    """The part of a batch that the store has seen; what it should have seen and has not is a finding."""
    producer = batch.producer_id.hex()
    held = seen.get(producer, ())
    known = [record for record in batch.records if record[0] in held]
    position = positions.get(producer, Position())
    missing = [seq for seq, _, _ in batch.records if seq not in held and (position.done or seq < position.next_seq)]
    if missing:
        detail = f"{len(missing)} events from {missing[0]} to {missing[-1]} were read and not applied"
        collector.add("event_missing", f"producer {producer}", detail)
    collector.checked["events"] += len(known)
    return Batch(batch.producer_id, known, [])


async def _check(reader: StoreReader, collector: Collector, changes: Changes, with_rows: EventBits) -> None:
    problems = [
        *await _competing(reader, changes),
        *await _runs_and_experiments(reader, changes),
        *await _points(reader, changes),
        *_rows(changes, with_rows),
        *(
            _Problem(d.producer_id, d.seq, "effect_missing", "dead letters", f"{d.reason}: no letter")
            for d in changes.dead
        ),
    ]
    if not problems:
        return
    wanted = sorted({(problem.producer_id.hex(), problem.seq) for problem in problems})
    dead = set(await reader.fetch("verify_dead_letters_of", wanted=_json(wanted)))
    for problem in problems:
        if (problem.producer_id, problem.seq) not in dead:
            detail = f"{problem.detail} (event {problem.producer_id.hex()}:{problem.seq})"
            collector.add(problem.kind, problem.subject, detail)


async def _competing(reader: StoreReader, changes: Changes) -> list[_Problem]:
    """Params, tags and artifacts."""
    artifacts = {key: (change.order, change.sha256) for key, change in changes.artifacts.items()}
    problems: list[_Problem] = []
    for what, query, expected, first_wins in (
        ("param", "verify_params_of", changes.params, True),
        ("tag", "verify_tags_of", changes.tags, False),
        ("tag", "verify_experiment_tags_of", changes.experiment_tags, False),
        ("artifact", "verify_artifacts_of", artifacts, False),
    ):
        if expected:
            rows = await reader.fetch(query, wanted=_json(list(expected)))
            held = {(owner, name): (order, value) for owner, name, order, value in rows}
            problems += _compare(what, expected, held, first_wins=first_wins)
    return problems


async def _runs_and_experiments(reader: StoreReader, changes: Changes) -> list[_Problem]:
    runs = await reader.fetch("verify_runs_of", wanted=_json(sorted(changes.run_ids)))
    starts = {run_id: (start.order, start.experiment_id) for run_id, start in changes.run_starts.items()}
    statuses = {run_id: (status.order, status.status) for run_id, status in changes.run_statuses.items()}
    ids = sorted({*changes.experiments, *changes.experiment_names, *changes.experiment_lifecycles})
    experiments = await reader.fetch("verify_experiments_of", wanted=_json(ids))
    created = {number: (creation.order, creation.name) for number, creation in changes.experiments.items()}
    return [
        *_compare("run's start", starts, _column(runs, 1), first_wins=True),
        *_compare("run's name", changes.run_names, _column(runs, 3), first_wins=False),
        *_compare("run's status", statuses, _column(runs, 5), first_wins=False),
        *_compare("run's lifecycle", changes.run_lifecycles, _column(runs, 7), first_wins=False),
        *_compare("experiment", created, _column(experiments, 1), first_wins=True),
        *_compare("experiment's name", changes.experiment_names, _column(experiments, 3), first_wins=False),
        *_compare("experiment's lifecycle", changes.experiment_lifecycles, _column(experiments, 5), first_wins=False),
    ]


def _column(rows: Iterable[Row], at: int) -> _Facts:
    """Orders and values that stand at ``at`` in rows which begin with a key."""
    return {row[0]: (row[at], row[at + 1]) for row in rows if row[at] is not None}


def _compare(what: str, expected: _Facts, held: _Facts, *, first_wins: bool) -> Iterator[_Problem]:
    for key, (order, value, *_) in expected.items():
        _, producer_id, seq = origin_of(order)
        subject = f"{what} {' '.join(key) if isinstance(key, tuple) else key}"[:300]
        found, kept = held.get(key, (None, None))
        if found is None or (found > order if first_wins else found < order):
            yield _Problem(producer_id, seq, "effect_missing", subject, "the store does not have it")
        elif found == order and kept != value:
            yield _Problem(producer_id, seq, "effect_differs", subject, "the store has another value")


async def _points(reader: StoreReader, changes: Changes) -> list[_Problem]:
    points = [(*key, point) for key, of_metric in changes.metrics.items() for point in of_metric]
    if not points:
        return []
    wanted = [
        (run_id, key, step, timestamp, producer_id.hex(), seq, idx)
        for run_id, key, (step, timestamp, _, producer_id, seq, idx) in points
    ]
    rows = await reader.fetch("verify_points_of", wanted=_json(wanted))
    held = {at: bits_of(value_of(value, bits)) for at, value, bits in rows}
    problems = []
    for at, (run_id, key, (step, _, value, producer_id, seq, _)) in enumerate(points):
        subject = f"metric {run_id} {key}"
        if at not in held:
            detail = f"the point at step {step} is not in the store"
            problems.append(_Problem(producer_id, seq, "effect_missing", subject, detail))
        elif held[at] != bits_of(value):
            detail = f"the point at step {step} has another value in the store"
            problems.append(_Problem(producer_id, seq, "effect_differs", subject, detail))
    return problems


def _rows(changes: Changes, with_rows: EventBits) -> Iterator[_Problem]:
    for (run_id, table), entries in changes.rows.items():
        for entry in entries:
            if entry.rows and (entry.producer_id.hex(), entry.seq) not in with_rows:
                detail = f"{len(entry.rows)} rows are not in the table"
                yield _Problem(entry.producer_id, entry.seq, "effect_missing", f"table {run_id} {table}", detail)


def _json(values: Any) -> str:
    return msgspec.json.encode(values).decode()
