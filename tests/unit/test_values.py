"""Values in rows: what each Python value is after encoding and decoding."""

import collections
import dataclasses
import datetime as dt
import enum
import math
import sys
import types
import uuid
import zoneinfo
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from runstream_schemas.errors import CorruptDataError
from runstream_schemas.events import ParamsLogged, RowsLogged, decode_event
from runstream_schemas.values import RowEncoder, decode_extension, to_text
from support.rows import RUN, trip

NOON = dt.datetime(2026, 1, 2, 12, 0, 0, 5)  # noqa: DTZ001 - naive on purpose


def one(value: Any) -> Any:
    """A value after encoding and decoding, alone and beside a value that makes the whole event be rebuilt."""
    (alone,), _ = trip(value)
    (beside, _), _ = trip(value, "\ud800")
    assert type(alone) is type(beside)
    assert alone == beside
    return alone


def _kind(value: object) -> str:
    """A test's id: not the value, whose text may hold an address or be endless."""
    return type(value).__name__


class _Text(str):
    __slots__ = ()


class _Whole(int):
    pass


class _Real(float):
    pass


class _Raw(bytes):
    pass


class _Color(enum.Enum):
    RED = "red"
    NESTED = ("a", 1)


class _Level(enum.IntEnum):
    HIGH = 3


@dataclasses.dataclass
class _Point:
    x: int
    y: Any = None


class _Message(msgspec.Struct, rename="camel"):
    role_name: str
    extra: Any = msgspec.UNSET


class _Pydantic:
    def model_dump(self) -> dict[str, Any]:
        return {"role": "user", "n": np.int64(3)}


class _Attrs:
    __attrs_attrs__ = (types.SimpleNamespace(name="a"),)
    a = 1


class _Broken:
    def __str__(self) -> str:
        raise ZeroDivisionError

    __repr__ = __str__


