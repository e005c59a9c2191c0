"""What csv.reader, pandas and DuckDB make of a part, with the options that docs/csv.md states."""

import csv
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runstream_sink.changes import RowsEntry
from runstream_sink.tables.files import write_parts
from runstream_sink.tables.parts import PART_LIMIT, TableState, append, part_file
from runstream_sink.tables.tokens import split_cells

Rows = list[list[str | None]]
Reader = Callable[[Path], Rows]

text = st.text(st.sampled_from('a ,"\n\r\x00\u2028\x85\ufeff=\t#;') | st.characters(codec="utf-8"), max_size=10)
words = st.sampled_from(["", "NA", "null", "NULL", "nan", "001", "true", "=1+1", "@SUM(A1)", "\\N", "#", '""', "[1]"])
values = st.none() | text | words | st.integers() | st.floats() | st.booleans() | st.lists(text, max_size=2)
columns = st.lists(text, unique=True, max_size=4)
tables = columns.flatmap(
    lambda names: st.tuples(
        st.just(names), st.lists(st.tuples(*(values for _ in names)).map(list), min_size=1, max_size=5)
    )
)


def with_csv(path: Path) -> Rows:
    """None reads as the empty text."""
    csv.field_size_limit(sys.maxsize)
    with path.open(newline="", encoding="utf-8") as file:
        rows: Rows = [[*row] for row in csv.reader(file)]
        return rows[1:]


def with_pandas(path: Path) -> Rows:
    """None reads as the empty text."""
    frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8", lineterminator="\n")
    rows: Rows = frame.to_numpy(dtype=object).tolist()
    return rows


def with_duckdb(path: Path) -> Rows:
    """None and the empty text stay different."""
    return [list(row) for row in query(path).fetchall()]


def query(path: Path) -> duckdb.DuckDBPyRelation:
    """The documented query on these files."""
    relation = duckdb.sql(documented("sql").replace("predictions*.csv", str(path)))
    assert relation is not None
    return relation


def documented(language: str) -> str:
    """The first example in this language in the documentation."""
    page = Path(__file__).parents[2].joinpath("docs/csv.md").read_text(encoding="utf-8")
    found = re.search(rf"```{language}\n(.*?)```", page, re.DOTALL)
    assert found is not None
    return found[1]


READERS = {"csv.reader": (with_csv, False), "pandas": (with_pandas, False), "duckdb": (with_duckdb, True)}


@pytest.mark.parametrize(("reader", "tells_none"), READERS.values(), ids=READERS.keys())
@settings(deadline=None, max_examples=150)
@given(table=tables)
def test_a_reader_gets_every_cells_text(reader: Reader, tells_none: bool, table: tuple[list[str], list[Any]]) -> None:
    """Exactly; only what it makes of an empty cell differs."""
    with tempfile.TemporaryDirectory() as directory:
        check(Path(directory), reader, tells_none, *table)


CELL = 'say "hello",\nthen\r\n' * 500_000
HARD: dict[str, tuple[list[str], list[Any]]] = {
    "2,000 columns": ([f"c{number}" for number in range(2000)], [[str(number) for number in range(2000)]] * 2),
    "one column of None": (["a"], [[None], [None]]),
    "None and the empty text": (["a"], [[None], [""], ["a"]]),
    "cells of ten megabytes": (["a", "b"], [[CELL, "x"], ["y", CELL]]),
    "a name with a byte order mark": (["\ufeffa"], [["x"]]),
    "rows of any length": (["a"], [["x" * length] for length in range(0, 5000, 7)]),
}


@pytest.mark.parametrize("table", HARD.values(), ids=HARD.keys())
@pytest.mark.parametrize(("reader", "tells_none"), READERS.values(), ids=READERS.keys())
def test_a_reader_gets_hard_tables(
    tmp_path: Path, reader: Reader, tells_none: bool, table: tuple[list[str], list[Any]]
) -> None:
    """Large, wide, or nearly empty."""
    check(tmp_path, reader, tells_none, *table)


@pytest.mark.parametrize("formula", ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "=cmd|'/C calc'!A0"])
@pytest.mark.parametrize("reader", [reader for reader, _ in READERS.values()], ids=READERS.keys())
def test_a_formula_is_read_as_it_was_logged(tmp_path: Path, reader: Reader, formula: str) -> None:
    """No reader sees a changed text."""
    assert reader(write(tmp_path, ["a"], [[formula]]))[0][0] == formula


def test_duckdb_joins_parts_by_name(tmp_path: Path) -> None:
    """The documented query over all parts of a table."""
    state = TableState("r", "t")
    for number, names in enumerate((["a"], ["b"], ["a", "c"])):
        entry = RowsEntry(bytes(16), number, 0, names, [[f"{name}{number}" for name in names]])
        appended = append(state, [entry], PART_LIMIT, lambda number: part_file("t", number))
        write_parts(tmp_path, tmp_path, appended.writes)
        state = appended.state
    rows = query(tmp_path / "t*.csv").project("a, b, c").fetchall()
    assert sorted(rows, key=repr) == sorted([("a0", None, None), (None, "b1", None), ("a2", None, "c2")], key=repr)


@pytest.mark.parametrize("position", [0, 1])
def test_the_documented_python_examples_run(tmp_path: Path, position: int) -> None:
    """As they stand in the documentation."""
    page = Path(__file__).parents[2].joinpath("docs/csv.md").read_text(encoding="utf-8")
    example = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[position]
    names: dict[str, Any] = {"path": write(tmp_path, ["a"], [["x\ry"]])}
    exec(example, names)
    assert names["rows"][1][0] == "x\ry" if position == 0 else names["frame"]["a"][0] == "x\ry"


def write(root: Path, columns: list[str], rows: list[Any]) -> Path:
    """A table of one part; its file."""
    entry = RowsEntry(bytes(16), 0, 0, columns, rows)
    appended = append(TableState("r", "t"), [entry], PART_LIMIT, lambda number: part_file("t", number))
    write_parts(root, root, appended.writes)
    return root / "t.csv"


def check(root: Path, reader: Reader, tells_none: bool, columns: list[str], rows: list[Any]) -> None:
    """Compare the reader's texts with the cells."""
    path = write(root, columns, rows)
    width = len(columns) + 2
    cells = split_cells(path.read_bytes().decode(), width)[width:]
    expected: Rows = [cells[at : at + width] for at in range(0, len(cells), width)]
    assert len(expected) == len(rows)
    if not tells_none:
        expected = [[cell or "" for cell in row] for row in expected]
    assert reader(path) == expected
