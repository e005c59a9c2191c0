"""Retention of a queue directory: which segments and staged artifacts may go, and their removal.

A segment is freed when every registered consumer has applied it and it is older than the retention's age, or the
queue is larger than the retention's size (oldest first).  A journal whose segments are all freed and whose writer is
gone is removed, and its name noted unless the caller finds its events elsewhere.  Staged bytes go when they are older
than every segment that is left: a segment that names them was being written when they were staged, or later.  While
no consumer is registered nothing is freed.  What a process left behind that was killed while it made its journal goes
too.  Several consumers may free at once.
"""

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from runstream_schemas.directories import sync_directory
from runstream_schemas.errors import CorruptDataError
from runstream_schemas.reader import has_writer, journal_names, segment_indices
from runstream_schemas.segment import HEADER_SIZE, segment_name, unpack_header

__all__ = ["Freed", "free", "removed_journals"]

_REMOVED: Final = "removed"
"""File of the queue directory that names the journals which were removed, a line each."""
_STAGING_GRACE: Final = 3600.0
"""Seconds by which staged bytes must be older than the oldest segment: a log call may have been paused in between."""


class Freed(NamedTuple):
    """What was freed."""

    segments: int
    journals: int
    staged: int
    bytes: int


class _Segment(NamedTuple):
    modified: float
    size: int
    journal: str
    number: int
    applied: bool


def free(queue: Path, max_age: float, max_bytes: int, now: float | None = None, *, note_removed: bool = True) -> Freed:
    """Free what ``max_age`` (seconds) and ``max_bytes`` do not keep.  Raises OSError.

    Without ``note_removed`` the names of removed journals are not noted: what they held is on a topic, where a replay
    finds it.
    """
    consumers = _consumers(queue)
    if not consumers:
        return Freed(0, 0, 0, 0)
    now = time.time() if now is None else now
    journals = queue / "journals"
    segments = sorted(_segments(journals, consumers))
    excess = sum(segment.size for segment in segments) - max_bytes
    freed, freed_bytes = [], 0
    for segment in segments:
        if segment.applied and (now - segment.modified > max_age or freed_bytes < excess):
            (journals / segment.journal / segment_name(segment.number)).unlink(missing_ok=True)
            freed.append(segment)
            freed_bytes += segment.size
    left_empty = set(journal_names(journals)) - {segment.journal for segment in segments}  # by a sink that was killed
    emptied = left_empty | {segment.journal for segment in freed}
    removed = sum(_remove_if_empty(queue, name, consumers, note=note_removed) for name in sorted(emptied))
    _remove_unborn(journals, now - _STAGING_GRACE)
    superfluous = _superfluous(queue / "staging", _oldest(journals, now) - _STAGING_GRACE)
    if superfluous:
        _make_durable(journals)
    staged, staged_bytes = _free_staged(superfluous)
    return Freed(len(freed), removed, staged, freed_bytes + staged_bytes)


def removed_journals(queue: Path) -> list[str]:
    """Names of the journals that were removed whole: a replay of the queue lacks their events."""
    try:
        noted = (queue / _REMOVED).read_text().split()
    except FileNotFoundError:
        noted = []
    journals = queue / "journals"
    left_empty = [name for name in journal_names(journals) if _is_left_empty(journals / name)]
    return [*noted, *(name for name in left_empty if name not in noted)]


def _is_left_empty(journal: Path) -> bool:
    return not segment_indices(journal) and not has_writer(journal)


def _consumers(queue: Path) -> list[Path]:
    directory = queue / "consumers"
    return sorted(path for path in directory.iterdir() if path.is_dir()) if directory.is_dir() else []


def _segments(journals: Path, consumers: list[Path]) -> Iterator[_Segment]:
    for name in journal_names(journals):
        first = min(_acknowledged(consumer / name) for consumer in consumers)
        for index in segment_indices(journals / name):
            with contextlib.suppress(FileNotFoundError):
                status = (journals / name / segment_name(index)).stat()
                yield _Segment(status.st_mtime, status.st_size, name, index, index < first)


def _oldest(journals: Path, now: float) -> float:
    """When the oldest segment that is left was made, seconds since the epoch."""
    oldest = now
    for name in journal_names(journals):
        for index in segment_indices(journals / name)[:1]:
            with contextlib.suppress(FileNotFoundError):
                oldest = min(oldest, _created(journals / name / segment_name(index)))
    return oldest


def _created(path: Path) -> float:
    """When a segment was made; the beginning of time where it does not say, so that what it may name is kept."""
    with path.open("rb") as file:
        try:
            return unpack_header(file.read(HEADER_SIZE)).created / 1e9
        except CorruptDataError:
            return 0.0


def _acknowledged(path: Path) -> int:
    """Index of the first segment that a consumer has not applied; 0, which keeps all, where the file does not say."""
    try:
        text = path.read_text(encoding="ascii")
    except (FileNotFoundError, UnicodeDecodeError):
        return 0
    return int(text) if text.isdecimal() else 0


def _remove_if_empty(queue: Path, name: str, consumers: list[Path], *, note: bool) -> bool:
    journal = queue / "journals" / name
    if not _is_left_empty(journal):
        return False
    if note:
        _note_removed(queue, name)
    shutil.rmtree(journal, ignore_errors=True)
    for consumer in consumers:
        (consumer / name).unlink(missing_ok=True)
    return True


def _note_removed(queue: Path, name: str) -> None:
    """On the disk before the journal goes: a replay tells from it what is missing."""
    with (queue / _REMOVED).open("a") as file:
        file.write(f"{name}\n")
        file.flush()
        os.fsync(file.fileno())
    sync_directory(queue)


def _remove_unborn(journals: Path, before: float) -> None:
    """Journals that were being made when their process was killed, and that nobody has touched since."""
    for path in journals.glob("*.new"):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < before and not has_writer(path):
                shutil.rmtree(path, ignore_errors=True)


def _superfluous(staging: Path, before: float) -> list[Path]:
    """Staged bytes, and what killed processes left in tmp/, that nobody has touched since."""
    found = []
    for path in staging.glob("*/*") if staging.is_dir() else ():
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < before:
                found.append(path)
    return found


def _make_durable(journals: Path) -> None:
    """No segment that is gone comes back after a power cut, without the bytes that it names."""
    for journal in map(journals.joinpath, journal_names(journals)):
        with contextlib.suppress(FileNotFoundError):
            sync_directory(journal)
    if journals.is_dir():
        sync_directory(journals)


def _free_staged(superfluous: list[Path]) -> tuple[int, int]:
    count, size = 0, 0
    for path in superfluous:
        with contextlib.suppress(FileNotFoundError):
            freed = path.stat().st_size
            path.unlink()
            count, size = count + 1, size + freed
    return count, size
