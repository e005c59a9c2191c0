"""Log lines of the sink: structlog to standard error, for people on a terminal and as JSON elsewhere.

Log lines never hold payloads: no params, no rows, no raw bytes; only identities, counts and reasons.
"""

import logging
import sys
from typing import Any

import structlog

__all__ = ["set_up"]


def set_up(level: str, log_format: str) -> None:
    """Configure structlog for this process."""
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    renderer: Any = structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
