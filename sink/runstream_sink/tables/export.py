"""A whole table as one CSV, JSON Lines or Parquet file, streamed."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, BinaryIO, Final

from runstream_schemas.errors import InvalidInputError
from runstream_sink.tables.cells import encode_column, json_text, quote
from runstream_sink.tables.types import ColumnType

__all__ = ["FORMATS", "Rows", "export_table"]

FORMATS: Final = ("csv", "jsonl", "parquet")

Row = Mapping[str, Any]
Rows = Callable[[], Iterable[Row]]
"""Gives the rows from the beginning each time it is called."""

_BATCH: Final = 1000
"""Rows."""
_ROW_GROUP: Final = 64 << 20
"""Characters of text in a row group of Parquet, about."""
_INT64: Final = range(-(1 << 63), 1 << 63)


def export_table(rows: Rows, columns: Mapping[str, ColumnType], form: str, destination: BinaryIO) -> None:
    """Write the ``columns`` of ``rows`` (as `read_rows` gives them) to ``destination`` in one of `FORMATS`.

    CSV is written by the rules of ``cells``, JSON Lines with NaN and infinities as Python's json writes them.  In
    Parquet JSON columns are text, and so are integers of a column that holds one beyond 64 bits; such a column is
    found by reading ``rows`` once more.  Raises `InvalidInputError` for an unknown format, OSError, and what ``rows``
    raises.
    """
    try:
        write = _WRITERS[form]
    except KeyError:
        raise InvalidInputError(f"export format {form!r:.50} is none of {', '.join(FORMATS)}") from None
    write(rows, columns, destination)


def _write_csv(rows: Rows, columns: Mapping[str, ColumnType], destination: BinaryIO) -> None:
    destination.write((",".join(map(quote, columns)) + "\n").encode())
    for batch in _batches(rows()):
        cells = [encode_column([row[name] for row in batch], kind) for name, kind in columns.items()]
        lines = map(",".join, zip(*cells, strict=True))
        # A line of one empty cell would be no line to most readers.
        destination.write("".join(f"{line or _EMPTY_LINE}\n" for line in lines).encode())


def _write_jsonl(rows: Rows, columns: Mapping[str, ColumnType], destination: BinaryIO) -> None:
    destination.writelines(f"{json_text({name: row[name] for name in columns})}\n".encode() for row in rows())


def _write_parquet(rows: Rows, columns: Mapping[str, ColumnType], destination: BinaryIO) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    arrow_types = {
        ColumnType.BOOL: pa.bool_(),
        ColumnType.INT: pa.int64(),
        ColumnType.FLOAT: pa.float64(),
    }
    huge = _huge_integers(rows, columns)
    kinds = {name: ColumnType.TEXT if name in huge else kind for name, kind in columns.items()}
    schema = pa.schema([(name, arrow_types.get(kind, pa.string())) for name, kind in kinds.items()])
    with parquet.ParquetWriter(destination, schema) as writer:
        for batch in _row_groups(rows()):
            arrays = [
                pa.array([_arrow_value(row[field.name], kinds[field.name]) for row in batch], field.type)
                for field in schema
            ]
            writer.write_table(pa.table(arrays, schema=schema))


def _arrow_value(value: Any, kind: ColumnType) -> Any:
    if value is None:
        return None
    if kind is ColumnType.JSON:
        return json_text(value)
    if kind is ColumnType.TEXT:
        return value if isinstance(value, str) else encode_column([value], kind)[0]
    if kind is ColumnType.FLOAT and isinstance(value, int):
        return _nearest(value)
    return value


def _nearest(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _huge_integers(rows: Rows, columns: Mapping[str, ColumnType]) -> set[str]:
    """The integer columns that hold a value beyond 64 bits."""
    names = {name for name, kind in columns.items() if kind is ColumnType.INT}
    huge: set[str] = set()
    for row in rows() if names else ():
        huge.update([name for name in names if row[name] is not None and row[name] not in _INT64])
    return huge


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    remaining = iter(rows)
    while batch := list(islice(remaining, _BATCH)):
        yield batch


def _row_groups(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Groups of rows by the amount of text in them."""
    group: list[Row] = []
    size = 0
    for row in rows:
        group.append(row)
        size += sum(len(value) if isinstance(value, str) else 16 for value in row.values())
        if size >= _ROW_GROUP:
            yield group
            group, size = [], 0
    if group:
        yield group


_EMPTY_LINE: Final = '""'
_WRITERS: Final = {"csv": _write_csv, "jsonl": _write_jsonl, "parquet": _write_parquet}
