"""What a run says of models: one that it logged is noted in a tag, as MLflow does; models themselves are not kept."""

import json
from typing import Any, Final

from runstream_schemas import events as ev
from runstream_sink.http.mlflow.call import Call, Endpoint, active_run
from runstream_sink.http.mlflow.errors import MlflowError, invalid
from runstream_sink.http.mlflow.fields import array, text
from runstream_sink.query.run_parts import run_tags

__all__ = ["ENDPOINTS"]

_HISTORY: Final = "mlflow.log-model.history"
_REQUIRED: Final = frozenset({"artifact_path", "flavors", "utc_time_created", "run_id"})
_RUN: Final = text("run_id", required=True)


async def _log_model(call: Call) -> dict[str, Any]:
    model, run_id = _model(call.values["model_json"]), call.values["run_id"]
    async with call.context.writer.locked(("run", run_id)):
        run = await active_run(call.context, run_id)
        noted = _noted((await run_tags(call.context.reader, run.run_id)).get(_HISTORY))
        await call.context.writer.submit([ev.TagsSet(run.run_id, {_HISTORY: json.dumps([*noted, model])})])
    return {}


async def _log_outputs(call: Call) -> dict[str, Any]:
    await active_run(call.context, call.values["run_id"])
    if call.values["models"]:
        raise MlflowError("NOT_IMPLEMENTED", "models are no outputs of runs here: runstream keeps no models.")
    return {}


async def _no_models(_call: Call) -> dict[str, Any]:
    """The client asks for a run's models whenever it reads artifacts of a run by their path."""
    return {}


def _model(model_json: str) -> dict[str, Any]:
    """What is noted of a model.  Raises what MLflow answers for what describes none."""
    try:
        model = json.loads(model_json)
    except (ValueError, RecursionError):
        raise invalid(f"Malformed model info. \n {model_json:.2000} \n is not a valid JSON.") from None
    if not isinstance(model, dict):
        raise invalid("Malformed model info: it must be a JSON object.")
    if absent := sorted(_REQUIRED - set(model)):
        raise invalid(f"Model json is missing mandatory fields: {set(absent)}")
    flavors = model["flavors"]
    if not isinstance(flavors, dict):
        raise invalid("Malformed model info: its flavors must be a JSON object.")
    return {
        "run_id": model["run_id"],
        "artifact_path": model["artifact_path"],
        "utc_time_created": str(model["utc_time_created"]),
        "model_uuid": model.get("model_uuid"),
        "flavors": {name: _without_settings(flavor) for name, flavor in flavors.items()},
    }


def _without_settings(flavor: Any) -> Any:
    if not isinstance(flavor, dict):
        return flavor
    return {name: value for name, value in flavor.items() if name != "config"}


def _noted(history: str | None) -> list[Any]:
    """The models that the tag holds; what is no list of something else that set the tag is replaced."""
    try:
        found = json.loads(history or "[]")
    except (ValueError, RecursionError):
        return []
    return found if isinstance(found, list) else []


ENDPOINTS: Final = (
    Endpoint("POST", "runs/log-model", _log_model, (_RUN, text("model_json", required=True))),
    Endpoint("POST", "runs/outputs", _log_outputs, (_RUN, array("models", required=True))),
    Endpoint("POST", "logged-models/search", _no_models),
)
