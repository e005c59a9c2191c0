"""The background thread of a process that logs: it keeps the next segment ready and the journal synced.

Log calls never wake it (that would be a system call); it looks by itself: often after a segment was used up, then less
and less, and seldom while no events arrive.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue
from typing import Final

from runstream.journal import Journal

__all__ = ["Keeper"]

_LEAST_PAUSE, _MOST_PAUSE = 0.01, 0.1
"""Seconds between two looks while events arrive: a server pays for each, by some hundredths of its logging."""
_IDLE_PAUSE: Final = 0.25


class Keeper:
    """Runs a daemon thread that maintains the journals which ``journals()`` names."""

    def __init__(
        self,
        journals: Callable[[], Iterable[Journal]],
        sync_interval: float,
        vanished: Callable[[Journal], None] = lambda _: None,
        look: Callable[[], None] = lambda: None,
    ) -> None:
        """Both are called in the thread.

        ``vanished`` is told of a journal that somebody has removed from the disk; ``look`` is called again and again.
        """
        self._journals = journals
        self._vanished = vanished
        self._look = look
        self._sync_interval = sync_interval
        self._wake: SimpleQueue[None] = SimpleQueue()  # a signal handler may ask while its own thread asks
        self._stopping = False
        self._tended = threading.Condition()
        self._rounds = 0
        self.error = ""
        """The last failure of a sync or a preparation, empty once one succeeded again."""
        self._thread = threading.Thread(target=self._run, name="runstream-keeper", daemon=True)

    def start(self) -> bool:
        """Start the thread; False where the interpreter no longer starts any."""
        try:
            self._thread.start()
        except RuntimeError:
            return False
        return True

    def stop(self, timeout: float) -> None:
        """Let the thread end; wait for it at most ``timeout`` seconds."""
        self._stopping = True
        self._wake.put(None)
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def sync_now(self, timeout: float | None) -> bool:
        """Have everything synced that was appended before.

        False if that took longer than ``timeout`` seconds, or failed, or no thread is left that could do it.
        """
        journals = list(self._journals())
        if any(journal.interrupted for journal in journals):
            return self._sync_here(journals)
        targets = [(journal, journal.accepted) for journal in journals]
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._tended:
            before = self._rounds
            while any(journal.synced < target for journal, target in targets):
                if self.error and self._rounds > before + 1:  # a round that began before may have failed for its own
                    return False
                left = None if deadline is None else deadline - time.monotonic()
                if (left is not None and left <= 0) or not self._thread.is_alive():
                    return False
                self._wake.put(None)
                self._tended.wait(_IDLE_PAUSE if left is None else min(left, _IDLE_PAUSE))
        return True

    def _sync_here(self, journals: list[Journal]) -> bool:
        """For a signal handler in the middle of a log call: the thread would wait for that call."""
        try:
            for journal in journals:
                journal.sync()
        except OSError:
            return False
        return True

    def _run(self) -> None:
        try:
            self._tend_until_stopped()
        finally:
            for journal in self._journals():
                journal.kept = False

    def _tend_until_stopped(self) -> None:
        last_sync = time.monotonic()
        last_count = -1
        asked = False
        pause = _LEAST_PAUSE
        while not self._stopping:
            count = sum(journal.accepted for journal in self._journals())
            due = time.monotonic() - last_sync >= self._sync_interval
            prepared = self._tend(sync=asked or due)
            self._look()
            if asked or due:
                last_sync = time.monotonic()
            longest = self._longest_pause() if count != last_count or due else _IDLE_PAUSE
            pause = _LEAST_PAUSE if prepared else min(pause * 2, longest, max(self._sync_interval, _LEAST_PAUSE))
            last_count = count
            asked = self._pause(pause)

    def _longest_pause(self) -> float:
        """Seconds between two looks; each journal is looked at several times while its next segment lasts."""
        lasts = min((journal.lasts() for journal in self._journals()), default=_MOST_PAUSE)
        return max(_LEAST_PAUSE, min(_MOST_PAUSE, lasts / 4))

    def _pause(self, seconds: float) -> bool:
        """Wait until somebody asks for a sync, which is the answer, or the time is over."""
        try:
            self._wake.get(timeout=seconds)
        except Empty:
            return False
        with contextlib.suppress(Empty):
            while True:
                self._wake.get_nowait()
        return True

    def _tend(self, *, sync: bool) -> bool:
        """Look after all journals.  Whether a segment was made for one of them."""
        error, prepared = "", False
        for journal in self._journals():
            if journal.directory.vanished():
                self._vanished(journal)
                break
            try:
                prepared |= journal.prepare()
                if sync:
                    journal.sync(journal.prepare)
            except OSError as failure:
                error = str(failure)
        with self._tended:
            if sync or error:
                self.error = error
                self._rounds += sync
            self._tended.notify_all()
        return prepared
