"""Real programs that tests run against.  One that is missing fails the test in CI and skips it, loudly, elsewhere."""

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

__all__ = ["KAFKA", "TOXIPROXY", "cache", "cached_component", "missing", "real_component"]

KAFKA = "kafka-4.4.0"
TOXIPROXY = "toxiproxy-2.5.0"


def cache() -> Path:
    """Where .ci/install-components puts what is no package of the distribution's."""
    return Path(os.environ.get("RUNSTREAM_CACHE") or Path.home() / ".cache" / "runstream")


def real_component(program: str) -> str:
    """Return the path of a program; where it is missing, end the test that asks."""
    return shutil.which(program) or missing(program)


def cached_component(name: str) -> Path:
    """Return a directory of the cache, such as KAFKA; where it is missing, end the test that asks."""
    path = cache() / name
    return path if path.is_dir() else missing(name)


def missing(name: str) -> NoReturn:
    """End the test that needs something which is not there."""
    reason = f"{name} is not installed: this behaviour was not tested"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
