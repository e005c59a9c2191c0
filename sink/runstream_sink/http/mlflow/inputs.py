"""Datasets that are a run's inputs: kept as `runstream_schemas.inputs` says, and shown as inputs instead of as tags."""

from typing import Any, Final

import msgspec

from runstream_schemas.inputs import INPUT, input_key, input_text
from runstream_sink.http.mlflow.fields import as_list, as_pair, as_text
from runstream_sink.query.records import Run

__all__ = ["INPUT", "as_input", "input_key", "input_text", "inputs_of"]

_PRESENT: Final = ("name", "digest", "source_type", "source")
_OPTIONAL: Final = ("schema", "profile")


def as_input(value: Any) -> dict[str, Any]:
    """A dataset and the tags of the input.  Raises TypeError for anything else."""
    if not isinstance(value, dict) or not isinstance(value.get("dataset"), dict):
        raise TypeError
    held = value["dataset"]
    dataset = {name: as_text(held.get(name) or "") for name in _PRESENT}
    dataset |= {name: as_text(held[name]) for name in _OPTIONAL if held.get(name) is not None}
    tags = [as_pair(item) for item in as_list(value.get("tags") or [])]
    document: dict[str, Any] = {"dataset": dataset}
    return {"tags": [{"key": key or "", "value": text} for key, text in tags], **document} if tags else document


def inputs_of(run: Run) -> list[dict[str, Any]]:
    """The inputs that a run's tags keep."""
    return [entry for key, value in run.tags.items() if key.startswith(INPUT) for entry in _entries(value)]


def _entries(value: str) -> list[dict[str, Any]]:
    """The entry of a tag; none where something else has set the tag."""
    try:
        return [as_input(msgspec.json.decode(value))]
    except (msgspec.MsgspecError, TypeError):
        return []
