"""Tables: what ``log_table``, ``log_prediction`` and ``log_predictions`` take, as columns and rows, and as events.

A table is given as one of

* a dict of columns.  A column is a list, a tuple, a range, a Series, an array (along its first axis) or another
  collection of values; all columns have one length.  Any other value, text and dicts among them, is a single cell:
  beside columns it is repeated in each row, alone it makes a table of one row.  As in MLflow, except that MLflow makes
  one row of lists from columns of different lengths, where this raises.
* a list (or other iterable) of rows, each a dict of cells.  A key that a row lacks leaves the cell empty, as None does
  not: its column is not named in that row's event.
* a DataFrame of pandas (missing values in columns that are not floats are None; the index is left out) or polars, or
  a Table or RecordBatch of pyarrow.

Column names that are no text become their ``str()``.  None of these libraries is imported here.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence, ValuesView
from collections.abc import Set as AbstractSet
from typing import Any, Final, NamedTuple

from msgspec import Raw

from runstream.claims import Claims
from runstream_schemas.errors import InvalidInputError
from runstream_schemas.events import RowsLogged, encode_event
from runstream_schemas.values import RowEncoder, to_text

__all__ = ["EVENT_LIMIT", "Block", "predictions", "split", "to_columns"]

EVENT_LIMIT: Final = 256 << 10
"""Bytes of one event of rows, unless a single row is larger."""

_TEXT: Final = frozenset({str})
_ARRAY_HEADER: Final = 5
_COLUMN_TYPES: Final = (list, tuple, range, deque, ValuesView, AbstractSet, Iterator)
_HELP: Final = "pass a dict of columns, a list of dicts (one a row), a pandas or polars DataFrame or a pyarrow Table"


class Block(NamedTuple):
    """Rows with the same columns; each row is as long as ``columns``."""

    columns: list[str]
    rows: list[list[Any]]


def to_columns(data: Any) -> list[Block]:
    """The rows of a table in their order, consecutive ones with the same keys together; nothing where there are none.

    Raises `InvalidInputError`, saying what to pass, if the data is none of what the module's docstring lists, if
    columns differ in length, or if two columns have the same name.
    """
    if isinstance(data, Mapping):
        return _table(_column_names(data), _align(data))
    frame = _frame_columns(data)
    if frame is not None:
        names, columns = frame
        return _table(_column_names(names), columns)
    if isinstance(data, str | bytes | bytearray) or not isinstance(data, Iterable):
        raise InvalidInputError(f"a table cannot be made from {type(data).__name__}; {_HELP}")
    return _group(data)


def predictions(inputs: Any, outputs: Any, prompts: Any = None) -> dict[str, list[Any]]:
    """The columns of MLflow's ``log_predictions``: ``inputs``, ``outputs`` and ``prompts``, one row a prediction.

    Each argument is a list with one item, text or a dict, for each prediction.  As in MLflow a dict stays one cell
    (JSON).  Prompts may be left out, and so is their column then.  Raises `InvalidInputError` for anything but lists of
    one length.
    """
    given = {"inputs": inputs, "outputs": outputs, "prompts": prompts}
    columns: dict[str, list[Any]] = {}
    for name, column in given.items():
        if name == "prompts" and column is None:
            continue
        values = _values(column)
        if values is None:
            raise InvalidInputError(f"{name} must be a list with one item a prediction, not {type(column).__name__}")
        columns[name] = values
    _check_lengths(columns)
    return columns


def split(
    run_id: str,
    table: str,
    columns: list[str],
    rows: Sequence[list[Any]],
    encoder: RowEncoder,
    limit: int = EVENT_LIMIT,
    claims: Claims | None = None,
) -> Iterator[bytes]:
    """Encode rows as events of at most ``limit`` bytes each; a single row that is larger is an event of its own.

    Rows above the size of ``claims`` are encoded by it, or left out where it says so.  No rows give no event.
    """
    if len(rows) == 1:
        body = encoder.encode(RowsLogged(run_id, table, columns, list(rows)))
        if claims is None or len(body) <= claims.size:
            yield body
            return
    room = limit - len(encode_event(RowsLogged(run_id, table, columns, []))) - _ARRAY_HEADER
    waiting: list[Any] = []
    size = 0
    for row in rows:
        encoded: bytes | None = encoder.encode_row(row)
        if claims is not None and encoded is not None and len(encoded) > claims.size:
            encoded = claims.encode_row(row)
        if encoded is None:
            continue
        if waiting and size + len(encoded) > room:
            yield encode_event(RowsLogged(run_id, table, columns, waiting))
            waiting, size = [], 0
        waiting.append(Raw(encoded))
        size += len(encoded)
    if waiting:
        yield encode_event(RowsLogged(run_id, table, columns, waiting))


def _table(names: list[str], columns: list[list[Any]]) -> list[Block]:
    rows = [list(row) for row in zip(*columns, strict=True)]
    return [Block(names, rows)] if rows else []


def _column_names(names: Iterable[Any]) -> list[str]:
    texts = [name if type(name) is str and name.isascii() else to_text(name) for name in names]
    if len(set(texts)) != len(texts):
        twice = next(text for text in texts if texts.count(text) > 1)
        raise InvalidInputError(f"the table has two columns named {twice!r:.100}; name each column once")
    return texts


def _align(data: Mapping[Any, Any]) -> list[list[Any]]:
    """The columns of a dict of columns, single cells repeated."""
    columns = {name: _values(value) for name, value in data.items()}
    lengths = _check_lengths({name: values for name, values in columns.items() if values is not None})
    count = lengths if lengths is not None else 1
    return [[data[name]] * count if values is None else values for name, values in columns.items()]


def _check_lengths(columns: Mapping[Any, list[Any]]) -> int | None:
    """The length that all columns have; None where there are none."""
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{to_text(name):.50} has {length}" for name, length in list(lengths.items())[:10])
        raise InvalidInputError(f"all columns must have the same number of values: {found}")
    return next(iter(lengths.values()), None)


def _values(column: Any) -> list[Any] | None:
    """The values of a column; None for what is a single cell."""
    if isinstance(column, _COLUMN_TYPES):
        return list(column)
    kind = type(column)
    if getattr(column, "ndim", 1) == 0:
        return None
    for method in ("tolist", "to_list", "to_pylist"):  # numpy and pandas, polars, pyarrow
        if callable(getattr(kind, method, None)):
            values = getattr(column, method)()
            return values if isinstance(values, list) else None
    return None


def _frame_columns(data: Any) -> tuple[Iterable[Any], list[list[Any]]] | None:
    """Names and values of the columns of a DataFrame or Table; None for anything else."""
    kind = type(data)
    if hasattr(kind, "iloc") and hasattr(kind, "columns"):  # pandas
        return data.columns.tolist(), [_series_values(data.iloc[:, index]) for index in range(data.shape[1])]
    if hasattr(kind, "get_columns"):  # polars
        return data.columns, [column.to_list() for column in data.get_columns()]
    if hasattr(kind, "to_pydict"):  # pyarrow
        return data.schema.names, [column.to_pylist() for column in data.columns]
    return None


def _series_values(series: Any) -> list[Any]:
    values: list[Any] = series.tolist()
    if getattr(series.dtype, "kind", "O") in "biufc":
        return values
    return [None if missing else value for value, missing in zip(values, series.isna().tolist(), strict=True)]


def _group(rows: Iterable[Any]) -> list[Block]:
    blocks: list[Block] = []
    keys: list[Any] = []
    known: set[Any] = set()
    for row in rows:
        if not isinstance(row, Mapping):
            raise InvalidInputError(
                f"a row must be a dict of column names and values, not {type(row).__name__}; {_HELP}"
            )
        if not blocks or row.keys() != known:
            keys, known = list(row), set(row)
            if not keys:
                raise InvalidInputError("a row must have at least one column; pass a dict of column names and values")
            blocks.append(Block(_column_names(keys), []))
        blocks[-1].rows.append([row[key] for key in keys])
    return blocks
