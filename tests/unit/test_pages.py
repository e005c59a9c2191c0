"""Pages of a new segment that are brought into memory before log calls store into them."""

import errno
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import ClassVar

import pytest

from runstream.filesystem import Filesystem
from runstream.journal import Clock
from runstream.journal_directory import Segment
from runstream.pages import fitting_size, is_much, sync_in_use
from support.journals import FaultyFilesystem, make_journal
from support.open_files import open_files

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("size", "nanoseconds", "much"),
    [
        (256 << 10, SECOND, True),
        (255 << 10, SECOND, False),
        (16 << 20, 64 * SECOND, True),
        (1, 3600 * SECOND, False),
        (0, 1, False),
        (1 << 20, 0, True),
        (1 << 20, -SECOND, True),
    ],
)
def test_pages_are_made_before_where_much_is_logged(size: int, nanoseconds: int, much: bool) -> None:
    """A clock that was set back does no harm."""
    assert is_much(size, nanoseconds) is much


@pytest.mark.parametrize(
    ("size", "nanoseconds", "fitting"),
    [
        (0, 1, 4 << 20),
        (16 << 20, SECOND, 4 << 20),
        (64 << 20, SECOND, 16 << 20),
        (64 << 20, SECOND // 2, 32 << 20),
        (64 << 20, 60 * SECOND, 4 << 20),
        (1 << 20, -SECOND, (1 << 20) * SECOND // 4),
    ],
)
def test_a_segment_lasts_a_quarter_of_a_second_unless_that_is_very_small(
    size: int, nanoseconds: int, fitting: int
) -> None:
    """The journal has a limit for it besides."""
    assert fitting_size(size, nanoseconds) == fitting


@pytest.mark.parametrize("size", [10_000, 64 << 10, 200_000])
def test_a_file_is_filled_to_its_end_at_most(tmp_path: Path, size: int) -> None:
    """With what an empty file holds: zeros."""
    filesystem = Filesystem()
    descriptor, buffer = filesystem.allocate(tmp_path / "file", size)
    filesystem.fill(descriptor, size)
    assert buffer[0:size] == bytes(size)
    assert os.fstat(descriptor).st_size == size
    buffer.close()
    filesystem.close(descriptor)


MUCH_AT_ONCE = """
import sys
from pathlib import Path
from support.journals import make_journal
journal = make_journal(Path(sys.argv[1]))
while journal.stalls < 5:
    assert journal.append(bytes(1_000)) is None
print(*sys.modules)
journal.prepare()
print(*sys.modules)
journal.close()
"""


def test_a_log_call_that_makes_a_segment_imports_nothing(tmp_path: Path) -> None:
    """It holds the journal's lock, for which a destructor within the import may be waiting in another thread."""
    run = [sys.executable, "-c", MUCH_AT_ONCE, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(run, capture_output=True, text=True, env=environment, check=True)
    of_log_calls, of_background_thread = (set(line.split()) for line in ended.stdout.splitlines())
    assert of_background_thread - of_log_calls >= {"ctypes"}


def test_a_kernel_that_cannot_fill_a_file_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before Linux 6.5 it sends nothing from /dev/zero."""

    def refuse(*_: object) -> int:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "sendfile", refuse)
    filesystem, open_before = Filesystem(), open_files(Path("/dev/zero"))
    descriptor, buffer = filesystem.allocate(tmp_path / "file", 10_000)
    filesystem.fill(descriptor, 10_000)
    assert buffer[0:10_000] == bytes(10_000)
    assert open_files(Path("/dev/zero")) == open_before
    buffer.close()
    filesystem.close(descriptor)


def test_a_populated_mapping_is_stored_into_without_a_fault(tmp_path: Path) -> None:
    """Where the kernel can do that; it may have to be asked again, as it writes pages out when it likes."""
    filesystem = advising()
    size = 1 << 20
    faults = []
    while len(faults) < 10 and 0 not in faults:
        descriptor, buffer = filesystem.allocate(tmp_path / f"{len(faults)}", size)
        able = filesystem.populate(buffer)
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
        for offset in range(0, size, 4096):
            buffer[offset : offset + 1] = b"x"
        faults.append(resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before)
        buffer.close()
        filesystem.close(descriptor)
        if not able:
            pytest.skip("this kernel cannot populate a mapping")
    assert 0 in faults, faults


def test_segments_are_filled_before_anybody_sees_them_while_much_is_logged(tmp_path: Path) -> None:
    """Not at the beginning, when nobody knows, and no longer when hardly anything is logged any more."""
    disk, clock = FaultyFilesystem(), Clock()
    journal = make_journal(tmp_path, disk, clock)
    able = can_populate(tmp_path)
    now = time.time_ns()
    for pause, filled in ((0, False), (0, True), (3600 * SECOND, True), (0, False)):
        now += pause
        disk.calls.clear()
        journal.prepare()
        assert disk.calls == (["allocate", "fill", "rename"] if filled else ["allocate", "rename"])
        assert journal._spare is not None
        assert journal._spare.populated is (filled and able)
        before = journal._current
        while journal._current is before:
            assert journal.append(bytes(1_000), now) is None
        journal.append(b"x", now)
    journal.close()


def test_what_is_stored_into_a_populated_segment_while_it_is_synced_is_kept(tmp_path: Path) -> None:
    """Each sync takes all pages out of the mapping, and maps what is left again, under the stores of another thread."""
    filesystem = advising()
    size, record = 1 << 20, 100
    descriptor, buffer = filesystem.allocate(tmp_path / "file", size)
    segment = Segment(0, size, descriptor, buffer, populated=filesystem.populate(buffer))
    expected = b"".join(number.to_bytes(4, "little") * (record // 4) for number in range(size // record))
    position = 0

    def store() -> None:
        nonlocal position
        while position < len(expected):
            buffer[position : position + record] = expected[position : position + record]
            position += record

    writer = threading.Thread(target=store)
    writer.start()
    while writer.is_alive():
        sync_in_use(filesystem, segment, position)
    writer.join()
    sync_in_use(filesystem, segment, position)
    assert buffer[: len(expected)] == expected
    buffer.close()
    filesystem.close(descriptor)
    assert (tmp_path / "file").read_bytes() == expected + bytes(size - len(expected))


def test_what_was_stored_before_a_sync_is_in_no_mapping_after_it(tmp_path: Path) -> None:
    """So that the kernel need not take it out page by page, and what is left can be stored into without a fault."""
    if not can_populate(tmp_path):
        pytest.skip("this kernel cannot populate a mapping")
    filesystem = advising()
    size, position = 1 << 20, 300_000
    descriptor, buffer = filesystem.allocate(tmp_path / "file", size)
    segment = Segment(0, size, descriptor, buffer, populated=filesystem.populate(buffer))
    assert resident(tmp_path / "file") == size
    buffer[0:position] = bytes(position)
    sync_in_use(filesystem, segment, position)
    assert resident(tmp_path / "file") == size - position // 4096 * 4096
    segment.end = position
    sync_in_use(filesystem, segment, position)
    assert resident(tmp_path / "file") == 0, "nobody writes to it any more"
    assert not filesystem.populate(buffer, size + 1) or resident(tmp_path / "file") == 0
    buffer.close()
    filesystem.close(descriptor)


def test_a_segment_that_is_full_is_unmapped_before_it_is_synced(tmp_path: Path) -> None:
    """And its sync is tried again after a failure, when it is no longer mapped."""

    class Watching(FaultyFilesystem):
        mapped: ClassVar[list[int]] = []

        def sync(self, descriptor: int) -> None:
            self.mapped.append(resident(Path(f"/proc/self/fd/{descriptor}").resolve()))
            super().sync(descriptor)

    disk = Watching()
    journal = make_journal(tmp_path, disk)
    first = journal._current
    while journal._current is first:
        assert journal.append(bytes(1_000)) is None
    disk.fail(OSError(errno.EIO, "the disk is broken"), 0)
    with pytest.raises(OSError, match="broken"):
        journal.sync()
    disk.calm()
    journal.sync()
    assert journal.synced == journal.accepted
    assert disk.mapped[:2] == [0, 0]
    assert disk.mapped[2] > 0, "the one in use is mapped"
    journal.close()


def advising() -> Filesystem:
    """A file system as the background thread has it."""
    filesystem = Filesystem()
    filesystem.load_advice()
    return filesystem


def can_populate(directory: Path) -> bool:
    """Whether this kernel maps pages when asked to."""
    filesystem = advising()
    descriptor, buffer = filesystem.allocate(directory / "trial", 4096)
    able = filesystem.populate(buffer)
    buffer.close()
    filesystem.close(descriptor)
    (directory / "trial").unlink()
    return able


def resident(file: Path) -> int:
    """Bytes of a file that this process has in its mappings of it."""
    told, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first = line.split(maxsplit=1)[0]
        if not first.endswith(":"):
            inside = line.endswith(str(file))
        elif inside and first == "Rss:":
            told += int(line.split()[1]) * 1024
    return told
