"""Column types join as a semilattice."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runstream_sink.tables.types import ColumnType, column_type, join, type_of

types = st.sampled_from(ColumnType)


@given(types, types, types)
def test_the_join_is_a_semilattice(a: ColumnType, b: ColumnType, c: ColumnType) -> None:
    """It is commutative, associative and idempotent, with NULL at the bottom and JSON at the top."""
    assert join(a, b) is join(b, a)
    assert join(join(a, b), c) is join(a, join(b, c))
    assert join(a, a) is a
    assert join(a, ColumnType.NULL) is a
    assert join(a, ColumnType.JSON) is ColumnType.JSON


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], ColumnType.NULL),
        ([None], ColumnType.NULL),
        ([None, True], ColumnType.BOOL),
        ([True, 1], ColumnType.INT),
        ([False, 10**400, 0.5], ColumnType.FLOAT),
        (["a", None, b"b", datetime.datetime.now(datetime.UTC)], ColumnType.TEXT),
        (["a", 1], ColumnType.JSON),
        ([[1]], ColumnType.JSON),
        ([{"a": 1}, None], ColumnType.JSON),
        ([0.5, "a"], ColumnType.JSON),
    ],
)
def test_a_column_has_the_least_type_that_holds_its_values(values: list[object], expected: ColumnType) -> None:
    """The type of many values is the join of the types of each."""
    assert column_type(values) is expected
    joined = ColumnType.NULL
    for value in values:
        joined = join(joined, type_of(value))
    assert joined is expected


def test_the_numbers_of_the_types_are_pinned() -> None:
    """They are kept in databases."""
    assert {kind.name: int(kind) for kind in ColumnType} == {
        "NULL": 0,
        "BOOL": 1,
        "INT": 2,
        "FLOAT": 3,
        "TEXT": 4,
        "JSON": 5,
    }
