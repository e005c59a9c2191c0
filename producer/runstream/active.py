"""The active runs of a context: each asyncio task and each thread has a stack of its own."""

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runstream.run import Run

__all__ = ["active_run", "enter", "innermost", "last_active_run", "leave", "restore", "stack"]

_stack: ContextVar[tuple["Run", ...]] = ContextVar("runstream_active_runs", default=())
_innermost: ContextVar["Run | None"] = ContextVar("runstream_active_run", default=None)
_last: ContextVar["Run | None"] = ContextVar("runstream_last_run", default=None)


innermost = _innermost.get
"""`active_run`, for log calls, which it saves a call in Python."""


def active_run() -> "Run | None":
    """The run that is active in this context."""
    return innermost()


def last_active_run() -> "Run | None":
    """The run that is active in this context, or the last one that was."""
    return active_run() or _last.get()


def enter(run: "Run") -> None:
    """Make a run the active one."""
    restore((*_stack.get(), run))
    _last.set(run)


def leave(run: "Run") -> None:
    """Take a run off the stack."""
    restore(tuple(held for held in _stack.get() if held is not run))


def stack() -> tuple["Run", ...]:
    """The active runs of this context, the innermost last."""
    return _stack.get()


def restore(runs: tuple["Run", ...]) -> None:
    """Make these the active runs of this context."""
    _stack.set(runs)
    _innermost.set(runs[-1] if runs else None)
