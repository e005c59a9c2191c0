"""Real programs that tests run against.  One that is missing fails the test in CI and skips it, loudly, elsewhere."""

import os
import shutil

import pytest

__all__ = ["real_component"]


def real_component(program: str) -> str:
    """Return the path of a program; where it is missing, end the test that asks."""
    path = shutil.which(program)
    if path is not None:
        return path
    reason = f"{program} is not installed: this behaviour was not tested"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
