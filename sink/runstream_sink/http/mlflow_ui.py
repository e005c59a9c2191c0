"""MLflow's own UI: the built pages of the installed mlflow, at /mlflow, and the API for them below the same path.

The pages ask for everything by addresses that are relative to theirs: ``/mlflow/ajax-api/...`` is answered as
``/ajax-api/...`` is, and so are ``/mlflow/graphql`` and ``/mlflow/get-artifact``.  Nothing of mlflow is imported; only
files that lay in its directory when the server began are sent.

The pages may load nothing from elsewhere, and talk to no other server.  What a run's artifact holds never becomes a
page of ours: the UI shows HTML in a frame with an origin of its own (``sandbox``), which inherits this policy.  For its
sake scripts may stand in a page, as a plot by plotly has them; but attributes of elements are never scripts, so that
text which slips into the UI's page as markup does not run.  And code may be made of text, as plots drawn by WebGL do.
"""

import asyncio
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from mimetypes import MimeTypes
from pathlib import Path
from typing import Any, Final, NamedTuple

from litestar import Request, Response, get, route
from litestar.response import Redirect
from litestar.types import ControllerRouterHandler

from runstream_schemas.errors import EnvironmentUnavailableError
from runstream_sink.http.context import Context
from runstream_sink.http.mlflow import METHODS, answer
from runstream_sink.http.mlflow.documents import json_answer
from runstream_sink.query.records import NotFoundError

__all__ = ["PATH", "find_files", "ui_routes"]

PATH: Final = "/mlflow"
_FILES: Final = "static-files/"
_INDEX: Final = "index.html"
_BYTES: Final = "application/octet-stream"
_NAMED_BY_CONTENT: Final = "static/"
"""Files below have a hash in their names, so what has been loaded stays good."""
_AGE: Final = 28 * 86400
"""Seconds."""
_INSTALL: Final = "run: pip install 'runstream[mlflow]'"
_POLICY: Final = {
    "default-src": "'none'",
    "script-src": "'self' 'unsafe-inline' 'unsafe-eval'",
    "script-src-attr": "'none'",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "media-src": "'self' data: blob:",
    "connect-src": "'self' data: blob:",
    "worker-src": "'self' blob:",
    "frame-src": "'self' blob:",
    "manifest-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'self'",
}

_NOTHING: Final[Mapping[tuple[str, str], Mapping[str, Any]]] = {
    ("GET", "2.0/mlflow/gateway-proxy"): {"endpoints": []},
    ("GET", "2.0/mlflow/model-versions/search"): {},
    ("GET", "2.0/mlflow/registered-models/search"): {},
    ("GET", "2.0/mlflow/webhooks"): {},
    ("GET", "3.0/mlflow/assistant/config"): {"providers": {}, "projects": {}, "remote_access_allowed": False},
    ("GET", "3.0/mlflow/assistant/providers"): {"providers": []},
    ("POST", "3.0/mlflow/datasets/search"): {},
    ("POST", "3.0/mlflow/issues/search"): {"next_page_token": ""},
    ("GET", "3.0/mlflow/mcp-servers"): {"mcp_servers": [], "next_page_token": None},
    ("GET", "3.0/mlflow/scorers/list"): {},
    ("POST", "3.0/mlflow/traces/metrics"): {"data_points": []},
    ("POST", "3.0/mlflow/traces/search"): {},
    ("GET", "3.0/mlflow/ui-telemetry"): {
        "disable_ui_telemetry": True,
        "disable_ui_events": [],
        "ui_rollout_percentage": 0,
    },
    ("POST", "3.0/mlflow/ui-telemetry"): {"status": "disabled"},
}
"""What the UI asks for and is not kept here, as a server answers on which there is none of it."""


class Page(NamedTuple):
    """A file of the UI."""

    path: Path
    media_type: str
    headers: dict[str, str]


def find_files(module: str = "mlflow") -> dict[str, Page]:
    """The files of the UI by their paths below its directory; blocking.

    Raises `EnvironmentUnavailableError` if mlflow is not installed, or without its UI.
    """
    spec = find_spec(module)
    places: Sequence[str] = (spec.submodule_search_locations or ()) if spec else ()
    for place in places:
        root = Path(place, "server", "js", "build")
        if (root / _INDEX).is_file():
            types = MimeTypes()
            paths = ((path.relative_to(root).as_posix(), path) for path in root.rglob("*") if path.is_file())
            return {name: Page(path, types.guess_type(name)[0] or _BYTES, _headers(name)) for name, path in paths}
    if spec is None:
        raise EnvironmentUnavailableError(f"--mlflow-ui serves the pages of mlflow, which is not installed; {_INSTALL}")
    raise EnvironmentUnavailableError(
        "--mlflow-ui serves the pages of mlflow, and the mlflow that is installed has none, as mlflow-skinny and a "
        f"checkout of its sources have none; {_INSTALL}"
    )


def ui_routes(pages: Mapping[str, Page]) -> list[ControllerRouterHandler]:
    """What is served below `PATH`."""

    @get(PATH, include_in_schema=False)
    async def show_index(request: Request[Any, Any, Any]) -> Response[Any]:
        """The page itself, whose address must end in a slash: others are relative to it."""
        if not request.scope["raw_path"].endswith(b"/"):  # Litestar takes the slash from "path"
            return Redirect(f"{PATH.rpartition('/')[2]}/", status_code=307)
        return await _send(pages[_INDEX])

    @route(f"{PATH}/{{rest:path}}", http_method=METHODS, include_in_schema=False, request_max_body_size=None)
    async def show(request: Request[Any, Any, Any], context: Context) -> Response[Any]:
        """A file of the UI, or what the API answers."""
        path = request.scope["path"].removeprefix(PATH)
        if request.method == "GET" and path.startswith(f"/{_FILES}"):
            page = pages.get(path.removeprefix(f"/{_FILES}"))
            if page is None:
                raise NotFoundError(f"MLflow's UI has no file {path!r:.200}")
            return await _send(page)
        nothing = _NOTHING.get((request.method, path.removeprefix("/ajax-api/")))
        return await answer(request, context, path) if nothing is None else json_answer(nothing)

    return [show_index, show]


async def _send(page: Page) -> Response[bytes]:
    try:
        content = await asyncio.to_thread(page.path.read_bytes)
    except OSError as error:
        raise NotFoundError(
            f"{page.path.name} of MLflow's UI cannot be read ({error.strerror}); if mlflow has been installed anew, "
            "start the sink anew"
        ) from error
    return Response(content, status_code=200, media_type=page.media_type, headers=page.headers)


def _headers(name: str) -> dict[str, str]:
    cached = f"private, max-age={_AGE}" if name.startswith(_NAMED_BY_CONTENT) else "no-cache"
    return {
        "cache-control": cached,
        "content-security-policy": "; ".join(f"{name} {value}" for name, value in _POLICY.items()),
        "cross-origin-resource-policy": "same-origin",
        "referrer-policy": "same-origin",
        "x-content-type-options": "nosniff",
    }
