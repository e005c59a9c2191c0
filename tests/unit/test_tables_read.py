"""Reading parts back: bounded, strict, with large cells and many columns."""

import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from runstream_schemas.errors import CorruptDataError
from runstream_sink.changes import RowsEntry
from runstream_sink.tables.files import write_parts
from runstream_sink.tables.parts import PART_LIMIT, Appended, TableState, append, part_file
from runstream_sink.tables.read import iter_raw, provenance_columns, read_rows
from runstream_sink.tables.types import ColumnType

PRODUCER = bytes(16)


def write(root: Path, columns: list[str], *rows: list[Any]) -> Appended:
    """A table of one part."""
    entry = RowsEntry(PRODUCER, 3, 0, columns, list(rows))
    appended = append(TableState("r", "t"), [entry], PART_LIMIT, lambda number: part_file("t", number))
    write_parts(root, root, appended.writes)
    return appended


def test_provenance_comes_with_the_names_of_the_files(tmp_path: Path) -> None:
    """A user's column of the same name does not hide it."""
    table = write(tmp_path, ["_event", "a"], ["mine", 1])
    (row,) = read_rows(tmp_path, table.parts, table.state.columns, provenance=True)
    assert row == {
        "__event": "mine",
        "a": 1,
        "_logged_at": "1970-01-01T00:00:00.000000Z",
        "_event": f"{'00' * 16}:3:0",
    }
    assert list(provenance_columns(table.state.columns).items()) == [
        ("__event", ColumnType.TEXT),
        ("a", ColumnType.INT),
        ("_logged_at", ColumnType.TEXT),
        ("_event", ColumnType.TEXT),
    ]


def test_only_the_columns_asked_for_are_read(tmp_path: Path) -> None:
    """In the order asked for; one that the part does not have is None; without columns there are still rows."""
    table = write(tmp_path, ["a", "b", "c"], [1, 2, 3])
    assert list(
        read_rows(tmp_path, table.parts, {"c": ColumnType.FLOAT, "z": ColumnType.INT, "a": ColumnType.INT})
    ) == [{"c": 3.0, "z": None, "a": 1}]
    assert list(read_rows(tmp_path, table.parts, {})) == [{}]
    assert [row.event for row in iter_raw(tmp_path, table.parts, {})] == [f"{'00' * 16}:3:0"]


def test_bytes_beyond_the_committed_length_are_not_read(tmp_path: Path) -> None:
    """They belong to nobody yet."""
    table = write(tmp_path, ["a"], [1])
    with (tmp_path / "t.csv").open("ab") as file:
        file.write(b'"half a row')
    assert list(read_rows(tmp_path, table.parts, table.state.columns)) == [{"a": 1}]


def test_a_column_with_none_only(tmp_path: Path) -> None:
    """None stays None, and differs from the empty text."""
    table = write(tmp_path, ["a"], [None], [None])
    assert list(read_rows(tmp_path, table.parts, table.state.columns)) == [{"a": None}] * 2
    other = write(tmp_path, ["a"], [None], [""])
    assert list(read_rows(tmp_path, other.parts, other.state.columns)) == [{"a": None}, {"a": ""}]


def test_two_thousand_columns(tmp_path: Path) -> None:
    """All values come back in their columns."""
    columns = [f"column {number}" for number in range(2000)]
    table = write(tmp_path, columns, list(range(2000)), [str(number) for number in range(2000)])
    first, second = read_rows(tmp_path, table.parts, table.state.columns)
    assert list(first) == columns
    assert list(first.values()) == list(range(2000))
    assert second["column 1999"] == "1999"


@pytest.mark.slow
@pytest.mark.parametrize("unit", ['"', ",\n", "ü\u2028\r", '"\n'])
def test_cells_of_ten_megabytes(tmp_path: Path, unit: str) -> None:
    """Larger than a block, of whatever is special in CSV."""
    cell = unit * (10_000_000 // len(unit.encode()))
    table = write(tmp_path, ["a", "b"], [1, cell], [2, [cell]], [3, ""])
    rows = read_rows(tmp_path, table.parts, table.state.columns)
    assert [(row["a"], row["b"]) for row in rows] == [(1, cell), (2, [cell]), (3, "")]


def test_memory_does_not_grow_with_the_table(tmp_path: Path) -> None:
    """Twenty megabytes are read in a few."""
    table = write(tmp_path, ["a"], *[['text, "quoted"' * 80] for _ in range(20_000)])
    assert table.parts[0].length > 20_000_000
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_rows(tmp_path, table.parts, table.state.columns)) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 12_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (b"a,b,", b"a,c,", "header"),
        (b"\n1,", b"\n1x", "cells"),
        (b"\n1,2,", b"\n1,\n,", "cells"),
        (b"\n1,2,", b'\n1,"",', "within a row"),
        (b"\n1,", b"\nx,", "column 'a'"),
        (b"\n1,", b"\n\xff,", "UTF-8"),
        (b"\n1,2,", b'\n",2,', "within a row"),
        (b"\n1,2,", b'\n"","', "within a row"),
        (b",00000000", b',"0"00000', "quote"),
        (b":3:0\n", b"13:0\n", "cells"),
        (b"3:0\n", b"3:00", "within a row"),
    ],
)
def test_a_damaged_part_is_named(tmp_path: Path, before: bytes, after: bytes, message: str) -> None:
    """Whatever was changed from outside, without a change of length."""
    table = write(tmp_path, ["a", "b"], [1, 2])
    file = tmp_path / "t.csv"
    damaged = file.read_bytes().replace(before, after)
    assert damaged != file.read_bytes()
    file.write_bytes(damaged)
    with pytest.raises(CorruptDataError, match=rf"t\.csv.*({message})"):
        list(read_rows(tmp_path, table.parts, table.state.columns))


def test_a_short_or_missing_part_is_named(tmp_path: Path) -> None:
    """The committed length is what must be there."""
    table = write(tmp_path, ["a"], [1])
    with (tmp_path / "t.csv").open("r+b") as file:
        file.truncate(30)
    with pytest.raises(CorruptDataError, match=r"t\.csv is \d+ bytes shorter"):
        list(read_rows(tmp_path, table.parts, table.state.columns))
    (tmp_path / "t.csv").unlink()
    with pytest.raises(CorruptDataError, match=r"t\.csv is missing"):
        list(read_rows(tmp_path, table.parts, table.state.columns))
