"""Experiments and runs to events: what a source has, and what was brought before, give what is new.

Nothing here reads or writes.  Events carry times of the source's own, so that an import gives the same events whenever
it runs: those of a run begin at its start, its end stands at its end, and what changes later follows what was brought
before.  Points of metrics and rows of tables are not made here.
"""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from runstream.mlflow_import.model import ExperimentState, RunState, SourceExperiment, SourceRun
from runstream_schemas import events as ev
from runstream_schemas.names import experiment_id_of

__all__ = ["IMPORTED_ID", "IMPORTED_SOURCE", "Timed", "experiment_events", "first_time", "run_events"]

IMPORTED_ID: Final = "runstream.imported.experiment_id"
"""Tag of an experiment: the id that it had where it comes from."""
IMPORTED_SOURCE: Final = "runstream.imported.source"
"""Tag of an experiment: where it comes from."""

_NAME: Final = "mlflow.runName"
_EVENT: Final = 128 << 10
"""Bytes of keys and values that one event holds, about."""
_LATEST: Final = (1 << 62) - (1 << 50)


class Timed(NamedTuple):
    """An event and its emit_ts."""

    emit_ts: int
    event: Struct


class _Clock:
    """Gives times that increase."""

    def __init__(self, last: int) -> None:
        self.last = last
        self.timed: list[Timed] = []

    def add(self, event: Struct, at: int | None = None) -> None:
        """Put an event behind the others, and not before ``at`` (milliseconds)."""
        self.last = max(self.last + 1, first_time(at))
        self.timed.append(Timed(self.last, event))


def first_time(milliseconds: int | None) -> int:
    """Nanoseconds since the epoch, within what an envelope holds with room behind it."""
    return min(max(milliseconds or 0, 0) * 1_000_000, _LATEST)


def experiment_events(
    found: SourceExperiment, before: ExperimentState | None, source: str
) -> tuple[list[Timed], ExperimentState]:
    """What is new of an experiment."""
    tags = {**found.tags, IMPORTED_ID: found.experiment_id, IMPORTED_SOURCE: source}
    if before is None:
        experiment_id = experiment_id_of(found.name)
        clock = _Clock(first_time(found.created) - 1)
        clock.add(ev.ExperimentCreated(experiment_id, found.name, found.created or 0, tags))
        before = ExperimentState(experiment_id, found.name, clock.last, tags)
    else:
        experiment_id = before.experiment_id
        clock = _Clock(before.clock)
    if found.name != before.name:
        clock.add(ev.ExperimentRenamed(experiment_id, found.name), found.updated)
    for changed in _pieces(_changed(tags, before.tags)):
        clock.add(ev.ExperimentTagsSet(experiment_id, changed), found.updated)
    for key in sorted(before.tags.keys() - tags.keys()):
        clock.add(ev.ExperimentTagDeleted(experiment_id, key), found.updated)
    if found.deleted != before.deleted:
        moved = ev.ExperimentDeleted if found.deleted else ev.ExperimentRestored
        clock.add(moved(experiment_id), found.updated)
    return clock.timed, ExperimentState(experiment_id, found.name, clock.last, tags, found.deleted)


def run_events(found: SourceRun, before: RunState | None, experiment_id: str) -> tuple[list[Timed], RunState]:
    """What is new of a run, apart from its points, files and tables, of which the state stays as it was.

    ``experiment_id`` is that here.
    """
    run_id = found.run_id
    tags = {key: value for key, value in found.tags.items() if key != _NAME}
    if before is None:
        base = first_time(found.started)
        clock = _Clock(base - 1)
        clock.add(ev.RunStarted(run_id, experiment_id, found.started or 0, found.name, found.user))
        before = RunState(base, clock.last, found.name)
    else:
        clock = _Clock(before.clock)
        if found.name is not None and found.name != before.name:
            clock.add(ev.RunUpdated(run_id, name=found.name))
    for changed in _pieces(_changed(tags, before.tags)):
        clock.add(ev.TagsSet(run_id, changed))
    for key in sorted(before.tags.keys() - tags.keys()):
        clock.add(ev.TagDeleted(run_id, key))
    known = set(before.params)
    for added in _pieces({key: value for key, value in found.params.items() if key not in known}):
        clock.add(ev.ParamsLogged(run_id, added))
    status = (found.status, found.ended)
    if status != before.status:
        _add_status(clock, run_id, *status)
    if found.deleted != before.deleted:
        clock.add((ev.RunDeleted if found.deleted else ev.RunRestored)(run_id), found.ended)
    state = msgspec.structs.replace(
        before,
        clock=clock.last,
        name=found.name,
        status=status,
        deleted=found.deleted,
        params=sorted(known.union(found.params)),
        tags=tags,
    )
    return clock.timed, state


def _add_status(clock: _Clock, run_id: str, status: str, ended: int | None) -> None:
    if ended is None:
        clock.add(ev.RunUpdated(run_id, status=status))
    else:
        clock.add(ev.RunEnded(run_id, status, ended), ended)


def _changed(now: Mapping[str, str], before: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in now.items() if before.get(key) != value}


def _pieces(values: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """The same pairs, sorted, in pieces that make no large events."""
    piece: dict[str, str] = {}
    size = 0
    for key in sorted(values):
        piece[key] = values[key]
        size += len(key) + len(values[key])
        if size > _EVENT:
            yield piece
            piece, size = {}, 0
    if piece:
        yield piece
