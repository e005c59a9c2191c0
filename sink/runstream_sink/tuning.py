"""The interpreter, set up for what a consumer does; measured, reading and applying take half the time then."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["collect_garbage", "tuned"]

_USUALLY: Final = gc.get_threshold()
_USUAL_TURN: Final = sys.getswitchinterval()
_RARELY: Final = 1_000_000, 20, 100
_TURN: Final = 0.0005
"""Seconds, a tenth of what is usual: one thread prepares a delivery while another commits the one before, with many
short waits for the disk."""


@contextmanager
def tuned() -> Iterator[None]:
    """Have threads take turns more often, and everything as usual at the end, be it that of one of several."""
    sys.setswitchinterval(_TURN)
    try:
        yield
    finally:
        gc.set_threshold(*_USUALLY)
        sys.setswitchinterval(_USUAL_TURN)


def collect_garbage(*, rarely: bool) -> None:
    """Say how often the garbage collector looks.

    A large delivery makes very many tuples and no cycles: to look at them as often as usual takes a sixth of the time.
    While there are only small ones, what HTTP requests leave behind is to be collected as soon as usual.
    """
    gc.set_threshold(*(_RARELY if rarely else _USUALLY))
