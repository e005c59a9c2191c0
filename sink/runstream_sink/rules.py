"""What the appliers of all events share: what must hold of their fields, and who wins where events compete."""

from collections.abc import Sequence
from typing import Any, Final

from runstream_schemas.errors import InvalidInputError
from runstream_schemas.events import RUN_STATUSES
from runstream_schemas.names import is_experiment_id, is_run_id
from runstream_sink.changes import Changes

__all__ = [
    "INT64",
    "MAX_ROWS",
    "check_columns",
    "check_experiment",
    "check_point",
    "check_rows",
    "check_status",
    "check_time",
    "keep_first",
    "keep_last",
    "touch_run",
]

INT64: Final = 1 << 63
"""Integers that a store holds are below it, and not below its negative."""

MAX_ROWS: Final = 1 << 20
"""Rows of one event.  Each takes some hundred bytes more than its values on its way into a file; our producers begin
another event at 256 KiB."""


def touch_run(changes: Changes, run_id: str) -> None:
    """Note that an event names a run.  Raises `InvalidInputError` for what is no run id."""
    if run_id not in changes.run_ids:
        if not is_run_id(run_id):
            raise InvalidInputError(f"run id {run_id!r:.80} is not 32 lower-case hexadecimal digits")
        changes.run_ids.add(run_id)


def check_experiment(experiment_id: str) -> None:
    """Raise `InvalidInputError` for what is no experiment id."""
    if not is_experiment_id(experiment_id):
        raise InvalidInputError(f"experiment id {experiment_id!r:.80} is not a decimal number below 2**63")


def check_status(status: str) -> None:
    """Raise `InvalidInputError` for what is no status of a run."""
    if status not in RUN_STATUSES:
        raise InvalidInputError(f"run status {status!r:.80} is none of {', '.join(RUN_STATUSES)}")


def check_time(milliseconds: int) -> None:
    """Raise `InvalidInputError` for milliseconds that no store holds."""
    if not -INT64 <= milliseconds < INT64:
        raise InvalidInputError(f"time {milliseconds} does not fit into 64 bits")


def check_point(step: int, timestamp: int) -> None:
    """Raise `InvalidInputError` for a step or timestamp that no store holds."""
    if not (-INT64 <= step < INT64 and -INT64 <= timestamp < INT64):
        raise InvalidInputError(f"step {step} or timestamp {timestamp} does not fit into 64 bits")


def check_rows(table: str, width: int, rows: Sequence[Sequence[Any]]) -> None:
    """Raise `InvalidInputError` for rows that do not fit into a table of ``width`` columns."""
    if len(rows) > MAX_ROWS:
        raise InvalidInputError(f"{len(rows)} rows of table {table!r} in one event; it can have {MAX_ROWS}")
    if set(map(len, rows)) - {width}:
        raise InvalidInputError(f"a row of table {table!r} has another number of values than its {width} columns")


def check_columns(table: str, columns: Sequence[str]) -> None:
    """Raise `InvalidInputError` for columns that make no table."""
    if len(set(columns)) != len(columns):
        raise InvalidInputError(f"a column of table {table!r} is named twice")


def keep_first(values: dict[Any, Any], key: Any, value: Any) -> None:
    """Keep the value with the least order."""
    held = values.get(key)
    if held is None or value[0] < held[0]:
        values[key] = value


def keep_last(values: dict[Any, Any], key: Any, value: Any) -> None:
    """Keep the value with the greatest order."""
    held = values.get(key)
    if held is None or value[0] > held[0]:
        values[key] = value
