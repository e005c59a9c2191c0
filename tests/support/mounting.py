"""File systems in memory, so that a disk can be full or read-only."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["mounted"]


@contextmanager
def mounted(directory: Path, options: str) -> Iterator[None]:
    """A tmpfs at a directory; where mounting is not possible the test is skipped, loudly."""
    directory.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", directory], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted ({done.stderr.strip()}): this behaviour was not tested")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)
