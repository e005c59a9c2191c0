"""A sink as a process of its own, for tests that kill it."""

import asyncio
import sys

from runstream_sink.config import resolve
from runstream_sink.logging import set_up
from runstream_sink.service import run_sink

__all__ = ["main"]


def main(stream: str, store: str) -> None:
    """Run until SIGTERM."""
    set_up("info", "json")
    asyncio.run(run_sink(resolve(stream=stream, store=store), once=False))


if __name__ == "__main__":
    main(*sys.argv[1:])
