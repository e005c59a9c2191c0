"""Filters and orders of tables: from the search grammar's texts, or conditions, to terms about columns that exist."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from runstream_schemas.errors import InvalidInputError
from runstream_sink.query.search.grammar import Name, parse_filter, parse_order
from runstream_sink.query.search.scanner import Scanner
from runstream_sink.tables.cells import EVENT, LOGGED_AT
from runstream_sink.tables.select import NUMERIC, TEXTUAL, Column, Sorting, Term
from runstream_sink.tables.types import ColumnType

__all__ = ["OPERATORS", "Columns", "Condition", "order_terms", "where_terms"]

OPERATORS: Final = (
    *("=", "!=", "<", "<=", ">", ">=", "LIKE", "NOT LIKE", "ILIKE", "NOT ILIKE", "CONTAINS"),
    *("IN", "NOT IN", "IS NULL", "IS NOT NULL"),
)
_ON_TEXT: Final = frozenset({"LIKE", "NOT LIKE", "ILIKE", "NOT ILIKE", "CONTAINS"})
_WORDS: Final = {"true": 1.0, "false": 0.0}
_SHOWN: Final = 20

Value = str | float | bool | None | Sequence[str | float | bool]


class Condition(Struct, frozen=True):
    """A comparison of a column: ``Condition("score", ">", 0.5)``; see `OPERATORS`.

    ``value`` is a list for IN and NOT IN, and None for IS NULL and IS NOT NULL.
    """

    column: str
    operator: str
    value: Value = None


class Columns:
    """The columns of a table by name, ``_logged_at`` and ``_event`` among them where no column has such a name."""

    def __init__(self, columns: Mapping[str, ColumnType]) -> None:
        provenance = {name: Column(name, ColumnType.TEXT, at) for at, name in enumerate((LOGGED_AT, EVENT))}
        self._columns = {**provenance, **{name: Column(name, kind) for name, kind in columns.items()}}

    def find(self, name: str) -> Column:
        """The column of that name.  Raises `InvalidInputError`, naming what there is."""
        try:
            return self._columns[name]
        except KeyError:
            held = [other for other, column in self._columns.items() if column.provenance is None]
            names = ", ".join(held[:_SHOWN]) + (", ..." if len(held) > _SHOWN else "")
            raise InvalidInputError(f"the table has no column {name!r:.100}; it has {names:.1000}") from None

    def textual(self) -> list[Column]:
        """The columns that may hold text, but for those that tell where a row comes from."""
        return [held for held in self._columns.values() if held.kind in TEXTUAL and held.provenance is None]


def where_terms(columns: Columns, conditions: str | Iterable[Condition]) -> list[Term]:
    """What ``conditions`` demand: a text such as ``score > 0.5 AND model LIKE '%8b%'``, or `Condition` objects.

    In a text, columns are words, or stand in backticks or double quotes; comparisons are joined by AND.  Raises
    `InvalidInputError` for what is no filter, naming the place in a text, and for a comparison that its column's type
    does not have.
    """
    if not isinstance(conditions, str):
        return [_term(columns, held.column, held.operator, held.value) for held in conditions]
    if not conditions.strip():
        return []
    scanner = Scanner(conditions, "filter")
    terms = []
    for clause in parse_filter(scanner):
        try:
            terms.append(_term(columns, _column(clause.name), clause.comparator, clause.value))
        except InvalidInputError as error:
            raise scanner.error(str(error), clause.name.at) from None
    return terms


def order_terms(columns: Columns, order_by: Iterable[str]) -> list[Sorting]:
    """The keys of an order, each a column with ASC or DESC behind it or nothing.  Raises `InvalidInputError`."""
    keys = []
    for text in order_by:
        scanner = Scanner(text, "order_by")
        name, descending = parse_order(scanner)
        try:
            keys.append(Sorting(columns.find(_column(name)), descending))
        except InvalidInputError as error:
            raise scanner.error(str(error), name.at) from None
    return keys


def _column(name: Name) -> str:
    return name.key if name.entity is None else f"{name.entity}.{name.key}"


def _term(columns: Columns, name: str, written: str, value: Value) -> Term:
    column, operator = columns.find(name), " ".join(written.upper().split())
    if operator not in OPERATORS:
        raise InvalidInputError(f"{written!r:.50} is no comparison of tables; there are {', '.join(OPERATORS)}")
    if operator.startswith("IS "):
        return Term(column, operator, None)
    many = operator.endswith("IN")
    if many == (isinstance(value, str) or not isinstance(value, Sequence)):
        raise InvalidInputError(f"{operator} takes {'a list' if many else 'one value'}, not {value!r:.50}")
    if operator in _ON_TEXT:
        if not isinstance(value, str):
            raise InvalidInputError(f"{operator} takes a text, not {value!r:.50}")
        return Term(column, operator, value)
    values: Any = value
    return Term(column, operator, tuple(_value(column, one) for one in values) if many else _value(column, value))


def _value(column: Column, value: Any) -> str | float:
    """A value as cells of the column are compared with it."""
    if isinstance(value, bool):
        value = int(value)
    if not isinstance(value, str | int | float):
        raise InvalidInputError(f"column {column.name!r:.100} is compared with a number or a text, not {value!r:.50}")
    if column.kind is ColumnType.TEXT and not isinstance(value, str):
        raise InvalidInputError(f"column {column.name!r:.100} holds text; write the value in quotes: '{value}'")
    if column.kind in NUMERIC and isinstance(value, str):
        return _number(column, value)
    return value


def _number(column: Column, text: str) -> float:
    """``'true'``, ``'NaN'``, ``'7'``."""
    known = _WORDS.get(text.strip().lower())
    if known is not None:
        return known
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        raise InvalidInputError(f"column {column.name!r:.100} holds numbers, and {text!r:.50} is none") from None
