"""The application: all routes, behind the guard, with compression and counting."""

from typing import Any

import msgspec
from litestar import Litestar
from litestar.datastructures import State
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme, Server
from litestar.types import ControllerRouterHandler

from runstream_sink.http.asgi import App
from runstream_sink.http.compression import Compressed
from runstream_sink.http.context import HttpContext
from runstream_sink.http.guard import Guard, Rules
from runstream_sink.http.heads import Headed
from runstream_sink.http.health import ROUTES as HEALTH
from runstream_sink.http.measures import Measured
from runstream_sink.http.mlflow import ROUTES as MLFLOW
from runstream_sink.http.mlflow_ui import find_files, ui_routes
from runstream_sink.http.native import ROUTES as NATIVE
from runstream_sink.http.problems import to_response

__all__ = ["BODY_LIMIT", "create_app", "guarded"]

BODY_LIMIT = 16 << 20
"""Bytes of a request that has no limit of its own."""


def create_app(context: HttpContext) -> Litestar:
    """All routes.  Handlers get ``context`` by naming it.  Must be served by `guarded`.  Blocking.

    Raises `EnvironmentUnavailableError` if MLflow's UI is to be served and is not installed.
    """
    handlers: list[ControllerRouterHandler] = [*HEALTH, *NATIVE, *MLFLOW]
    if context.http.mlflow_ui:
        handlers += ui_routes(find_files())
    return Litestar(
        handlers,
        dependencies={"context": Provide(lambda: context, sync_to_thread=False)},
        exception_handlers={Exception: to_response},
        openapi_config=_openapi(),
        request_max_body_size=BODY_LIMIT,
        logging_config=None,
        debug=False,
        state=State({"context": context}),
        type_encoders={msgspec.UnsetType: lambda _: None},
    )


def guarded(app: Any, context: HttpContext) -> App:
    """What the server runs: nothing reaches ``app`` that the guard does not let through, and all is counted."""
    return Guard(Compressed(Headed(Measured(app, context.measures))), Rules(context.http), context.measures)


def _openapi() -> OpenAPIConfig:
    return OpenAPIConfig(
        title="runstream",
        version="1",
        description="What a sink has made of the events of a stream: experiments, runs, metrics, tables and artifacts. "
        "Writes become events on the stream; the answer comes when they are applied.",
        path="/schema",
        use_handler_docstrings=True,
        render_plugins=[JsonRenderPlugin(path=["/", "/openapi.json"])],
        components=Components(
            security_schemes={
                "token": SecurityScheme(type="http", scheme="bearer", description="RUNSTREAM_TOKEN, where it is set"),
                "password": SecurityScheme(type="http", scheme="basic", description="The same as password"),
            }
        ),
        security=[{"token": []}, {"password": []}, {}],
        servers=[Server(url="/")],
    )
