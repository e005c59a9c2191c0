"""What is logged into runs: metrics, params, tags, inputs."""

from typing import Any, Final

from runstream_schemas import events as ev
from runstream_sink.http.context import HttpContext
from runstream_sink.http.mlflow import checks
from runstream_sink.http.mlflow.call import Call, Endpoint, active_run
from runstream_sink.http.mlflow.checks import Metric
from runstream_sink.http.mlflow.documents import RUN_NAME
from runstream_sink.http.mlflow.errors import MlflowError, invalid, missing
from runstream_sink.http.mlflow.fields import (
    array,
    as_integer,
    as_number,
    as_text,
    integer,
    missing_value,
    number,
    pairs,
    text,
)
from runstream_sink.http.mlflow.inputs import as_input, input_key, input_text
from runstream_sink.query.run_parts import run_params, run_tags

__all__ = ["ENDPOINTS"]

_ID: Final = text("run_id", required=True)
_KEY: Final = text("key", required=True)


async def _log_metric(call: Call) -> dict[str, Any]:
    values = call.values
    metric = Metric(values["key"], values["value"], values["timestamp"], values["step"] or 0)
    checks.check_metric(metric)
    run = await active_run(call.context, values["run_id"])
    await call.context.writer.submit(_metric_events(run.run_id, [metric]))
    return {}


async def _log_param(call: Call) -> dict[str, Any]:
    run_id, key, value = call.values["run_id"], call.values["key"], call.values["value"] or ""
    checks.check_param(key)
    await active_run(call.context, run_id)
    conflicts = await _log_params(call.context, run_id, {key: value}, [])
    if key in conflicts:
        raise invalid(
            f"Changing param values is not allowed. Param with key='{key}' was already logged with "
            f"value='{conflicts[key]}' for run ID='{run_id}'. Attempted logging new value '{value}'."
        )
    return {}


async def _set_tag(call: Call) -> dict[str, Any]:
    key, value = call.values["key"], call.values["value"] or ""
    checks.check_tag(key)
    run = await active_run(call.context, call.values["run_id"])
    await call.context.writer.submit(_tag_events(run.run_id, {key: value}))
    return {}


async def _delete_tag(call: Call) -> dict[str, Any]:
    run_id, key = call.values["run_id"], call.values["key"]
    async with call.context.writer.locked(("run", run_id)):
        run = await active_run(call.context, run_id)
        if key == RUN_NAME and run.name is not None:
            return {}  # a run is never without its name
        if key not in await run_tags(call.context.reader, run_id):
            raise missing(f"No tag with name: {key:.300} in run with id {run_id}")
        await call.context.writer.submit([ev.TagDeleted(run_id, key)])
    return {}


async def _log_batch(call: Call) -> dict[str, Any]:
    run_id = call.values["run_id"]
    metrics, params, tags = _entries(call)
    checks.check_run_id(run_id)
    checks.check_batch(metrics, params, tags)
    await active_run(call.context, run_id)
    others = [*_metric_events(run_id, metrics), *_tag_events(run_id, dict(tags))]
    if not params:
        await call.context.writer.submit(others)
        return {}
    wanted = dict(params)
    conflicts = await _log_params(call.context, run_id, wanted, others)
    if conflicts:
        told = [{"key": key, "old_value": held, "new_value": wanted[key]} for key, held in conflicts.items()]
        raise invalid(
            f"Changing param values is not allowed. Params were already logged='{told}' for run ID='{run_id}'."
        )
    return {}


async def _log_inputs(call: Call) -> dict[str, Any]:
    """Of the same dataset of a run, the first entry holds."""
    if call.values["models"]:
        raise MlflowError("NOT_IMPLEMENTED", "models are no inputs of runs here: runstream keeps no models")
    run_id, datasets = call.values["run_id"], call.values["datasets"] or []
    checks.check_run_id(run_id)
    for entry in datasets:
        checks.check_input(entry)
    async with call.context.writer.locked(("run", run_id)):
        await active_run(call.context, run_id)
        held = await run_tags(call.context.reader, run_id) if datasets else {}
        tags = {input_key(entry): input_text(entry) for entry in reversed(datasets)}
        fresh = {key: value for key, value in tags.items() if key not in held}
        if fresh:
            await call.context.writer.submit([ev.TagsSet(run_id, fresh)])
    return {}


