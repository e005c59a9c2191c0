"""Directories that survive a power cut: a new one's name is durable once its parent is synced."""

import contextlib
import os
from pathlib import Path

__all__ = ["make_durable", "sync_directory"]


def make_durable(path: Path) -> None:
    """Make a directory and its parents, and sync where their names stand.  Raises OSError.

    They are made one by one, from the uppermost on, and the one that was there is synced in any case: whoever made it
    may have died before it came to that.
    """
    missing = [place for place in (path, *path.parents) if not place.exists()]
    if not missing:
        sync_directory(path.parent)
        return
    with contextlib.suppress(PermissionError):  # then it is not ours, and has been there for long
        sync_directory(missing[-1].parent.parent)
    for place in reversed(missing):
        place.mkdir(exist_ok=True)
        sync_directory(place.parent)


def sync_directory(path: Path) -> None:
    """Wait until a directory's entries are on the disk.  Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
