"""Dropped events on their way to a topic: what segment headers count becomes events of a journal of the shipper's own.

A count that grows is told again; the greatest one for a journal, segment and reason holds.  The journal lies among the
others of its directory and is shipped as they are, so that a notice is as safe as any event.
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from runstream.filesystem import Filesystem
from runstream.journal import Clock, Journal
from runstream.journal_directory import JournalDirectory
from runstream_schemas.events import LossNotice, encode_event

__all__ = ["LossJournal"]

_SEGMENT: Final = 1 << 20
_QUOTA: Final = 64 << 20


class LossJournal:
    """The journal; it is made when the first loss is known.  Blocking."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._journal: Journal | None = None
        self._told: dict[tuple[bytes, int, str], int] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the journals that this process writes to now."""
        return () if self._journal is None else (self._journal.directory.name,)

    def tell(self, losses: Mapping[tuple[bytes, int, str], int]) -> None:
        """Journal what is news of these counts, by (producer_id, segment, reason).

        Raises OSError if not all of it was taken; what was is not journaled again.
        """
        for (producer_id, segment, reason), count in losses.items():
            key = producer_id, segment, reason
            if producer_id.hex() in self.names or self._told.get(key, 0) >= count:
                continue
            refusal = self._open().append(encode_event(LossNotice(producer_id.hex(), segment, reason, count)))
            if refusal is not None:
                raise OSError(f"the notice of dropped events is refused ({refusal}); it is told later")
            self._told[key] = count

    def close(self) -> bool:
        """Sync and seal the journal, so that it can be shipped to its end; whether there was one."""
        journal, self._journal = self._journal, None
        if journal is not None:
            with contextlib.suppress(OSError):
                journal.close()
        return journal is not None

    def _open(self) -> Journal:
        if self._journal is None:
            disk = Filesystem()
            journals, consumers = self._directory / "journals", self._directory / "consumers"
            self._journal = Journal(
                lambda: JournalDirectory(journals, consumers, disk), disk, Clock(), quota=_QUOTA, segment_size=_SEGMENT
            )
        return self._journal
