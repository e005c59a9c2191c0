"""Options and arguments that several commands have; their help comes from the settings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from runstream_schemas.settings import ARTIFACTS, STORE, STREAM, Setting
from runstream_sink.config import Options, resolve

if TYPE_CHECKING:
    from runstream_sink.store.protocol import StoreReader

__all__ = [
    "ArtifactsOption",
    "JsonOption",
    "StoreArgument",
    "StoreOption",
    "StreamOption",
    "opened",
    "resolve",
    "wait_for",
]

T = TypeVar("T")


def _help(setting: Setting[Any]) -> str:
    default = f", or {setting.default}" if setting.default else ""
    return f"{setting.help}  Default: {setting.variable}{default}"


StreamOption = Annotated[str | None, typer.Option("--stream", metavar="STREAM", help=_help(STREAM))]
StoreOption = Annotated[str | None, typer.Option("--store", metavar="STORE", help=_help(STORE))]
StoreArgument = Annotated[str | None, typer.Argument(metavar="[STORE]", help=_help(STORE))]
ArtifactsOption = Annotated[str | None, typer.Option("--artifacts", metavar="DIR", help=_help(ARTIFACTS))]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def wait_for(work: Coroutine[Any, Any, T]) -> T:
    """Run what a command has to do, to its end."""
    return asyncio.run(work)


@asynccontextmanager
async def opened(options: Options) -> AsyncIterator[StoreReader]:
    """A reader of the store that the options name."""
    from runstream_sink.store.reading import open_reader

    reader = await open_reader(options.store)
    try:
        yield reader
    finally:
        await reader.close()
