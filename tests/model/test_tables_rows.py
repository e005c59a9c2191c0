"""Every value that is appended comes back, whatever the order of columns, types and part limits."""

import base64
import datetime
import json
import math
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from runstream_sink.changes import RowsEntry
from runstream_sink.tables.cells import time_text
from runstream_sink.tables.files import write_parts
from runstream_sink.tables.parts import Part, TableState, append, part_file
from runstream_sink.tables.read import iter_raw, read_rows
from runstream_sink.tables.types import ColumnType, column_type

text = st.text(st.sampled_from(' ,"\n\r\x00\u2028=[{1tn') | st.characters(codec="utf-8"), max_size=8)
moments = st.datetimes(timezones=st.just(datetime.UTC))
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**30), 10**30)
    | st.floats()
    | text
    | st.sampled_from(["", "true", "1", "null", "NaN", "[1]", '"a"', "{}", "=1+1"])
    | st.binary(max_size=4)
    | moments
)
keys = text | st.none() | st.booleans() | st.integers() | st.floats() | st.binary(max_size=3) | moments
nested = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)
kinds = st.sampled_from([st.none(), st.booleans(), st.integers(), st.floats(), text, nested])
columns = st.lists(
    st.sampled_from(["a", "b", "c", "", "_event", "__event", "_logged_at"]) | text, unique=True, max_size=4
)


@st.composite
def entries(draw: st.DrawFn) -> RowsEntry:
    """One event whose columns are each of one kind, or mixed."""
    names = draw(columns)
    row = st.tuples(*(draw(kinds) for _ in names)).map(list)
    rows = draw(st.lists(row, max_size=3))
    emit_ts = draw(st.integers(-(1 << 63), (1 << 63) - 1))
    return RowsEntry(draw(st.binary(min_size=16, max_size=16)), draw(st.integers(0, 9)), emit_ts, names, rows)


groups = st.lists(st.lists(entries(), max_size=3), max_size=5)


@settings(deadline=None)
@given(groups, st.sampled_from([1, 200, 1000, 1 << 28]))
def test_every_value_comes_back(groups: list[list[RowsEntry]], limit: int) -> None:
    """As a value of the column's final type, with the place it comes from; each part's header is true."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        state, parts = write(root, groups, limit)
        expected = expected_rows(groups, state.columns)
        assert repr(list(read_rows(root, parts, state.columns))) == repr([values for values, _, _ in expected])
        raw = [
            (dict(zip(state.columns, row.values, strict=True)), row.logged_at, row.event)
            for row in iter_raw(root, parts, state.columns)
        ]
        assert repr(raw) == repr(expected)
        assert state.rows == sum(part.rows for part in parts) == len(expected)
        assert [part.number for part in parts] == list(range(1, state.parts + 1))


@settings(deadline=None, max_examples=50)
@given(groups, st.integers(0, 20), st.none() | st.integers(0, 20))
def test_a_slice_of_the_rows_is_the_slice_of_all(groups: list[list[RowsEntry]], start: int, limit: int | None) -> None:
    """``start`` and ``limit`` work across parts."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        state, parts = write(root, groups, 300)
        every = list(read_rows(root, parts, state.columns, provenance=True))
        some = list(read_rows(root, parts, state.columns, provenance=True, start=start, limit=limit))
        assert repr(some) == repr(every[start : None if limit is None else start + limit])


@settings(deadline=None, max_examples=50)
@given(groups, st.randoms())
def test_the_order_of_groups_changes_no_value(groups: list[list[RowsEntry]], random: Any) -> None:
    """The same entries in any order and grouping hold the same rows at the same types."""
    shuffled = [[entry] for group in groups for entry in group]
    random.shuffle(shuffled)
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        state, parts = write(Path(first), groups, 300)
        other, other_parts = write(Path(second), shuffled, 1 << 28)
        assert state.columns == other.columns
        rows = iter_raw(Path(first), parts, state.columns)
        assert sorted(map(repr, rows)) == sorted(map(repr, iter_raw(Path(second), other_parts, state.columns)))


def write(root: Path, groups: list[list[RowsEntry]], limit: int) -> tuple[TableState, list[Part]]:
    """Append group by group; the table and its parts afterwards."""
    state = TableState("r", "t")
    parts: dict[int, Part] = {}
    for group in groups:
        appended = append(state, group, limit, lambda number: part_file("t", number))
        write_parts(root, root, appended.writes)
        state = appended.state
        parts.update({part.number: part for part in appended.parts})
    return state, [parts[number] for number in sorted(parts)]


def expected_rows(
    groups: list[list[RowsEntry]], columns: dict[str, ColumnType]
) -> list[tuple[dict[str, Any], str, str]]:
    """A model of the whole: types from all values, values converted one by one."""
    every = [entry for group in groups for entry in group]
    for name, kind in columns.items():
        held = [row[entry.columns.index(name)] for entry in every if name in entry.columns for row in entry.rows]
        assert column_type(held) is kind
    rows = []
    for entry in every:
        for index, row in enumerate(entry.rows):
            given_values = dict(zip(entry.columns, row, strict=True))
            values = {name: converted(given_values.get(name), kind) for name, kind in columns.items()}
            rows.append((values, time_text(entry.emit_ts), f"{entry.producer_id.hex()}:{entry.seq}:{index}"))
    return rows


def converted(value: Any, kind: ColumnType) -> Any:
    """The value as one of the column's type."""
    if value is None:
        return None
    if kind is ColumnType.INT:
        return int(value)
    if kind is ColumnType.FLOAT:
        return float(value) if isinstance(value, float) or float(value) == value else value
    return plain(value)


def plain(value: Any) -> Any:
    """The value in JSON's types."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime.datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key_text(key): plain(item) for key, item in value.items()}
    return value


def key_text(key: Any) -> str:
    """A key as JSON's text."""
    key = plain(key)
    if isinstance(key, float) and math.isinf(key):
        return "Infinity" if key > 0 else "-Infinity"
    return key if isinstance(key, str) else json.dumps(key)
