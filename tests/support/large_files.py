"""Files that are copied in the background, and copies that wait until a test lets them go on."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runstream import background
from runstream.artifacts import Staged
from runstream_sink import query
from support.pipeline import Pipeline

__all__ = ["CONTENT", "held", "letters", "unfinished"]

CONTENT = bytes(range(256)) * 8_000
"""What a large file holds."""


@contextlib.contextmanager
def held(monkeypatch: pytest.MonkeyPatch, *, before: bool = True) -> Iterator[threading.Event]:
    """Copies wait, before their first byte or behind their last, until the event is set; it is set at the end."""
    gate = threading.Event()
    copy = background.copy

    def wait(source: int, target: int | None, check: Callable[[], None]) -> Staged:
        def checked() -> None:
            while not gate.wait(0.01):
                check()
            check()

        if before:
            checked()
            return copy(source, target, check)
        return copy(source, target, checked)

    monkeypatch.setattr(background, "copy", wait)
    try:
        yield gate
    finally:
        gate.set()


def letters(pipeline: Pipeline) -> list[tuple[str, str]]:
    """Reason and detail of what is dead."""
    return [(letter.reason, letter.detail) for letter in pipeline.ask(query.list_dead_letters)]


def unfinished(pipeline: Pipeline) -> list[Path]:
    """What lies half-staged."""
    return list((pipeline.queue / "staging" / "tmp").iterdir())
