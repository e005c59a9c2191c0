"""Runs: created, found, changed, deleted."""

from random import SystemRandom
from typing import Any, Final

from runstream_schemas import events as ev
from runstream_sink.http.actions import new_run_id
from runstream_sink.http.mlflow import checks
from runstream_sink.http.mlflow.call import Call, Endpoint, active_run, check_active, existing_run
from runstream_sink.http.mlflow.documents import RUN_NAME, info_document, listed, run_document
from runstream_sink.http.mlflow.errors import MlflowError, invalid
from runstream_sink.http.mlflow.experiments import existing_experiment, experiment_number
from runstream_sink.http.mlflow.fields import Field, integer, pairs, text, texts, wrong_type
from runstream_sink.http.mlflow.logged_tables import note_tables, search_with_tables
from runstream_sink.http.mlflow.views import status_of, view_of
from runstream_sink.query.records import Run
from runstream_sink.query.runs import get_run

__all__ = ["ENDPOINTS"]

_ID: Final = text("run_id", required=True)
_DEFAULT_RESULTS: Final = 1000
_MOST_RESULTS: Final = 50_000
_WORDS: Final = (
    "amber brave calm clever eager fleet gentle keen lucky merry noble quick sunny swift witty",
    "badger crane dove falcon heron ibis koala lynx marten otter panda raven seal tapir vole",
)


async def _create(call: Call) -> dict[str, Any]:
    values = call.values
    if not values["experiment_id"]:
        raise MlflowError("BAD_REQUEST", "a run needs the id of its experiment; 0 is Default")
    experiment = await existing_experiment(call.context, values["experiment_id"])
    check_active("experiment", experiment.experiment_id, experiment.lifecycle)
    tags = _tags(values["tags"] or [])
    named = tags.pop(RUN_NAME, "")
    name = values["run_name"] or ""
    if name and named and name != named:
        raise invalid(
            "Both 'run_name' argument and 'mlflow.runName' tag are specified, but with different values "
            f"(run_name='{name}', mlflow.runName='{named}')."
        )
    run_id = new_run_id()
    started = ev.RunStarted(
        run_id,
        experiment.experiment_id,
        values["start_time"] or 0,
        name or named or _made_up(),
        values["user_id"] or "",
    )
    await call.context.writer.submit([started, ev.TagsSet(run_id, tags)] if tags else [started])
    document = run_document(await get_run(call.context.reader, run_id))
    del document["outputs"]  # as on MLflow's server: a new run says nothing of them
    return {"run": document}


async def _get(call: Call) -> dict[str, Any]:
    await existing_run(call.context, call.values["run_id"])
    run = await get_run(call.context.reader, call.values["run_id"])
    await note_tables(call.context.reader, [run])
    return {"run": run_document(run)}


async def _update(call: Call) -> dict[str, Any]:
    status, end_time, name = call.values["status"], call.values["end_time"], call.values["run_name"]
    async with call.context.writer.locked(("run", call.values["run_id"])):
        run = await active_run(call.context, call.values["run_id"])
        await call.context.writer.submit(_changes(run, status, end_time, name))
    return {"run_info": info_document(await existing_run(call.context, run.run_id))}


def _changes(run: Run, status: str | None, end_time: int | None, name: str | None) -> list[ev.Event]:
    """The events that change a run; a status alone leaves the end as it is, as on MLflow's server."""
    changes: list[ev.Event] = [ev.RunUpdated(run.run_id, name=name)] if name else []
    end = run.end_time if end_time is None else end_time
    if end is not None and (status is not None or end_time is not None):
        changes.append(ev.RunEnded(run.run_id, status or run.status or "RUNNING", end))
    elif status is not None:
        changes.append(ev.RunUpdated(run.run_id, status=status))
    return changes


async def _delete(call: Call) -> dict[str, Any]:
    run = await existing_run(call.context, call.values["run_id"])
    await call.context.writer.submit([ev.RunDeleted(run.run_id)])
    return {}


async def _restore(call: Call) -> dict[str, Any]:
    run = await existing_run(call.context, call.values["run_id"])
    await call.context.writer.submit([ev.RunRestored(run.run_id)])
    return {}


async def _search(call: Call) -> dict[str, Any]:
    values = call.values
    limit = _DEFAULT_RESULTS if values["max_results"] is None else values["max_results"]
    if limit > _MOST_RESULTS:
        raise wrong_type("max_results", limit)
    checks.check_results(limit)
    ids = [experiment_number(experiment_id) for experiment_id in values["experiment_ids"] or []]
    page = await search_with_tables(
        call.context.reader,
        ids,
        values["filter"] or "",
        values["order_by"] or (),
        values["run_view_type"] or "active",
        limit,
        values["page_token"] or None,
    )
    return listed(runs=[run_document(run) for run in page.runs], next_page_token=page.cursor)


def _tags(pairs: list[tuple[str | None, str]]) -> dict[str, str]:
    for at, (key, _) in enumerate(pairs):
        checks.check_tag(key, f"tags[{at}]")
    return {key: value for key, value in pairs if key is not None}


def _made_up() -> str:
    """A name for a run that nobody named."""
    chance = SystemRandom()
    adjective, animal = (chance.choice(words.split()) for words in _WORDS)
    return f"{adjective}-{animal}-{chance.randrange(1000)}"


ENDPOINTS: Final = (
    Endpoint(
        "POST",
        "runs/create",
        _create,
        (text("experiment_id"), integer("start_time"), text("run_name"), text("user_id"), pairs("tags")),
    ),
    Endpoint("GET", "runs/get", _get, (_ID,)),
    Endpoint("POST", "runs/update", _update, (_ID, integer("end_time"), Field("status", status_of), text("run_name"))),
    Endpoint("POST", "runs/delete", _delete, (_ID,)),
    Endpoint("POST", "runs/restore", _restore, (_ID,)),
    Endpoint(
        "POST",
        "runs/search",
        _search,
        (
            texts("experiment_ids"),
            text("filter"),
            integer("max_results"),
            texts("order_by"),
            Field("run_view_type", view_of),
            text("page_token"),
        ),
    ),
)
