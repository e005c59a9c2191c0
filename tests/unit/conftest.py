"""What tests of one component share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import runstream
from support.pipeline import Pipeline, forget_everything


@pytest.fixture
def pipeline(tmp_path: Path) -> Iterator[Pipeline]:
    """A queue that this process logs to, and a store; nothing of it is left in the process afterwards."""
    pipe = Pipeline(tmp_path)
    runstream.configure(stream=pipe.stream, store=str(pipe.store))
    yield pipe
    forget_everything()
