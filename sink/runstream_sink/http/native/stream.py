"""The stream and the store: how they stand, what is lost, what is dead, and what changes."""

import asyncio
import time
from collections.abc import AsyncIterator
from importlib.metadata import version
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Router
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromQuery, PathParameter, QueryParameter
from litestar.response import Stream

from runstream_sink.consumer import Progress
from runstream_sink.http.context import Context, HttpContext
from runstream_sink.http.feed import Change
from runstream_sink.http.native.models import AppliedOut, DeadLetter, DeadLetters, LimitQuery, StoreInfo
from runstream_sink.http.native.routes import READING, get
from runstream_sink.http.state import StreamState, stream_state
from runstream_sink.query import DeadLetterRecord, counts, get_dead_letter, list_dead_letters
from runstream_sink.query.operations import is_applied

__all__ = ["ROUTER", "events"]

_HEARTBEAT: Final = 15.0
"""Seconds after which a watcher is told that there is nothing to tell."""
_PAUSE: Final = 0.1
"""Seconds between two tellings, so that many commits become one."""
_TELL_PROGRESS: Final = 1.0
_VERSION: Final = version("runstream")
_LARGEST: Final = (1 << 63) - 1
_Runs = Annotated[list[str] | None, QueryParameter(name="run_id", description="Only changes of these runs.")]


@get("/store")
async def show_store(context: Context) -> StoreInfo:
    """What this sink is, and how much it holds."""
    held = await counts(context.reader)
    return StoreInfo(
        _VERSION,
        context.reader.store_id,
        str(context.options.stream),
        held.experiments,
        held.runs,
        held.producers,
        held.events,
        held.dead_letters,
        held.lost_events,
    )


@get("/stream")
async def show_stream(context: Context) -> StreamState:
    """Backlog, lag, losses, dead letters and gaps, as of a second ago at most."""
    return await stream_state(context)


@get("/dead-letters")
async def page_dead_letters(
    context: Context,
    reason: FromQuery[str | None] = None,
    retried: FromQuery[bool] = False,
    limit: LimitQuery = 100,
    cursor: Annotated[int, QueryParameter(ge=0, le=_LARGEST)] = 0,
) -> DeadLetters:
    """Events that could not be decoded or applied, without their bytes; with ``retried`` also those that were then."""
    found = await list_dead_letters(context.reader, reason=reason, retried=retried, after=cursor, limit=limit + 1)
    following = found[limit - 1].id if len(found) > limit else None
    return DeadLetters([_letter(held) for held in found[:limit]], following)


@get("/dead-letters/{number:int}")
async def show_dead_letter(context: Context, number: Annotated[int, PathParameter(ge=0, le=_LARGEST)]) -> DeadLetter:
    """One of them, with its bytes."""
    return _letter(await get_dead_letter(context.reader, number))


@get("/applied")
async def ask_whether_applied(
    context: Context,
    producer_id: Annotated[str, QueryParameter(pattern="^[0-9a-f]{32}$", description="32 hexadecimal digits.")],
    seq: Annotated[int, QueryParameter(ge=0, le=_LARGEST)],
) -> AppliedOut:
    """Whether an event was applied, so that a program can wait for what it has logged itself."""
    return AppliedOut(await is_applied(context.reader, bytes.fromhex(producer_id), seq))


@get(
    "/changes",
    responses={**READING, 200: ResponseSpec(str, description="Server-sent events", media_type="text/event-stream")},
)
async def watch_changes(
    context: Context, request: Request[Any, Any, Any], run_ids: _Runs = None, since: FromQuery[str | None] = None
) -> Stream:
    """What changes, as server-sent events, as it is applied.

    ``change`` names runs and experiments, and what of them has changed; its id is where to go on, by Last-Event-ID or
    ``since``.  ``reset``: what came between is not known, read anew what is shown.  ``stream``: how the sink gets on.
    A comment comes every 15 seconds.
    """
    place = request.headers.get("last-event-id") or since
    headers = {
        "content-type": "text/event-stream; charset=utf-8",
        "cache-control": "no-store",
        "x-accel-buffering": "no",
    }
    return Stream(events(context, place, None if run_ids is None else frozenset(run_ids)), headers=headers)


async def events(
    context: HttpContext, place: str | None, run_ids: frozenset[str] | None = None
) -> AsyncIterator[bytes]:
    """Server-sent events from behind ``place``, or from now on, until the server ends."""
    feed = context.changes
    with feed:
        yield b"retry: 2000\n\n"
        here = feed.place if place is None else place
        yield _event("stream", _progress(context.progress), feed.place if place is None else None)
        told, failure = time.monotonic(), context.progress.failure
        while not feed.closed:
            await feed.wait(here, _HEARTBEAT)
            if here == feed.place:
                yield b": nothing new\n\n"
            else:
                here, change = feed.behind(here)
                if change is None:
                    yield _event("reset", {}, here)
                elif (shown := _of(change, run_ids)) is not None:
                    yield _event("change", shown, here)
            progress = context.progress
            if progress.failure != failure or time.monotonic() - told > _TELL_PROGRESS:
                told, failure = time.monotonic(), progress.failure
                yield _event("stream", _progress(progress))
            await asyncio.sleep(_PAUSE)


def _of(change: Change, run_ids: frozenset[str] | None) -> Change | None:
    """What of a change is of some runs; None if nothing is."""
    if run_ids is None:
        return change
    runs = {run_id: kinds for run_id, kinds in change.runs.items() if run_id in run_ids}
    return msgspec.structs.replace(change, runs=runs, experiments=[]) if runs else None


def _progress(progress: Progress) -> dict[str, Any]:
    return {
        "applied_events": progress.events,
        "dead_letters": progress.dead,
        "commits": progress.commits,
        "failure": progress.failure,
    }


def _event(name: str, data: Any, place: str | None = None) -> bytes:
    number = f"id: {place}\n" if place is not None else ""
    return f"event: {name}\n{number}data: ".encode() + msgspec.json.encode(data) + b"\n\n"


def _letter(held: DeadLetterRecord) -> DeadLetter:
    return DeadLetter(
        held.id,
        held.producer_id,
        held.seq,
        held.emit_ts,
        held.reason,
        held.detail,
        held.size,
        held.at,
        held.retried,
        held.raw,
    )


ROUTER: Final = Router(
    "/",
    route_handlers=[show_store, show_stream, page_dead_letters, show_dead_letter, ask_whether_applied, watch_changes],
    tags=["stream"],
)
