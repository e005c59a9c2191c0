"""The cells of tables as Parquet files, made from the CSV parts when they are first asked for.

A part's file only ever grows, and what is committed of it never changes.  So the cache of a part is a row of segments,
one file each, that follow each other: ``START-END-ROW-ROWS.parquet`` holds the ``ROWS`` rows that lie from byte
``START`` to byte ``END``, of which the first is row ``ROW`` of the part.  When a part has grown, its new rows become
one more segment, together with the segments before it that are not much larger: there are never many, and each row is
converted a few times at most.

A segment has a column of texts ``cN`` for the part's N-th column: exactly the cells of the file, NULL for an empty cell
and an empty text for ``""``; ``_logged_at`` and ``_event`` are the last two.  Its column ``id`` ascends through the
table (see `row_id`).  Nothing here is needed: whoever deletes the directory pays with the time to convert again.

Segments appear whole, by renaming.  What a reader takes is the row that begins with the largest segment at the first
byte and goes on with the largest that begins where the one before ends; the segments beside it, which larger ones have
replaced, count for nothing.  They stay for a while (`_GRACE`), since others who chose them before may not have opened
them yet, and are removed by whoever uses the part after that.  Anything else may go at any time: a part as a whole, for
room, and what somebody could not read.  Whoever then misses it plans again.
"""

import contextlib
import io
import os
import re
import shutil
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple

from runstream_schemas.errors import CorruptDataError
from runstream_sink.tables.cells import header_line
from runstream_sink.tables.parts import Part

__all__ = ["CACHE_LIMIT", "ROW_BITS", "Segment", "SegmentCache", "row_id"]

CACHE_LIMIT: Final = 16 << 30
"""Bytes of all segments of a store; parts that were not asked for in the longest time make room."""
ROW_BITS: Final = 40
"""A table's row is identified by the number of its part and the row's place there, in so many bits."""
_BLOCK: Final = 8 << 20
"""Bytes of CSV that become one group of rows; more where a row is larger."""
_LARGEST_BLOCK: Final = (1 << 31) - 1
_NAME: Final = re.compile(r"(\d+)-(\d+)-(\d+)-(\d+)\.parquet")
_PART: Final = re.compile(r"[0-9a-f]{32}")
_PATIENCE: Final = 0.1
"""Seconds between looks at whether the caller still waits."""
_GRACE: Final = 300_000_000_000
"""Nanoseconds that a segment stays after it was replaced: who has chosen it opens it when a query comes to it."""
_ABANDONED: Final = 3_600_000_000_000
"""Nanoseconds after which a file that nobody wrote to is of a process that died while it made a segment."""
_building: Final = threading.Lock()

CheckCancelled = Callable[[], None]
"""Raises if nobody waits for the result any longer."""
_Identity = tuple[int, int]


class Segment(NamedTuple):
    """One file, and what it holds of its part."""

    path: Path
    start: int
    end: int
    """Bytes of the part."""
    row: int
    rows: int


class _Plan(NamedTuple):
    """What there is of a part."""

    chain: list[Segment]
    """Segments that follow each other from the first row on, as far as they are needed: each row once."""
    replaced: list[Segment]
    """Those beside them that nobody chooses any more."""


def row_id(part: int, row: int) -> int:
    """The id of a row, counted from 0, of a part, counted from 1."""
    return (part << ROW_BITS) + row


