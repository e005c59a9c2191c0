"""MLflow's REST API, for its clients: what they log becomes events on the stream, what they read comes from the store.

One handler takes every request below the API's prefixes and finds the endpoint itself, so that all answers, those to
what does not exist too, have MLflow's form.  See docs/mlflow.md for what is served and what differs.
"""

from collections.abc import Iterable
from typing import Any, Final

from litestar import HttpMethod, Request, Response, route

from runstream_sink.http.context import Context, HttpContext
from runstream_sink.http.mlflow import about, artifacts, datasets, experiments, graphql, logging, metrics, models, runs
from runstream_sink.http.mlflow.call import Call, Endpoint
from runstream_sink.http.mlflow.documents import json_answer
from runstream_sink.http.mlflow.errors import to_answer, unknown_endpoint
from runstream_sink.http.mlflow.fields import decode, read_arguments, read_document

__all__ = ["METHODS", "ROUTES", "SERVED", "answer"]

METHODS: Final[list[HttpMethod]] = [
    HttpMethod.GET,
    HttpMethod.POST,
    HttpMethod.PUT,
    HttpMethod.PATCH,
    HttpMethod.DELETE,
]
"""Of requests that are answered in MLflow's form, whatever they ask for."""
_PREFIXES: Final = ("/api", "/ajax-api")
_AREAS: Final[dict[str, Iterable[Endpoint]]] = {
    "2.0/mlflow/": (
        *experiments.ENDPOINTS,
        *runs.ENDPOINTS,
        *logging.ENDPOINTS,
        *metrics.ENDPOINTS,
        *artifacts.ENDPOINTS,
        *datasets.ENDPOINTS,
        *models.ENDPOINTS,
    ),
    "2.0/mlflow-artifacts/": artifacts.PROXY,
    "3.0/mlflow/": about.ENDPOINTS,
}
_ROOT: Final = (*artifacts.ROOT, *about.ROOT, *graphql.ROOT)
SERVED: Final[dict[tuple[str, str], Endpoint]] = {
    **{
        (endpoint.method, f"{prefix}/{area}{endpoint.path}"): endpoint
        for prefix in _PREFIXES
        for area, endpoints in _AREAS.items()
        for endpoint in endpoints
    },
    **{(endpoint.method, f"/{endpoint.path}"): endpoint for endpoint in _ROOT},
}
"""By method and path; a path with a slash at its end is followed by anything."""
_OPEN: Final = tuple(sorted(key for key in SERVED if key[1].endswith("/")))


def _find(method: str, path: str) -> tuple[Endpoint, str]:
    """The endpoint, and the path that follows its own."""
    endpoint = SERVED.get((method, path if path in {"", "/"} else path.rstrip("/")))
    if endpoint is not None:
        return endpoint, ""
    for its_method, start in _OPEN:
        if method == its_method and path.startswith(start):
            return SERVED[method, start], path[len(start) :]
    raise unknown_endpoint(method, path)


@route(
    [
        "/api/2.0/{rest:path}",
        "/api/3.0/{rest:path}",
        "/ajax-api/2.0/{rest:path}",
        "/ajax-api/3.0/{rest:path}",
        *(f"/{endpoint.path}" for endpoint in _ROOT),
    ],
    http_method=METHODS,
    include_in_schema=False,
    request_max_body_size=None,
)
async def _serve(request: Request[Any, Any, Any], context: Context) -> Response[Any]:
    """Answer any request."""
    return await answer(request, context, request.scope["path"])


async def answer(request: Request[Any, Any, Any], context: HttpContext, path: str) -> Response[Any]:
    """What is answered to a request as if it were for ``path``; never raises."""
    try:
        endpoint, rest = _find(request.method, path)
        given: dict[str, Any] = {}
        if endpoint.fields:
            with_query = request.method == "GET" or endpoint.path == "upload-artifact"
            given = read_arguments(request, endpoint.fields) if with_query else await read_document(request)
        found = await endpoint.handler(Call(context, request, decode(endpoint.fields, given), rest))
    except Exception as error:  # noqa: BLE001 - every answer has MLflow's form
        return to_answer(error)
    return found if isinstance(found, Response) else json_answer(found)


ROUTES: Final = (_serve,)