class _Unbound(_Broken):
    """Like a proxy of a web framework outside its request."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (-0.0, -0.0),
        (math.inf, math.inf),
        ("", ""),
        ("a\0é😀", "a\0é😀"),
        (b"\xff\0", b"\xff\0"),
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"abcd")[::2], b"ac"),
        (memoryview(b"ab"), b"ab"),
        (2**64 - 1, 2**64 - 1),
        (-(2**63), -(2**63)),
        (2**64, 2**64),
        (-(2**63) - 1, -(2**63) - 1),
        (10**4299, 10**4299),
        (-(10**4299), -(10**4299)),
        ([1, [2, ()], (3, None)], [1, [2, []], [3, None]]),
        (collections.deque([1]), [1]),
        ({1}, [1]),
        (frozenset({"a"}), ["a"]),
        ({"a": 1}.values(), [1]),
        ({"a": {"b": [2**70]}}, {"a": {"b": [2**70]}}),
        (collections.OrderedDict(a=1), {"a": 1}),
        (collections.UserDict(a=1), {"a": 1}),
        (collections.Counter("aa"), {"a": 2}),
        (types.MappingProxyType({"a": 1}), {"a": 1}),
        (Decimal("1.10"), "1.10"),
        (Decimal("NaN"), "NaN"),
        (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (_Color.RED, "red"),
        (_Color.NESTED, ["a", 1]),
        (_Level.HIGH, 3),
        (_Text("s"), "s"),
        (_Whole(5), 5),
        (_Whole(2**65), 2**65),
        (_Real(1.5), 1.5),
        (_Raw(b"r"), b"r"),
        (_Point(1, [_Point(2)]), {"x": 1, "y": [{"x": 2, "y": None}]}),
        (_Message("u"), {"roleName": "u"}),
        (_Message("u", {"k": np.float32(0.5)}), {"roleName": "u", "extra": {"k": 0.5}}),
        (_Pydantic(), {"role": "user", "n": 3}),
        (_Attrs(), {"a": 1}),
    ],
    ids=_kind,
)
def test_a_value_comes_back_as_documented(value: Any, expected: Any) -> None:
    """Each row of the table in the module's docstring, nothing given up."""
    assert one(value) == expected
    assert trip(value)[1] == 0
    assert type(one(value)) is type(expected)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float64(0.1), 0.1),
        (np.float32(0.5), 0.5),
        (np.longdouble(0.5), 0.5),
        (np.int64(-3), -3),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.bool_(True), True),
        (np.str_("s"), "s"),
        (np.bytes_(b"b"), b"b"),
        (np.array([1, 2]), [1, 2]),
        (np.array([[1.5], [2.5]]), [[1.5], [2.5]]),
        (np.array(7), 7),
        (np.array([5]), [5]),
        (np.array(["a", None], dtype=object), ["a", None]),
        (np.datetime64("2026-01-02T03:04:05.123456789"), "2026-01-02T03:04:05.123456789"),
        (np.array(["2026-01-02", "NaT"], dtype="datetime64[D]"), ["2026-01-02", None]),
        (np.timedelta64(5, "s"), "PT5S"),
        (pd.NaT, None),
        (pd.NA, None),
        (pd.Timestamp(NOON), "2026-01-02T12:00:00.000005"),
        (pd.Timestamp(NOON, tz="UTC"), NOON.replace(tzinfo=dt.UTC)),
        (pd.Timestamp("2026-01-02T03:04:05.123456789Z"), "2026-01-02T03:04:05.123456789+00:00"),
        (pd.Timedelta("1s"), "PT1S"),
        (pd.Timedelta("1ns"), "P0DT0H0M0.000000001S"),
        (pd.Series([1, 2]), [1, 2]),
        (pd.Series([NOON, None]), ["2026-01-02T12:00:00.000005", None]),
        (pd.Series(["a", "b"], dtype="category"), ["a", "b"]),
        (pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}), {"a": [1, 2], "b": ["x", "y"]}),
        (pa.array([1, None]), [1, None]),
        (pa.scalar(1.5), 1.5),
        (pa.table({"a": [1]}), {"a": [1]}),
    ],
    ids=_kind,
)
def test_scientific_values_become_plain_ones(value: Any, expected: Any) -> None:
    """numpy, pandas and pyarrow values lose nothing that plain values can hold."""
    result = one(value)
    assert type(result) is type(expected)
    assert result == expected
    assert trip(value)[1] == 0


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (NOON.replace(tzinfo=dt.UTC), NOON.replace(tzinfo=dt.UTC)),
        (NOON.replace(tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")), NOON.replace(hour=11, tzinfo=dt.UTC)),
        (dt.datetime.min.replace(tzinfo=dt.UTC), dt.datetime.min.replace(tzinfo=dt.UTC)),
        (dt.datetime.max.replace(tzinfo=dt.UTC), dt.datetime.max.replace(tzinfo=dt.UTC)),
        (dt.datetime(1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1))), "0001-01-01T00:00:00+01:00"),
        (dt.datetime(9999, 12, 31, 23, tzinfo=dt.timezone(-dt.timedelta(hours=2))), "9999-12-31T23:00:00-02:00"),
        (NOON, "2026-01-02T12:00:00.000005"),
        (dt.date(2026, 1, 2), "2026-01-02"),
        (dt.time(1, 2, 3), "01:02:03"),
        (dt.time(1, 2, 3, tzinfo=dt.UTC), "01:02:03Z"),
        (dt.time(1, tzinfo=dt.timezone(dt.timedelta(hours=-2))), "01:00:00-02:00"),
        (dt.timedelta(days=1, seconds=1), "P1DT1S"),
    ],
    ids=_kind,
)
def test_times_become_a_moment_in_utc_or_iso_text(value: Any, expected: Any) -> None:
    """A moment that MessagePack can hold stays one; everything else is text."""
    assert one(value) == expected
    assert type(one(value)) is type(expected)


