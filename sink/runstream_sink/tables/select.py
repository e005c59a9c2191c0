"""SQL for DuckDB that finds rows of a table in the segments of its cache: pure.

Cells are texts there, as the files hold them.  What a cell means is said here, by the type that its part wrote it at
and the type of the table's column:

* the text of a cell is the cell; in a column of JSON a JSON string is what it says;
* the number of a cell is that of a bool, integer or float, and of a JSON number;
* NaN equals nothing but NaN, and is greater or less than nothing;
* an empty cell (None) satisfies no comparison but IS NULL.

Numbers order before texts, NaN stands behind the numbers, and None last, whatever the direction.  What users write
becomes parameters; names of columns become numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from runstream_sink.tables.cache import Segment
from runstream_sink.tables.parts import Part
from runstream_sink.tables.types import ColumnType

__all__ = ["NUMERIC", "TEXTUAL", "Column", "Selection", "Sorting", "Term", "cells_of", "column_place", "find_rows"]

NUMERIC: Final = frozenset({ColumnType.BOOL, ColumnType.INT, ColumnType.FLOAT})
TEXTUAL: Final = frozenset({ColumnType.TEXT, ColumnType.JSON})
_COMPARISONS: Final = frozenset({"=", "!=", "<", "<=", ">", ">="})
_TEXT_OPERATORS: Final = {
    "LIKE": "{text} LIKE {value}",
    "NOT LIKE": "{text} NOT LIKE {value}",
    "ILIKE": "{text} ILIKE {value}",
    "NOT ILIKE": "{text} NOT ILIKE {value}",
    "CONTAINS": "contains(lower({text}), lower({value}))",
}
_HUGE: Final = 1 << 127
_JSON_NUMBER: Final = r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?|NaN|-?Infinity"


@dataclass(frozen=True)
class Column:
    """A column of the table: its name, type, and which of the last two columns it is (0, 1), or None."""

    name: str
    kind: ColumnType
    provenance: int | None = None


@dataclass(frozen=True)
class Term:
    """A comparison; ``value`` is a text, a number, a tuple of these, or None."""

    column: Column
    operator: str
    value: str | float | tuple[str | float, ...] | None


@dataclass(frozen=True)
class Sorting:
    """One key of an order."""

    column: Column
    descending: bool


@dataclass(frozen=True)
class Selection:
    """Which rows, in which order: all ``terms`` hold, and ``search`` is in the text of one of ``searched``."""

    terms: Sequence[Term] = ()
    search: str | None = None
    searched: Sequence[Column] = ()
    order: Sequence[Sorting] = ()

    @property
    def is_all(self) -> bool:
        """Whether that is every row in the table's order."""
        return not self.terms and self.search is None and not self.order


@dataclass
class _Query:
    """SQL that is being made, and its parameters."""

    parameters: dict[str, Any] = field(default_factory=dict)

    def bind(self, value: Any) -> str:
        name = f"p{len(self.parameters)}"
        self.parameters[name] = value
        return f"${name}"


def column_place(part: Part, column: Column) -> int | None:
    """Which of the part's columns it is, from 0; None if the part does not have it."""
    if column.provenance is not None:
        return len(part.columns) + column.provenance
    return part.columns.index(column.name) if column.name in part.columns else None


def find_rows(
    found: Mapping[Part, Sequence[Segment]], selection: Selection, bounds: tuple[int, int], *, count: bool = False
) -> tuple[str, dict[str, Any]]:
    """SQL for the ids of the rows in ``selection``, in order, and its parameters; ``count``: for how many there are.

    ``bounds`` are the least and the greatest id.  The SQL for ids takes LIMIT and OFFSET from ``$limit`` and
    ``$offset``.
    """
    query = _Query()
    columns = list(
        dict.fromkeys(
            [
                *(term.column for term in selection.terms),
                *selection.searched,
                *(key.column for key in selection.order),
            ]
        )
    )
    names = {column: f"k{number}" for number, column in enumerate(columns)}
    source = " UNION ALL ".join(_branches(query, found, columns, names))
    low, high = (query.bind(bound) for bound in bounds)
    conditions = [f"id BETWEEN {low} AND {high}", *(_condition(query, term, names) for term in selection.terms)]
    if selection.search is not None:
        conditions.append(_search(query, selection, names))
    what = "count(*)" if count else "id"
    sql = f"SELECT {what} FROM ({source}) WHERE {' AND '.join(conditions)}"  # noqa: S608 - made of numbers
    if not count:
        keys = [key for sorting in selection.order for key in _order(sorting, names)]
        sql += f" ORDER BY {', '.join([*keys, 'id'])} LIMIT $limit OFFSET $offset"
    return sql, query.parameters


def cells_of(segments: Sequence[Segment], places: Sequence[int], ids: Sequence[int]) -> tuple[str, dict[str, Any]]:
    """SQL for the rows ``ids``, which ascend: the id, then the cells of the part's columns ``places``."""
    columns = "".join(f", c{place}" for place in places)
    chosen = f"BETWEEN {ids[0]} AND {ids[-1]}"
    if ids[-1] - ids[0] != len(ids) - 1:
        chosen = f"IN ({', '.join(map(str, ids))})"
    sql = f"SELECT id{columns} FROM read_parquet($files) WHERE id {chosen}"  # noqa: S608 - made of numbers
    return sql, {"files": [str(segment.path) for segment in segments]}


