"""Column types: what the values of a column have in common.

Types join as a semilattice, so that the type of a column does not depend on the order of its values::

    null < bool < int < float < json          null < text < json

Text joined with anything but text and null is JSON, and so is everything nested.
"""

import datetime
from collections.abc import Iterable
from enum import IntEnum
from functools import reduce
from types import NoneType
from typing import Any, Final

__all__ = ["ColumnType", "column_type", "join", "type_of"]


class ColumnType(IntEnum):
    """The type of a column; the numbers are kept in the database and never change."""

    NULL = 0
    BOOL = 1
    INT = 2
    FLOAT = 3
    TEXT = 4
    JSON = 5


_TYPES: Final[dict[type, ColumnType]] = {
    NoneType: ColumnType.NULL,
    bool: ColumnType.BOOL,
    int: ColumnType.INT,
    float: ColumnType.FLOAT,
    str: ColumnType.TEXT,
    bytes: ColumnType.TEXT,
    datetime.datetime: ColumnType.TEXT,
    list: ColumnType.JSON,
    tuple: ColumnType.JSON,
    dict: ColumnType.JSON,
}


def type_of(value: Any) -> ColumnType:
    """The type of one value, which is of a type that decoding an event yields.  Raises KeyError for another."""
    return _TYPES[type(value)]


def column_type(values: Iterable[Any]) -> ColumnType:
    """The join of the types of ``values``; NULL where there are none."""
    return reduce(join, [_TYPES[kind] for kind in set(map(type, values))], ColumnType.NULL)


def join(a: ColumnType, b: ColumnType) -> ColumnType:
    """The least type that holds both: commutative, associative, idempotent."""
    if a is b or b is ColumnType.NULL:
        return a
    if a is ColumnType.NULL:
        return b
    if a <= ColumnType.FLOAT and b <= ColumnType.FLOAT:
        return max(a, b)
    return ColumnType.JSON
