"""A sink of a topic as a process of its own, which tells what it needed.

Arguments: the stream, the store, and ``standby`` or ``once``.
"""

import asyncio
import re
import sys
from pathlib import Path

from runstream_sink.config import resolve
from runstream_sink.logging import set_up
from runstream_sink.service import run_sink

__all__ = ["main"]


def main(stream: str, store: str, mode: str) -> None:
    """Run until SIGTERM, or, with ``once``, until all is applied; then print the most memory it had, in bytes."""
    set_up("info", "json")
    asyncio.run(run_sink(resolve(stream=stream, store=store), once=mode == "once", standby=mode == "standby"))
    print(_peak(), flush=True)


def _peak() -> int:
    """Of this program alone: what `getrusage` says includes the process that started it."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
