"""Values become cells and come back."""

import datetime
import json
import math
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runstream_schemas.errors import CorruptDataError
from runstream_sink.tables.cells import (
    MAX_DEPTH,
    column_name,
    decode_column,
    encode_column,
    header_line,
    json_text,
    name_in_file,
    quote,
    time_text,
)
from runstream_sink.tables.tokens import split_cells
from runstream_sink.tables.types import ColumnType

UTC = datetime.UTC


@pytest.mark.parametrize(
    ("value", "kind", "cell"),
    [
        (None, ColumnType.JSON, ""),
        ("", ColumnType.TEXT, '""'),
        (True, ColumnType.BOOL, "true"),
        (False, ColumnType.FLOAT, "false"),
        (-(1 << 70), ColumnType.INT, "-1180591620717411303424"),
        (0.1, ColumnType.FLOAT, "0.1"),
        (-0.0, ColumnType.FLOAT, "-0.0"),
        (math.nan, ColumnType.FLOAT, "NaN"),
        (math.inf, ColumnType.FLOAT, "Infinity"),
        (-math.inf, ColumnType.JSON, "-Infinity"),
        ("plain text", ColumnType.TEXT, "plain text"),
        ('say "a"', ColumnType.TEXT, '"say ""a"""'),
        ("a,b", ColumnType.TEXT, '"a,b"'),
        ("a\r", ColumnType.TEXT, '"a\r"'),
        (" a", ColumnType.TEXT, '" a"'),
        ("#a", ColumnType.TEXT, '"#a"'),
        ("a\u2028b", ColumnType.TEXT, '"a\u2028b"'),
        ("a\x00", ColumnType.TEXT, '"a\x00"'),
        ("\ufeffa", ColumnType.TEXT, '"\ufeffa"'),
        ("Grüße", ColumnType.TEXT, "Grüße"),
        (b"\x00\xff", ColumnType.TEXT, "AP8="),
        (b"", ColumnType.TEXT, '""'),
        (datetime.datetime(2026, 11, 24, 5, tzinfo=UTC), ColumnType.TEXT, "2026-11-24T05:00:00Z"),
        (
            datetime.datetime(2026, 11, 24, 5, 0, 0, 5, tzinfo=datetime.timezone(datetime.timedelta(hours=1))),
            ColumnType.JSON,
            "2026-11-24T04:00:00.000005Z",
        ),
        ([1, "ü", None], ColumnType.JSON, '"[1,""ü"",null]"'),
        ("text", ColumnType.JSON, "text"),
        ("true", ColumnType.JSON, '"""true"""'),
        ("", ColumnType.JSON, '""""""'),
        (" 1", ColumnType.JSON, '""" 1"""'),
        ("[1", ColumnType.JSON, "[1"),
        (12, ColumnType.JSON, "12"),
        (b"\xd7\x6d\xf8", ColumnType.JSON, '"""1234"""'),
    ],
)
def test_a_value_has_this_cell(value: Any, kind: ColumnType, cell: str) -> None:
    """The cells are pinned, since files with them exist."""
    assert encode_column([value], kind) == [cell]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "=cmd|'/C calc'!A0", "'0123", "001"])
def test_formula_like_text_stays_as_it_is(text: str) -> None:
    """Nothing is put in front of what a spreadsheet might take for a formula."""
    assert encode_column([text], ColumnType.TEXT) == [text]


@pytest.mark.parametrize(
    ("cell", "part_type", "kind", "value"),
    [
        ("true", ColumnType.BOOL, ColumnType.INT, 1),
        ("false", ColumnType.BOOL, ColumnType.FLOAT, 0.0),
        ("true", ColumnType.BOOL, ColumnType.JSON, True),
        ("1", ColumnType.INT, ColumnType.FLOAT, 1.0),
        ("1", ColumnType.INT, ColumnType.JSON, 1),
        ("1", ColumnType.TEXT, ColumnType.JSON, "1"),
        ("1", ColumnType.JSON, ColumnType.JSON, 1),
        ('"1"', ColumnType.JSON, ColumnType.JSON, "1"),
        ("one", ColumnType.JSON, ColumnType.JSON, "one"),
        ("9007199254740992", ColumnType.INT, ColumnType.FLOAT, 9007199254740992.0),
        ("9007199254740993", ColumnType.INT, ColumnType.FLOAT, 9007199254740993),
        ("-Infinity", ColumnType.FLOAT, ColumnType.JSON, -math.inf),
        (None, ColumnType.TEXT, ColumnType.TEXT, None),
        (None, ColumnType.NULL, ColumnType.INT, None),
    ],
)
def test_a_cell_reads_at_the_columns_final_type(
    cell: str | None, part_type: ColumnType, kind: ColumnType, value: Any
) -> None:
    """What a cell means depends on the part's type and the table's."""
    (decoded,) = decode_column([cell], part_type, kind)
    assert repr(decoded) == repr(value)


