"""One request to MLflow's API: what it says, and what handlers share."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from litestar import Request, Response

from runstream_schemas.names import is_run_id
from runstream_sink.http.context import HttpContext
from runstream_sink.http.mlflow.errors import invalid, missing
from runstream_sink.http.mlflow.fields import Field
from runstream_sink.query.records import NotFoundError, Run
from runstream_sink.query.run_parts import run_head

__all__ = ["Call", "Endpoint", "Handler", "active_run", "check_active", "existing_run"]


class Call(NamedTuple):
    """A request whose fields were checked."""

    context: HttpContext
    request: Request[Any, Any, Any]
    values: Mapping[str, Any]
    """By the names of the endpoint's fields; None for those that were not given."""
    path: str = ""
    """Of what comes behind the endpoint's own path."""


Handler = Callable[[Call], Awaitable[Mapping[str, Any] | Response[Any]]]


class Endpoint(NamedTuple):
    """What is served at a method and path."""

    method: str
    path: str
    """Behind the version, without a slash at the beginning."""
    handler: Handler
    fields: Sequence[Field] = ()


async def existing_run(context: HttpContext, run_id: str) -> Run:
    """The run without its params, metrics and tags, or what MLflow answers where there is none."""
    try:
        if is_run_id(run_id):
            return await run_head(context.reader, run_id)
    except NotFoundError:
        pass
    raise missing(f"Run with id={run_id:.300} not found")


async def active_run(context: HttpContext, run_id: str) -> Run:
    """The same of a run that was not deleted."""
    run = await existing_run(context, run_id)
    check_active("run", run.run_id, run.lifecycle)
    return run


def check_active(what: str, its_id: str, lifecycle: str) -> None:
    """Refuse to change what was deleted."""
    if lifecycle != "active":
        raise invalid(f"The {what} {its_id} must be in the 'active' state. Current state is {lifecycle}.")
