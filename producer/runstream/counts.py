"""What the journals of a process have taken and dropped: of those that are open, being closed, and gone."""

from collections.abc import Callable, Iterator
from typing import Final

from runstream.journal import Journal
from runstream_schemas.segment import DROP_REASONS

__all__ = ["Counts", "with_nested"]

_NAMES: Final = ("accepted", "synced", "stalls")
_State = tuple[dict[str, int], tuple[Journal, ...]]


class Counts:
    """Totals since the process began.  Threads and signal handlers may ask and change at any moment.

    The state is replaced as a whole, so that a journal counts once, also while it is being closed.
    """

    def __init__(self) -> None:
        self._state: _State = (dict.fromkeys((*_NAMES, *DROP_REASONS), 0), ())

    def add(self, journal: Journal) -> None:
        """Count a journal, and those nested in it, from now on."""
        self._change(lambda gone, held: (gone, (*held, journal)))

    def settle(self, journal: Journal) -> None:
        """Keep the counts of a journal that is closed, and forget the journal."""
        self._change(lambda gone, held: (_sum(gone, journal), tuple(one for one in held if one is not journal)))

    def totals(self) -> dict[str, int]:
        """``accepted``, ``synced``, ``stalls``, and the dropped events by reason."""
        totals, held = self._state
        for journal in held:
            totals = _sum(totals, journal)
        return totals

    def _change(self, change: Callable[[dict[str, int], tuple[Journal, ...]], _State]) -> None:
        while True:
            before = self._state
            after = change(*before)
            if self._state is before:  # nothing can come between this and the next step, which make no call
                self._state = after
                return


def with_nested(journal: Journal | None) -> Iterator[Journal]:
    """A journal and those that calls which interrupted its calls have made."""
    while journal is not None:
        yield journal
        journal = journal.nested


def _sum(counts: dict[str, int], journal: Journal) -> dict[str, int]:
    total = counts.copy()
    for one in with_nested(journal):
        for name in _NAMES:
            total[name] += getattr(one, name)
        for reason, count in one.dropped.items():
            total[reason] += count
    return total
