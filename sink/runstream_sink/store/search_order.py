"""The order of a search as SQLite's SQL, and what lies behind a place in it.

Each key of an order makes two columns: its *rank*, by which what has no value comes last (metrics: numbers, NaN, none),
and its value.  A place is the values of all columns, in their order.
"""

# ruff: noqa: S608 - the SQL is put together of this module's own texts; what users wrote are parameters

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from runstream_sink.store.search_plan import Field, Order
from runstream_sink.store.search_terms import PREFIX, RUN_TABLES, Builder

__all__ = ["Column", "Key", "Walk", "behind", "order_by", "order_keys", "walks"]

_NEVER_STARTED: Final = "-9223372036854775808"


class Column(NamedTuple):
    """An expression that rows are ordered by; a constant orders nothing, and is only part of the place."""

    expression: str
    descending: bool = False
    constant: bool = False


class Key(NamedTuple):
    """A key of an order for any run ``r``: how its value is joined, and its columns."""

    order: Order
    join: str
    columns: tuple[Column, Column]


class Walk(NamedTuple):
    """The runs of one rank of an order's first key, from an index that has them in the order of its value.

    ``source``: what stands behind FROM, with the run as ``r`` (None: whatever the next key says).  ``lead``: a
    coarser column that the index is ordered by.
    """

    rank: int | None
    source: str | None
    condition: str
    columns: tuple[Column, Column]
    lead: Column | None = None


def order_keys(builder: Builder, orders: Sequence[Order], attributes: Mapping[str, str]) -> list[Key]:
    """The keys of an order of runs."""
    return [_key(builder, number, order, attributes) for number, order in enumerate(orders)]


def _key(builder: Builder, number: int, order: Order, attributes: Mapping[str, str]) -> Key:
    kind, name = order.field
    if kind == "attribute":
        if name == "run_id":
            return Key(order, "", (_constant(0), Column("r.run_id", order.descending)))
        expression = attributes[name]
        value = "r.sort_time" if name == "start_time" else expression
        return Key(order, "", (Column(f"({expression} IS NULL)"), Column(value, order.descending)))
    key = builder.key(name)
    if key is None:
        return Key(order, "", _nothing(2 if kind == "metric" else 1))
    held = f"o{number}"
    join = f"LEFT JOIN {RUN_TABLES[kind].table} AS {held} ON {held}.run = r.id AND {held}.key = {key}"
    missing = f"({held}.value IS NULL)"
    rank = f"({missing} + ({held}.run IS NULL))" if kind == "metric" else missing
    return Key(order, join, (Column(rank), Column(f"{held}.value", order.descending)))


def walks(builder: Builder, order: Order) -> Iterator[Walk]:
    """The parts of an order by ``order`` that need no sorting by it, in turn."""
    kind, name = order.field
    if order.field == Field("attribute", "start_time"):
        value = Column("r.sort_time", order.descending)
        yield Walk(0, None, "r.start_time IS NOT NULL", (_constant(0), value))
        never = f"r.sort_time = {_NEVER_STARTED} AND r.start_time IS NULL"
        yield Walk(1, None, never, (_constant(1), _constant(_NEVER_STARTED)))
    elif kind == "attribute":
        return
    elif (key := builder.key(name)) is None:
        yield Walk(None, None, "TRUE", _nothing(2 if kind == "metric" else 1))
    else:
        yield from _value_walks(key, order)


def _value_walks(key: int, order: Order) -> Iterator[Walk]:
    metric = order.field.kind == "metric"
    table, index = RUN_TABLES[order.field.kind]
    source = f"{table} AS o0 INDEXED BY {index} CROSS JOIN runs AS r ON r.id = o0.run"
    value = Column("o0.value", order.descending)
    lead = None if metric else Column(f"substr(o0.value, 1, {PREFIX})", order.descending)
    yield Walk(0, source, f"o0.key = {key} AND o0.value IS NOT NULL", (_constant(0), value), lead)
    held = f"SELECT 1 FROM {table} AS h WHERE h.run = r.id AND h.key = {key}"
    if metric:
        yield Walk(1, source, f"o0.key = {key} AND o0.value IS NULL", _nothing(1))
        yield Walk(2, None, f"NOT EXISTS ({held})", _nothing(2))
    else:
        yield Walk(1, None, f"NOT EXISTS ({held} AND h.value IS NOT NULL)", _nothing(1))


def order_by(columns: Sequence[Column]) -> str:
    """The columns behind ORDER BY."""
    ordering = [column for column in columns if not column.constant]
    return ", ".join(f"{column.expression}{' DESC' if column.descending else ''}" for column in ordering)


def behind(builder: Builder, columns: Sequence[Column], place: Sequence[Any]) -> str:
    """The condition that a row comes after ``place``; it begins with one that an index of the first column takes."""
    pairs = [
        (column, None if value is None else builder.add(value))
        for column, value in zip(columns, place, strict=True)
        if not column.constant
    ]
    condition = "FALSE"
    for (expression, descending, _), parameter in reversed(pairs):
        if parameter is None:
            condition = f"({expression} IS NULL AND {condition})"
        else:
            farther = f"{expression} {'<' if descending else '>'} {parameter}"
            condition = f"({farther} OR ({expression} = {parameter} AND {condition}))"
    (expression, descending, _), parameter = pairs[0]
    return (
        condition if parameter is None else f"{expression} {'<=' if descending else '>='} {parameter} AND {condition}"
    )


def _constant(value: Any) -> Column:
    return Column(str(value), constant=True)


def _nothing(rank: int) -> tuple[Column, Column]:
    """The columns where there is no value."""
    return _constant(rank), _constant("NULL")
