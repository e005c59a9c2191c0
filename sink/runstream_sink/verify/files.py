"""Artifacts and table parts on the disk, against what the database says of them.  Blocking."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from msgspec.structs import replace

from runstream_schemas.errors import CorruptDataError
from runstream_sink.tables.parts import Part
from runstream_sink.tables.read import iter_raw
from runstream_sink.verify.report import Collector
from runstream_sink.verify.seen import EventBits

__all__ = ["Problem", "RowChecker", "check_artifact"]

_CHUNK: Final = 1 << 20
_ALL_ROWS: Final = 1 << 62


class Problem(NamedTuple):
    """What is wrong with one artifact."""

    kind: str
    detail: str


def check_artifact(path: Path, sha256: str, size: int, advance: Callable[[int], None]) -> Problem | None:
    """Read an artifact; ``advance`` is told of the bytes read.  Raises OSError if the disk fails."""
    digest = hashlib.sha256()
    found = 0
    try:
        with path.open("rb", buffering=0) as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                found += len(chunk)
                advance(len(chunk))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return Problem("artifact_missing", f"the file does not exist; it should have {size} bytes")
    if found != size:
        return Problem("artifact_size", f"the file has {found} bytes; it should have {size}")
    if digest.hexdigest() != sha256:
        return Problem("artifact_hash", f"the file's SHA-256 is {digest.hexdigest()}; it should be {sha256}")
    return None


class RowChecker:
    """Reads the parts of tables, one table after the other, each one's parts in order.

    The rows of an event stand together in one table, numbered from 0; no event's rows stand in two places.
    """

    def __init__(self, root: Path, collector: Collector, *, running: bool) -> None:
        self.events = EventBits()
        """The events that have rows."""
        self._root = root
        self._collector = collector
        self._running = running
        self._table = ("", "")
        self._head = ""
        self._next = 0

    def check(self, table: tuple[str, str], part: Part) -> None:
        """Check the next part of ``table`` (run id and name)."""
        if table != self._table:
            self._table, self._head = table, ""
        self._collector.checked["parts"] += 1
        try:
            size = (self._root / part.file).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            self._add("part_missing", part, f"the file does not exist; {part.rows} rows are committed")
            return
        if size > part.length and not self._running:
            detail = f"the file has {size} bytes, {part.length} are committed; a sink that starts may cut it"
            self._add("part_long", part, detail)
        found, error = self._read(part, min(size, part.length))
        if size < part.length:
            detail = f"the file has {size} bytes, {part.length} are committed; {found} of {part.rows} rows can be read"
            self._add("part_short", part, detail)
        elif error:
            self._add("part_unreadable", part, f"after {found} of {part.rows} rows: {error}")
        elif found != part.rows:
            self._add("part_rows", part, f"the committed bytes hold {found} rows, {part.rows} are committed")

    def _read(self, part: Part, length: int) -> tuple[int, str]:
        """How many rows the first ``length`` bytes hold, and why no more can be read."""
        columns = dict(zip(part.columns, part.types, strict=True))
        found = 0
        try:
            for row in iter_raw(self._root, [replace(part, length=length, rows=_ALL_ROWS)], columns):
                self._row(part, row.event)
                found += 1
        except CorruptDataError as error:
            return found, str(error)
        finally:
            self._collector.checked["rows"] += found
        return found, ""

    def _row(self, part: Part, event: str) -> None:
        head, _, text = event.rpartition(":")
        index = int(text)
        if head != self._head:
            self._head, self._next = head, 0
            producer, _, seq = head.partition(":")
            if not self.events.add(producer, int(seq)):
                self._add("row_twice", part, f"row {event}: rows of this event stand elsewhere, too")
                self._next = index
        if index < self._next:
            self._add("row_twice", part, f"row {event} stands here more than once")
            return
        if index > self._next:
            self._add("row_missing", part, f"of event {head}, rows {self._next} to {index - 1} are missing")
        self._next = index + 1

    def _add(self, kind: str, part: Part, detail: str) -> None:
        run_id, name = self._table
        self._collector.add(kind, part.file, f"table {name!r:.200} of run {run_id}: {detail}")
