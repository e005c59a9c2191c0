"""Lifecycles and statuses as MLflow numbers and names them; what it does not know means nothing, as there."""

from typing import Any, Final

from runstream_schemas.events import RUN_STATUSES

__all__ = ["status_of", "view_of"]

_VIEWS: Final = {"ACTIVE_ONLY": "active", "DELETED_ONLY": "deleted", "ALL": "all"}
_NUMBERS: Final = {1: "active", 2: "deleted", 3: "all"}
_STATUSES: Final = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}


def view_of(value: Any) -> str | None:
    """``active``, ``deleted`` or ``all``."""
    return _VIEWS.get(value) if isinstance(value, str) and not value.isdecimal() else _numbered(_NUMBERS, value)


def status_of(value: Any) -> str | None:
    """A run's status.  Raises ValueError for a number that is none's."""
    if isinstance(value, str) and not value.isdecimal():
        return value if value in RUN_STATUSES else None
    status = _numbered(_STATUSES, value)
    if status is None and not isinstance(value, str):
        raise ValueError
    return status


def _numbered(names: dict[int, str], value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError
    return names.get(int(value))
