"""The journal on a disk that is full, or fails, or is slow."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from runstream.filesystem import Buffer, Filesystem
from runstream.journal import Journal
from runstream_schemas.reader import JournalReader, journal_names
from support.journals import Abort, FaultyFilesystem, bodies, journal_path, make_journal, read_all


@pytest.fixture
def disk() -> FaultyFilesystem:
    """A disk that works until it is told to fail."""
    return FaultyFilesystem()


@pytest.fixture
def journal(tmp_path: Path, disk: FaultyFilesystem) -> Iterator[Journal]:
    """A journal with small segments."""
    one = make_journal(tmp_path, disk)
    yield one
    disk.calm()
    one.close()


def test_a_refusal_is_not_tried_again_at_every_call(journal: Journal, disk: FaultyFilesystem) -> None:
    """Without a background thread once a second, with one never."""
    disk.full = True
    assert journal.append(bytes(70_000)) == "disk"
    calls = len(disk.calls)
    assert journal.append(bytes(70_000)) == "disk"
    journal.kept = True
    journal._refused_at = 0
    assert journal.append(bytes(70_000)) == "disk"
    assert len(disk.calls) == calls
    assert journal.stalls == 1
    disk.full = False
    journal.prepare()
    assert journal.append(bytes(70_000)) is None


def test_a_full_disk_leaves_no_file_behind(journal: Journal, disk: FaultyFilesystem, tmp_path: Path) -> None:
    """And what fits in the present segment is still taken."""
    disk.fail(OSError(errno.EIO, "rename"), 1)
    journal.prepare()
    disk.full = True
    journal.prepare()
    assert [path.name for path in journal_path(tmp_path, journal).iterdir()] in (
        ["lock", "0000000000.seg"],
        ["0000000000.seg", "lock"],
    )
    assert journal.append(b"fits") is None


@pytest.mark.parametrize("after", range(8))
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_an_exception_anywhere_in_a_roll_loses_nothing(
    journal: Journal, disk: FaultyFilesystem, tmp_path: Path, after: int, share: float
) -> None:
    """The journal goes on in one of the two segments, and a reader finds out in which."""
    journal.prepare()
    while journal._position + 1_024 <= journal._capacity:
        journal.append(bytes(1_000))
    accepted = journal.accepted
    disk.fail_store(Abort(), after, share)
    with_exception = False
    try:
        journal.append(bytes(1_000))
    except Abort:
        with_exception = True
    disk.calm()
    assert with_exception == (after < 5)
    later = [os.urandom(10) for _ in range(10)]
    assert [journal.append(body) for body in later] == [None] * 10
    journal.sync()
    path = journal_path(tmp_path, journal)
    reader = JournalReader(path)
    records, holes = read_all(reader)
    reader.close()
    assert bodies(records)[:accepted] == [bytes(1_000)] * accepted
    assert bodies(records)[-10:] == later
    assert all(hole.reason == "abandoned" for hole in holes)


def test_a_close_that_fails_releases_the_journal_all_the_same(tmp_path: Path, disk: FaultyFilesystem) -> None:
    """And its nested journal, too: what was accepted is read."""
    journal = make_journal(tmp_path, disk)
    journal.append(b"outer")
    with journal._lock:
        journal._busy = True
        assert journal.append(b"inner") is None
        journal._busy = False
    disk.fail(OSError(errno.EIO, "sync"), 0)
    with pytest.raises(OSError, match="sync"):
        journal.close()
    assert not disk._open
    found = []
    for name in journal_names(tmp_path / "journals"):
        reader = JournalReader(tmp_path / "journals" / name)
        found += bodies(read_all(reader)[0])
        assert reader.position.done
        reader.close()
    assert sorted(found) == [b"inner", b"outer"]


def test_synced_says_what_survives_the_machine(journal: Journal, disk: FaultyFilesystem) -> None:
    """Only what the disk has said yes to: records, and new files."""
    journal.append(b"a")
    assert (journal.accepted, journal.synced) == (1, 0)
    disk.fail(OSError(errno.EIO, "broken"), 0)
    with pytest.raises(OSError, match="broken"):
        journal.sync()
    assert journal.synced == 0
    disk.calls.clear()
    journal.sync()
    assert journal.synced == 1
    assert sorted(disk.calls) == ["sync", *["sync_directory"] * 4], "the journal's, and those of what lies around it"
    disk.calls.clear()
    journal.sync()
    assert disk.calls == []


def test_a_new_segment_is_entered_in_the_directory_before_its_events_count_as_synced(
    journal: Journal, disk: FaultyFilesystem
) -> None:
    """Although there was a sync between its making and its first event."""
    journal.append(b"a")
    journal.sync()
    journal.prepare()
    journal.sync()
    disk.calls.clear()
    while journal._current.index == 0:
        journal.append(bytes(1_000))
    journal.sync()
    assert disk.calls.count("sync_directory") == 1
    assert journal.synced == journal.accepted


def test_segments_that_are_full_are_let_go_of_once_they_are_synced(journal: Journal, disk: FaultyFilesystem) -> None:
    """Those whose sync failed stay."""
    for _ in range(300):
        journal.append(bytes(1_000))
    held = len(disk._open)
    disk.fail(OSError(errno.EIO, "broken"), 2)
    with pytest.raises(OSError, match="broken"):
        journal.sync()
    assert len(disk._open) == held - 1
    journal.sync()
    assert len(disk._open) == 2
    assert journal.synced == 300


def test_a_sync_does_not_count_the_event_that_it_interrupts(journal: Journal, tmp_path: Path) -> None:
    """A signal handler that syncs in the middle of a log call cannot know whether its bytes are there."""
    journal.append(b"a")
    with journal._lock:
        journal._busy = True
        journal._next_seq = 2
        assert journal.interrupted
        journal.sync()
        journal._busy = False
        journal._next_seq = 1
    assert journal.synced == 1
    assert not journal.interrupted


@pytest.mark.parametrize(("late", "indices"), [("allocate", [0, 1, 2]), ("rename", [0, 2, 3])])
def test_a_segment_that_was_prepared_late_comes_behind_those_that_log_calls_made(
    tmp_path: Path, late: str, indices: list[int]
) -> None:
    """Indices rise, whenever a log call could not wait; nothing that was prepared is thrown away for that."""

    class Slow(Filesystem):
        """Lets a log call come in between, once."""

        armed = False

        def allocate(self, path: Path, size: int) -> tuple[int, Buffer]:
            made = super().allocate(path, size)
            self.come("allocate")
            return made

        def rename(self, source: Path, target: Path) -> None:
            super().rename(source, target)
            self.come("rename")

        def come(self, where: str) -> None:
            if self.armed and where == late:
                self.armed = False
                assert journal.append(bytes(70_000)) is None

    disk = Slow()
    journal = make_journal(tmp_path, disk)
    disk.armed = True
    journal.prepare()
    assert not disk.armed
    path = journal_path(tmp_path, journal)
    assert {name.name for name in path.iterdir()} == {"lock", *(f"{index:010d}.seg" for index in indices)}
    assert journal._spare is not None
    assert journal._spare.index == indices[-1]
    while journal._spare is not None:
        journal.append(bytes(10_000))
    journal.append(b"last")
    journal.close()
    reader = JournalReader(path)
    records, holes = read_all(reader)
    reader.close()
    assert {len(body) for body in bodies(records)} == {70_000, 10_000, 4}
    assert ([seq for seq, _, _ in records], holes) == (list(range(len(records))), [])


@pytest.mark.parametrize("fails", [2, 3])
def test_a_late_segment_that_cannot_be_renamed_is_gone(tmp_path: Path, fails: int) -> None:
    """Whichever of its renames fails: the journal goes on without it, and leaves nothing behind."""

    class Failing(Filesystem):
        """Lets a log call come in behind the first rename, and fails at another."""

        renames = -100

        def rename(self, source: Path, target: Path) -> None:
            self.renames += 1
            if self.renames == fails + 1:  # the second is that of the log call's own segment
                raise OSError(errno.EIO, "broken")
            super().rename(source, target)
            if self.renames == 1:
                assert journal.append(bytes(70_000)) is None

    disk = Failing()
    journal = make_journal(tmp_path, disk)
    disk.renames = 0
    journal.prepare()
    assert disk.renames == fails + 1
    assert journal._spare is None
    path = journal_path(tmp_path, journal)
    assert {name.name for name in path.iterdir()} == {"lock", "0000000000.seg", "0000000002.seg"}
    journal.prepare()
    assert journal._spare is not None
    journal.close()
    reader = JournalReader(path)
    assert [len(body) for body in bodies(read_all(reader)[0])] == [70_000]
    reader.close()


def test_segments_are_prepared_between_full_ones_that_are_synced(tmp_path: Path) -> None:
    """Many full segments take the disk longer than the next one lasts."""
    journal = make_journal(tmp_path)
    for _ in range(4):
        journal.append(bytes(70_000))
    between = []
    journal.sync(lambda: between.append((journal.synced, journal.prepare())))
    assert [synced for synced, _ in between] == [0] * 4
    assert [made for _, made in between] == [True, False, False, False]
    assert journal.synced == 4
    journal.close()


def test_a_journal_that_nobody_can_lock_is_not_made(tmp_path: Path) -> None:
    """The lock is exclusive."""
    path = tmp_path / "lock"
    first = Filesystem().lock(path)
    with pytest.raises(BlockingIOError):
        Filesystem().lock(path)
    os.close(first)


def test_allocating_leaves_nothing_behind_on_failure(tmp_path: Path) -> None:
    """A file larger than the file system, say."""
    with pytest.raises(OSError, match=r".+"):
        Filesystem().allocate(tmp_path / "huge", 1 << 62)
    assert list(tmp_path.iterdir()) == []
