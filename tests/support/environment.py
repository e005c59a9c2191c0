"""The variables of processes that tests start."""

import os

__all__ = ["unmeasured"]


def unmeasured() -> dict[str, str]:
    """This process's variables without coverage's.

    Coverage takes a lock that is not reentrant and survives no fork.  A signal handler or a destructor that comes
    while it is held would wait for ever, and so would a child that was forked from C.
    """
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
