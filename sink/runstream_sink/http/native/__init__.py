"""The native API at /api/v1; OpenAPI describes it at /schema."""

from typing import Final

from litestar.types import ControllerRouterHandler

__all__ = ["ROUTES"]

ROUTES: Final[tuple[ControllerRouterHandler, ...]] = ()
