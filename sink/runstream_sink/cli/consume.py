"""``runstream sink``, ``replay`` and ``digest``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from runstream_sink.cli import output
from runstream_sink.cli.exits import Exit
from runstream_sink.cli.options import (
    ArtifactsOption,
    JsonOption,
    StoreArgument,
    StoreOption,
    StreamOption,
    opened,
    resolve,
    wait_for,
)
from runstream_sink.cli.progress import progress
from runstream_sink.config import Options

if TYPE_CHECKING:
    from runstream_sink.service import Replayed

__all__ = ["digest", "replay", "sink"]

_MOST_LISTED = 20
"""Intervals of missing events that are listed of one producer."""


def sink(
    stream: StreamOption = None,
    store: StoreOption = None,
    artifacts: ArtifactsOption = None,
    once: Annotated[bool, typer.Option("--once", help="Apply what is there now, then end.")] = False,
    standby: Annotated[
        bool, typer.Option("--standby", help="Wait until no other sink holds the store, then take over.")
    ] = False,
    host: Annotated[
        str | None,
        typer.Option("--host", metavar="ADDRESS", help="Where HTTP is served.  Default: RUNSTREAM_HOST, or 127.0.0.1"),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            "--port", metavar="PORT", help="Its port; 0: a free one.  Default: RUNSTREAM_PORT, or 5600 if it is free"
        ),
    ] = None,
    no_http: Annotated[bool, typer.Option("--no-http", help="Serve nothing.")] = False,
    allow_open: Annotated[
        bool, typer.Option("--allow-open", help="Serve other machines without a token: they read and change all.")
    ] = False,
    mlflow_ui: Annotated[
        bool, typer.Option("--mlflow-ui", help="Serve MLflow's own UI too, at /mlflow.  Needs mlflow installed.")
    ] = False,
) -> int:
    """Apply the stream to the store, until SIGTERM or SIGINT, and serve it over HTTP; what was begun is finished first.

    With --once nothing is served.
    """
    from runstream_sink.logging import set_up
    from runstream_sink.service import run_sink

    options = resolve(
        stream=stream,
        store=store,
        artifacts=artifacts,
        http=False if no_http else None,
        host=host,
        port=port,
        allow_open=allow_open or None,
        mlflow_ui=mlflow_ui or None,
    )
    set_up(options.log_level, options.log_format)
    wait_for(run_sink(options, once=once, standby=standby))
    return Exit.OK


def replay(
    stream: StreamOption = None,
    store: StoreOption = None,
    artifacts: ArtifactsOption = None,
    first: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="PLACE",
            help="Where a topic's replay begins: earliest, a time (ISO 8601, or milliseconds since the epoch) at which "
            "records were sent, or offsets by partition such as 0=100,1=250.  Default: earliest",
        ),
    ] = "earliest",
    until: Annotated[
        str,
        typer.Option(
            "--until", metavar="PLACE", help="Before what it ends: latest, a time, or offsets.  Default: latest"
        ),
    ] = "latest",
    json: JsonOption = False,
) -> int:
    """Apply all that a stream holds to a fresh store; the stream stays as it is.

    Names at the end, by producer, the events that the stream no longer holds; the exit code is 1 if there are any.
    What lies before --from is not among them.
    """
    from runstream_sink.kafka.bounds import parse_bound
    from runstream_sink.logging import set_up
    from runstream_sink.service import replay as run_replay

    bounds = {"first": parse_bound(first, "--from"), "until": parse_bound(until, "--until")}
    options = resolve(stream=stream, store=store, artifacts=artifacts)
    set_up(options.log_level, options.log_format)
    total = _events_in(options)
    with progress("events") as report:
        done = wait_for(run_replay(options, lambda made: report("replaying", made.events, total), **bounds))
    made = done.progress
    output.note(f"replayed {made.events:,} events into {options.store.text}; {made.dead:,} are dead letters")
    if json:
        output.print_json(_document(done))
    else:
        output.lines(f"{held.producer_id.hex()}: events {_listed(held.intervals)} are gone" for held in done.missing)
        output.lines(f"{journal}: the whole journal is gone" for journal in done.removed)
    return Exit.WRONG if done.missing or done.removed else Exit.OK


def digest(store: StoreArgument = None, artifacts: ArtifactsOption = None) -> int:
    """Print a hash of what a store says: equal for the same events, whatever became of them on the way."""
    output.lines([wait_for(_digest(resolve(store=store, artifacts=artifacts)))])
    return Exit.OK


async def _digest(options: Options) -> str:
    from runstream_sink.digest import digest as compute

    async with opened(options) as reader:
        return await compute(reader, options.artifacts)


def _events_in(options: Options) -> int:
    """How many there are to come; 0 where that is not known."""
    from runstream_schemas.journal_status import read_stream_status
    from runstream_schemas.streams import QueueStream

    if not isinstance(options.stream, QueueStream):
        return 0
    return read_stream_status(options.queue, {}).backlog.events


def _document(done: Replayed) -> dict[str, Any]:
    return {
        "events": done.progress.events,
        "dead_letters": done.progress.dead,
        "lost": [{"producer_id": held.producer_id.hex(), "intervals": held.intervals} for held in done.missing],
        "lost_journals": done.removed,
    }


def _listed(intervals: list[tuple[int, int]]) -> str:
    texts: list[Any] = [first if first == last else f"{first} to {last}" for first, last in intervals[:_MOST_LISTED]]
    if len(intervals) > _MOST_LISTED:
        texts.append(f"and {len(intervals) - _MOST_LISTED} more intervals")
    return ", ".join(map(str, texts))
