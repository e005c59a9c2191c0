"""runstream itself, and Python's own logging."""

import json
import logging
import logging.handlers
import queue
import time
from typing import Any

import runstream
from loggers.base import METRIC, ROW, Logger, Setting

__all__ = ["LoggingFile", "LoggingQueue", "Runstream"]

_SETTLE = 60.0


class Runstream(Logger):
    """The fluent API, into a queue directory."""

    durability = "journaled: survives the process"
    overload = "drops and counts at its quota"

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        runstream.configure(stream=f"queue:{setting.directory}/queue", journal_quota="64GiB")
        runstream.start_run()

    def metric(self, step: int) -> Any:
        """Log a metric."""
        runstream.log_metric(*METRIC, step=step)

    def row(self, _: int) -> Any:
        """Log a row."""
        runstream.log_prediction(ROW)

    def settle(self) -> None:
        """Have it synced."""
        runstream.flush(_SETTLE)


class _Logging(Logger):
    """JSON lines by the standard library's logging."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.file = logging.FileHandler(setting.directory / "events.log")
        self.logger = logging.getLogger("events")
        self.logger.setLevel(logging.INFO)
        self.logger.propagate = False

    def metric(self, step: int) -> Any:
        """Log a metric."""
        key, value = METRIC
        self.logger.info(json.dumps({"key": key, "value": value, "step": step}))

    def row(self, _: int) -> Any:
        """Log a row."""
        self.logger.info(json.dumps(ROW))


class LoggingFile(_Logging):
    """Written and flushed by the call itself."""

    durability = "in the kernel's page cache: survives the process"
    overload = "waits"

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.logger.addHandler(self.file)


class LoggingQueue(_Logging):
    """By `QueueHandler`; a `QueueListener` writes in a thread."""

    durability = "in memory: lost with the process"
    overload = "grows"

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.waiting: queue.Queue[Any] = queue.Queue()
        self.logger.addHandler(logging.handlers.QueueHandler(self.waiting))
        self.listener = logging.handlers.QueueListener(self.waiting, self.file)
        self.listener.start()

    def settle(self) -> None:
        """Wait until it is written."""
        deadline = time.monotonic() + _SETTLE
        while self.waiting.qsize() and time.monotonic() < deadline:
            time.sleep(0.01)
