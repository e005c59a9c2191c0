"""The shipper as a process: one leads a journal directory, the others end; it says what it does, and ends in order.

Started by a program's client as ``python -m runstream.shipping.process``, with its settings in the environment.  In the
journal directory it writes ``shipper.json`` and ``shipper.log`` (JSON lines, never payloads or secrets; at 1 MiB the
file becomes ``shipper.log.1``).
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import structlog

from runstream.shipping.leader import StatusFile, asked_to_yield, leading, lock_identity
from runstream.shipping.progress import Progress
from runstream.shipping.shipper import IDLE, News, Shipper
from runstream.shipping.transport import Transport
from runstream_schemas.errors import InvalidInputError
from runstream_schemas.follower import Follower
from runstream_schemas.settings import JOURNAL_DIR, STREAM
from runstream_schemas.streams import KafkaStream, journal_directory, parse_stream

__all__ = ["IDLE_VARIABLE", "lead", "log_to", "main", "resolve"]

IDLE_VARIABLE: Final = "RUNSTREAM_SHIPPER_IDLE"
"""Environment variable of a started shipper: seconds without anybody who could log after which it ends."""
_LOG: Final = "shipper.log"
_LOG_SIZE: Final = 1 << 20
_LOOK: Final = 0.25
"""Seconds between looks whether the directory is still there, and a waiting shipper is asked to make way."""
_PROGRESS: Final = 10.0
"""Seconds between two log lines that only tell how much was shipped."""
_log = structlog.get_logger("runstream.shipping")


def main() -> int:
    """Ship what the environment names, until nobody is left who could log.  Returns the exit code."""
    stream, directory = resolve()
    idle = float(os.environ.get(IDLE_VARIABLE, IDLE))
    while True:
        with leading(directory) as leads:
            if not leads:
                return 0
            with contextlib.closing(_file(directory)) as log:
                log_to(log)
                if not asyncio.run(_lead_to_kafka(stream, directory, idle)):
                    return 0
        if not _is_anything_left(directory):  # else somebody came between its last look and the end of its lead
            return 0


def resolve(stream: str | None = None, journal_dir: str | None = None) -> tuple[KafkaStream, Path]:
    """The stream in Kafka that is meant, and its journal directory.  Raises `InvalidInputError`."""
    target = parse_stream(STREAM.get(stream))
    if not isinstance(target, KafkaStream):
        raise InvalidInputError(f"the stream {target} is none in Kafka: what is logged to a queue need not be shipped")
    return target, journal_directory(target, Path(JOURNAL_DIR.get(journal_dir)).expanduser().absolute())


async def _lead_to_kafka(stream: KafkaStream, directory: Path, idle: float) -> bool:
    from runstream.shipping.kafka_transport import KafkaTransport

    _log.info("shipping begins", stream=str(stream), pid=os.getpid())
    try:
        return await lead(directory, KafkaTransport(stream), yields=True, idle=idle)
    except Exception:
        _log.exception("shipping failed")
        raise


async def lead(directory: Path, transport: Transport, *, yields: bool = False, **options: Any) -> bool:
    """Run a `Shipper` with these options until it ends; False if something else than its work made it end.

    That is a signal, the removal of its directory, or, if it ``yields`` and waits, a program that may have other
    settings.  Raises what `Shipper.run` raises.
    """
    narrator = _Narrator(directory)
    shipper = Shipper(directory, transport, narrator.tell, **options)
    with _stopped_by_signals(shipper):
        watching = asyncio.create_task(_watch(directory, shipper, narrator, yields=yields))
        try:
            await shipper.run()
        except Exception as error:
            narrator.end(str(error) or type(error).__name__)
            raise
        finally:
            watching.cancel()
    narrator.end(narrator.error)
    return not shipper.stopped


class _Narrator:
    """Tells the status file and the log what a shipper says."""

    def __init__(self, directory: Path) -> None:
        self._file = StatusFile(directory)
        self._file.tell("connecting", "", 0)  # at once: what is there is another's
        self._news = News("", "", 0)
        self._said = time.monotonic(), 0

    @property
    def error(self) -> str:
        """Why it waits."""
        return self._news.error

    @property
    def waits(self) -> bool:
        """Whether it waits for its next try."""
        return self._news.state == "waiting"

    def tell(self, news: News) -> None:
        """Pass news on."""
        before, self._news = self._news, news
        self._file.tell(*news)
        when, shipped = self._said
        if news.error and news.error != before.error:
            _log.warning("shipping waits", reason=news.error)
        elif news.state == "shipping" and before.state != "shipping":
            _log.info("connected")
        elif news.shipped > shipped and time.monotonic() - when >= _PROGRESS:
            _log.info("shipped", events=news.shipped)
            self._said = time.monotonic(), news.shipped

    def end(self, error: str) -> None:
        """The last word."""
        self._file.end(error)
        _log.info("shipping ends", events=self._news.shipped, error=error)


async def _watch(directory: Path, shipper: Shipper, narrator: _Narrator, *, yields: bool) -> None:
    """End a shipper whose directory is gone, or that waits when a program asks that may have other settings."""
    lock = lock_identity(directory)
    while True:
        await asyncio.sleep(_LOOK)
        if lock_identity(directory) != lock or (yields and narrator.waits and asked_to_yield(directory)):
            shipper.stop()


@contextmanager
def _stopped_by_signals(shipper: Shipper) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)
    for number in signals:
        loop.add_signal_handler(number, shipper.stop)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


def _is_anything_left(directory: Path) -> bool:
    progress, follower = Progress(directory), Follower(directory)
    try:
        progress.load()
        follower.seek(progress.positions)
        return follower.living() or not follower.exhausted()
    except OSError:
        return False


def _file(directory: Path) -> logging.Handler:
    from logging.handlers import RotatingFileHandler

    return RotatingFileHandler(directory / _LOG, maxBytes=_LOG_SIZE, backupCount=1, encoding="utf-8")


def log_to(handler: logging.Handler, renderer: Any = None) -> None:
    """Send log lines of this process, and warnings of libraries, to a handler; JSON unless a renderer is given."""
    shared: list[Any] = [structlog.stdlib.add_log_level, structlog.processors.TimeStamper(fmt="iso", utc=True)]
    formatter = structlog.stdlib.ProcessorFormatter(
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            renderer or structlog.processors.JSONRenderer(),
        ],
        foreign_pre_chain=shared,
    )
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it logs each try, and payloads; what fails, we explain
    logging.getLogger("runstream").setLevel(logging.INFO)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


if __name__ == "__main__":
    with contextlib.suppress(OSError):  # where it leads its session already
        os.setsid()
    sys.exit(main())
