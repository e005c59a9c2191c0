"""Pages of a new segment that are brought into memory before log calls store into them."""

import os
import resource
import time
from pathlib import Path

import pytest

from runstream.filesystem import Buffer, Filesystem
from runstream.journal import Clock
from runstream.pages import is_much, warm
from runstream_schemas.segment import HEADER_SIZE
from support.journals import FaultyFilesystem, make_journal

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


@pytest.mark.parametrize("patience", [-1.0, 60.0])
@pytest.mark.parametrize("size", [10_000, 64 << 10, 200_000])
def test_a_file_is_filled_to_its_end_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, patience: float
) -> None:
    """With what an empty file holds: zeros."""
    monkeypatch.setattr("runstream.filesystem._PATIENCE", patience)
    filesystem = Filesystem()
    descriptor, buffer = filesystem.allocate(tmp_path / "file", size)
    filesystem.fill(descriptor, size)
    assert buffer[0:size] == bytes(size)
    assert os.fstat(descriptor).st_size == size
    buffer.close()
    filesystem.close(descriptor)


class Old(Filesystem):
    """Of a kernel that populates no mappings."""

    def populate(self, buffer: Buffer) -> bool:
        """It cannot."""
        del buffer
        return False


@pytest.mark.parametrize("filesystem", [Filesystem(), Old()])
def test_warming_changes_nothing_in_a_fresh_segment(tmp_path: Path, filesystem: Filesystem) -> None:
    """Its header is passed over, and its last page may be cut."""
    size = 300 * 4096 + 100
    descriptor, buffer = filesystem.allocate(tmp_path / "file", size)
    buffer[0:HEADER_SIZE] = b"h" * HEADER_SIZE
    warm(filesystem, buffer)
    assert buffer[0:size] == b"h" * HEADER_SIZE + bytes(size - HEADER_SIZE)
    buffer.close()
    filesystem.close(descriptor)


def test_a_populated_mapping_is_stored_into_without_a_fault(tmp_path: Path) -> None:
    """Where the kernel can do that; it may have to be asked again, as it writes pages out when it likes."""
    filesystem = Filesystem()
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
    now = time.time_ns()
    for pause, filled in ((0, False), (0, True), (3600 * SECOND, True), (0, False)):
        now += pause
        disk.calls.clear()
        journal.prepare()
        assert disk.calls == (["allocate", "fill", "rename"] if filled else ["allocate", "rename"])
        assert journal._spare is not None
        assert journal._spare.filled is filled
        before = journal._current
        while journal._current is before:
            assert journal.append(bytes(1_000), now) is None
        journal.append(b"x", now)
    journal.close()
