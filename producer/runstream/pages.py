"""Pages of a new segment, brought into memory before log calls store into them.

A store into a page of a mapping that is not in memory faults: 2 µs of the calling thread for each 4 KiB, during which
no other thread of the interpreter runs.  So the background thread fills a segment first, by ``pwrite``, for which the
kernel makes large pages, where the file system has them, and then has all of them mapped.  Both give the interpreter
lock away.  Where the kernel cannot map them so, the thread stores into each page.

After a sync the first store into each page, large or small, faults again, and the next sync writes the whole of it.
Where next to nothing is logged, log calls are left to fault.
"""

import time
from typing import Final

from runstream.filesystem import Buffer, Filesystem

__all__ = ["is_much", "warm"]

_MUCH: Final = 256 << 10
"""Bytes a second."""
_PAGE: Final = 4096
_PAGES_A_TURN: Final = 64


def is_much(size: int, nanoseconds: int) -> bool:
    """Whether so much is logged, so many bytes in so long, that it pays to bring pages into memory before."""
    return size * 1_000_000_000 >= _MUCH * max(nanoseconds, 1)


def warm(filesystem: Filesystem, buffer: Buffer) -> None:
    """Make a segment that was filled, and that nobody writes to yet, ready to be stored into without a fault."""
    if not filesystem.populate(buffer):
        _touch(buffer)


def _touch(buffer: Buffer) -> None:
    """Store into each page behind the first."""
    for start in range(_PAGE, len(buffer), _PAGE * _PAGES_A_TURN):
        for offset in range(start, min(start + _PAGE * _PAGES_A_TURN, len(buffer)), _PAGE):
            buffer[offset : offset + 1] = b"\0"
        time.sleep(0)
