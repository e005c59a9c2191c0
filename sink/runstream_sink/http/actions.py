"""What APIs write: checked against the store, put on the stream, and read back after it is applied.

Checks and the write that they decide happen under one lock, by experiment name or run.  A program that logs at the same
time is not held by it: what it wrote first wins where first values do, and the answer says so.
"""

import secrets
import time
from collections.abc import Mapping, Sequence

from runstream_schemas.errors import InvalidInputError
from runstream_schemas.events import (
    RUN_STATUSES,
    Event,
    ExperimentCreated,
    ExperimentDeleted,
    ExperimentRenamed,
    ExperimentRestored,
    ExperimentTagDeleted,
    ExperimentTagsSet,
    ParamsLogged,
    RunDeleted,
    RunEnded,
    RunRestored,
    RunStarted,
    RunUpdated,
    TagDeleted,
    TagsSet,
)
from runstream_schemas.names import DEFAULT_EXPERIMENT_ID, check_key, check_run_id, experiment_id_of
from runstream_sink.http.context import HttpContext
from runstream_sink.http.problems import ConflictError
from runstream_sink.query import (
    Experiment,
    NotFoundError,
    Run,
    get_experiment,
    get_experiment_by_name,
    get_run,
)

__all__ = [
    "active_run",
    "change_experiment",
    "change_run",
    "create_experiment",
    "create_run",
    "delete_experiment_tag",
    "delete_tag",
    "log",
    "new_run_id",
    "now",
    "rename_experiment",
    "set_experiment_tags",
    "update_run",
]

_MAX_NAME = 500


def now() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def new_run_id() -> str:
    """32 hexadecimal digits of a UUIDv7 (RFC 9562, 5.7)."""
    value = (now() & (1 << 48) - 1) << 80 | secrets.randbits(80)
    return f"{value & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62:032x}"


async def create_experiment(context: HttpContext, name: str, tags: Mapping[str, str]) -> Experiment:
    """Make an experiment.  Raises `ConflictError` if the name is taken, also by a deleted one."""
    _check_name(name)
    _check_tags(tags)
    async with context.writer.locked(("experiment", name)):
        await _check_free(context, name)
        experiment_id = experiment_id_of(name)
        if await _exists(context, experiment_id):  # it was renamed: programs that name it so still log to it
            experiment_id = str(secrets.randbits(63))
        await context.writer.submit([ExperimentCreated(experiment_id, name, now(), dict(tags))])
    return await get_experiment(context.reader, experiment_id)


async def rename_experiment(context: HttpContext, experiment_id: str, name: str) -> Experiment:
    """Change the displayed name.  Raises `NotFoundError`, `ConflictError` if the name is taken or it is deleted."""
    _check_name(name)
    async with context.writer.locked(("experiment", name)):
        held = await get_experiment(context.reader, experiment_id)
        if held.lifecycle != "active":
            raise ConflictError(f"experiment {experiment_id} is deleted; restore it first")
        if held.name != name:
            await _check_free(context, name)
            await context.writer.submit([ExperimentRenamed(experiment_id, name)])
    return await get_experiment(context.reader, experiment_id)


async def change_experiment(context: HttpContext, experiment_id: str, *, deleted: bool) -> Experiment:
    """Delete or restore an experiment and its runs.  Raises `NotFoundError`."""
    held = await get_experiment(context.reader, experiment_id)
    if deleted and experiment_id == DEFAULT_EXPERIMENT_ID:
        raise ConflictError("the default experiment cannot be deleted")
    if (held.lifecycle == "deleted") != deleted:
        kind = ExperimentDeleted if deleted else ExperimentRestored
        await context.writer.submit([kind(experiment_id)])
    return await get_experiment(context.reader, experiment_id)


async def set_experiment_tags(context: HttpContext, experiment_id: str, tags: Mapping[str, str]) -> Experiment:
    """Set tags; others stay.  Raises `NotFoundError`."""
    _check_tags(tags)
    await get_experiment(context.reader, experiment_id)
    if tags:
        await context.writer.submit([ExperimentTagsSet(experiment_id, dict(tags))])
    return await get_experiment(context.reader, experiment_id)


async def delete_experiment_tag(context: HttpContext, experiment_id: str, key: str) -> Experiment:
    """Remove a tag.  Raises `NotFoundError`, also for a tag that is not there."""
    held = await get_experiment(context.reader, experiment_id)
    if key not in held.tags:
        raise NotFoundError(f"experiment {experiment_id} has no tag {key!r:.200}")
    await context.writer.submit([ExperimentTagDeleted(experiment_id, key)])
    return await get_experiment(context.reader, experiment_id)


