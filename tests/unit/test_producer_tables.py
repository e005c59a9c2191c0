"""Tables: what a user passes becomes columns and rows, and rows become events of bounded size."""

import collections
import math
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from runstream.tables import Block, predictions, split, to_columns
from runstream_schemas.errors import InvalidInputError
from runstream_schemas.events import RowsLogged, decode_event
from runstream_schemas.values import RowEncoder

RUN = "1" * 32


def decoded(bodies: list[bytes]) -> list[RowsLogged]:
    """The events of the bodies."""
    events = [decode_event(body) for body in bodies]
    assert all(isinstance(event, RowsLogged) for event in events)
    return events  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("data", "columns", "rows"),
    [
        ({"a": [1, 2], "b": ["x", "y"]}, ["a", "b"], [[1, "x"], [2, "y"]]),
        ({"a": (1, 2), "b": range(2)}, ["a", "b"], [[1, 0], [2, 1]]),
        ({"a": np.array([1, 2]), "b": pd.Series(["x", "y"])}, ["a", "b"], [[1, "x"], [2, "y"]]),
        ({"a": np.array([[1, 2], [3, 4]])}, ["a"], [[[1, 2]], [[3, 4]]]),
        ({"a": pa.array([1, None])}, ["a"], [[1], [None]]),
        ({"a": collections.deque([1]), "b": {1: 2}.values(), "c": {5: 6}.keys()}, ["a", "b", "c"], [[1, 2, 5]]),
        ({"a": iter([1, 2])}, ["a"], [[1], [2]]),
        ({"a": "text", "b": 1, "c": None}, ["a", "b", "c"], [["text", 1, None]]),
        ({"a": {"k": 1}}, ["a"], [[{"k": 1}]]),
        ({"a": [1, 2], "b": "same"}, ["a", "b"], [[1, "same"], [2, "same"]]),
        ({"a": [{"k": 1}], "b": b"x"}, ["a", "b"], [[{"k": 1}, b"x"]]),
        ({1: [2], None: [3], "\ud800": [4]}, ["1", "None", "\\ud800"], [[2, 3, 4]]),
        ([{"a": 1, "b": 2}, {"b": 4, "a": 3}], ["a", "b"], [[1, 2], [3, 4]]),
        (iter([{"a": [1, 2]}]), ["a"], [[[1, 2]]]),
        (pd.DataFrame({"a": [1, 2], "b": ["x", None]}, index=[7, 8]), ["a", "b"], [[1, "x"], [2, None]]),
        (pd.DataFrame([[True, 2]], columns=[0, 1]), ["0", "1"], [[True, 2]]),
        (pd.DataFrame({"a": ["x"]}).iloc[:, :], ["a"], [["x"]]),
        (pa.table({"a": [1, 2], "b": [None, "y"]}), ["a", "b"], [[1, None], [2, "y"]]),
        (pa.RecordBatch.from_pydict({"a": [1.5]}), ["a"], [[1.5]]),
    ],
)
def test_a_table_becomes_columns_and_rows(data: Any, columns: list[str], rows: list[list[Any]]) -> None:
    """Every documented form gives one block, its values plain."""
    (block,) = to_columns(data)
    assert block == Block(columns, rows)
    assert [[type(cell) for cell in row] for row in block.rows] == [[type(cell) for cell in row] for row in rows]


def test_a_single_cell_is_what_no_column_can_be() -> None:
    """Arrays without dimensions and numpy scalars are cells, also beside columns."""
    assert to_columns({"a": np.array(3), "b": np.float64(1.5)})[0].rows == [[3, 1.5]]
    assert to_columns({"a": [1, 2], "b": np.int64(7)})[0].rows == [[1, 7], [2, 7]]

    class Odd:
        def tolist(self) -> str:
            return "no list"

    assert len(to_columns({"a": Odd()})[0].rows) == 1


def test_missing_values_of_a_frame_are_none_and_nan_of_floats_stays() -> None:
    """A text column's NaN is a missing text; a float column's NaN may be a measurement."""
    frame = pd.DataFrame({"t": ["x", np.nan], "f": [np.nan, 1.0], "d": pd.to_datetime(["2026-01-01", None])})
    (_, first), (text, second) = ([row[0], row[1]] for row in to_columns(frame)[0].rows)
    assert math.isnan(first)
    assert (text, second) == (None, 1.0)
    assert to_columns(frame)[0].rows[1][2] is None


def test_a_polars_frame_is_read_by_its_own_methods() -> None:
    """Anything with polars' interface is read column by column."""

    class Series:
        def __init__(self, values: list[Any]) -> None:
            self.values = values

        def to_list(self) -> list[Any]:
            return self.values

    class Frame:
        columns = ("a", "b")

        def get_columns(self) -> list[Series]:
            return [Series([1, 2]), Series(["x", None])]

    assert to_columns(Frame()) == [Block(["a", "b"], [[1, "x"], [2, None]])]
    assert to_columns({"s": Series([1])}) == [Block(["s"], [[1]])]


