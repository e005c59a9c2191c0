"""Experiments: created, found, renamed, deleted, tagged.

``Default`` (id 0) is there from the first request on, as it is on MLflow's server.  Names are unique among what comes
over HTTP; a program that names the same experiment elsewhere gets the same id, and wins or loses by time.
"""

from secrets import randbits
from typing import Any, Final

from runstream_schemas import events as ev
from runstream_schemas.names import DEFAULT_EXPERIMENT, DEFAULT_EXPERIMENT_ID, experiment_id_of
from runstream_sink.http.actions import now
from runstream_sink.http.context import HttpContext
from runstream_sink.http.mlflow import checks
from runstream_sink.http.mlflow.call import Call, Endpoint, check_active
from runstream_sink.http.mlflow.documents import experiment_document, listed
from runstream_sink.http.mlflow.errors import MlflowError, invalid, missing
from runstream_sink.http.mlflow.fields import Field, integer, pairs, text, texts
from runstream_sink.http.mlflow.views import view_of
from runstream_sink.query.experiments import get_experiment, get_experiment_by_name, search_experiments
from runstream_sink.query.records import Experiment, NotFoundError
from runstream_sink.source import StreamUnavailableError

__all__ = ["ENDPOINTS", "check_default", "existing_experiment", "experiment_number"]

_ID: Final = text("experiment_id", required=True)


def experiment_number(experiment_id: str) -> str:
    """The id in its one form.  Raises what MLflow answers for what is no integer."""
    try:
        return str(int(experiment_id))
    except ValueError:
        raise invalid(f"Invalid experiment ID '{experiment_id:.100}'. Experiment ID must be a valid integer.") from None


async def existing_experiment(context: HttpContext, experiment_id: str, lifecycle: str | None = None) -> Experiment:
    """The experiment, or what MLflow answers where there is none (of that lifecycle)."""
    number = experiment_number(experiment_id)
    if number == DEFAULT_EXPERIMENT_ID:
        await check_default(context)
    try:
        experiment = await get_experiment(context.reader, number)
    except NotFoundError:
        experiment = None
    if experiment is None or lifecycle not in {None, experiment.lifecycle}:
        raise missing(f"No Experiment with id={number:.100} exists")
    return experiment


async def check_default(context: HttpContext) -> None:
    """Create ``Default`` where it is not; if nothing can be written now, go without."""
    if await _created(context, DEFAULT_EXPERIMENT_ID):
        return
    created = ev.ExperimentCreated(DEFAULT_EXPERIMENT_ID, DEFAULT_EXPERIMENT, now())
    try:
        async with context.writer.locked(("experiment", DEFAULT_EXPERIMENT)):
            if not await _created(context, DEFAULT_EXPERIMENT_ID):
                await context.writer.submit([created])
    except StreamUnavailableError:
        pass


async def _create(call: Call) -> dict[str, Any]:
    name, location, tags = call.values["name"], call.values["artifact_location"], call.values["tags"] or []
    if location:
        raise invalid(
            "artifact_location cannot be chosen for an experiment here: all artifacts lie where RUNSTREAM_ARTIFACTS of "
            "the sink says"
        )
    checks.check_experiment_name(name)
    for key, value in tags:
        checks.check_experiment_tag(key, value)
    await check_default(call.context)
    async with call.context.writer.locked(("experiment", name)):
        taken = await _by_name(call.context, name)
        if taken is not None:
            raise _taken(name, taken.lifecycle)
        experiment_id = await _free_id(call.context, name)
        await call.context.writer.submit([ev.ExperimentCreated(experiment_id, name, now(), dict(tags))])
        made = await get_experiment(call.context.reader, experiment_id)
    if made.name != name:  # another program was first
        raise _taken(name, made.lifecycle)
    return {"experiment_id": experiment_id}


async def _get(call: Call) -> dict[str, Any]:
    return {"experiment": experiment_document(await existing_experiment(call.context, call.values["experiment_id"]))}


async def _get_by_name(call: Call) -> dict[str, Any]:
    name = call.values["experiment_name"]
    if name == DEFAULT_EXPERIMENT:
        await check_default(call.context)
    found = await _by_name(call.context, name)
    if found is None:
        raise missing(f"Could not find experiment with name '{name:.600}'")
    return {"experiment": experiment_document(found)}


