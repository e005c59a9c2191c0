"""Pages of a table: filtered, searched and sorted by DuckDB on a cache of the committed rows.

The database says which parts a table has and how far they are committed; nothing behind that is seen.  A cursor names
the last row that its first page could see, so that rows that arrive meanwhile change no later page: pages neither
repeat nor skip a row.
"""

import contextlib
import os
import tempfile
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Final, TypeVar

from msgspec import Struct

from runstream_schemas.errors import CorruptDataError, InvalidInputError
from runstream_sink.query.records import Table
from runstream_sink.query.table_filters import Columns, Condition, order_terms, where_terms
from runstream_sink.query.tables import get_table
from runstream_sink.store.protocol import StoreReader
from runstream_sink.tables.cache import ROW_BITS, Segment, SegmentCache, row_id
from runstream_sink.tables.cells import decode_column
from runstream_sink.tables.duck import Stop, UnreadableCacheError, connected, in_thread
from runstream_sink.tables.parts import Part
from runstream_sink.tables.read import provenance_columns
from runstream_sink.tables.select import Column, Selection, cells_of, column_place, find_rows
from runstream_sink.tables.types import ColumnType

__all__ = ["TablePage", "cache_directory", "prepare_cache", "read_again", "table_page"]

_LARGEST: Final = (1 << 63) - 1
_SPILL: Final = "spill"
T = TypeVar("T")


class TablePage(Struct, frozen=True):
    """Some rows of a table, as dicts of typed values."""

    columns: dict[str, ColumnType]
    """Of the rows, in their order."""
    rows: list[dict[str, Any]]
    total: int
    """Rows that the table had when its first page was asked for."""
    matched: int | None
    """Rows that the filter and the search found, where that was asked for."""
    cursor: str | None
    """Where the next page begins; None: there is none."""


@dataclass(frozen=True)
class _Request:
    """What one page needs."""

    parts: Sequence[Part]
    root: Path
    selection: Selection
    shown: Sequence[Column]
    total: int
    offset: int
    limit: int
    count: bool


def cache_directory(reader: StoreReader) -> Path:
    """Where the cached cells of a store's tables lie; it may be deleted at any time."""
    return reader.location.database.parent / ".cache" / "tables" / reader.store_id


def prepare_cache(directory: Path) -> bool:
    """Make the directory of a cache; returns whether that is possible, which it is not where a store is only read."""
    try:
        (directory / _SPILL).mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(directory, os.W_OK)


async def table_page(
    reader: StoreReader,
    root: Path,
    run_id: str,
    table: str,
    *,
    filter: str | Iterable[Condition] = "",  # noqa: A002 - the name that searches have, too
    order_by: Sequence[str] = (),
    search: str | None = None,
    columns: Sequence[str] | None = None,
    limit: int = 100,
    cursor: str | None = None,
    offset: int = 0,
    count: bool = False,
    provenance: bool = False,
) -> TablePage:
    """Rows of a table, whose parts lie below ``root``.

    ``filter`` and ``order_by``: see `where_terms` and `order_terms`; rows that are equal in the order stand as they
    were logged.  ``search`` finds rows with a text, in capitals or small letters, in any column that holds texts.
    ``columns`` chooses columns and their order; ``provenance`` adds ``_logged_at`` and ``_event`` and names columns as
    `provenance_columns` does.  ``offset`` skips rows, from the cursor on if there is one.  ``count`` also counts what
    is found.

    Raises `NotFoundError` for a table that is not there, `InvalidInputError` for what is no filter, order, column or
    cursor, `CorruptDataError` for a damaged part.  When the caller is cancelled, the query ends.
    """
    found = await get_table(reader, run_id, table)
    known = Columns(found.columns)
    selection = Selection(
        where_terms(known, filter), search or None, known.textual() if search else (), order_terms(known, order_by)
    )
    total, skipped = _position(cursor, found)
    names = list(found.columns) if columns is None else list(dict.fromkeys(columns))
    shown = [known.find(name) for name in names]
    keys = [*names]
    if provenance:
        renamed = list(provenance_columns({column.name: column.kind for column in shown}))
        extra = Columns({})
        shown += [extra.find(name) for name in renamed[-2:]]
        keys = renamed
    if limit < 0 or offset < 0:
        raise InvalidInputError("limit and offset are counted from 0")
    request = _Request(found.parts, root, selection, shown, total, skipped + offset, limit, count)
    values, more, matched = await in_thread(lambda stop: _read(request, cache_directory(reader), stop))
    rows = [dict(zip(keys, row, strict=True)) for row in zip(*values, strict=True)] if keys else []
    following = f"{total}:{request.offset + limit}" if more and limit else None
    kinds = {key: column.kind for key, column in zip(keys, shown, strict=True)}
    return TablePage(kinds, rows, total, matched, following)


def _position(cursor: str | None, table: Table) -> tuple[int, int]:
    """How many rows of the table are seen, and how many of what is found lie before the page."""
    held = sum(part.rows for part in table.parts)
    if cursor is None:
        return held, 0
    total, _, offset = cursor.partition(":")
    if not (total.isdecimal() and offset.isdecimal() and int(total) <= held and int(offset) <= _LARGEST):
        raise InvalidInputError(f"the cursor {cursor!r:.100} is none; take it from the page before")
    return int(total), int(offset)


