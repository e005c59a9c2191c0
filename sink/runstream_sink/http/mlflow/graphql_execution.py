"""A GraphQL query, executed: what it asks for is looked up in the documents that the REST API answers.

Those leave out what is not set; here that is the empty value of its type, as MLflow's server has it.  A number that is
NaN is null, and an infinite one the greatest that there is, since JSON has neither.
"""

import math
import re
import sys
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from importlib.resources import files
from traceback import format_exception
from typing import Any, Final, NamedTuple, cast

import structlog
from graphql import (
    DocumentNode,
    GraphQLError,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLSchema,
    build_schema,
    execute_sync,
    is_list_type,
    parse,
    validate,
)

from runstream_schemas.errors import RunstreamError
from runstream_sink.http.mlflow.errors import invalid
from runstream_sink.http.mlflow.graphql_limits import check_length, check_limits

__all__ = ["Ask", "execute"]

Ask = Callable[[str, Mapping[str, Any]], Mapping[str, Any]]
"""Asks the endpoint of the REST API at a path, and returns the document that it answers."""

_ENDPOINTS: Final = {
    "mlflowGetExperiment": "experiments/get",
    "mlflowGetMetricHistoryBulkInterval": "metrics/get-history-bulk-interval",
    "mlflowGetRun": "runs/get",
    "mlflowListArtifacts": "artifacts/list",
    "mlflowSearchRuns": "runs/search",
}
"""By the fields of Query."""
_EMPTY: Final = {"String": "", "LongString": "0", "Boolean": False}
"""By type; what has another type and no fields is null."""
_NEVER: Final = "ApiError"
"""The one object that is null where it is not set, and it never is."""
_GREATEST: Final = sys.float_info.max
_log = structlog.get_logger(__name__)


def _number(value: float | str) -> float | None:
    found = float(value)
    return None if math.isnan(found) else max(-_GREATEST, min(found, _GREATEST))


_CONVERTED: Final[Mapping[str, Callable[[Any], Any]]] = {"Float": _number, "LongString": str}
"""By type; what has another is the same in both APIs."""


class _Context:
    """What the resolvers of one query share."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self._experiments: dict[str, Any] = {}

    def experiment(self, experiment_id: str) -> Any:
        """An experiment's document; asked for once, however many runs have it."""
        if experiment_id not in self._experiments:
            answer = self.ask("experiments/get", {"experiment_id": experiment_id})
            self._experiments[experiment_id] = answer["experiment"]
        return self._experiments[experiment_id]


class _Prepared(NamedTuple):
    """A query that may be executed, or what is wrong with it."""

    document: DocumentNode | None
    errors: list[str]


def execute(query: str, variables: Mapping[str, Any] | None, operation: str | None, ask: Ask) -> dict[str, Any]:
    """``{"data": ..., "errors": [...]}``, either null where there is none; each error is a text.  Blocking.

    Raises `MlflowError` for what is no query at all.
    """
    prepared = _prepare(query)
    if prepared.document is None:
        return {"data": None, "errors": prepared.errors}
    result = execute_sync(
        _schema(),
        prepared.document,
        context_value=_Context(ask),
        variable_values=dict(variables or {}),
        operation_name=operation,
        field_resolver=_resolve,
    )
    errors = [_message(error) for error in result.errors or []]
    return {"data": result.data, "errors": errors or None}


@lru_cache(maxsize=16)
def _prepare(query: str) -> _Prepared:
    """Parse and check a query; the UI sends the same few again and again."""
    check_length(query)
    try:
        document = parse(query)
    except (GraphQLError, RecursionError) as error:
        raise invalid(f"the query is no GraphQL: {error}") from None
    refusal = check_limits(document)
    errors = [refusal] if refusal else [error.message for error in validate(_schema(), document)]
    return _Prepared(None if errors else document, errors)


@cache
def _schema() -> GraphQLSchema:
    schema = build_schema(files(__package__).joinpath("graphql_schema.graphql").read_text("utf-8"))
    for name, field in cast(GraphQLObjectType, schema.query_type).fields.items():
        field.resolve = _asker(_ENDPOINTS[name])
    cast(GraphQLObjectType, schema.type_map["MlflowRunExtension"]).fields["experiment"].resolve = _experiment_of
    return schema


def _asker(path: str) -> Callable[..., Any]:
    """Of each resolver: ``info`` is a `GraphQLResolveInfo`, a generic type from graphql-core 3.3 on and none before."""

    def resolve(_source: Any, info: Any, input: Mapping[str, Any] | None = None) -> Any:  # noqa: A002 - its name in queries
        given = {_snake(name): value for name, value in (input or {}).items()}
        return info.context.ask(path, given)

    return resolve


def _experiment_of(run: Mapping[str, Any], info: Any) -> Any:
    return info.context.experiment(run["info"]["experiment_id"])


def _resolve(source: Mapping[str, Any], info: Any) -> Any:
    """A field of a document."""
    value = source.get(_snake(info.field_name))
    if value is None:
        return _empty(info.return_type)
    convert = _CONVERTED.get(str(info.return_type))
    return value if convert is None else convert(value)


def _empty(kind: GraphQLOutputType) -> Any:
    if is_list_type(kind):
        return []
    name = str(kind)
    return {} if isinstance(kind, GraphQLObjectType) and name != _NEVER else _EMPTY.get(name)


@cache
def _snake(name: str) -> str:
    return re.sub(r"[A-Z]", lambda found: f"_{found[0].lower()}", name)


def _message(error: GraphQLError) -> str:
    """What is told about an error; what nobody foresaw is logged, and not told."""
    cause = error.original_error
    if cause is None or isinstance(cause, RunstreamError | GraphQLError):
        return error.message
    _log.error("a request failed", reason=repr(cause), traceback="".join(format_exception(cause)))
    return "the server made a mistake, and has logged it"
