"""Requests made of an OpenAPI document: such as it asks for, and such as it does not."""

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from hypothesis import strategies as st

__all__ = ["Operation", "Sent", "operations", "requests"]

_METHODS = ("get", "put", "post", "patch", "delete")
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
_WILD_TEXT = st.one_of(
    st.text(max_size=30),
    st.integers().map(str),
    st.sampled_from(
        ["", "..", "../../x", "%2e%2e/", "\x00", "'", '"', "null", "NaN", "9" * 400, "-1", "a" * 3000, "\ud7ff", "/"]
    ),
)


class Operation(NamedTuple):
    """One method of one path."""

    method: str
    path: str
    described: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"{self.method} {self.path}"


class Sent(NamedTuple):
    """What is sent."""

    method: str
    path: str
    params: list[tuple[str, str]]
    content: Any
    """JSON, or bytes as they are; None for nothing."""


def operations(document: Mapping[str, Any]) -> list[Operation]:
    """All that a document describes."""
    return [
        Operation(method, path, described[method])
        for path, described in document["paths"].items()
        for method in _METHODS
        if method in described
    ]


def requests(
    document: Mapping[str, Any], operation: Operation, known: Mapping[str, st.SearchStrategy[Any]]
) -> st.SearchStrategy[Sent]:
    """Requests to an operation; ``known`` gives better values for names than their types tell."""
    return _requests(document, operation, known)


@st.composite
def _requests(
    draw: st.DrawFn, document: Mapping[str, Any], operation: Operation, known: Mapping[str, st.SearchStrategy[Any]]
) -> Sent:
    path, params = operation.path, []
    for parameter in operation.described.get("parameters", ()):
        name, place = parameter["name"], parameter["in"]
        if place == "path":
            path = path.replace(f"{{{name}}}", quote(_text(draw(_value_of(document, parameter, known))), safe=""))
        elif place == "query" and (parameter.get("required") or draw(st.booleans())):
            value = draw(_value_of(document, parameter, known))
            params += [(name, _text(one)) for one in (value if isinstance(value, list) else [value])]
    return Sent(operation.method, path, params, draw(_content(document, operation, known)))


def _content(
    document: Mapping[str, Any], operation: Operation, known: Mapping[str, st.SearchStrategy[Any]]
) -> st.SearchStrategy[Any]:
    if operation.method == "put":
        return st.binary(max_size=200)
    body = operation.described.get("requestBody")
    if body is None:
        return st.none()
    schema = body["content"]["application/json"]["schema"]
    made = _of(document, schema, known)
    return st.one_of(made, made, made, _JSON, st.binary(max_size=40), st.just(b"[" * 5000))


def _value_of(
    document: Mapping[str, Any], parameter: Mapping[str, Any], known: Mapping[str, st.SearchStrategy[Any]]
) -> st.SearchStrategy[Any]:
    good = _named(document, parameter["name"], parameter["schema"], known)
    return st.one_of(good, good, good, _WILD_TEXT)


def _named(
    document: Mapping[str, Any], name: str, schema: Mapping[str, Any], known: Mapping[str, st.SearchStrategy[Any]]
) -> st.SearchStrategy[Any]:
    return known[name] if name in known else _of(document, schema, known)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def _of(
    document: Mapping[str, Any], schema: Mapping[str, Any], known: Mapping[str, st.SearchStrategy[Any]]
) -> st.SearchStrategy[Any]:
    """Values that a schema allows, about."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return _of(document, document["components"]["schemas"][name], known)
    for key in ("oneOf", "anyOf"):
        if key in schema:
            return st.one_of([_of(document, one, known) for one in schema[key]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "const" in schema:
        return st.just(schema["const"])
    kind = schema.get("type")
    if isinstance(kind, list):
        return st.one_of([_of(document, {**schema, "type": one}, known) for one in kind])
    if kind == "object":
        return _object(document, schema, known)
    if kind == "array":
        least, most = schema.get("minItems", 0), schema.get("maxItems", 4)
        items = _of(document, schema.get("items", {}), known)
        return st.lists(items, min_size=least, max_size=max(least, min(most, 4)))
    return _scalar(kind, schema)


def _object(
    document: Mapping[str, Any], schema: Mapping[str, Any], known: Mapping[str, st.SearchStrategy[Any]]
) -> st.SearchStrategy[Any]:
    properties = schema.get("properties")
    if not properties:
        values = schema.get("additionalProperties")
        inner = _of(document, values, known) if isinstance(values, dict) else _JSON
        return st.dictionaries(st.text(max_size=12), inner, max_size=4)
    made = {name: _named(document, name, inner, known) for name, inner in properties.items()}
    required = {name: made.pop(name) for name in schema.get("required", ())}
    return st.fixed_dictionaries(required, optional=made)


def _scalar(kind: Any, schema: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    if kind == "string":
        return st.text(min_size=schema.get("minLength", 0), max_size=min(schema.get("maxLength", 40), 40))
    if kind == "integer":
        return st.integers(schema.get("minimum"), schema.get("maximum"))
    if kind == "number":
        return st.floats(allow_nan=False, allow_infinity=False)
    if kind == "boolean":
        return st.booleans()
    return st.none() if kind == "null" else _JSON