def _read(request: _Request, directory: Path, stop: Stop) -> tuple[list[list[Any]], bool, int | None]:
    """The values by column, whether there are more rows, and how many there are."""
    if not request.total:
        return [[] for _ in request.shown], False, 0 if request.count else None
    if not prepare_cache(directory):
        with tempfile.TemporaryDirectory(prefix="runstream-") as temporary:
            return _Page(request, SegmentCache(Path(temporary)), stop).read()
    cache = SegmentCache(directory)
    return read_again(lambda: _Page(request, cache, stop).read(), cache, request.parts)


def read_again(read: Callable[[], T], cache: SegmentCache, parts: Sequence[Part]) -> T:
    """What ``read`` finds in these parts, as often as the cache was removed meanwhile, or is damaged.

    Raises `CorruptDataError` if that is always so.
    """
    for _ in range(2):  # one for a part that others may remove at any time, for room, and one for damage
        with contextlib.suppress(UnreadableCacheError):
            return read()
        cache.drop(parts)
    try:
        return read()
    except UnreadableCacheError as error:
        message = f"the cache below {cache.directory} is damaged again and again; remove it: {error}"
        raise CorruptDataError(message) from error


def _holds(segment: Segment, part: Part, ids: Sequence[int]) -> bool:
    """Whether one of the rows, which ascend, lies in the segment."""
    first = row_id(part.number, segment.row)
    return bisect_left(ids, first) < bisect_left(ids, first + segment.rows)


class _Page:
    """One page that is being read."""

    def __init__(self, request: _Request, cache: SegmentCache, stop: Stop) -> None:
        self._request = request
        self._cache = cache
        self._stop = stop
        self._starts = [0, *accumulate(part.rows for part in request.parts)]
        self._segments: dict[int, list[Segment]] = {}

    def read(self) -> tuple[list[list[Any]], bool, int | None]:
        """See `_read`."""
        request = self._request
        with connected(self._stop, spill=self._cache.directory / _SPILL) as connection:
            ids, matched = self._plain() if request.selection.is_all else self._selected(connection)
            more = len(ids) > request.limit
            return self._values(connection, ids[: request.limit]), more, matched if request.count else None

    def _plain(self) -> tuple[list[int], int]:
        """Ids of rows in the table's order, which need no search."""
        first, end = self._request.offset, min(self._request.offset + self._request.limit + 1, self._request.total)
        return [self._id(row) for row in range(first, end)], self._request.total

    def _selected(self, connection: Any) -> tuple[list[int], int | None]:
        request = self._request
        last = self._id(request.total - 1)
        parts = [part for part in request.parts if part.rows and part.number <= last >> ROW_BITS]
        found = {part: self._of(part) for part in parts}
        sql, parameters = find_rows(found, request.selection, (0, last))
        limits = {"limit": min(request.limit, _LARGEST - 1) + 1, "offset": request.offset}
        ids = [row[0] for row in connection.execute(sql, {**parameters, **limits}).fetchall()]
        if not request.count:
            return ids, None
        sql, parameters = find_rows(found, request.selection, (0, last), count=True)
        return ids, connection.execute(sql, parameters).fetchone()[0]

    def _id(self, row: int) -> int:
        at = bisect_right(self._starts, row) - 1
        return row_id(self._request.parts[at].number, row - self._starts[at])

    def _of(self, part: Part) -> list[Segment]:
        if part.number not in self._segments:
            self._segments[part.number] = self._cache.segments(self._request.root, part, self._stop.check)
        return self._segments[part.number]

    def _values(self, connection: Any, ids: Sequence[int]) -> list[list[Any]]:
        """The values of rows by column."""
        by_id: dict[int, list[Any]] = {}
        for part in self._request.parts:
            held = sorted(number for number in ids if number >> ROW_BITS == part.number)
            if held:
                by_id |= self._of_part(connection, part, held)
        return [[by_id[number][at] for number in ids] for at in range(len(self._request.shown))]

    def _of_part(self, connection: Any, part: Part, ids: list[int]) -> dict[int, list[Any]]:
        shown = self._request.shown
        places = [column_place(part, column) for column in shown]
        wanted = [place for place in places if place is not None]
        segments = [held for held in self._of(part) if _holds(held, part, ids)]
        sql, parameters = cells_of(segments, wanted, ids)
        cells = connection.execute(sql, parameters).fetchall()
        if len(cells) != len(ids):
            raise UnreadableCacheError(f"{len(cells)} rows of {part.file} are cached of {len(ids)}")
        by_place = dict(zip(["id", *wanted], map(list, zip(*cells, strict=True)), strict=False))
        values = [self._decoded(part, column, place, by_place) for column, place in zip(shown, places, strict=True)]
        return {number: [column[at] for column in values] for at, number in enumerate(by_place["id"])}

    def _decoded(self, part: Part, column: Column, place: int | None, cells: dict[Any, list[Any]]) -> list[Any]:
        if place is None:
            return [None] * len(cells["id"])
        written = part.types[place] if column.provenance is None else ColumnType.TEXT
        try:
            return decode_column(cells[place], written, column.kind)
        except CorruptDataError as error:
            path = self._request.root / part.file
            raise CorruptDataError(f"{path}: column {column.name!r:.100}: {error}; restore or replay it") from error
