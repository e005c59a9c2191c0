"""A simulated program: the real journal, kept by hand where a thread would keep it."""

import random
from pathlib import Path

from runstream.artifacts import Staging
from runstream.journal import Clock
from support.journals import FaultyFilesystem, Killed, make_journal
from support.simulation_events import Ledger, encoded, make_event

__all__ = ["Producer"]

_HOUR = 3_600_000_000_000


class Producer:
    """One process with one journal.  Raises `Killed` where a fault that was planned in ``disk`` strikes."""

    def __init__(self, name: str, queue: Path, choice: random.Random) -> None:
        self.name = name
        self.disk = FaultyFilesystem()
        self.skew = choice.choice([0, 0, choice.randrange(-_HOUR, _HOUR)])
        """Nanoseconds by which its clock is wrong."""
        self._choice = choice
        self._staging = Staging(queue / "staging", sync=True)
        quota = choice.choice([1 << 18, 1 << 22])
        self.journal = make_journal(queue, self.disk, Clock(), quota=quota)
        self.journal.kept = choice.random() < 0.5
        self.ledger = Ledger(self.journal.directory.name)

    def emit(self, number: int, now: int) -> None:
        """Log one event, as a client does."""
        effect, event, content = make_event(self._choice, number, now)
        if content:
            self._staging.add_bytes(content)
        body = encoded(event)
        ledger, seq = self.ledger, self.journal.accepted
        ledger.tried[seq] = effect, body
        reason = self.journal.append(body)
        if reason is None:
            ledger.accepted.add(seq)
            ledger.segments[seq] = self.journal._current.index
            return
        del ledger.tried[seq]
        if reason != "closed":
            self._count_drop(reason)

    def _count_drop(self, reason: str) -> None:
        try:
            self.journal.count_drop(reason)
        except Killed:
            self.ledger.uncertain += 1
            raise
        self.ledger.dropped[reason] = self.ledger.dropped.get(reason, 0) + 1

    def note_synced(self) -> None:
        """Take over what the journal says it has synced."""
        self.ledger.synced = self.journal.synced
