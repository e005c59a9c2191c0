"""Datasets that are a run's inputs: kept as tags of the run, one a dataset, and shown as inputs instead of as tags."""

import hashlib
from typing import Any, Final

import msgspec

from runstream_sink.http.mlflow.fields import as_list, as_pair, as_text
from runstream_sink.query.records import Run

__all__ = ["INPUT", "as_input", "input_key", "input_text", "inputs_of"]

INPUT: Final = "runstream.input."
"""Beginning of the keys of such tags; the rest is made of the dataset's name and digest."""

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


def input_key(entry: dict[str, Any]) -> str:
    """The tag that keeps an input."""
    dataset = entry["dataset"]
    identity = msgspec.json.encode([dataset["name"], dataset["digest"]])
    return INPUT + hashlib.sha256(identity).hexdigest()[:32]


def input_text(entry: dict[str, Any]) -> str:
    """What the tag holds."""
    return msgspec.json.encode(entry).decode()


def inputs_of(run: Run) -> list[dict[str, Any]]:
    """The inputs that a run's tags keep."""
    return [entry for key, value in run.tags.items() if key.startswith(INPUT) for entry in _entries(value)]


def _entries(value: str) -> list[dict[str, Any]]:
    """The entry of a tag; none where something else has set the tag."""
    try:
        return [as_input(msgspec.json.decode(value))]
    except (msgspec.MsgspecError, TypeError):
        return []
