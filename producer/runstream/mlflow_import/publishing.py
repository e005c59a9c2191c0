"""Batches of an import: journals that are written aside, noted in the ledger, and published by renaming them.

``imports/pending`` holds the journals of one batch; they move to ``journals`` one by one, the *lead* first, which holds
everything that refers to staged bytes.  Nobody has seen what is pending, so whoever finds it there after a crash knows
what to do: without a batch in the ledger it is removed; with one whose lead is pending too, both are; else the rest is
published.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from runstream.artifacts import Staging
from runstream.mlflow_import.journals import SealedJournal
from runstream.mlflow_import.ledger import Entry, Ledger
from runstream.mlflow_import.mapping import Timed
from runstream_schemas.directories import make_durable, sync_directory
from runstream_schemas.errors import EnvironmentUnavailableError
from runstream_schemas.reader import continuation_name
from runstream_schemas.retention import removed_journals
from runstream_schemas.values import RowEncoder

__all__ = ["Publisher", "exclusive"]

_IMPORTS: Final = "imports"
_PENDING: Final = "pending"
_TOUCH_EVERY: Final = 256


@contextmanager
def exclusive(queue: Path) -> Iterator[None]:
    """Keep other imports away from a queue.  Raises `EnvironmentUnavailableError` where one is at work."""
    place = queue / _IMPORTS
    make_durable(place)
    descriptor = os.open(place / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EnvironmentUnavailableError(f"another import into {queue} is at work; let it end") from None
        yield
    finally:
        os.close(descriptor)


class Publisher:
    """Gathers one batch after the other.  Not thread-safe.

    Raises OSError where the disk refuses, `EnvironmentUnavailableError` where the ledger does.
    """

    def __init__(self, queue: Path, staging: Staging) -> None:
        """Finish, or take back, what an earlier import left."""
        self._queue = queue
        self._journals = queue / "journals"
        self._imports = queue / _IMPORTS
        self._pending = self._imports / _PENDING
        self.scratch = self._imports / "scratch"
        """A directory for files on their way."""
        self._staging = staging
        self._encoder = RowEncoder()
        make_durable(self._journals)
        self.ledger = Ledger(self._imports / "ledger.db")
        self._recover()
        self._removed = set(removed_journals(queue))
        self._clear()

    def _clear(self) -> None:
        self._timed: list[Timed] = []
        self._entries: dict[str, Entry] = {}
        self._names: list[str] = []
        self._staged: list[str] = []
        self.size = 0
        """Experiments and runs in the batch."""

    def add(self, key: str, entry: Entry, timed: list[Timed]) -> None:
        """An experiment or a run: what is to be noted of it, and its events, points and rows aside."""
        self._entries[key] = entry
        self._timed += timed
        self.size += 1

    def stage(self, sha256: str) -> None:
        """Bytes to which an event of the batch refers."""
        self._staged.append(sha256)
        if len(self._staged) % _TOUCH_EVERY == 0:
            self._touch()

    @contextmanager
    def journal(self, producer_id: bytes, first: int) -> Iterator[SealedJournal]:
        """A journal of the batch, to be filled.

        Raises `EnvironmentUnavailableError` if the stream has it already, so that the ledger must have been lost.
        """
        name = continuation_name(producer_id, first)
        if (self._journals / name).exists() or name in self._removed:
            raise EnvironmentUnavailableError(
                f"{self._queue} holds what an import brought, and {self._imports / 'ledger.db'} does not know of it: "
                "it would be there twice; put the file back, or import into a fresh stream"
            )
        journal = SealedJournal(self._pending, producer_id, first)
        yield journal
        journal.close()
        self._names.append(name)

    def publish(self) -> None:
        """Have everything in the batch on the stream, and noted; then begin another one."""
        if not self._entries:
            return
        lead = self._write_lead()
        if self._staged:
            self._touch()
            self._staging.sync_all()
        Staging(self._imports).sync_all()  # what is pending, in one go
        number = self.ledger.begin(lead, self._entries)
        self._rename([lead] if lead else [])
        self._rename(self._names)
        sync_directory(self._journals)
        self.ledger.settle(number)
        self._clear()

    def close(self) -> None:
        """Let go of the ledger.  What was not published is as if it had never been."""
        self.ledger.close()

    def _write_lead(self) -> str:
        """The journal of all events that compete, in the order of their times; those of two runs may be equal."""
        if not self._timed:
            return ""
        journal = SealedJournal(self._pending, os.urandom(16))
        for emit_ts, event in sorted(self._timed, key=lambda timed: timed[0]):
            journal.add(emit_ts, self._encoder.encode(event))
        journal.close()
        return journal.name

    def _touch(self) -> None:
        """Keep retention from staged bytes to which no segment refers yet."""
        for sha256 in self._staged:
            try:
                os.utime(self._staging.path_of(sha256))
            except FileNotFoundError:
                raise EnvironmentUnavailableError(
                    f"bytes staged in {self._staging.root} were removed before their event was written; run the import "
                    "again"
                ) from None

    def _rename(self, names: list[str]) -> None:
        for name in names:
            (self._pending / name).rename(self._journals / name)

    def _recover(self) -> None:
        pending = sorted(path.name for path in self._pending.iterdir()) if self._pending.is_dir() else []
        batch = self.ledger.open_batch()
        if batch is not None:
            if batch.lead in pending:
                self.ledger.take_back(batch.number)
            else:
                self._rename(pending)
                sync_directory(self._journals)
                self.ledger.settle(batch.number)
        shutil.rmtree(self._pending, ignore_errors=True)
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir()