async def _search(call: Call) -> dict[str, Any]:
    limit = call.values["max_results"] or 0
    checks.check_results(limit)
    await check_default(call.context)
    page = await search_experiments(
        call.context.reader,
        call.values["filter"] or "",
        call.values["order_by"] or (),
        call.values["view_type"] or "active",
        limit,
        call.values["page_token"] or None,
    )
    return listed(experiments=[experiment_document(found) for found in page.experiments], next_page_token=page.cursor)


async def _update(call: Call) -> dict[str, Any]:
    name = call.values["new_name"]
    checks.check_experiment_name(name)
    async with call.context.writer.locked(("experiment", name)):
        experiment = await existing_experiment(call.context, call.values["experiment_id"])
        if experiment.lifecycle != "active":
            raise MlflowError("INVALID_STATE", "Cannot rename a non-active experiment.")
        taken = await _by_name(call.context, name)
        if taken is not None and taken.experiment_id != experiment.experiment_id:
            raise MlflowError("BAD_REQUEST", f"Experiment(name={name}) already exists.")
        await call.context.writer.submit([ev.ExperimentRenamed(experiment.experiment_id, name)])
    return {}


async def _delete(call: Call) -> dict[str, Any]:
    experiment = await existing_experiment(call.context, call.values["experiment_id"], "active")
    await call.context.writer.submit([ev.ExperimentDeleted(experiment.experiment_id)])
    return {}


async def _restore(call: Call) -> dict[str, Any]:
    experiment = await existing_experiment(call.context, call.values["experiment_id"], "deleted")
    await call.context.writer.submit([ev.ExperimentRestored(experiment.experiment_id)])
    return {}


async def _set_tag(call: Call) -> dict[str, Any]:
    key, value = call.values["key"], call.values["value"] or ""
    checks.check_experiment_tag(key, value)
    experiment = await _active(call)
    await call.context.writer.submit([ev.ExperimentTagsSet(experiment.experiment_id, {key: value})])
    return {}


async def _delete_tag(call: Call) -> dict[str, Any]:
    key = call.values["key"]
    async with call.context.writer.locked(("tags", call.values["experiment_id"])):
        experiment = await _active(call)
        if key not in experiment.tags:
            raise missing(f"No tag with name: {key:.300} in experiment with id {experiment.experiment_id}")
        await call.context.writer.submit([ev.ExperimentTagDeleted(experiment.experiment_id, key)])
    return {}


async def _active(call: Call) -> Experiment:
    experiment = await existing_experiment(call.context, call.values["experiment_id"])
    check_active("experiment", experiment.experiment_id, experiment.lifecycle)
    return experiment


async def _by_name(context: HttpContext, name: str) -> Experiment | None:
    try:
        return await get_experiment_by_name(context.reader, name)
    except NotFoundError:
        return None


async def _created(context: HttpContext, experiment_id: str) -> bool:
    """Whether an experiment was created, and not only named by a run."""
    try:
        return (await get_experiment(context.reader, experiment_id)).creation_time is not None
    except NotFoundError:
        return False


async def _free_id(context: HttpContext, name: str) -> str:
    """The id that follows from the name; a random one where that experiment has been renamed since."""
    experiment_id = experiment_id_of(name)
    while await _created(context, experiment_id):
        experiment_id = str(randbits(63))
    return experiment_id


def _taken(name: str, lifecycle: str) -> MlflowError:
    hint = "" if lifecycle == "active" else " It is deleted: restore it, or take another name."
    return MlflowError("RESOURCE_ALREADY_EXISTS", f"Experiment(name={name}) already exists.{hint}")


_SEARCH: Final = (
    Field("view_type", view_of),
    integer("max_results"),
    texts("order_by"),
    text("filter"),
    text("page_token"),
)
ENDPOINTS: Final = (
    Endpoint(
        "POST", "experiments/create", _create, (text("name", required=True), text("artifact_location"), pairs("tags"))
    ),
    Endpoint("GET", "experiments/get", _get, (_ID,)),
    Endpoint("GET", "experiments/get-by-name", _get_by_name, (text("experiment_name", required=True),)),
    Endpoint("GET", "experiments/search", _search, _SEARCH),
    Endpoint("POST", "experiments/search", _search, _SEARCH),
    Endpoint("POST", "experiments/update", _update, (_ID, text("new_name", required=True))),
    Endpoint("POST", "experiments/delete", _delete, (_ID,)),
    Endpoint("POST", "experiments/restore", _restore, (_ID,)),
    Endpoint("POST", "experiments/set-experiment-tag", _set_tag, (_ID, text("key", required=True), text("value"))),
    Endpoint("POST", "experiments/delete-experiment-tag", _delete_tag, (_ID, text("key", required=True))),
)