async def create_run(
    context: HttpContext,
    experiment_id: str,
    *,
    run_id: str | None = None,
    name: str | None = None,
    user: str | None = None,
    start_time: int | None = None,
    tags: Mapping[str, str],
) -> Run:
    """Begin a run.

    Raises `NotFoundError` without such an experiment, `ConflictError` if it is deleted or the run's id is taken.
    """
    _check_tags(tags)
    run_id = new_run_id() if run_id is None else check_run_id(run_id)
    if (
        experiment_id != DEFAULT_EXPERIMENT_ID
        and (await get_experiment(context.reader, experiment_id)).lifecycle != "active"
    ):
        raise ConflictError(f"experiment {experiment_id} is deleted; restore it first")
    async with context.writer.locked(("run", run_id)):
        if await _run_exists(context, run_id):
            raise ConflictError(f"there is a run {run_id} already")
        events: list[Event] = [
            RunStarted(run_id, experiment_id, now() if start_time is None else start_time, name, user)
        ]
        if tags:
            events.append(TagsSet(run_id, dict(tags)))
        await context.writer.submit(events)
    return await get_run(context.reader, run_id)


async def update_run(
    context: HttpContext,
    run_id: str,
    *,
    name: str | None = None,
    status: str | None = None,
    end_time: int | None = None,
) -> Run:
    """Rename a run, or change its status; with an end time or a final status it ends.

    Raises `NotFoundError`, `ConflictError` if it is deleted, `InvalidInputError` for what is no status.
    """
    if status is not None and status not in RUN_STATUSES:
        raise InvalidInputError(f"run status {status!r:.80} is none of {', '.join(RUN_STATUSES)}")
    held = await active_run(context, run_id)
    events: list[Event] = []
    if name is not None:
        events.append(RunUpdated(run_id, name=name))
    if end_time is not None or status in {"FINISHED", "FAILED", "KILLED"}:
        ended = now() if end_time is None else end_time
        events.append(RunEnded(run_id, status or held.status or "FINISHED", ended))
    elif status is not None:
        events.append(RunUpdated(run_id, status=status))
    await context.writer.submit(events)
    return await get_run(context.reader, run_id)


async def change_run(context: HttpContext, run_id: str, *, deleted: bool) -> Run:
    """Delete or restore a run.  Raises `NotFoundError`."""
    held = await get_run(context.reader, run_id)
    if (held.lifecycle == "deleted") != deleted:
        await context.writer.submit([RunDeleted(run_id) if deleted else RunRestored(run_id)])
    return await get_run(context.reader, run_id)


async def log(
    context: HttpContext, run_id: str, params: Mapping[str, str], tags: Mapping[str, str], others: Sequence[Event] = ()
) -> None:
    """Log params and tags, and events of other kinds, to a run, all of which other requests see at once.

    Raises `NotFoundError`, `ConflictError` if the run is deleted or a param has another value already: nothing is
    logged then; and the same if a program was faster with another value of a param: the others are logged then.
    """
    for key in params:
        check_key(key, "param")
    _check_tags(tags)
    events: list[Event] = [*others]
    if tags:
        events.insert(0, TagsSet(run_id, dict(tags)))
    if not params:  # nothing to win or lose: requests for one run share a commit
        await active_run(context, run_id)
        await context.writer.submit(events)
        return
    events.insert(0, ParamsLogged(run_id, dict(params)))
    async with context.writer.locked(("run", run_id)):
        _check_params(await active_run(context, run_id), params)
        await context.writer.submit(events)
        _check_params(await get_run(context.reader, run_id), params)


async def delete_tag(context: HttpContext, run_id: str, key: str) -> Run:
    """Remove a tag.  Raises `NotFoundError`, also for a tag that is not there, `ConflictError` for a deleted run."""
    held = await active_run(context, run_id)
    if key not in held.tags:
        raise NotFoundError(f"run {run_id} has no tag {key!r:.200}")
    await context.writer.submit([TagDeleted(run_id, key)])
    return await get_run(context.reader, run_id)


async def active_run(context: HttpContext, run_id: str) -> Run:
    """A run that may be logged to.  Raises `NotFoundError`, `ConflictError` if it is deleted."""
    held = await get_run(context.reader, run_id)
    if held.lifecycle != "active":
        raise ConflictError(f"run {run_id} is deleted; restore it first")
    return held


def _check_name(name: str) -> None:
    if not name.strip() or len(name) > _MAX_NAME:
        raise InvalidInputError(f"an experiment's name is text of 1 to {_MAX_NAME} characters, not {name!r:.100}")


def _check_tags(tags: Mapping[str, str]) -> None:
    for key in tags:
        check_key(key, "tag")


def _check_params(run: Run, params: Mapping[str, str]) -> None:
    for key, value in params.items():
        held = run.params.get(key)
        if held is not None and held != value:
            raise ConflictError(
                f"param {key!r:.200} of run {run.run_id} has the value {held!r:.200} and cannot be changed to "
                f"{value!r:.200}"
            )


async def _check_free(context: HttpContext, name: str) -> None:
    try:
        held = await get_experiment_by_name(context.reader, name)
    except NotFoundError:
        return
    state = "" if held.lifecycle == "active" else " (deleted; restore it, or choose another name)"
    raise ConflictError(f"there is an experiment {name!r:.200} already, with id {held.experiment_id}{state}")


async def _exists(context: HttpContext, experiment_id: str) -> bool:
    try:
        held = await get_experiment(context.reader, experiment_id)
    except NotFoundError:
        return False
    return held.name is not None


async def _run_exists(context: HttpContext, run_id: str) -> bool:
    try:
        await get_run(context.reader, run_id)
    except NotFoundError:
        return False
    return True
