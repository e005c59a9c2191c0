"""What strikes a sink in the middle of its work: a kill, also in the middle of a COMMIT, or a full disk."""

import errno
import os
import random
import sqlite3
from collections.abc import Callable
from typing import Any

from support.journals import Killed
from support.simulation_disk import Disk, Image

__all__ = ["Faults"]


class Faults:
    """One fault at a time, planned by ``fault`` and ``countdown``: it strikes at that many steps from now on."""

    def __init__(
        self, disk: Disk, choice: random.Random, note: Callable[[str], None], others_go_on: Callable[[], None]
    ) -> None:
        self.fault = ""
        """``kill``, ``kill at commit``, ``power`` or ``full``."""
        self.countdown = -1
        self.image: Image | None = None
        """The disk as it was when a sink was killed."""
        self.active = False
        """A sink is at work."""
        self.calm = False
        """Nothing happens any more."""
        self._disk = disk
        self._choice = choice
        self._note = note
        self._others_go_on = others_go_on

    def step(self, what: str) -> None:
        """Is called before each step of a sink that changes something."""
        if not self.active or self.calm:
            return
        if self._choice.random() < 0.02:
            self._others_go_on()
        self.countdown -= 1
        if self.countdown == -1:
            self._strike(what)
        self.countdown = max(self.countdown, -2)

    def statement(self, sql: str, execute: Callable[[], Any]) -> Any:
        """A statement of a sink's connection: what may strike between BEGIN and COMMIT, or in the middle of it."""
        if not self.active or self._disk.dead or sql.startswith(("PRAGMA", "ROLLBACK", "SELECT", "WITH")):
            return execute()
        if sql == "COMMIT" and self.fault == "kill at commit" and self.countdown >= 0:
            self._commit_and_die(execute)
        try:
            self.step(sql.partition("\n")[0][:40])
        except OSError as error:
            raise sqlite3.OperationalError(str(error)) from error
        return execute()

    def _strike(self, what: str) -> None:
        self._note(f"{self.fault} at {what}")
        if self.fault == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._die(self._disk.capture())

    def _die(self, image: Image) -> None:
        self.image, self._disk.dead = image, True
        raise Killed

    def _commit_and_die(self, execute: Callable[[], Any]) -> None:
        """The log of the database has the transaction in whole, in part, or not at all."""
        self.countdown = -1
        before = self._disk.capture()
        execute()
        self._note("kill in COMMIT")
        after = self._disk.capture()
        for number in self._disk.numbers(after, "-wal"):
            after.files[number] = self._mixed(before.files.get(number, b""), after.files[number])
        self._die(after)

    def _mixed(self, old: bytes, new: bytes) -> bytes:
        share, old = self._choice.choice([0.0, 0.5, 1.0]), old.ljust(len(new), b"\0")
        return b"".join(
            (new if self._choice.random() < share else old)[at : at + 512] for at in range(0, len(new), 512)
        )
