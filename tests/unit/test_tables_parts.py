"""Which bytes go into which part."""

from typing import Any

import pytest

from runstream_sink.changes import RowsEntry
from runstream_sink.tables.parts import PART_LIMIT, Appended, TableState, append, part_file
from runstream_sink.tables.types import ColumnType

PRODUCER = bytes(range(16))
NEW = TableState("r", "t")


def entry(columns: list[str], *rows: list[Any], seq: int = 0) -> RowsEntry:
    """One event."""
    return RowsEntry(PRODUCER, seq, 1_795_496_400_000_000_000, columns, list(rows))


def add(state: TableState, *entries: RowsEntry, limit: int = PART_LIMIT) -> Appended:
    """Append a group."""
    return append(state, list(entries), limit, lambda number: part_file("t", number))


def test_the_bytes_of_a_part_are_pinned() -> None:
    """Header, rows, provenance; a column that a row does not have is empty."""
    appended = add(NEW, entry(["a", "b"], [1, "x,y"], [None, ""]), entry(["b"], ["z"], seq=7))
    (write,) = appended.writes
    at = "2026-11-24T05:00:00.000000Z"
    who = PRODUCER.hex()
    assert write.offset == 0
    assert write.data.decode() == (
        f'a,b,_logged_at,_event\n1,"x,y",{at},{who}:0:0\n,"",{at},{who}:0:1\n,z,{at},{who}:7:0\n'
    )
    assert write.part.file == "t.csv"
    assert (write.part.length, write.part.rows, write.part.closed) == (len(write.data), 3, False)
    assert appended.state == TableState("r", "t", {"a": ColumnType.INT, "b": ColumnType.TEXT}, 3, write.part, 1)
    assert appended.parts == [write.part]


def test_rows_are_appended_to_the_open_part() -> None:
    """At its committed length, without another header."""
    first = add(NEW, entry(["a"], [1]))
    second = add(first.state, entry(["a"], [2]))
    (write,) = second.writes
    assert write.offset == first.writes[0].part.length
    assert write.data.startswith(b"2,")
    assert second.state.rows == 2
    assert first.state.rows == 1


def test_a_new_column_starts_a_new_part() -> None:
    """Its header has all columns, as first seen; the part before it is closed without a write."""
    first = add(NEW, entry(["b", "a"], [1, 2]))
    second = add(first.state, entry(["c", "a"], [3, 4]))
    (write,) = second.writes
    assert write.data.startswith(b"b,a,c,_logged_at,_event\n,4,3,")
    assert [(part.number, part.closed, part.file) for part in second.parts] == [
        (1, True, "t.csv"),
        (2, False, "t.part-0002.csv"),
    ]
    assert second.state.parts == 2


def test_new_columns_in_one_group_share_a_part() -> None:
    """Its header is the union."""
    appended = add(NEW, entry(["a"], [1]), entry(["b"], [2]), entry(["c", "a"], [3, 4]))
    assert [part.columns for part in appended.parts] == [("a", "b", "c")]


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        (None, "a", ColumnType.TEXT),
        (True, 1, ColumnType.INT),
        (1, 0.5, ColumnType.FLOAT),
        (1, "a", ColumnType.JSON),
        (0.5, [1], ColumnType.JSON),
        (None, {}, ColumnType.JSON),
    ],
)
def test_a_greater_type_stays_in_the_part(before: Any, after: Any, kind: ColumnType) -> None:
    """The cells that are there read the same, so only the part's type changes."""
    second = add(add(NEW, entry(["a"], [before])).state, entry(["a"], [after]))
    assert second.state.parts == 1
    assert second.parts[0].types == (kind,)
    assert second.state.columns == {"a": kind}


@pytest.mark.parametrize("after", [1, True, [1], {}])
def test_text_that_becomes_json_starts_a_new_part_once(after: Any) -> None:
    """Later text is written as JSON, so that no further part is needed."""
    first = add(NEW, entry(["a"], ["12"]))
    second = add(first.state, entry(["a"], [after]))
    third = add(second.state, entry(["a"], ["12"]))
    assert third.state.parts == 2
    assert [part.types for part in second.parts] == [(ColumnType.TEXT,), (ColumnType.JSON,)]
    assert third.writes[0].data.startswith(b'"""12""",')


def test_a_part_is_closed_at_its_limit() -> None:
    """By the row that reaches it; the next part starts with the next row only."""
    appended = add(NEW, entry(["a"], *[[number] for number in range(5)]), limit=221)
    assert [(part.rows, part.closed) for part in appended.parts] == [(3, True), (2, False)]
    full = add(NEW, entry(["a"], [1]), limit=1)
    assert full.state.open is None
    assert full.parts[0].closed
    following = add(full.state, entry(["a"], [2]), limit=1)
    assert [part.number for part in following.parts] == [2]
    assert following.writes[0].data.startswith(b"a,_logged_at,_event\n2,")


def test_nothing_changes_without_rows() -> None:
    """No entries, or rows of known columns that are none."""
    state = add(NEW, entry(["a"], [1])).state
    for entries in ([], [entry(["a"])], [entry([])]):
        assert add(state, *entries) == (state, [], [])
    assert add(NEW, entry([])) == (NEW, [], [])


def test_a_table_may_have_columns_and_no_rows() -> None:
    """An empty table is a file with a header."""
    appended = add(NEW, entry(["a"]))
    assert appended.writes[0].data == b"a,_logged_at,_event\n"
    assert appended.state.columns == {"a": ColumnType.NULL}


def test_rows_may_have_no_columns() -> None:
    """They are rows with their provenance only."""
    appended = add(NEW, entry([], [], []))
    assert appended.writes[0].data.count(b"\n") == 3
    assert appended.state.rows == 2


def test_lone_surrogates_do_not_stop_a_table() -> None:
    """No decoded event holds one, but if it did it would be escaped."""
    assert b"\\ud800," in add(NEW, entry(["a"], ["\ud800"])).writes[0].data


def test_part_files_are_named_by_number() -> None:
    """Device names and long names are made safe before the suffix."""
    assert part_file("a/x", 1) == "a/x.csv"
    assert part_file("a/x", 12) == "a/x.part-0012.csv"
    assert part_file("nul", 2) == "%6Eul.part-0002.csv"
    assert len(part_file("ü" * 300, 10_000).encode()) <= 255
    assert part_file("x" * 300, 1).endswith(".csv")
