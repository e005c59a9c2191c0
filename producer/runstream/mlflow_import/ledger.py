"""The ledger: what imports have brought to one stream, in ``imports/ledger.db`` beside its journals.

It knows of each experiment and run what was brought last, and of each run its points, in the order that gave them their
seqs.  A *batch* is what is written together.  It is *open* from the moment when the ledger has it until all of its
journals are published; then it is settled.  Where a process dies in between, the next import takes the batch back, or
ends its publication.
"""

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from runstream.mlflow_import.points import PointSet
from runstream_schemas.errors import EnvironmentUnavailableError

__all__ = ["Entry", "Ledger", "OpenBatch"]

_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE batch (number INTEGER PRIMARY KEY, lead TEXT NOT NULL);
CREATE TABLE entry (
  key TEXT NOT NULL, batch INTEGER NOT NULL, fingerprint BLOB NOT NULL, state BLOB NOT NULL, PRIMARY KEY (key, batch)
) WITHOUT ROWID;
CREATE TABLE points (
  run_id TEXT NOT NULL, first INTEGER NOT NULL, batch INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (run_id, first)
);
"""

_S = TypeVar("_S", bound=Struct)


class Entry(NamedTuple):
    """What is noted of an experiment or a run."""

    fingerprint: bytes
    """Of what the source told of it; empty where it is to be looked at again."""
    state: Struct
    points: tuple[int, PointSet] | None = None
    """Points of the run that are new, and the seq of the first."""


class OpenBatch(NamedTuple):
    """A batch whose publication was begun, perhaps, and not ended."""

    number: int
    lead: str
    """The journal that is published first; empty where any may be."""


class Ledger:
    """One stream's ledger.  Not thread-safe, and for one import at a time.

    Raises `EnvironmentUnavailableError` where the file cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._connection = sqlite3.connect(path, isolation_level=None)
            try:
                self._open()
            except BaseException:
                self._connection.close()
                raise
        except sqlite3.Error as error:
            raise self._unavailable(error) from error

    def _open(self) -> None:
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version > _VERSION:
            raise EnvironmentUnavailableError(f"{self._path} is of a newer version of runstream; upgrade this one")
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        if version < _VERSION:
            self._connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")

    def find(self, key: str, kind: type[_S]) -> tuple[bytes, _S | None]:
        """Fingerprint and state of an experiment or a run; empty and None where there is none."""
        try:
            row = self._connection.execute(
                "SELECT fingerprint, state FROM entry WHERE key = ? ORDER BY batch DESC LIMIT 1", (key,)
            ).fetchone()
        except sqlite3.Error as error:
            raise self._unavailable(error) from error
        return (row[0], msgspec.msgpack.decode(row[1], type=kind)) if row else (b"", None)

    def points(self, run_id: str) -> list[PointSet]:
        """The points of a run, in the order of their seqs."""
        try:
            rows = self._connection.execute("SELECT data FROM points WHERE run_id = ? ORDER BY first", (run_id,))
            return [PointSet.load(data) for (data,) in rows]
        except sqlite3.Error as error:
            raise self._unavailable(error) from error

    def begin(self, lead: str, entries: Mapping[str, Entry]) -> int:
        """Note a batch, whose journals are written and will be published; returns its number."""
        try:
            with self._connection:
                self._connection.execute("BEGIN IMMEDIATE")
                number = int(self._connection.execute("SELECT coalesce(max(batch), 0) + 1 FROM entry").fetchone()[0])
                self._connection.execute("INSERT INTO batch VALUES (?, ?)", (number, lead))
                for key, entry in entries.items():
                    state = msgspec.msgpack.encode(entry.state)
                    row = (key, number, entry.fingerprint, state)
                    self._connection.execute("INSERT INTO entry VALUES (?, ?, ?, ?)", row)
                    if entry.points is not None:
                        first, points = entry.points
                        self._connection.execute(
                            "INSERT INTO points VALUES (?, ?, ?, ?)", (key, first, number, points.dump())
                        )
        except sqlite3.Error as error:
            raise self._unavailable(error) from error
        return number

    def settle(self, number: int) -> None:
        """All journals of a batch are published: forget what its entries were before."""
        self._end(
            number,
            "DELETE FROM entry WHERE batch < :batch AND key IN (SELECT key FROM entry WHERE batch = :batch)",
        )

    def take_back(self, number: int) -> None:
        """No journal of a batch is published, and none will be."""
        self._end(number, "DELETE FROM entry WHERE batch = :batch", "DELETE FROM points WHERE batch = :batch")

    def open_batch(self) -> OpenBatch | None:
        """The batch that is open, if one is."""
        try:
            row = self._connection.execute("SELECT number, lead FROM batch").fetchone()
        except sqlite3.Error as error:
            raise self._unavailable(error) from error
        return OpenBatch(*row) if row else None

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _end(self, number: int, *statements: str) -> None:
        try:
            with self._connection:
                self._connection.execute("BEGIN IMMEDIATE")
                for statement in (*statements, "DELETE FROM batch WHERE number = :batch"):
                    self._connection.execute(statement, {"batch": number})
        except sqlite3.Error as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: sqlite3.Error) -> EnvironmentUnavailableError:
        return EnvironmentUnavailableError(f"the ledger of imports {self._path} cannot be used: {error}")
