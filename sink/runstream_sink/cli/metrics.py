"""``runstream metrics``."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runstream_sink.cli import output
from runstream_sink.cli.exits import Exit
from runstream_sink.cli.naming import find_run
from runstream_sink.cli.options import JsonOption, StoreOption, opened, resolve, wait_for
from runstream_sink.config import Options

if TYPE_CHECKING:
    from runstream_sink.query.metrics import Bucket, Metric

__all__ = ["list_", "show"]

_RUN = Annotated[str, typer.Argument(metavar="RUN", help="The run's id, or enough of its beginning.")]
_HEIGHT = 16
_BUCKETS_OF_TEXT = 20
_PLOT_BUCKETS = 1000


def list_(run: _RUN, store: StoreOption = None, json: JsonOption = False) -> int:
    """List the metrics of a run: how many points each has, and the latest."""
    metrics = wait_for(_list(resolve(store=store), run))
    if json:
        output.print_json(metrics)
    else:
        rows = [
            (m.key, m.points, output.number(m.latest.value), m.latest.step, output.time_of(m.latest.timestamp))
            for m in metrics
        ]
        output.print_table(("metric", "points", "latest", "step", "at"), rows)
    return Exit.OK


def show(
    run: _RUN,
    key: Annotated[str, typer.Argument(metavar="KEY", help="The metric's name.")],
    start: Annotated[int | None, typer.Option("--from", metavar="STEP", help="The first step.")] = None,
    end: Annotated[int | None, typer.Option("--to", metavar="STEP", help="The last step.")] = None,
    buckets: Annotated[
        int | None, typer.Option("--buckets", metavar="N", min=1, help="How many steps' summaries to print at most.")
    ] = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> int:
    """Show the history of a metric: a plot on a terminal, else a table of summaries of steps."""
    terminal = sys.stdout.isatty() and not json
    size = buckets or (_PLOT_BUCKETS if terminal or json else _BUCKETS_OF_TEXT)
    metric, found = wait_for(_show(resolve(store=store), run, key, (size, start, end)))
    if json:
        output.print_json({"metric": metric, "buckets": found})
        return Exit.OK
    if terminal:
        _plot(found)
    if buckets or not terminal:
        output.print_table(("steps", "points", "min", "max", "last"), map(_row, found))
    latest = metric.latest
    output.lines(["", f"{metric.points:,} points; the latest is {output.number(latest.value)} at step {latest.step}"])
    return Exit.OK


async def _list(options: Options, prefix: str) -> list[Metric]:
    from runstream_sink.query.metrics import list_metrics

    async with opened(options) as reader:
        return await list_metrics(reader, await find_run(reader, prefix))


async def _show(
    options: Options, prefix: str, key: str, wanted: tuple[int, int | None, int | None]
) -> tuple[Metric, list[Bucket]]:
    from runstream_sink.query.metrics import list_metrics, metric_buckets
    from runstream_sink.query.records import NotFoundError

    async with opened(options) as reader:
        run_id = await find_run(reader, prefix)
        metric = next((metric for metric in await list_metrics(reader, run_id) if metric.key == key), None)
        if metric is None:
            raise NotFoundError(f"run {run_id} has no metric {key!r:.250}; see `runstream metrics list {run_id}`")
        return metric, (await metric_buckets(reader, [run_id], key, *wanted))[run_id]


def _plot(buckets: list[Bucket]) -> None:
    from runstream_sink.cli.plot import plot

    size = shutil.get_terminal_size()
    braille = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    output.lines(plot(buckets, size.columns, min(_HEIGHT, max(size.lines - 4, 4)), braille=braille))


def _row(bucket: Bucket) -> tuple[Any, ...]:
    first, last = bucket.first.step, bucket.last.step
    steps = str(first) if first == last else f"{first} to {last}"
    values = (bucket.min, bucket.max, bucket.last.value)
    return steps, bucket.count, *map(output.number, values)
