"""What a verification found."""

from collections import Counter
from collections.abc import Callable
from typing import Final

from msgspec import Struct

__all__ = ["MOST_LISTED", "Collector", "Finding", "Progress", "Report"]

MOST_LISTED: Final = 100
"""Findings that are listed of one kind; all are counted."""

Progress = Callable[[str, int, int], None]
"""Is told what is being checked, how many bytes of it are done, and how many there are (0: not known)."""


class Finding(Struct, frozen=True):
    """One thing that is wrong, or that is known to be lost."""

    kind: str
    subject: str
    """The file, run, producer or table that it is about."""
    detail: str


class Report(Struct, frozen=True):
    """The whole result."""

    findings: list[Finding]
    """Violations, at most `MOST_LISTED` of a kind."""
    counts: dict[str, int]
    """All violations by kind."""
    known: list[Finding]
    """Known losses, which are no violations; as many of a kind."""
    known_counts: dict[str, int]
    """Lost events by kind."""
    checked: dict[str, int]
    """How much was looked at: artifacts, parts, rows, events of the stream."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.counts


class Collector:
    """Takes findings up, in bounded memory."""

    def __init__(self) -> None:
        self.checked: Counter[str] = Counter()
        self._findings: list[Finding] = []
        self._counts: Counter[str] = Counter()
        self._known: list[Finding] = []
        self._known_counts: Counter[str] = Counter()
        self._known_listed: Counter[str] = Counter()

    def add(self, kind: str, subject: str, detail: str) -> None:
        """A violation."""
        self._counts[kind] += 1
        if self._counts[kind] <= MOST_LISTED:
            self._findings.append(Finding(kind, subject, detail))

    def know(self, kind: str, subject: str, detail: str, events: int) -> None:
        """A known loss of so many events."""
        self._known_counts[kind] += events
        self._known_listed[kind] += 1
        if self._known_listed[kind] <= MOST_LISTED:
            self._known.append(Finding(kind, subject, detail))

    def report(self) -> Report:
        """All of it."""
        checked = dict(sorted(self.checked.items()))
        return Report(self._findings, dict(self._counts), self._known, dict(self._known_counts), checked)
