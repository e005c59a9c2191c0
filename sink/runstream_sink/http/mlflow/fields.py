"""What a request says: from a query or a JSON document to checked values, as protobuf's JSON form has them.

Integers may be texts; numbers may be ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``; what is null is absent; unknown
fields are ignored.  A required text must not be empty, since protobuf has no other way to be absent.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from litestar import Request

from runstream_sink.http.mlflow.errors import invalid

__all__ = [
    "Field",
    "array",
    "decode",
    "integer",
    "number",
    "pairs",
    "read_arguments",
    "read_document",
    "text",
    "texts",
    "wrong_type",
]

_LIMIT: Final = 1 << 63
_BODY_LIMIT: Final = 16 << 20
_DOCS: Final = " See the API docs for more information about request parameters."
_SPECIAL: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class Field(NamedTuple):
    """One parameter of an endpoint."""

    name: str
    convert: Callable[[Any], Any]
    """From what JSON holds; raises TypeError or ValueError for another type."""
    required: bool = False
    repeated: bool = False


def text(name: str, *, required: bool = False) -> Field:
    """A text."""
    return Field(name, as_text, required)


def integer(name: str, *, required: bool = False) -> Field:
    """An integer of 64 bits."""
    return Field(name, as_integer, required)


def number(name: str, *, required: bool = False) -> Field:
    """A double."""
    return Field(name, as_number, required)


def texts(name: str, *, required: bool = False) -> Field:
    """A list of texts."""
    return Field(name, lambda value: [as_text(item) for item in as_list(value)], required, repeated=True)


def array(name: str, convert: Callable[[Any], Any] | None = None, *, required: bool = False) -> Field:
    """A list of anything, or of what ``convert`` takes."""
    return Field(name, lambda value: [(convert or as_is)(item) for item in as_list(value)], required, repeated=True)


def pairs(name: str) -> Field:
    """A list of keys with values, both text; a key may be None, a missing value is empty."""
    return array(name, as_pair)


def as_text(value: Any) -> str:
    """Text."""
    if not isinstance(value, str):
        raise TypeError
    return value


def as_integer(value: Any) -> int:
    """An integer, also written as text or as a whole float."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    found = int(value)
    if (isinstance(value, float) and found != value) or not -_LIMIT <= found < _LIMIT:
        raise ValueError
    return found


def as_number(value: Any) -> float:
    """A double, also written as text."""
    if isinstance(value, str):
        return _SPECIAL[value] if value in _SPECIAL else _finite(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    return float(value)


def as_list(value: Any) -> list[Any]:
    """A list."""
    if not isinstance(value, list):
        raise TypeError
    return value


def as_is(value: Any) -> Any:
    """Anything."""
    return value


def as_pair(value: Any) -> tuple[str | None, str]:
    """A key and a value."""
    if not isinstance(value, dict):
        raise TypeError
    key, held = value.get("key"), value.get("value")
    return (None if key is None else as_text(key)), ("" if held is None else as_text(held))


def decode(fields: Sequence[Field], given: Mapping[str, Any]) -> dict[str, Any]:
    """The value of each field, None where it is absent.  Raises what MLflow answers."""
    if not given.get("run_id") and given.get("run_uuid"):
        given = {**given, "run_id": given["run_uuid"]}
    return {field.name: _value(field, given.get(field.name)) for field in fields}


def wrong_type(name: str, value: Any) -> Exception:
    """A value has a type that its field has not."""
    shown = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return invalid(
        f"Invalid value {shown:.1000} for parameter '{name}' supplied:  Hint: Value was of type "
        f"'{type(value).__name__}'.{_DOCS}"
    )


def missing_value(name: str) -> Exception:
    """A value is wanted and not given."""
    return invalid(f"Missing value for required parameter '{name}'.{_DOCS}")


def _value(field: Field, value: Any) -> Any:
    if value is None or (field.required and value == ""):
        if field.required:
            raise missing_value(field.name)
        return None
    try:
        return field.convert(value)
    except (TypeError, ValueError, OverflowError):
        raise wrong_type(field.name, value) from None


def read_arguments(request: Request[Any, Any, Any], fields: Sequence[Field]) -> dict[str, Any]:
    """What the query says."""
    arguments = request.query_params
    repeated = {field.name for field in fields if field.repeated}
    return {name: arguments.getall(name) if name in repeated else arguments.getall(name)[0] for name in set(arguments)}


async def read_document(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """The JSON document of a request; what is no JSON is empty, as MLflow takes it."""
    if request.method in {"POST", "PUT"}:
        kind = request.headers.get("content-type")
        if kind is None:
            raise invalid("Bad Request. Content-Type header is missing.")
        if kind.partition(";")[0] != "application/json":
            raise invalid("Bad Request. Content-Type must be one of ['application/json'].")
    document = _parsed(await _body(request))
    if isinstance(document, str):  # clients of old encode twice
        document = _parsed(document.encode())
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise invalid("the request's body must be a JSON object")
    return document


async def _body(request: Request[Any, Any, Any]) -> bytes:
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size > _BODY_LIMIT:
            raise invalid(f"the request has more than {_BODY_LIMIT} bytes; send less at once")
        pieces.append(piece)
    return b"".join(pieces)


def _parsed(body: bytes) -> Any:
    """The JSON, of which Python's form with NaN is a part too; None for what is none."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        pass
    try:
        document = json.loads(body)
        msgspec.json.encode(document)
    except (ValueError, RecursionError, msgspec.MsgspecError):
        return None
    return document


def _finite(value: str) -> float:
    found = float(value)
    if not math.isfinite(found):
        raise ValueError
    return found
