"""A table as one file."""

import io
import json
import math
from collections.abc import Mapping
from typing import Any

import pytest
from pyarrow import parquet

from runstream_schemas.errors import InvalidInputError
from runstream_sink.tables.export import export_table
from runstream_sink.tables.types import ColumnType

COLUMNS = {
    "none": ColumnType.NULL,
    "bool": ColumnType.BOOL,
    "int": ColumnType.INT,
    "float": ColumnType.FLOAT,
    "text": ColumnType.TEXT,
    "json": ColumnType.JSON,
}
ROWS: list[dict[str, Any]] = [
    {"none": None, "bool": True, "int": 1, "float": 0.5, "text": 'a,"b"', "json": {"k": [1]}},
    {"none": None, "bool": None, "int": None, "float": math.inf, "text": "", "json": "12"},
]


def exported(rows: list[dict[str, Any]], columns: Mapping[str, ColumnType], form: str) -> bytes:
    """The bytes of an export."""
    destination = io.BytesIO()
    export_table(lambda: rows, columns, form, destination)
    return destination.getvalue()


def test_csv_has_the_final_header_and_cells() -> None:
    """By the rules of the parts."""
    assert exported(ROWS, COLUMNS, "csv").decode() == (
        'none,bool,int,float,text,json\n,true,1,0.5,"a,""b""","{""k"":[1]}"\n,,,Infinity,"","""12"""\n'
    )


def test_csv_of_one_empty_column_has_a_line_for_each_row() -> None:
    """Most readers skip blank lines."""
    assert exported([{"a": None}, {"a": 1}], {"a": ColumnType.INT}, "csv") == b'a\n""\n1\n'
    assert exported([{}], {}, "csv") == b"\n"


def test_json_lines_hold_the_values() -> None:
    """NaN and infinities as Python writes them."""
    lines = exported(ROWS, COLUMNS, "jsonl").decode().splitlines()
    assert [json.loads(line) for line in lines] == ROWS


def test_parquet_is_typed() -> None:
    """JSON columns, and those of nothing, are text."""
    table = parquet.read_table(io.BytesIO(exported(ROWS, COLUMNS, "parquet")))
    assert {field.name: str(field.type) for field in table.schema} == {
        "none": "string",
        "bool": "bool",
        "int": "int64",
        "float": "double",
        "text": "string",
        "json": "string",
    }
    assert table.to_pylist() == [{**ROWS[0], "json": '{"k":[1]}'}, {**ROWS[1], "json": '"12"'}]


def test_integers_beyond_64_bits_are_text_in_parquet() -> None:
    """The whole column; in a float column they are the nearest double."""
    rows: list[dict[str, Any]] = [
        {"i": 1, "f": 0.5},
        {"i": None, "f": 2**70 + 1},
        {"i": -(1 << 63) - 1, "f": 10**400},
        {"i": 2, "f": -(10**400)},
    ]
    columns = {"i": ColumnType.INT, "f": ColumnType.FLOAT}
    table = parquet.read_table(io.BytesIO(exported(rows, columns, "parquet")))
    assert table.column("i").to_pylist() == ["1", None, "-9223372036854775809", "2"]
    assert table.column("f").to_pylist() == [0.5, float(2**70), math.inf, -math.inf]


def test_parquet_is_written_in_row_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the amount of text, so that memory is bounded."""
    monkeypatch.setattr("runstream_sink.tables.export._ROW_GROUP", 1000)
    data = exported([{"a": "x" * 400}] * 10, {"a": ColumnType.TEXT}, "parquet")
    file = parquet.ParquetFile(io.BytesIO(data))
    assert (file.num_row_groups, file.metadata.num_rows) == (4, 10)


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_a_table_without_rows_can_be_exported(form: str) -> None:
    """It has its columns and no rows."""
    data = exported([], COLUMNS, form)
    if form == "parquet":
        assert parquet.read_table(io.BytesIO(data)).column_names == list(COLUMNS)
    else:
        assert data == (b"none,bool,int,float,text,json\n" if form == "csv" else b"")


def test_an_unknown_format_is_refused() -> None:
    """With the known ones named."""
    with pytest.raises(InvalidInputError, match="'xlsx' is none of csv, jsonl, parquet"):
        exported([], {}, "xlsx")