async def _log_params(
    context: HttpContext, run_id: str, params: dict[str, str], others: list[ev.Event]
) -> dict[str, str]:
    """Log params and ``others``, nothing if a param has another value already; returns the values of those that have.

    Who logged a param first is asked again afterwards: another program may have been faster.
    """
    async with context.writer.locked(("run", run_id)):
        held = await run_params(context.reader, run_id)
        conflicts = {key: held[key] for key, value in params.items() if held.get(key, value) != value}
        if conflicts:
            return conflicts
        fresh = {key: value for key, value in params.items() if key not in held}
        await context.writer.submit([ev.ParamsLogged(run_id, fresh), *others] if fresh else others)
        held = await run_params(context.reader, run_id) if fresh else {}
    return {key: held[key] for key, value in fresh.items() if held.get(key, value) != value}


def _metric_events(run_id: str, metrics: list[Metric]) -> list[ev.Event]:
    """One event for points that follow each other at the same step and time."""
    events: list[ev.Event] = []
    group: dict[str, float] = {}
    at = (0, 0)
    for metric in metrics:
        if group and ((metric.step, metric.timestamp) != at or metric.key in group):
            events.append(ev.MetricsLogged(run_id, group, *at))
            group = {}
        at = (metric.step, metric.timestamp)
        group[metric.key] = metric.value
    return [*events, ev.MetricsLogged(run_id, group, *at)] if group else events


def _tag_events(run_id: str, tags: dict[str, str]) -> list[ev.Event]:
    """Tags; the one that is the run's name changes that, unless it is empty."""
    rest = {key: value for key, value in tags.items() if key != RUN_NAME}
    name = tags.get(RUN_NAME)
    renamed: list[ev.Event] = [ev.RunUpdated(run_id, name=name)] if name else []
    return [*renamed, ev.TagsSet(run_id, rest)] if rest else renamed


def _entries(call: Call) -> tuple[list[Metric], list[tuple[str, str]], list[tuple[str, str]]]:
    metrics = [_metric(at, item) for at, item in enumerate(call.values["metrics"] or [])]
    return metrics, _keyed("params", call.values["params"]), _keyed("tags", call.values["tags"])


def _metric(at: int, item: dict[str, Any]) -> Metric:
    for name in ("key", "value", "timestamp"):
        if item.get(name) is None or item[name] == "":
            raise missing_value(f"metrics[{at}].{name}")
    try:
        return Metric(
            as_text(item["key"]),
            as_number(item["value"]),
            as_integer(item["timestamp"]),
            as_integer(item.get("step") or 0),
        )
    except (TypeError, ValueError, OverflowError):
        raise invalid(
            f"metrics[{at}] has a value of a wrong type; key is text, value a number, the others integers"
        ) from None


def _keyed(name: str, given: list[tuple[str | None, str]] | None) -> list[tuple[str, str]]:
    found = []
    for at, (key, value) in enumerate(given or []):
        if not key:
            raise missing_value(f"{name}[{at}].key")
        found.append((key, value))
    return found


def _as_object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError
    return value


ENDPOINTS: Final = (
    Endpoint(
        "POST",
        "runs/log-metric",
        _log_metric,
        (_ID, _KEY, number("value", required=True), integer("timestamp", required=True), integer("step")),
    ),
    Endpoint("POST", "runs/log-parameter", _log_param, (_ID, _KEY, text("value"))),
    Endpoint("POST", "runs/set-tag", _set_tag, (_ID, _KEY, text("value"))),
    Endpoint("POST", "runs/delete-tag", _delete_tag, (_ID, _KEY)),
    Endpoint("POST", "runs/log-batch", _log_batch, (_ID, array("metrics", _as_object), pairs("params"), pairs("tags"))),
    Endpoint("POST", "runs/log-inputs", _log_inputs, (_ID, array("datasets", as_input), array("models"))),
)
