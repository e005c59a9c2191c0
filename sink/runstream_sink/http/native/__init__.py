"""The native API at /api/v1; OpenAPI describes it at /schema."""

from typing import Final

from litestar import Router
from litestar.types import ControllerRouterHandler

from runstream_sink.http.native import artifacts, experiments, metrics, runs, stream, tables

__all__ = ["ROUTES"]

ROUTES: Final[tuple[ControllerRouterHandler, ...]] = (
    Router(
        "/api/v1",
        route_handlers=[
            experiments.ROUTER,
            runs.ROUTER,
            metrics.ROUTER,
            tables.ROUTER,
            artifacts.ROUTER,
            stream.ROUTER,
        ],
    ),
)
