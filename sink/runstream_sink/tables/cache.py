"""The cells of tables as Parquet files, made from the CSV parts when they are first asked for.

A part's file only ever grows, and what is committed of it never changes.  So the cache of a part is a row of segments,
one file each, that follow each other: ``START-END-ROW-ROWS.parquet`` holds the ``ROWS`` rows that lie from byte
``START`` to byte ``END``, of which the first is row ``ROW`` of the part.  When a part has grown, its new rows become
one more segment, together with the segments before it that are not much larger: there are never many, and each row is
converted a few times at most.

A segment has a column of texts ``cN`` for the part's N-th column: exactly the cells of the file, NULL for an empty cell
and an empty text for ``""``; ``_logged_at`` and ``_event`` are the last two.  Its column ``id`` ascends through the
table (see `row_id`).  Nothing here is needed: whoever deletes the directory pays with the time to convert again.

Segments appear whole, by renaming.  Another process may remove one at any time, for room or because it has a larger
one; whoever then misses it plans again.
"""

import io
import os
import re
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple

from runstream_schemas.errors import CorruptDataError
from runstream_sink.tables.cells import header_line
from runstream_sink.tables.duck import UnreadableCacheError
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
_building: Final = threading.Lock()

CheckCancelled = Callable[[], None]
"""Raises if nobody waits for the result any longer."""


class Segment(NamedTuple):
    """One file, and what it holds of its part."""

    path: Path
    start: int
    end: int
    """Bytes of the part."""
    row: int
    rows: int


def row_id(part: int, row: int) -> int:
    """The id of a row, counted from 0, of a part, counted from 1."""
    return (part << ROW_BITS) + row


class SegmentCache:
    """The segments of one store's tables, below ``directory``, which may not be there yet.  All methods block."""

    def __init__(self, directory: Path, *, limit: int = CACHE_LIMIT) -> None:
        self._directory = directory
        self._limit = limit

    @property
    def directory(self) -> Path:
        """Where the segments lie."""
        return self._directory

    def segments(self, root: Path, part: Part, check: CheckCancelled) -> list[Segment]:
        """Segments that together hold the committed rows of ``part``, and perhaps some that came later.

        ``root`` is where tables lie.  Raises `CorruptDataError` for a damaged part, `UnreadableCacheError` if somebody
        removes the segments meanwhile, what ``check`` raises, and OSError.
        """
        if not part.rows:
            return []
        folder = self._folder(part)
        chain = _chain(folder, part)
        if chain and chain[-1].end >= part.length:
            os.utime(folder)
            return chain
        with _waited(check):
            chain = _chain(folder, part)
            if not chain or chain[-1].end < part.length:
                chain = self._extend(root, folder, part, chain, check)
        return chain

    def drop(self, parts: Sequence[Part]) -> None:
        """Forget segments, as where one of them cannot be read."""
        with _building:  # not while somebody makes one there
            for part in parts:
                shutil.rmtree(self._folder(part), ignore_errors=True)

    def _folder(self, part: Part) -> Path:
        return self._directory / sha256(part.file.encode()).hexdigest()[:32]

    def _extend(
        self, root: Path, folder: Path, part: Part, chain: list[Segment], check: CheckCancelled
    ) -> list[Segment]:
        kept = list(chain)
        start = kept[-1].end if kept else _header_size(part)
        while kept and kept[-1].end - kept[-1].start <= 2 * (part.length - start):
            start = kept.pop().start
        row = kept[-1].row + kept[-1].rows if kept else 0
        folder.mkdir(parents=True, exist_ok=True)
        made = _convert(root / part.file, folder, part, (start, row), check)
        kept.append(made)
        for segment in _listed(folder):
            if segment not in kept and segment.end <= part.length:
                segment.path.unlink(missing_ok=True)
        self._make_room(folder)
        return kept

    def _make_room(self, used: Path) -> None:
        """Remove parts that were not used for the longest time; never the one just ``used``."""
        folders = [(folder.stat().st_mtime_ns, folder) for folder in self._directory.iterdir() if _is_part(folder)]
        sizes = {folder: sum(_size(file) for file in folder.iterdir()) for _, folder in folders}
        total = sum(sizes.values())
        for _, folder in sorted(folders):
            if total <= self._limit:
                return
            if folder != used:
                shutil.rmtree(folder, ignore_errors=True)
                total -= sizes[folder]


@contextmanager
def _waited(check: CheckCancelled) -> Iterator[None]:
    """One thread of this process converts at a time."""
    while not _building.acquire(timeout=_PATIENCE):
        check()
    try:
        yield
    finally:
        _building.release()


def _is_part(folder: Path) -> bool:
    return _PART.fullmatch(folder.name) is not None


def _header_size(part: Part) -> int:
    return len(header_line(part.columns).encode()) + 1


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _listed(folder: Path) -> list[Segment]:
    try:
        names = [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        return []
    matches = [(name, _NAME.fullmatch(name)) for name in names]
    return sorted(
        (Segment(folder / name, *map(int, match.groups())) for name, match in matches if match),
        key=lambda segment: (segment.start, -segment.end),
    )


def _chain(folder: Path, part: Part) -> list[Segment]:
    """Segments that follow each other from the first row on, as far as they are needed."""
    chain: list[Segment] = []
    at = _header_size(part)
    for segment in _listed(folder):
        if segment.start == at and at < part.length:
            chain.append(segment)
            at = segment.end
    return chain


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


def _convert(path: Path, folder: Path, part: Part, begin: tuple[int, int], check: CheckCancelled) -> Segment:
    """Make a segment of what lies behind (byte, row)."""
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
        made = Segment(folder / f"{start}-{part.length}-{row}-{rows}.parquet", start, part.length, row, rows)
        temporary.rename(made.path)
    except FileNotFoundError as error:
        if path.exists():
            raise UnreadableCacheError(f"{folder} was removed while a segment was made in it") from error
        raise CorruptDataError(f"{path} is missing; restore or replay it") from None
    finally:
        temporary.unlink(missing_ok=True)
    return made


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
