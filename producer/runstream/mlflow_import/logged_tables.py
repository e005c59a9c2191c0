"""Tables that MLflow's ``log_table`` wrote: a JSON file in pandas' split form, or Parquet, to columns and rows.

Such a file is written anew as a whole when rows are appended.  So rows are told apart by their places, and a digest
tells whether what was brought is still the beginning of the file.
"""

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from runstream.tables import Block, to_columns
from runstream_schemas.errors import InvalidInputError
from runstream_schemas.values import RowEncoder

__all__ = ["PARQUET", "read_table", "rows_digest", "table_paths"]

PARQUET: Final = ".parquet"
_TAG: Final = "mlflow.loggedArtifacts"


def table_paths(tags: Mapping[str, str]) -> set[str]:
    """Paths of the files that a run's tags call tables."""
    try:
        listed = json.loads(tags.get(_TAG, "[]"))
        return {one["path"] for one in listed if one.get("type") == "table" and isinstance(one["path"], str)}
    except (ValueError, TypeError, KeyError, AttributeError):
        return set()


def read_table(path: Path) -> Block | None:
    """Columns and rows of a file; None if there are none in it that a table could have.

    Raises ModuleNotFoundError where Parquet is to be read, and pyarrow is not there.
    """
    columns, rows = _parquet(path) if path.suffix == PARQUET else _split_form(path)
    return Block(columns, rows) if columns and len(set(columns)) == len(columns) and rows else None


def rows_digest(columns: list[str], rows: Iterable[list[Any]], encoder: RowEncoder) -> bytes:
    """A hash of rows; a cell without a value is none, and a number is what it is worth (1.0 is 1)."""
    total = sha256()
    for row in rows:
        cells = [[column, _plain(value)] for column, value in zip(columns, row, strict=True) if value is not None]
        total.update(encoder.encode_row(sorted(cells, key=lambda cell: cell[0])))
    return total.digest()


def _split_form(path: Path) -> tuple[list[str], list[list[Any]]]:
    try:
        document = json.loads(path.read_bytes())
        columns, rows = document["columns"], document["data"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return [], []
    if not (isinstance(columns, list) and isinstance(rows, list)):
        return [], []
    if not all(isinstance(row, list) and len(row) == len(columns) for row in rows):
        return [], []
    return [column if isinstance(column, str) else json.dumps(column) for column in columns], rows


def _parquet(path: Path) -> tuple[list[str], list[list[Any]]]:
    from pyarrow import ArrowException
    from pyarrow.parquet import read_table as read

    try:
        blocks = to_columns(read(path))
    except (ArrowException, OSError, InvalidInputError):
        return [], []
    return (blocks[0].columns, blocks[0].rows) if blocks else ([], [])


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return int(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(value[key]) for key in sorted(value)}
    return value


_EXACT: Final = 1 << 53
