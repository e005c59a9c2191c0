"""The command line of the sink's side.

This module imports nothing but the standard library: `main` loads the rest when a command is called.
"""

from collections.abc import Mapping, Sequence
from typing import Final

__all__ = ["SUMMARIES", "Commands", "main"]

SUMMARIES: Final[Mapping[str, str]] = {
    "sink": "Apply the stream to the store, until stopped.",
    "replay": "Apply all that a stream holds to a fresh store.",
    "digest": "Print a hash of what a store says.",
    "verify": "Check every invariant of a store and list what is wrong.",
    "status": "Show journals, backlog, consumers, losses and dead letters.",
    "dlq": "List, show and retry dead letters.",
    "experiments": "List experiments.",
    "runs": "List, show and compare runs.",
    "tables": "List, show and export tables of runs.",
    "metrics": "List metrics of runs and show their histories.",
    "sql": "Answer a SELECT over runs, params, metrics, tags, experiments and tables.",
    "config": "Show every setting, its value and where it came from.",
    "demo": "Run the example batch inference from end to end.",
}
"""What each command does, in the order of the documentation."""


class Commands:
    """What the entry points of the group ``runstream.commands`` name."""

    summaries: Final = SUMMARIES

    def __call__(self, arguments: Sequence[str]) -> int:
        """Run a command line, the command's name first; returns the exit code.

        Raises ImportError where a library of the extra is missing.
        """
        from runstream_sink.cli.app import run

        return run(arguments)


main: Final = Commands()
