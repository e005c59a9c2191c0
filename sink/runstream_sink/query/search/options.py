"""What else a search is given: which lifecycle, and how many rows."""

from runstream_schemas.errors import InvalidInputError

__all__ = ["checked_lifecycle", "checked_limit"]


def checked_lifecycle(lifecycle: str) -> str | None:
    """``active`` or ``deleted``; None for ``all``.  Raises `InvalidInputError` for anything else."""
    if lifecycle not in {"active", "deleted", "all"}:
        raise InvalidInputError(f"lifecycle {lifecycle!r:.50} is none of active, deleted and all")
    return None if lifecycle == "all" else lifecycle


def checked_limit(limit: int) -> int:
    """The limit.  Raises `InvalidInputError` if it is below 1."""
    if limit < 1:
        raise InvalidInputError(f"the limit {limit} is below 1")
    return limit
