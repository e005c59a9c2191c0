"""How logged models are kept: their files as artifacts of the run that logged them, the rest in tags of that run.

The key is ``runstream.model.`` and the model's id; the value is a `ModelRecord` as JSON, which each change replaces.  A
run that has such tags has ``runstream.models`` too, by which it is found.  That a model is an output of a run is a tag
``runstream.output.`` + id, which holds the step; that it is an input, a tag ``runstream.model_input.`` + id.

The files lie below the model's name, as MLflow's versions before 3 had it; those of a second model of that name in the
same run below ``models/`` + id.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec
from msgspec import Struct

from runstream_schemas.errors import InvalidInputError

__all__ = ["HAS_MODELS", "MODEL", "MODEL_INPUT", "OUTPUT", "ModelRecord", "is_about_models", "models_of", "selector"]

MODEL: Final = "runstream.model."
HAS_MODELS: Final = "runstream.models"
OUTPUT: Final = "runstream.output."
MODEL_INPUT: Final = "runstream.model_input."

_ATTRIBUTES: Final = ("name", "model_id", "model_type", "status", "source_run_id")
_TERM: Final = re.compile(
    r"\s*(?:(?P<kind>attributes|tags|params)\.)?(?P<key>[\w.-]+|`[^`]+`|\"[^\"]+\")\s*(?P<how>!=|=)\s*"
    r"(?:'(?P<single>[^']*)'|\"(?P<double>[^\"]*)\")\s*"
)
_AND: Final = re.compile(r"AND\b", re.IGNORECASE)


class ModelRecord(Struct, frozen=True):
    """A logged model; times are milliseconds since the epoch."""

    model_id: str
    name: str
    experiment_id: str
    source_run_id: str
    path: str
    """The directory of its files, below the run."""
    created: int
    updated: int
    model_type: str | None
    status: str
    params: dict[str, str]
    tags: dict[str, str]


def models_of(tags: Mapping[str, str]) -> Iterable[ModelRecord]:
    """The models that a run's tags keep; what something else has put into such a tag is passed over."""
    for key, value in tags.items():
        if key.startswith(MODEL):
            try:
                yield msgspec.json.decode(value, type=ModelRecord)
            except msgspec.MsgspecError:
                continue


def is_about_models(key: str) -> bool:
    """Whether a tag keeps something of models, and is not the user's."""
    return key == HAS_MODELS or key.startswith((MODEL, OUTPUT, MODEL_INPUT))


def selector(text: str) -> Callable[[ModelRecord], bool]:
    """What meets a filter: ``=`` and ``!=`` of texts, joined by AND.  Raises `InvalidInputError` for all else."""
    terms: list[re.Match[str]] = []
    position = 0
    while position < len(text.rstrip()):
        if terms:
            joint = _AND.match(text, position)
            position = -1 if joint is None else joint.end()
        found = None if position < 0 else _TERM.match(text, position)
        if found is None or (found["kind"] in {None, "attributes"} and _key(found) not in _ATTRIBUTES):
            raise InvalidInputError(
                f"models are found by = and != of {', '.join(_ATTRIBUTES)}, tags.KEY and params.KEY, joined by AND; "
                f"not by {text!r:.200}"
            )
        terms.append(found)
        position = found.end()
    return lambda record: all(_meets(record, term) for term in terms)


def _key(term: re.Match[str]) -> str:
    return term["key"].strip('`"')


def _meets(record: ModelRecord, term: re.Match[str]) -> bool:
    held: Mapping[str, str | None]
    if term["kind"] in {"tags", "params"}:
        held = getattr(record, term["kind"])
    else:
        held = {name: getattr(record, name) for name in _ATTRIBUTES}
    value = held.get(_key(term))
    wanted = term["single"] if term["single"] is not None else term["double"]
    return value is not None and (value == wanted) == (term["how"] == "=")