class SegmentCache:
    """The segments of one store's tables, below ``directory``, which may not be there yet.  All methods block."""

    def __init__(self, directory: Path, *, limit: int = CACHE_LIMIT) -> None:
        self._directory = directory
        self._limit = limit
        self._chosen: dict[Path, list[tuple[Path, _Identity | None]]] = {}
        """By folder, the files that `segments` has named."""

    @property
    def directory(self) -> Path:
        """Where the segments lie."""
        return self._directory

    def segments(self, root: Path, part: Part, check: CheckCancelled) -> list[Segment]:
        """Segments that together hold the committed rows of ``part``, and perhaps some that came later.

        They are to be opened soon.  ``root`` is where tables lie.  Raises `CorruptDataError` for a damaged part, what
        ``check`` raises, and OSError.
        """
        if not part.rows:
            return []
        folder = self._folder(part)
        plan = _plan(folder, part)
        if not _reaches(plan.chain, part):
            with _waited(check):
                while not _reaches((plan := _plan(folder, part)).chain, part):  # others may have changed it meanwhile
                    self._extend(root / part.file, folder, part, plan.chain, check)
        with contextlib.suppress(FileNotFoundError):  # somebody made room: whoever reads will notice
            os.utime(folder)
            _sweep(plan, folder.stat().st_mtime_ns)
        self._chosen[folder] = [(segment.path, _identity(segment.path)) for segment in plan.chain]
        return plan.chain

    def drop(self, parts: Sequence[Part]) -> None:
        """Forget these parts, since what `segments` has named of them cannot be read.

        Nothing is forgotten where some of it is gone: others removed it, or have made it anew, which is to be read.
        """
        folders = [self._folder(part) for part in parts]
        chosen = [file for folder in folders for file in self._chosen.pop(folder, ())]
        with _building:  # not while somebody makes one there
            if all(identity and _identity(path) == identity for path, identity in chosen):
                for folder in folders:
                    shutil.rmtree(folder, ignore_errors=True)

    def _folder(self, part: Part) -> Path:
        return self._directory / sha256(part.file.encode()).hexdigest()[:32]

    def _extend(self, path: Path, folder: Path, part: Part, chain: list[Segment], check: CheckCancelled) -> None:
        """Make one segment of the rows that the cache lacks, and of those in segments that are not much larger."""
        kept = _kept(chain, part)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            _convert(path, folder, part, _end(kept, part), check)
        except CorruptDataError:
            if not kept:
                raise
            _convert(path, folder, part, _end([], part), check)  # the part may have been reset, and those be of before
        self._tidy(folder)

    def _tidy(self, used: Path) -> None:
        """Remove what others have replaced or left behind, in all parts; then parts, until there is room."""
        folders = [folder for folder in _files(self._directory) if _PART.fullmatch(folder.name)]
        now = _changed(used)  # a segment has just come
        for folder in folders:
            with contextlib.suppress(FileNotFoundError):  # somebody else is faster
                _remove_abandoned(folder, now)
                if folder != used:
                    _sweep_unused(folder, now)
        self._make_room(folders, used)

    def _make_room(self, folders: Sequence[Path], used: Path) -> None:
        """Remove parts that were not used for the longest time; never the one just ``used``."""
        sizes = {folder: sum(map(_size, _files(folder))) for folder in folders}
        total = sum(sizes.values())
        for folder in sorted(folders, key=_changed):
            if total <= self._limit:
                return
            if folder != used:
                shutil.rmtree(folder, ignore_errors=True)
                total -= sizes[folder]


@contextlib.contextmanager
def _waited(check: CheckCancelled) -> Iterator[None]:
    """One thread of this process converts at a time."""
    while not _building.acquire(timeout=_PATIENCE):
        check()
    try:
        yield
    finally:
        _building.release()


def _header_size(part: Part) -> int:
    return len(header_line(part.columns).encode()) + 1


def _identity(path: Path) -> _Identity | None:
    """What tells a file from another one that has come in its place; None if it is gone."""
    status = _status(path)
    return (status.st_ino, status.st_mtime_ns) if status else None


def _changed(path: Path) -> int:
    status = _status(path)
    return status.st_mtime_ns if status else 0


def _size(path: Path) -> int:
    status = _status(path)
    return status.st_size if status else 0


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _files(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []


def _listed(folder: Path) -> list[Segment]:
    """All segments by their start, the largest first."""
    matches = [(path, _NAME.fullmatch(path.name)) for path in _files(folder)]
    return sorted(
        (Segment(path, *map(int, match.groups())) for path, match in matches if match),
        key=lambda segment: (segment.start, -segment.end),
    )


def _plan(folder: Path, part: Part) -> _Plan:
    """Choose among the segments that are there.

    What is chosen for a shorter part is the beginning of what is chosen for a longer one, so that whoever sees an older
    state of the table takes nothing for replaced that others choose.
    """
    listed = _listed(folder)
    chain = _follow([one for one in listed if _fits(one, part)], _end([], part), part.length)
    end, _ = _end(chain, part)
    return _Plan(chain, [one for one in listed if one not in chain and (one.end <= end or not _fits(one, part))])


def _plan_anyhow(folder: Path) -> _Plan:
    """The same where the part is not known."""
    listed = _listed(folder)
    begin = next(((one.start, 0) for one in listed if one.row == 0), (0, 0))
    chain = _follow(listed, begin, sys.maxsize)
    end = max((one.end for one in chain), default=0)
    return _Plan(chain, [one for one in listed if one not in chain and one.end <= end])


def _follow(listed: Sequence[Segment], begin: tuple[int, int], length: int) -> list[Segment]:
    """Segments that follow each other from a (byte, row) on up to a byte, or as far as there are any."""
    chain: list[Segment] = []
    at, row = begin
    for segment in listed:
        if (segment.start, segment.row) == (at, row) and at < length:
            chain.append(segment)
            at, row = segment.end, row + segment.rows
    return chain


def _fits(segment: Segment, part: Part) -> bool:
    """Whether bytes and rows of a segment can be of this part; not so those of before a part was reset."""
    beyond, more = segment.end - part.length, segment.row + segment.rows - part.rows
    return (beyond > 0) == (more > 0) and (beyond < 0) == (more < 0)


def _end(chain: Sequence[Segment], part: Part) -> tuple[int, int]:
    """The byte and the row behind segments."""
    return (chain[-1].end, chain[-1].row + chain[-1].rows) if chain else (_header_size(part), 0)


def _reaches(chain: Sequence[Segment], part: Part) -> bool:
    return _end(chain, part)[0] >= part.length


def _kept(chain: Sequence[Segment], part: Part) -> list[Segment]:
    """The segments without those at the end that are not much larger than what comes behind them."""
    kept = list(chain)
    start, _ = _end(kept, part)
    while kept and kept[-1].end - kept[-1].start <= 2 * (part.length - start):
        start = kept.pop().start
    return kept


def _sweep(plan: _Plan, now: int) -> None:
    """Remove what was replaced long ago.

    Whoever chose it did so before the last of the segments that are now chosen up to its end was there.
    """
    made = [(one.start, _written(one.path, now)) for one in plan.chain] if plan.replaced else []
    for segment in plan.replaced:
        if now - max((time for start, time in made if start < segment.end), default=0) > _GRACE:
            segment.path.unlink(missing_ok=True)


def _sweep_unused(folder: Path, now: int) -> None:
    """The same for a part that is not used now, and still counts as unused."""
    before = folder.stat()
    _sweep(_plan_anyhow(folder), now)
    if folder.stat().st_mtime_ns != before.st_mtime_ns:
        os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))


