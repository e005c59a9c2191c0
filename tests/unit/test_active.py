"""The stack of active runs of a context."""

import contextvars
from typing import cast

from runstream import active
from runstream.run import Run


class Name(str):
    """What stands for a run: only its identity counts."""

    __slots__ = ()


def run(name: str) -> Run:
    """A run."""
    return cast("Run", Name(name))


def test_runs_are_stacked_and_the_last_one_is_remembered() -> None:
    """Leaving one makes the one below active again; leaving one that is not there changes nothing."""

    def scenario() -> None:
        outer, inner, other = run("outer"), run("inner"), run("other")
        assert active.active_run() is active.last_active_run() is None
        active.enter(outer)
        active.enter(inner)
        assert active.stack() == (outer, inner)
        active.leave(other)
        assert active.active_run() is inner
        active.leave(outer)
        assert active.active_run() is inner
        active.leave(inner)
        assert active.active_run() is None
        assert active.last_active_run() is inner
        active.restore((outer,))
        assert active.active_run() is active.last_active_run() is outer

    contextvars.Context().run(scenario)


def test_a_context_does_not_see_what_another_does() -> None:
    """A copy begins with what was active, and goes its own way."""

    def scenario() -> None:
        outer = run("outer")
        active.enter(outer)
        copy = contextvars.copy_context()
        copy.run(active.enter, run("inner"))
        assert active.active_run() is outer
        active.leave(outer)
        assert copy.run(active.active_run) == "inner"

    contextvars.Context().run(scenario)
