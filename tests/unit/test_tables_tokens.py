"""The tokenizer against csv.reader."""

import csv
import io
import sys
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runstream_schemas.errors import CorruptDataError
from runstream_sink.tables.cells import quote
from runstream_sink.tables.tokens import records_end, split_cells

texts = st.text(st.sampled_from('ab,"\n\r \x00\u2028') | st.characters(codec="utf-8"), max_size=8)
tables = st.integers(1, 5).flatmap(
    lambda width: st.lists(st.lists(st.none() | texts, min_size=width, max_size=width), min_size=1, max_size=6)
)


@given(tables, st.booleans())
def test_it_agrees_with_csv_reader(rows: list[list[str | None]], quote_all: bool) -> None:
    """On every table, however it is quoted; only an empty cell and an empty text are the same to csv.reader."""
    written = io.StringIO()
    if quote_all:
        csv.writer(written, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    else:
        written.writelines(",".join("" if cell is None else quote(cell) for cell in row) + "\n" for row in rows)
    csv.field_size_limit(sys.maxsize)
    expected = list(csv.reader(io.StringIO(written.getvalue(), newline="")))
    cells = split_cells(written.getvalue(), len(rows[0]))
    assert [cell or "" for cell in cells] == [cell for row in expected for cell in row or [""]]
    if not quote_all:
        assert cells == [cell for row in rows for cell in row]


@given(tables, st.data())
def test_the_end_of_the_last_whole_record_is_found(rows: list[list[str | None]], data: st.DataObject) -> None:
    """Wherever the bytes are cut."""
    lines = [(",".join(quote(cell or "") for cell in row) + "\n").encode() for row in rows]
    whole = b"".join(lines)
    cut = data.draw(st.integers(0, len(whole)))
    ends = [len(b"".join(lines[:count])) for count in range(len(lines) + 1)]
    assert records_end(whole[:cut]) == max(end for end in ends if end <= cut)


@pytest.mark.parametrize("text", ['a"b\n', '"a"b\n', '"a\n', '"a",\n"b'])
def test_text_that_is_no_csv_is_corrupt(text: str) -> None:
    """A quote in the middle of a cell, or an open one, is reported."""
    with pytest.raises(CorruptDataError, match="quote"):
        split_cells(text, 1)


@pytest.mark.parametrize("text", ["a,b\nc\n", "a\n", "a,b,c\n", 'a,"b"\n"c"\n', '"a",b,c\nd\n\n'])
def test_rows_of_another_width_are_corrupt(text: str) -> None:
    """Each has as many cells as the header."""
    with pytest.raises(CorruptDataError, match="not 2 each"):
        split_cells(text, 2)


def test_a_cell_of_quotes_needs_no_memory_to_backtrack() -> None:
    """Ten megabytes of quotes need a few times their own size."""
    cell = '"' * 5_000_000
    line = quote(cell) + "\n"
    tracemalloc.start()
    try:
        assert split_cells(line, 1) == [cell]
        assert tracemalloc.get_traced_memory()[1] < 60_000_000
    finally:
        tracemalloc.stop()
