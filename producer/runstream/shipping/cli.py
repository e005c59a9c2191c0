"""``runstream ship``: the shipper in the foreground, as a sidecar of programs or to ship what is left and end."""

import argparse
import asyncio
import contextlib
import logging
import math
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from runstream_schemas.errors import EnvironmentUnavailableError, InvalidInputError
from runstream_schemas.settings import JOURNAL_DIR, STREAM
from runstream_schemas.streams import KafkaStream

__all__ = ["Command", "main"]

_USAGE, _UNAVAILABLE = 2, 3
_PATIENCE: Final = 30.0
_LOOK: Final = 0.25
"""Seconds between looks whether another shipper has ended."""
_SUMMARY: Final = "Ship what programs have journaled to Kafka."
_HELP: Final = """\
Ship what programs have journaled to Kafka, until SIGTERM or SIGINT; what is on its way is finished first. Programs
start a shipper themselves unless RUNSTREAM_SHIPPER is external. While another one ships, this one waits, and takes
over when it ends.
"""


class Command:
    """What the entry point ``ship`` of the group ``runstream.commands`` names."""

    summaries: Final = {"ship": _SUMMARY}

    def __call__(self, arguments: Sequence[str]) -> int:
        """Run a command line, the command's name first; returns the exit code."""
        try:
            given = _parser().parse_args(arguments[1:])
            asyncio.run(_ship(given))
        except SystemExit as end:  # argparse has said why
            return end.code if isinstance(end.code, int) else _USAGE
        except InvalidInputError as error:
            return _fail(_USAGE, str(error))
        except ModuleNotFoundError as error:
            return _fail(_UNAVAILABLE, f"shipping needs {error.name}; run: pip install 'runstream[kafka]'")
        except (EnvironmentUnavailableError, OSError) as error:
            return _fail(_UNAVAILABLE, str(error))
        return 0

    @property
    def reference(self) -> str:
        """Its section of the page about the commands."""
        options = [action for action in _parser()._actions if action.dest != "help"]  # noqa: SLF001 - as typer's are read
        usages = [f"{action.option_strings[0]} {action.metavar or ''}".strip() for action in options]
        lines = [f"- `{usage}`: {action.help}\n" for usage, action in zip(usages, options, strict=True)]
        usage = " ".join(f"[{usage}]" for usage in usages)
        return f"## runstream ship\n\n    runstream ship {usage}\n\n{' '.join(_HELP.split())}\n\n{''.join(lines)}"


main: Final = Command()


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


def _fail(code: int, message: str) -> int:
    with contextlib.suppress(OSError):
        os.write(2, f"runstream: {message}\n".encode())
    return code
