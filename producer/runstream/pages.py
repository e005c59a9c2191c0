"""Pages of a new segment, brought into memory before log calls store into them.

A store into a page of a mapping that is not in memory faults: 2 µs of the calling thread for each 4 KiB, during which
no other thread of the interpreter runs.  So the background thread fills a segment first, by ``pwrite``, for which the
kernel makes large pages, where the file system has them, and then has all of them mapped.  Both give the interpreter
lock away.  Where the kernel cannot map them so, the thread stores into each page.

After a sync the first store into each page, large or small, faults again, and the next sync writes the whole of it.
So the pages are small where little is logged, and where next to nothing is, log calls are left to fault.
"""

import time
from typing import Final

from runstream.filesystem import Buffer, Filesystem

__all__ = ["piece_for", "warm"]

_PIECES: Final = (256 << 10, 64 << 10)
"""Larger ones gain little more, and so much free memory in one piece is seldom what was used before: on a virtual
machine, pages of 1 and 2 MiB took three times as long as small ones, as the host had to find the memory first."""
_SHARE: Final = 250_000_000
"""Nanoseconds: what is logged meanwhile is at least a piece."""
_PAGE: Final = 4096
_PAGES_A_TURN: Final = 64


def piece_for(size: int, nanoseconds: int) -> int:
    """In what pieces to fill a segment where so many bytes are logged in so long; 0: not at all."""
    share = size * _SHARE // max(nanoseconds, 1)
    return next((piece for piece in _PIECES if piece <= share), 0)


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
