"""The integers that stand for run ids, keys and producers in the rows that are many."""

import sqlite3
from collections.abc import Iterable
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec

from runstream_sink.store.lru import LruCache
from runstream_sink.store.statements import SQL

__all__ = ["IdCache", "Resolved", "wanted"]

K = TypeVar("K", str, bytes)

_json: Final = msgspec.json.Encoder().encode


class Resolved(NamedTuple, Generic[K]):
    """The integers of names."""

    ids: dict[K, int]
    new: dict[K, int]
    """Those that no row has yet, in ascending order of the names."""


class IdCache(Generic[K]):
    """The integers of one kind (``run``, ``key`` or ``producer``) that were used last.

    What a transaction resolves is remembered by ``commit`` only, so that one that fails leaves nothing behind.
    """

    def __init__(self, kind: str, capacity: int) -> None:
        self._find = SQL[f"find_{kind}s"]
        self._last = SQL[f"last_{kind}"]
        self._cache: LruCache[K, int] = LruCache(capacity)
        self._pending: dict[K, int] = {}

    def resolve(self, connection: sqlite3.Connection, names: Iterable[K]) -> Resolved[K]:
        """The integers of ``names``; a name without a row is given the next one."""
        ids, missing = self._cache.find(names)
        new: dict[K, int] = {}
        if missing:
            found: dict[K, int] = dict(connection.execute(self._find, (wanted(missing),)))
            fresh = sorted(name for name in missing if name not in found)
            if fresh:
                (last,) = connection.execute(self._last).fetchone()
                new = {name: number for number, name in enumerate(fresh, last + 1)}
            self._pending = found | new
            ids |= self._pending
        return Resolved(ids, new)

    def commit(self) -> None:
        """Remember what was resolved: its transaction is committed."""
        self._cache.update(self._pending)
        self._pending = {}

    def rollback(self) -> None:
        """Forget what was resolved: its transaction is gone."""
        self._pending = {}


def wanted(names: Iterable[Any]) -> str:
    """A parameter for ``json_each``: one statement looks all of ``names`` up.  Bytes become hexadecimal text."""
    return _json([name.hex() if isinstance(name, bytes) else name for name in names]).decode()
