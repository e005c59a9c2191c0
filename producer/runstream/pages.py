"""Pages of a new segment, brought into memory before log calls store into them.

A store into a page of a mapping that is not in memory faults: 2 µs of the calling thread for each 4 KiB, during which
no other thread of the interpreter runs.  So the background thread fills a segment first, by ``pwrite``, which gives the
interpreter lock away and for which the kernel makes large pages, where the file system has them: then there is a fault
for each piece of many pages.  It stores into each page besides, for kernels that make small ones.

After a sync the first store into each page, large or small, faults again, and the next sync writes the whole of it.
So the pieces are small where little is logged, and where next to nothing is, log calls are left to fault.
"""

import time
from typing import Final

from runstream.filesystem import Buffer

__all__ = ["piece_for", "touch"]

_PIECES: Final = (256 << 10, 64 << 10)
"""Larger ones gain nothing more, and the kernel may have to look for so much memory in one piece: 2 MiB took longer
than small pages do."""
_SHARE: Final = 250_000_000
"""Nanoseconds: what is logged meanwhile is at least a piece."""
_PAGE: Final = 4096
_PAGES_A_LOOK: Final = 64
_TURN: Final = 200_000
"""Nanoseconds for which the interpreter lock is kept while pages are touched."""


def piece_for(size: int, nanoseconds: int) -> int:
    """In what pieces to fill a segment where so many bytes are logged in so long; 0: not at all."""
    share = size * _SHARE // max(nanoseconds, 1)
    return next((piece for piece in _PIECES if piece <= share), 0)


def touch(buffer: Buffer) -> None:
    """Store into each page behind the first, of a segment that nobody writes to yet."""
    began = time.perf_counter_ns()
    for start in range(_PAGE, len(buffer), _PAGE * _PAGES_A_LOOK):
        for offset in range(start, min(start + _PAGE * _PAGES_A_LOOK, len(buffer)), _PAGE):
            buffer[offset : offset + 1] = b"\0"
        if time.perf_counter_ns() - began > _TURN:
            time.sleep(0)
            began = time.perf_counter_ns()