def test_rows_with_other_keys_start_a_new_block() -> None:
    """A key that a row lacks is not named: the cell stays empty, which None is not; the order of rows is kept."""
    rows = [{"a": 1}, {"a": 2}, {"a": 3, "b": None}, {"b": 5}, {"a": 6}]
    assert to_columns(rows) == [
        Block(["a"], [[1], [2]]),
        Block(["a", "b"], [[3, None]]),
        Block(["b"], [[5]]),
        Block(["a"], [[6]]),
    ]


@pytest.mark.parametrize("data", [{}, [], {"a": []}, pd.DataFrame(), pd.DataFrame({"a": []}), pa.table({"a": []})])
def test_no_rows_are_no_block(data: Any) -> None:
    """An empty table has nothing to append."""
    assert to_columns(data) == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"a": [1, 2], "b": [1]}, "same number of values: a has 2, b has 1"),
        ("text", "cannot be made from str; pass a dict of columns"),
        (b"x", "cannot be made from bytes"),
        (None, "cannot be made from NoneType"),
        (5, "cannot be made from int"),
        ([1], "a row must be a dict of column names and values, not int; pass"),
        ([{"a": 1}, "b"], "not str"),
        ([{}], "at least one column"),
        ({1: [1], "1": [2]}, "two columns named '1'"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "two columns named 'a'"),
    ],
)
def test_what_is_no_table_is_refused(data: Any, message: str) -> None:
    """The message says what was wrong and what to pass."""
    with pytest.raises(InvalidInputError, match=message):
        to_columns(data)


def test_predictions_are_one_row_each() -> None:
    """Dicts stay single cells; prompts may be left out."""
    assert to_columns(predictions([{"q": "1"}, "2"], ("a", "b"), ["p", {"x": "y"}])) == [
        Block(["inputs", "outputs", "prompts"], [[{"q": "1"}, "a", "p"], ["2", "b", {"x": "y"}]])
    ]
    assert predictions(pd.Series(["q"]), ["a"]) == {"inputs": ["q"], "outputs": ["a"]}
    assert to_columns(predictions([], [])) == []


def test_predictions_of_other_shapes_are_refused() -> None:
    """A text in the place of a list is the likely mistake."""
    with pytest.raises(InvalidInputError, match="outputs must be a list with one item a prediction, not str"):
        predictions(["q"], "answer")
    with pytest.raises(InvalidInputError, match="inputs must be a list"):
        predictions(None, ["a"])
    with pytest.raises(InvalidInputError, match="inputs has 1, outputs has 2"):
        predictions(["q"], ["a", "b"])


def test_a_few_rows_are_one_event() -> None:
    """The event holds the rows as they were."""
    both: list[list[Any]] = [[1, "a"], [2, None]]
    for rows in (both[:1], both):
        bodies = list(split(RUN, "t", ["n", "s"], rows, RowEncoder()))
        assert decoded(bodies) == [RowsLogged(RUN, "t", ["n", "s"], rows)]
    assert list(split(RUN, "t", ["n"], [], RowEncoder())) == []


def test_many_rows_are_split_at_the_limit() -> None:
    """All events but the last are nearly full, none is larger than the limit, and no row is lost or moved."""
    rows: list[list[Any]] = [[index, "x" * (index % 700)] for index in range(2_000)]
    limit = 16 << 10
    bodies = list(split(RUN, "t", ["n", "s"], rows, RowEncoder(), limit=limit))
    assert all(len(body) <= limit for body in bodies)
    assert all(len(body) > limit - 800 for body in bodies[:-1])
    assert [row for event in decoded(bodies) for row in event.rows] == rows


def test_a_row_larger_than_the_limit_is_an_event_of_its_own() -> None:
    """It is not refused here: the journal's limit is another matter."""
    rows: list[list[Any]] = [["a"], ["b" * 2_000], ["c"], ["d"]]
    bodies = list(split(RUN, "t", ["s"], rows, RowEncoder(), limit=1_000))
    assert [len(event.rows) for event in decoded(bodies)] == [1, 1, 2]


def test_values_given_up_are_counted_once() -> None:
    """Splitting encodes no row twice."""
    encoder = RowEncoder()
    bodies = list(split(RUN, "t", ["s"], [["\ud800" * 50]] * 40, encoder, limit=1_000))
    assert len(bodies) > 5
    assert encoder.converted == 40


def test_no_library_is_imported() -> None:
    """Neither by the module nor by a table of plain values."""
    code = (
        "import sys; from runstream.tables import to_columns; to_columns({'a': [1]}); "
        "print(sorted({'numpy', 'pandas', 'pyarrow', 'polars', 'asyncio'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