def _remove_abandoned(folder: Path, now: int) -> None:
    """Remove what processes that died were making."""
    for path in folder.glob(".*.new"):
        if now - _written(path, now) > _ABANDONED:
            path.unlink(missing_ok=True)


def _written(path: Path, now: int) -> int:
    """When a file was last written; all times are the file system's."""
    written = path.stat().st_mtime_ns
    if written <= now:
        return written
    os.utime(path)  # its clock was set back: the file's age counts from here on, instead of from a time to come
    return now


class _Window(io.RawIOBase):
    """The bytes of an open file up to ``end``, from where it stands."""

    def __init__(self, file: io.FileIO, end: int) -> None:
        self._file = file
        self._end = end

    def readable(self) -> bool:
        """Yes."""
        return True

    def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes, all if that is negative."""
        left = self._end - self._file.tell()
        return self._file.read(left if size < 0 else min(size, left))


def _convert(path: Path, folder: Path, part: Part, begin: tuple[int, int], check: CheckCancelled) -> None:
    """Make a segment of what lies behind (byte, row); there is none if somebody removes the folder meanwhile."""
    start, row = begin
    temporary = folder / f".{uuid.uuid4().hex}.new"
    try:
        with path.open("rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_size < part.length:
                raise CorruptDataError(f"{path} is shorter than committed; restore or replay it")
            if file.read(_header_size(part)) != f"{header_line(part.columns)}\n".encode():
                raise CorruptDataError(f"{path} does not begin with its header; restore or replay it")
            rows = _write(temporary, path, file, part, begin, check)
        if row + rows != part.rows:
            raise CorruptDataError(f"{path} has {row + rows} rows, not {part.rows}; restore or replay it")
        temporary.rename(folder / f"{start}-{part.length}-{row}-{rows}.parquet")
    except FileNotFoundError:
        if not path.exists():
            raise CorruptDataError(f"{path} is missing; restore or replay it") from None
    finally:
        temporary.unlink(missing_ok=True)


def _write(target: Path, path: Path, file: io.FileIO, part: Part, begin: tuple[int, int], check: CheckCancelled) -> int:
    """Write the rows from ``begin`` to the committed length as Parquet; returns how many they are."""
    import pyarrow as pa

    start, row = begin
    first = row_id(part.number, row)
    block = _BLOCK
    while True:
        file.seek(start)
        try:
            return _write_rows(target, _Window(file, part.length), len(part.columns) + 2, first, block, check)
        except pa.ArrowInvalid as error:
            if "straddl" not in str(error) or block >= min(part.length - start, _LARGEST_BLOCK):
                raise CorruptDataError(f"{path}: {error!s:.300}; restore or replay it") from error
            block = min(block * 8, _LARGEST_BLOCK)


def _write_rows(target: Path, data: io.RawIOBase, width: int, first: int, block: int, check: CheckCancelled) -> int:
    import pyarrow as pa
    from pyarrow import parquet

    names = [f"c{number}" for number in range(width)]
    schema = pa.schema([pa.field("id", pa.int64()), *(pa.field(name, pa.string()) for name in names)])
    rows = 0
    with parquet.ParquetWriter(target, schema, compression="zstd") as writer:
        for batch in _batches(data, names, block):
            check()
            ids = pa.array(range(first + rows, first + rows + batch.num_rows), pa.int64())
            writer.write_table(pa.Table.from_arrays([ids, *batch.columns], schema=schema))
            rows += batch.num_rows
    return rows


def _batches(data: io.RawIOBase, names: list[str], block: int) -> Iterator[Any]:
    """Batches of cells in bytes of CSV."""
    import pyarrow as pa
    from pyarrow import csv

    reading = csv.ReadOptions(column_names=names, block_size=block, use_threads=False)
    parsing = csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False)
    converting = csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()),
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    with csv.open_csv(data, reading, parsing, converting) as batches:
        yield from batches
