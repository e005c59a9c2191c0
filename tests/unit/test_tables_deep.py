"""Cells at their limits: nested values are cut, integers of too many digits are refused."""

import json
from typing import Any

import pytest

from runstream_schemas.errors import CorruptDataError
from runstream_sink.tables.cells import MAX_DEPTH, decode_column, json_text
from runstream_sink.tables.types import ColumnType


def _nested(levels: int, kinds: str) -> Any:
    value: Any = 1
    for level in range(levels):
        value = [value] if kinds[level % len(kinds)] == "l" else {"k": value}
    return value


def _depth(value: Any) -> tuple[int, Any]:
    levels = 0
    while isinstance(value, list | dict):
        (value,) = value if isinstance(value, list) else value.values()
        levels += 1
    return levels, value


@pytest.mark.parametrize("kinds", ["l", "d", "ld", "dl"])
def test_a_value_is_cut_below_the_greatest_depth(kinds: str) -> None:
    """Exactly there; what is less deep stays as it is."""
    assert _depth(json.loads(json_text(_nested(MAX_DEPTH, kinds)))) == (MAX_DEPTH, 1)
    for levels in (MAX_DEPTH + 1, MAX_DEPTH + 100):
        assert _depth(json.loads(json_text(_nested(levels, kinds)))) == (MAX_DEPTH, "(nested too deeply)")


@pytest.mark.parametrize("kind", [ColumnType.INT, ColumnType.FLOAT])
def test_an_integer_of_ten_thousand_digits_is_read_and_a_longer_one_is_refused(kind: ColumnType) -> None:
    """Damage must not keep a reader busy for ever."""
    assert decode_column(["1" + "0" * 9_999], kind, kind) == [10**9_999]
    with pytest.raises(CorruptDataError):
        decode_column(["1" + "0" * 10_000], ColumnType.INT, ColumnType.INT)


def test_an_empty_text_in_a_json_column_is_itself() -> None:
    """No writer makes it so, but damage may."""
    assert decode_column([""], ColumnType.JSON, ColumnType.JSON) == [""]