def test_extreme_times_are_encoded() -> None:
    """The ends of every range and zones without an offset do not fail."""
    for value in (
        dt.timedelta.max,
        dt.timedelta.min,
        dt.time(1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
        dt.date.max,
    ):
        assert isinstance(one(value), str)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a\ud800", "a\\ud800"),
        (["\udfff"], ["\\udfff"]),
        ({"\ud800": "x"}, {"\\ud800": "x"}),
        ({1: "x"}, {"1": "x"}),
        ({None: "x"}, {"None": "x"}),
        ({(1, 2): "x"}, {"(1, 2)": "x"}),
        ({frozenset(): "x"}, {"frozenset()": "x"}),
        ([{"a": [{1.5: "x"}]}], [{"a": [{"1.5": "x"}]}]),
        (10**4301, hex(10**4301)),
        (-(10**4301), hex(-(10**4301))),
        (1j, "1j"),
        (range(10**12), "range(0, 1000000000000)"),
        (Path("a"), "a"),
        (_Broken(), "<_Broken>"),
        ([_Broken()], ["<_Broken>"]),
        ({_Broken(): 1}, {"<_Broken>": 1}),
        (_Unbound(), "<_Unbound>"),
        (ValueError("why"), "why"),
        (msgspec.UNSET, "UNSET"),
        (type("Lie", (_Text,), {"__str__": lambda self: "\ud800"})("t"), "t"),
    ],
    ids=_kind,
)
def test_what_cannot_be_kept_becomes_text(value: Any, expected: Any) -> None:
    """Nothing raises, and each value that was given up is counted once."""
    (result,), converted = trip(value)
    assert result == expected
    assert converted == (0 if expected == "t" else 1)
    (result, _), converted_beside = trip(value, "\ud800")
    assert result == expected
    assert converted_beside == converted + 1


@pytest.mark.parametrize(
    "value",
    [
        msgspec.msgpack.Ext(1, b"\0" * 9000),
        msgspec.msgpack.Ext(99, b"x"),
        msgspec.Raw(b"\xc1"),
        (x for x in "abc"),
        _Point,
        _Color,
        np.clongdouble(1),
        open,
        sys,
    ],
    ids=_kind,
)
def test_an_object_without_a_plain_value_is_text(value: Any) -> None:
    """Also what msgspec itself would have taken for raw bytes of the wire."""
    assert one(value) == str(value)


def test_keys_are_text_whatever_they_were() -> None:
    """Enum members and subclasses of str are their text; nothing is counted for them."""
    assert trip({_Color.RED: 1, _Text("t"): 2}) == ([{"red": 1, "t": 2}], 0)


def test_other_events_are_encoded_too() -> None:
    """An event without rows is rebuilt only if it must be."""
    encoder = RowEncoder()
    event = ParamsLogged(RUN, {"a": "b"})
    assert decode_event(encoder.encode(event)) == event
    assert decode_event(encoder.encode(ParamsLogged(RUN, {"\ud800": "\ud801"}))) == ParamsLogged(
        RUN, {"\\ud800": "\\ud801"}
    )
    assert encoder.converted == 2


def test_a_row_alone_is_what_it_is_in_an_event() -> None:
    """Rows encoded one by one make the same event."""
    row = ["a", 1, [{"k": None}], {1: "\ud800"}, np.float32(0.5), 2**70]
    encoder = RowEncoder()
    whole = encoder.encode(RowsLogged(RUN, "t", ["c"] * 6, [row, row[:2]]))
    assert encoder.converted == 2
    raw: list[Any] = [msgspec.Raw(encoder.encode_row(cells)) for cells in (row, row[:2])]
    assert msgspec.msgpack.encode(RowsLogged(RUN, "t", ["c"] * 6, raw)) == whole
    assert encoder.converted == 4
    assert encoder.encode_row(["\ud800"]) == msgspec.msgpack.encode(["\\ud800"])


def test_an_unknown_extension_is_corrupt() -> None:
    """As are an empty integer and one that is larger than any writer makes."""
    for code, data in ((3, b"x"), (1, b""), (1, b"x" * 2000)):
        with pytest.raises(CorruptDataError, match="is not known"):
            decode_extension(code, memoryview(data))


def test_text_of_anything() -> None:
    """``to_text`` never raises."""
    assert [to_text(value) for value in (1, "\ud800", _Broken())] == ["1", "\\ud800", "<_Broken>"]
