"""``runstream ship``: the shipper in the foreground, as a sidecar of programs or to ship what is left and end."""

import argparse
import asyncio
import contextlib
import logging
import math
import sys
import time
from pathlib import Path
from typing import Any, Final

from runstream.command import Command
from runstream_schemas.errors import EnvironmentUnavailableError
from runstream_schemas.settings import JOURNAL_DIR, STREAM
from runstream_schemas.streams import KafkaStream

__all__ = ["main"]

_PATIENCE: Final = 30.0
_LOOK: Final = 0.25
"""Seconds between looks whether another shipper has ended."""
_SUMMARY: Final = "Ship what programs have journaled to Kafka."
_HELP: Final = """\
Ship what programs have journaled to Kafka, until SIGTERM or SIGINT; what is on its way is finished first. Programs
start a shipper themselves unless RUNSTREAM_SHIPPER is external. While another one ships, this one waits, and takes
over when it ends.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("runstream ship", description=_HELP, allow_abbrev=False)
    parser.add_argument("--stream", metavar="STREAM", help=STREAM.described)
    parser.add_argument("--journal-dir", metavar="DIR", help=JOURNAL_DIR.described)
    parser.add_argument("--once", action="store_true", help="Ship what is there now, then end.")
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        default=_PATIENCE,
        help=f"With --once: how long to try without any success. Default: {_PATIENCE:.0f}",
    )
    return parser


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < math.inf:
        raise ValueError(text)
    return seconds


async def _ship(given: Any) -> None:
    import structlog

    from runstream.shipping.kafka_transport import KafkaTransport
    from runstream.shipping.process import lead, log_to, resolve

    stream, directory = resolve(given.stream, given.journal_dir)
    log_to(logging.StreamHandler(sys.stderr), structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else None)
    with await _leading(stream, directory, given.timeout if given.once else math.inf):
        await lead(directory, KafkaTransport(stream), once=given.once, patience=given.timeout, idle=math.inf)


async def _leading(stream: KafkaStream, directory: Path, patience: float) -> contextlib.AbstractContextManager[Any]:
    """Wait until this process leads.  Raises `EnvironmentUnavailableError` after ``patience`` seconds."""
    from runstream.shipping.leader import leading

    deadline = time.monotonic() + patience
    while True:
        lead = contextlib.ExitStack()
        if lead.enter_context(leading(directory)):
            return lead
        lead.close()
        if time.monotonic() >= deadline:
            raise EnvironmentUnavailableError(
                f"another shipper is at work on {stream} in {directory}, and goes on with it; see shipper.json there"
            )
        await asyncio.sleep(_LOOK)


def _run(given: Any) -> int:
    asyncio.run(_ship(given))
    return 0


main: Final = Command(_parser(), _run, summary=_SUMMARY, purpose="shipping", extra="kafka")
