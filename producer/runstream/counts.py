"""What the journals of a process have taken and dropped: of those that are open, being closed, and gone."""

from collections.abc import Callable, Iterator
from typing import Final

from runstream.journal import Journal
from runstream_schemas.segment import DROP_REASONS

__all__ = ["Counts", "with_nested"]

_NAMES: Final = ("accepted", "synced", "stalls")
_ENDS_KEPT: Final = 100
_State = tuple[dict[str, int], tuple[Journal, ...]]


class Counts:
    """Totals since the process began.  Threads and signal handlers may ask and change at any moment.

    The state is replaced as a whole, so that a journal counts once, also while it is being closed.
    """

    def __init__(self) -> None:
        self._ends: dict[bytes, int] = {}
        self._state: _State = (dict.fromkeys((*_NAMES, *DROP_REASONS), 0), ())

    def add(self, journal: Journal) -> None:
        """Count a journal, and those nested in it, from now on."""
        self._change(lambda gone, held: (gone, (*held, journal)))

    def settle(self, journal: Journal) -> None:
        """Keep the counts of a journal that is closed, and forget the journal."""
        self._ends = dict(list({**self._ends, **_ends(journal)}.items())[-_ENDS_KEPT:])
        self._change(lambda gone, held: (_sum(gone, journal), tuple(one for one in held if one is not journal)))

    def ends(self) -> dict[bytes, int]:
        """By producer_id, the seq of the last event of each journal that has one: the open and the newest closed."""
        ends = self._ends.copy()
        for journal in self._state[1]:
            ends |= _ends(journal)
        return ends

    def forget_ends(self) -> None:
        """Forget the closed journals: from now on events go elsewhere."""
        self._ends = {}

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


def _ends(journal: Journal) -> dict[bytes, int]:
    return {one.directory.producer_id: one.accepted - 1 for one in with_nested(journal) if one.accepted}


def _sum(counts: dict[str, int], journal: Journal) -> dict[str, int]:
    total = counts.copy()
    for one in with_nested(journal):
        for name in _NAMES:
            total[name] += getattr(one, name)
        for reason, count in one.dropped.items():
            total[reason] += count
    return total
