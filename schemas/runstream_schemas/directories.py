"""Directories that survive a power cut: a new one's name is durable once its parent is synced."""

import os
from pathlib import Path

__all__ = ["make_durable", "sync_directory"]


def make_durable(path: Path) -> None:
    """Make a directory and its parents, and sync where their names stand.  Raises OSError.

    The parent is synced in any case: whoever made the directory may have died before it came to that.
    """
    missing = [place for place in (path, *path.parents) if not place.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for place in missing or [path]:
        sync_directory(place.parent)


def sync_directory(path: Path) -> None:
    """Wait until a directory's entries are on the disk.  Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
