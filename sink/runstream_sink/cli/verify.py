"""``runstream verify``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from runstream_schemas.settings import STREAM
from runstream_sink.cli import output
from runstream_sink.cli.exits import Exit
from runstream_sink.cli.options import ArtifactsOption, JsonOption, StoreArgument, opened, resolve, wait_for
from runstream_sink.cli.progress import progress
from runstream_sink.config import Options

if TYPE_CHECKING:
    from runstream_sink.verify.report import Report

__all__ = ["verify"]


def verify(
    store: StoreArgument = None,
    stream: Annotated[
        str | None, typer.Option("--stream", metavar=STREAM.name.upper(), help="Check the events of this stream, too.")
    ] = None,
    artifacts: ArtifactsOption = None,
    json: JsonOption = False,
) -> int:
    """Check every invariant of a store and list what is wrong; a sink may run meanwhile.

    The exit code is 1 if anything is wrong.  Losses that are known, such as dead letters, are listed and are not wrong.
    """
    report = wait_for(_verify(resolve(stream=stream, store=store, artifacts=artifacts), with_stream=stream is not None))
    if json:
        output.print_json({"ok": report.ok, **{name: getattr(report, name) for name in report.__struct_fields__}})
    else:
        _print(report)
    return Exit.OK if report.ok else Exit.WRONG


async def _verify(options: Options, *, with_stream: bool) -> Report:
    from runstream_sink.verify import verify as check

    async with opened(options) as reader:
        with progress("bytes") as report:
            queue = options.queue if with_stream else None
            return await check(reader, options.artifacts, queue=queue, progress=report)


def _print(report: Report) -> None:
    for title, findings, counts in (
        ("wrong", report.findings, report.counts),
        ("known losses", report.known, report.known_counts),
    ):
        if findings:
            rows = [(finding.kind, finding.subject, finding.detail) for finding in findings]
            output.print_table((title, "", ""), rows)
            output.lines([f"  {kind}: {count}" for kind, count in counts.items()])
            output.lines([""])
    looked_at = ", ".join(f"{count:,} {what}" for what, count in report.checked.items())
    output.lines(
        [f"{'nothing is wrong' if report.ok else 'something is wrong'}; checked {looked_at or 'the database'}"]
    )