@pytest.mark.parametrize("kind", [ColumnType.BOOL, ColumnType.INT, ColumnType.FLOAT])
def test_a_cell_that_is_no_such_value_is_corrupt(kind: ColumnType) -> None:
    """A file that somebody edited is reported."""
    with pytest.raises(CorruptDataError, match="something else"):
        decode_column(["many"], kind, kind)


@given(st.text())
def test_text_in_a_json_column_is_unambiguous(text: str) -> None:
    """Whatever a text looks like, it comes back as text."""
    assert _through(text, ColumnType.JSON) == text


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists).map(json.dumps))
def test_text_that_is_json_comes_back_as_text(text: str) -> None:
    """Also where the text is itself valid JSON."""
    assert _through(text, ColumnType.JSON) == text


@pytest.mark.parametrize("text", ["[" * 100_000, "[" * 900 + "]" * 900, '{"a":' * 5000, "1" * 5000, "-" + "1" * 5000])
def test_text_like_extreme_json_comes_back_as_text(text: str) -> None:
    """Nesting and digits beyond what Python reads change nothing."""
    assert _through(text, ColumnType.JSON) == text


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("kind", [ColumnType.INT, ColumnType.FLOAT, ColumnType.JSON])
def test_integers_of_any_size_come_back(sign: int, kind: ColumnType) -> None:
    """Also beyond the digits that Python converts."""
    value = sign * (10 ** (sys.get_int_max_str_digits() + 1000) + 1)
    assert _through(value, kind) == value


def test_nested_values_of_every_kind_become_json() -> None:
    """Keys become text; bytes and datetimes are what they are as cells."""
    moment = datetime.datetime(2026, 11, 24, tzinfo=UTC)
    value = {1: b"a", None: moment, b"k": (1, 2), (1, "a"): math.nan, moment: True, 0.5: [], False: {"": None}}
    assert json_text(value) == (
        '{"1":"YQ==","null":"2026-11-24T00:00:00Z","aw==":[1,2],"[1,\\"a\\"]":NaN,'
        '"2026-11-24T00:00:00Z":true,"0.5":[],"false":{"":null}}'
    )
    assert json_text([10**5000]).startswith('["0x')


def test_nesting_is_cut_where_readers_would_give_up() -> None:
    """The cut does not depend on how deep the caller's stack is."""
    value: Any = "core"
    for _ in range(MAX_DEPTH):
        value = [value]
    assert json_text(value) == "[" * MAX_DEPTH + '"core"' + "]" * MAX_DEPTH
    for _ in range(20_000):
        value = [value]
    assert json_text(value) == "[" * MAX_DEPTH + '"(nested too deeply)"' + "]" * MAX_DEPTH
    assert json.loads(json_text([[]] * 1000)) == [[]] * 1000


@pytest.mark.parametrize(
    ("column", "name"),
    [("_event", "__event"), ("__logged_at", "___logged_at"), ("_EVENT", "__EVENT"), ("event", "event"), ("_e", "_e")],
)
def test_a_users_column_never_takes_the_name_of_ours(column: str, name: str) -> None:
    """It has one more underscore in the file."""
    assert name_in_file(column) == name
    assert header_line([column]) == f"{name},_logged_at,_event"


@given(st.from_regex(r"_*(logged_at|event|Event)?", fullmatch=True) | st.text())
def test_names_of_columns_come_back(column: str) -> None:
    """The renaming can be undone, so it is injective."""
    assert column_name(name_in_file(column)) == column


def test_times_have_microseconds_in_utc() -> None:
    """Nanoseconds are cut, before 1970 too."""
    assert time_text(1_795_496_400_123_456_789) == "2026-11-24T05:00:00.123456Z"
    assert time_text(-1) == "1969-12-31T23:59:59.999999Z"
    assert time_text(-(1 << 63)) == "1677-09-21T00:12:43.145224Z"
    assert time_text((1 << 63) - 1) == "2262-04-11T23:47:16.854775Z"


@given(st.text())
def test_a_quoted_cell_reads_back(text: str) -> None:
    """It is one cell, and not the empty one."""
    assert split_cells(quote(text) + "\n", 1) == [text]


def _through(value: Any, kind: ColumnType) -> Any:
    cells = split_cells(encode_column([value], kind)[0] + "\n", 1)
    assert len(cells) == 1
    (decoded,) = decode_column(cells, kind, kind)
    return decoded
