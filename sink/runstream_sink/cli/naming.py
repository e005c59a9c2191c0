"""Runs by what a person types: an id, or its beginning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from runstream_schemas.errors import InvalidInputError

if TYPE_CHECKING:
    from runstream_sink.store.protocol import StoreReader

__all__ = ["find_run"]

_MOST_NAMED: Final = 5


async def find_run(reader: StoreReader, prefix: str) -> str:
    """The id of the run that begins with ``prefix``.

    Raises `NotFoundError` if there is none, `InvalidInputError` if there are several.
    """
    from runstream_sink.query.records import NotFoundError

    if not prefix:
        raise InvalidInputError("a run's id is empty; see `runstream runs list`")
    rows = await reader.fetch("runs_by_prefix", prefix=prefix, limit=_MOST_NAMED + 1)
    found = [run_id for (run_id,) in rows]
    if not found:
        raise NotFoundError(f"there is no run {prefix!r:.100}; see `runstream runs list`")
    if len(found) > 1:
        named = ", ".join(found[:_MOST_NAMED]) + (", ..." if len(found) > _MOST_NAMED else "")
        raise InvalidInputError(f"several runs begin with {prefix!r}: {named}; write more digits")
    return str(found[0])
