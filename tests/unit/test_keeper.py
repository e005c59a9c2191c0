"""The background thread: it prepares, it syncs, and it survives what fails."""

import errno
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runstream.journal import Journal
from runstream.keeper import Keeper
from support.journals import FaultyFilesystem, make_journal


class Gate(FaultyFilesystem):
    """A disk whose syncs wait until they may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = threading.Event()
        self.opened.set()
        self.entered = threading.Event()
        self.broken = False

    def sync(self, descriptor: int) -> None:
        """Wait, then sync."""
        self.entered.set()
        assert self.opened.wait(60)
        if self.broken:
            raise OSError(errno.EIO, "the disk is broken")
        super().sync(descriptor)


@pytest.fixture
def disk() -> Gate:
    """A disk that can be stopped."""
    return Gate()


@pytest.fixture
def journal(tmp_path: Path, disk: Gate) -> Iterator[Journal]:
    """A journal on it."""
    one = make_journal(tmp_path, disk)
    yield one
    disk.opened.set()
    disk.broken = False
    one.close()


def until(condition: Callable[[], bool]) -> None:
    """Wait for it, and fail after half a minute."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_the_next_segment_is_prepared_and_what_is_there_is_synced(journal: Journal) -> None:
    """Without being asked."""
    keeper = Keeper(lambda: [journal], 0.01)
    assert keeper.start()
    journal.append(b"x")
    until(lambda: journal._spare is not None and journal.synced == 1)
    keeper.stop(10)
    assert keeper.error == ""


def test_what_was_appended_is_synced_when_asked(journal: Journal) -> None:
    """However long the interval is."""
    keeper = Keeper(lambda: [journal], 3_600)
    keeper.start()
    for number in range(1, 4):
        journal.append(b"x")
        assert keeper.sync_now(30)
        assert journal.synced == number
    assert keeper.sync_now(None)
    keeper.stop(10)


def test_waiting_for_a_sync_ends_at_the_timeout(journal: Journal, disk: Gate) -> None:
    """The events stay where they are."""
    disk.opened.clear()
    keeper = Keeper(lambda: [journal], 3_600)
    keeper.start()
    journal.append(b"x")
    assert not keeper.sync_now(0.01)
    assert not keeper.sync_now(0)
    disk.opened.set()
    assert keeper.sync_now(30)
    keeper.stop(10)


def test_waiting_for_a_sync_ends_when_the_disk_is_broken(journal: Journal, disk: Gate) -> None:
    """Even without a timeout; the error is there to be read, until a sync succeeds."""
    disk.broken = True
    keeper = Keeper(lambda: [journal], 3_600)
    keeper.start()
    journal.append(b"x")
    assert not keeper.sync_now(None)
    assert "the disk is broken" in keeper.error
    disk.broken = False
    assert keeper.sync_now(30)
    assert keeper.error == ""
    keeper.stop(10)


def test_without_a_thread_nobody_waits(journal: Journal) -> None:
    """One that was stopped, or never started."""
    keeper = Keeper(lambda: [journal], 0.01)
    journal.append(b"x")
    assert not keeper.sync_now(None)
    keeper.start()
    keeper.stop(10)
    journal.append(b"y")
    assert not keeper.sync_now(None)
    keeper.stop(10)


def test_a_journal_whose_thread_ends_helps_itself(journal: Journal) -> None:
    """A log call then tries again after a refusal."""
    keeper = Keeper(lambda: [journal], 0.01)
    keeper.start()
    journal.kept = True
    keeper.stop(10)
    assert not journal.kept


def test_a_thread_that_cannot_start_is_no_error(journal: Journal) -> None:
    """As at the end of an interpreter."""
    keeper = Keeper(lambda: [journal], 0.01)
    assert keeper.start()
    assert not keeper.start()
    keeper.stop(10)


def test_a_signal_handler_in_a_log_call_may_wait_for_a_sync(journal: Journal, disk: Gate) -> None:
    """The thread would wait for the very call that it interrupts."""
    keeper = Keeper(lambda: [journal], 3_600)
    keeper.start()
    journal.append(b"x")
    with journal._lock:
        journal._busy = True
        disk.entered.clear()
        assert keeper.sync_now(None)
        assert disk.entered.is_set()
        disk.broken = True
        assert not keeper.sync_now(None)
        journal._busy = False
    keeper.stop(10)


def test_a_sync_in_the_thread_does_not_hold_up_log_calls(journal: Journal, disk: Gate) -> None:
    """Nor a sync or a close in another thread, beyond the disk itself."""
    disk.opened.clear()
    keeper = Keeper(lambda: [journal], 3_600)
    keeper.start()
    journal.append(b"x")
    disk.entered.clear()
    waiting = threading.Thread(target=keeper.sync_now, args=(30,))
    waiting.start()
    assert disk.entered.wait(60)
    for _ in range(100):
        assert journal.append(bytes(1_000)) is None
    other = threading.Thread(target=journal.sync)
    other.start()
    assert journal.append(b"still") is None
    disk.opened.set()
    waiting.join(60)
    other.join(60)
    assert keeper.sync_now(30)
    assert journal.synced == journal.accepted == 102
    keeper.stop(10)


def test_a_keeper_can_be_stopped_from_its_own_thread(journal: Journal) -> None:
    """A destructor that runs there may close everything."""
    keeper = Keeper(lambda: [journal], 0.01)
    stopped = threading.Event()

    def journals() -> list[Journal]:
        if threading.current_thread() is keeper._thread:
            keeper.stop(10)
            stopped.set()
        return [journal]

    keeper._journals = journals
    keeper.start()
    assert stopped.wait(60)
    keeper.stop(10)
