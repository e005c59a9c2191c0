"""Datasets that are a run's inputs, with MLflow's attribute names; kept as `runstream_schemas.inputs` says."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from runstream.inputs import as_text
from runstream_schemas.errors import InvalidInputError
from runstream_schemas.inputs import INPUT, input_key, input_text
from runstream_schemas.values import to_text

__all__ = ["Dataset", "DatasetInput", "InputTag", "input_tag", "split_inputs"]


class InputTag(Struct, frozen=True):
    """What is said of an input: for example its context, ``mlflow.data.context``."""

    key: str
    value: str


class Dataset(Struct, frozen=True):
    """A dataset; ``source``, ``schema`` and ``profile`` are texts, mostly JSON."""

    name: str
    digest: str
    source_type: str
    source: str
    schema: str | None = None
    profile: str | None = None


class DatasetInput(Struct, frozen=True):
    """A dataset that a run has read."""

    dataset: Dataset
    tags: list[InputTag] = []


def input_tag(given: Any) -> tuple[str, str]:
    """Key and value of the tag that keeps an input: a `DatasetInput`, ours or MLflow's."""
    try:
        held = given.dataset
        fields = {name: getattr(held, name) for name in Dataset.__struct_fields__}
        tags = [{"key": as_text(tag.key), "value": as_text(tag.value)} for tag in given.tags or ()]
    except AttributeError as error:
        raise InvalidInputError(f"an input is a DatasetInput, not {to_text(given):.100} ({error})") from error
    dataset = {name: as_text(value or "") for name, value in fields.items() if value is not None or name in _REQUIRED}
    entry = {"tags": tags, "dataset": dataset} if tags else {"dataset": dataset}
    return input_key(entry), input_text(entry)


def split_inputs(tags: Mapping[str, str]) -> tuple[dict[str, str], list[DatasetInput]]:
    """A run's other tags, and the inputs that its tags keep."""
    rest = {key: value for key, value in tags.items() if not key.startswith(INPUT)}
    kept = (value for key, value in tags.items() if key.startswith(INPUT))
    return rest, [found for value in kept if (found := _input(value)) is not None]


def _input(value: str) -> DatasetInput | None:
    """The input that a tag keeps; None where something else has set the tag."""
    try:
        return msgspec.json.decode(value, type=DatasetInput)
    except msgspec.MsgspecError:
        return None


_REQUIRED = ("name", "digest", "source_type", "source")
