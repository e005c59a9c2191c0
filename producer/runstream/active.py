"""The active runs of a context: each asyncio task and each thread has a stack of its own."""

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runstream.run import Run

__all__ = ["active_run", "enter", "last_active_run", "leave", "restore", "stack"]

_stack: ContextVar[tuple["Run", ...]] = ContextVar("runstream_active_runs", default=())
_last: ContextVar["Run | None"] = ContextVar("runstream_last_run", default=None)


def active_run() -> "Run | None":
    """The run that is active in this context."""
    stack = _stack.get()
    return stack[-1] if stack else None


def last_active_run() -> "Run | None":
    """The run that is active in this context, or the last one that was."""
    return active_run() or _last.get()


def enter(run: "Run") -> None:
    """Make a run the active one."""
    _stack.set((*_stack.get(), run))
    _last.set(run)


def leave(run: "Run") -> None:
    """Take a run off the stack."""
    _stack.set(tuple(held for held in _stack.get() if held is not run))


def stack() -> tuple["Run", ...]:
    """The active runs of this context, the innermost last."""
    return _stack.get()


def restore(runs: tuple["Run", ...]) -> None:
    """Make these the active runs of this context."""
    _stack.set(runs)
