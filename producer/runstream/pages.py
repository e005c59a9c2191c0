"""Pages of the segments that log calls store into, so that these neither fault nor are interrupted.

A store into a page of a mapping that is not in memory faults: 2 µs of the calling thread for each 4 KiB, during which
no other thread of the interpreter runs.  So the background thread fills a segment with zeros first, in large pages
where the file system has them, and has all of them mapped.  Both give the interpreter lock away.

A sync costs more where pages are mapped that were stored into: the kernel interrupts all CPUs on which the process runs
for each of them, 2 µs and more in a virtual machine, and the next store into it faults.  So a segment is taken out of
the mapping before it is synced, all at once, and what is left of it is mapped again afterwards.  That marks those pages
as changed, and the next sync writes their zeros: a segment is as large as lasts for a part of the sync interval only.

Where next to nothing is logged, all this is left out.
"""

from typing import Final

from runstream.filesystem import Filesystem
from runstream.journal_directory import Segment

__all__ = ["fitting_size", "is_much", "sync_in_use"]

_MUCH: Final = 256 << 10
"""Bytes a second."""
_LEAST: Final = 4 << 20
_PARTS_OF_A_SECOND: Final = 4


def is_much(size: int, nanoseconds: int) -> bool:
    """Whether so much is logged, so many bytes in so long, that it pays to bring pages into memory before."""
    return size * 1_000_000_000 >= _MUCH * max(nanoseconds, 1)


def fitting_size(size: int, nanoseconds: int) -> int:
    """How large a segment should be where so much is logged: as lasts a quarter of a second, and at least 4 MiB."""
    return max(_LEAST, size * 1_000_000_000 // (max(nanoseconds, 1) * _PARTS_OF_A_SECOND))


def sync_in_use(filesystem: Filesystem, segment: Segment, position: int) -> None:
    """Sync a segment that log calls may store into meanwhile, from ``position`` on.  Raises OSError."""
    detached = segment.populated and filesystem.detach(segment.buffer)
    filesystem.sync(segment.descriptor)
    if detached and not segment.end:
        filesystem.populate(segment.buffer, position)
