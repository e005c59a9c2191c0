"""GraphQL, as far as MLflow's UI asks by it: an experiment, runs, histories of metrics, files.

Each field of a query is answered by the endpoint of the REST API that does the same.  A query is executed in a thread,
since an answer about many runs consists of very many fields; what it asks the store for is asked in the event loop.
"""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, cast

from runstream_sink.http.mlflow import artifacts, experiments, metrics, runs
from runstream_sink.http.mlflow.call import Call, Endpoint
from runstream_sink.http.mlflow.fields import Field, decode, text

__all__ = ["ROOT"]

_AT_ONCE: Final = 2
"""Queries that are executed at a time; these threads wait for the event loop, so they are no others' threads."""
_pool: Final = ThreadPoolExecutor(_AT_ONCE, "graphql")

_ENDPOINTS: Final = {
    endpoint.path: endpoint for module in (artifacts, experiments, metrics, runs) for endpoint in module.ENDPOINTS
}


async def _answer(call: Call) -> dict[str, Any]:
    """The data that a query asks for, and what went wrong, each a text."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_pool, _execute, call, _Asking(call, loop))


def _execute(call: Call, ask: "_Asking") -> dict[str, Any]:
    from runstream_sink.http.mlflow.graphql_execution import execute  # takes 70 ms, and only the UI needs it

    return execute(call.values["query"], call.values["variables"], call.values["operationName"], ask)


class _Asking:
    """Has endpoints of the REST API asked, from another thread than the event loop's."""

    def __init__(self, call: Call, loop: asyncio.AbstractEventLoop) -> None:
        self._call = call
        self._loop = loop

    def __call__(self, path: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """The document that an endpoint answers.  Raises what the endpoint raises."""
        endpoint = _ENDPOINTS[path]
        return asyncio.run_coroutine_threadsafe(self._ask(endpoint, given), self._loop).result()

    async def _ask(self, endpoint: Endpoint, given: Mapping[str, Any]) -> Mapping[str, Any]:
        answer = await endpoint.handler(self._call._replace(values=decode(endpoint.fields, given)))
        return cast(Mapping[str, Any], answer)  # these endpoints answer documents


def _as_variables(value: Any) -> dict[str, Any]:
    """Values by name.  Raises TypeError for anything else."""
    if not isinstance(value, dict):
        raise TypeError
    return value


ROOT: Final = (
    Endpoint(
        "POST",
        "graphql",
        _answer,
        (text("query", required=True), Field("variables", _as_variables), text("operationName")),
    ),
)
"""Below no version."""
