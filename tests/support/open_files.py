"""What this process has open."""

import contextlib
from pathlib import Path

__all__ = ["open_files"]


def open_files(*places: Path) -> list[str]:
    """What is open of these files, and below these directories: threads open and close other files meanwhile."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # this listing's own is closed by now
            found.append(descriptor.readlink())
    below = [target for target in found if any(map(target.is_relative_to, places))]
    return sorted(str(target).removesuffix(" (deleted)") for target in below)
