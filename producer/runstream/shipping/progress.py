"""How far a journal directory is shipped: the files ``shipped/<producer_id>``.

Each holds one position (see `runstream_schemas.follower`), behind which nothing is acknowledged by the brokers yet.
They are renamed into place, and never synced: a position that is lost, or older than it could be, means that events are
sent again, which no sink applies twice.
"""

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from runstream_schemas.errors import CorruptDataError
from runstream_schemas.follower import parse_position
from runstream_schemas.reader import Position, journal_names

__all__ = ["Progress", "shipped_position"]

_INTERVAL: Final = 0.05
"""Seconds between two writes of one journal's position."""
_DIRECTORY: Final = "shipped"


def shipped_position(directory: Path, journal: str) -> Position | None:
    """How far one journal is shipped; None where nothing says so."""
    try:
        text = (directory / _DIRECTORY / journal).read_text(encoding="ascii")
        return parse_position(text) if text else None
    except (OSError, UnicodeDecodeError, CorruptDataError):
        return None


class Progress:
    """The shipper's side of the files.  Blocking; not thread-safe."""

    def __init__(self, directory: Path) -> None:
        self._journals = directory / "journals"
        self._directory = directory / _DIRECTORY
        self.positions: dict[str, str] = {}
        """By journal: what is acknowledged."""
        self._unwritten: set[str] = set()
        self._written: dict[str, float] = {}

    def load(self) -> None:
        """Take over what an earlier shipper has written.  Raises OSError."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self.positions = {}
        for path in self._directory.iterdir():
            with contextlib.suppress(FileNotFoundError, UnicodeDecodeError, CorruptDataError):
                text = path.read_text(encoding="ascii")
                parse_position(text)
                if text and not path.suffix:
                    self.positions[path.name] = text

    def advance(self, positions: Mapping[str, str]) -> None:
        """Note what is acknowledged, and write what was not written just now.  Raises OSError."""
        self.positions |= positions
        self._unwritten |= positions.keys()
        self.write()

    @property
    def behind(self) -> bool:
        """Whether a file is older than what is known."""
        return bool(self._unwritten)

    def write(self, *, everything: bool = False) -> None:
        """Write what is due, or ``everything``.  Raises OSError."""
        now = time.monotonic()
        for name in sorted(self._unwritten):
            if everything or now - self._written.get(name, -_INTERVAL) >= _INTERVAL:
                fresh = self._directory / f"{name}.new"
                fresh.write_text(self.positions[name], encoding="ascii")
                fresh.rename(self._directory / name)
                self._written[name] = now
                self._unwritten.discard(name)

    def forget_removed(self) -> None:
        """Remove the files of journals that are no longer there.  Raises OSError."""
        gone = self.positions.keys() - set(journal_names(self._journals))
        for name in sorted(gone):
            (self._directory / name).unlink(missing_ok=True)
            self.positions.pop(name)
            self._written.pop(name, None)
            self._unwritten.discard(name)
