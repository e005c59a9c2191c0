"""Any nesting of any values: encoding never fails, and equals the documented table."""

import datetime as dt
import math
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from runstream_schemas.events import RowsLogged, decode_event
from runstream_schemas.values import RowEncoder, escape_surrogates

TEXTS = st.text(st.characters(codec=None, categories=None), max_size=20)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(2**200), max_value=2**200),
    st.floats(),
    TEXTS,
    st.binary(max_size=20),
    st.decimals(),
    st.uuids(),
    st.dates(),
    st.datetimes(),
    st.datetimes(timezones=st.timezones()),
    st.timedeltas(),
    st.times(),
    st.complex_numbers(),
)
KEYS = st.one_of(TEXTS, st.integers(), st.none(), st.booleans(), st.tuples(st.integers()))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4) | st.tuples(inner, inner),
    max_leaves=20,
)


def plain(value: Any) -> Any:
    """What the table says, for the values above."""
    if isinstance(value, str):
        return escape_surrogates(value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {escape_surrogates(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, dt.datetime) and value.utcoffset() is not None:
        try:
            return value.astimezone(dt.UTC)
        except OverflowError:
            return value.isoformat()
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return ANY_TEXT
    return value if value is None or isinstance(value, bool | int | float | bytes) else str(value)


class AnyText:
    """Equals every text."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str)

    __hash__ = None  # type: ignore[assignment]


ANY_TEXT = AnyText()


def same(left: Any, right: Any) -> bool:
    """Equal, and NaN equals NaN, and 1 is not 1.0."""
    if isinstance(left, list):
        return isinstance(right, list) and len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return (
            isinstance(right, dict) and left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
        )
    if isinstance(left, float) and math.isnan(left):
        return isinstance(right, float) and math.isnan(right)
    return bool(left == right) and (isinstance(right, AnyText) or type(left) is type(right))


@given(st.lists(st.lists(VALUES, min_size=2, max_size=2), min_size=1, max_size=3))
def test_rows_of_anything_come_back_as_documented(rows: list[list[Any]]) -> None:
    """Whatever lies beside what, each cell follows the table."""
    event = decode_event(RowEncoder().encode(RowsLogged("0" * 32, "t", ["a", "b"], rows)))
    assert isinstance(event, RowsLogged)
    assert same(event.rows, plain(rows))


@given(st.decimals(), st.text())
def test_values_are_independent_of_their_neighbours(number: Decimal, text: str) -> None:
    """A neighbour that makes the event be rebuilt changes no other cell."""
    cells = [number, text, {"k": [text]}]
    alone = decode_event(RowEncoder().encode(RowsLogged("0" * 32, "t", ["a", "b", "c", "d"], [[*cells, None]])))
    beside = decode_event(RowEncoder().encode(RowsLogged("0" * 32, "t", ["a", "b", "c", "d"], [[*cells, {1: 2}]])))
    assert alone.rows[0][:3] == beside.rows[0][:3]  # type: ignore[union-attr]