def _branches(
    query: _Query, found: Mapping[Part, Sequence[Segment]], columns: Sequence[Column], names: Mapping[Column, str]
) -> list[str]:
    """One SELECT for all parts that have the columns at the same places and types."""
    groups: dict[tuple[Any, ...], list[str]] = {}
    for part, segments in found.items():
        places = [column_place(part, column) for column in columns]
        written = tuple((place, None if place is None else _written(part, place)) for place in places)
        groups.setdefault(written, []).extend(str(segment.path) for segment in segments)
    branches = []
    for kinds, files in groups.items():
        values = [
            value
            for column, (place, written) in zip(columns, kinds, strict=True)
            for value in _values(column, place, written, names[column])
        ]
        branches.append(f"SELECT {', '.join(['id', *values])} FROM read_parquet({query.bind(files)})")  # noqa: S608
    return branches


def _written(part: Part, place: int) -> ColumnType:
    return part.types[place] if place < len(part.types) else ColumnType.TEXT


def _values(column: Column, place: int | None, written: ColumnType | None, name: str) -> list[str]:
    """Text, number and exact integer of a column's cells, as the columns tK, nK and iK."""
    if place is None:
        return [f"NULL::VARCHAR AS t{name}", f"NULL::DOUBLE AS n{name}", f"NULL::HUGEINT AS i{name}"]
    cell = f"c{place}"
    text, number, integer = cell, "NULL::DOUBLE", "NULL::HUGEINT"
    if column.kind in NUMERIC:
        number = f"CASE {cell} WHEN 'true' THEN 1 WHEN 'false' THEN 0 ELSE TRY_CAST({cell} AS DOUBLE) END"
        if column.kind is ColumnType.INT:
            integer = f"CASE {cell} WHEN 'true' THEN 1 WHEN 'false' THEN 0 ELSE TRY_CAST({cell} AS HUGEINT) END"
    elif column.kind is ColumnType.JSON and written is not ColumnType.TEXT:
        unquoted = f"coalesce(TRY(json_extract_string({cell}, '$')), {cell})"
        text = f"CASE WHEN starts_with({cell}, '\"') THEN {unquoted} ELSE {cell} END"
        number = f"CASE WHEN regexp_full_match({cell}, '{_JSON_NUMBER}') THEN TRY_CAST({cell} AS DOUBLE) END"
    return [f"{text} AS t{name}", f"{number} AS n{name}", f"{integer} AS i{name}"]


def _search(query: _Query, selection: Selection, names: Mapping[Column, str]) -> str:
    if not selection.searched:
        return "false"
    value = query.bind(selection.search)
    hits = [f"contains(lower(t{names[column]}), lower({value}))" for column in selection.searched]
    return f"({' OR '.join(hits)})"


def _condition(query: _Query, term: Term, names: Mapping[Column, str]) -> str:
    name = names[term.column]
    text = f"t{name}"
    if term.operator in ("IS NULL", "IS NOT NULL"):
        return f"{text} {term.operator}"
    if term.operator in ("IN", "NOT IN"):
        values = term.value if isinstance(term.value, tuple) else (term.value,)
        equal = " OR ".join(_compare(query, name, term.column, "=", value) for value in values)
        return f"({equal})" if term.operator == "IN" else f"({text} IS NOT NULL AND NOT coalesce({equal}, false))"
    if term.operator in _COMPARISONS:
        return _compare(query, name, term.column, term.operator, term.value)
    return _TEXT_OPERATORS[term.operator].format(text=text, value=query.bind(term.value))


def _compare(query: _Query, name: str, column: Column, operator: str, value: Any) -> str:
    """SQL that is true or not; NULL for None."""
    if isinstance(value, str):
        return f"(t{name} {operator} {query.bind(value)})"
    number = f"n{name}"
    if value != value:  # noqa: PLR0124 - NaN differs from itself
        return f"(isnan({number}))" if operator == "=" else f"({number} IS NOT NULL AND NOT isnan({number}))"
    compared = f"{number} {operator} {query.bind(_nearest(value))}"
    if operator != "!=":
        compared = f"({compared} AND NOT isnan({number}))"
    if column.kind is ColumnType.INT and isinstance(value, int) and -_HUGE <= value < _HUGE:
        exact = f"i{name} {operator} {query.bind(str(value))}::HUGEINT"
        return f"(CASE WHEN i{name} IS NULL THEN {compared} ELSE {exact} END)"
    return f"({compared})"


def _nearest(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _order(sorting: Sorting, names: Mapping[Column, str]) -> list[str]:
    name = names[sorting.column]
    direction = "DESC" if sorting.descending else "ASC"
    keys = [f"(t{name} IS NULL)"]
    if sorting.column.kind in NUMERIC:
        keys += [f"coalesce(isnan(n{name}), false)", f"n{name} {direction} NULLS LAST"]
        return [*keys, f"i{name} {direction} NULLS LAST"] if sorting.column.kind is ColumnType.INT else keys
    if sorting.column.kind is ColumnType.JSON:
        keys += [f"coalesce(isnan(n{name}), n{name} IS NULL)", f"n{name} {direction} NULLS LAST"]
    return [*keys, f"t{name} {direction}"]
