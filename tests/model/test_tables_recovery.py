"""After a kill or a power cut at any file operation, recovery leaves the parts exactly as committed."""

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runstream_schemas.errors import CorruptDataError
from runstream_sink.tables import files
from runstream_sink.tables.files import INTENT, recover, write_parts
from runstream_sink.tables.filesystem import FileSystem
from runstream_sink.tables.parts import Part, PartWrite


class Killed(BaseException):
    """The process is gone."""


class FaultyDisk(FileSystem):
    """A real directory, with a model of what a power cut would leave of it, and a fault at the n-th operation.

    Durable is what was synced: a file's bytes by syncing it, its name by syncing its directory.  The fault strikes in
    the middle of the operation: half of a write is done.
    """

    def __init__(self, root: Path, fault: Callable[[], BaseException] | None = None, at: int = -1) -> None:
        self.root = root
        self.fault = fault
        self.at = at
        self.operations = 0
        self._paths: dict[int, Path] = {}
        self._durable_bytes: dict[int, bytes] = {}
        self._durable_names: dict[Path, int | None] = {root: None}

    def _step(self) -> bool:
        """Count an operation; whether it fails."""
        self.operations += 1
        return self.fault is not None and self.operations - 1 == self.at

    def _fail(self) -> None:
        assert self.fault is not None
        raise self.fault()

    def open(self, path: Path, flags: int) -> int:
        """Open, or fail."""
        if self._step():
            self._fail()
        descriptor = super().open(path, flags)
        self._paths[descriptor] = path
        return descriptor

    def write(self, descriptor: int, data: bytes, offset: int) -> None:
        """Write, or half of it."""
        if self._step():
            super().write(descriptor, data[: len(data) // 2], offset)
            self._fail()
        super().write(descriptor, data, offset)

    def truncate(self, descriptor: int, length: int) -> None:
        """Cut, or fail."""
        if self._step():
            self._fail()
        super().truncate(descriptor, length)

    def sync_data(self, descriptor: int) -> None:
        """Make durable, or fail."""
        if self._step():
            self._fail()
        self._harden(descriptor)

    def sync(self, descriptor: int) -> None:
        """Make a file or directory durable, or fail."""
        if self._step():
            self._fail()
        self._harden(descriptor)

    def sync_file_system(self, descriptor: int) -> None:
        """Make everything durable, or fail."""
        if self._step():
            self._fail()
        super().sync_file_system(descriptor)
        for path in (self.root, *self.root.rglob("*")):
            self._harden_path(path)

    def make_directory(self, path: Path) -> None:
        """Make, or fail."""
        if self._step():
            self._fail()
        super().make_directory(path)

    def unlink(self, path: Path) -> None:
        """Remove, or fail."""
        if self._step():
            self._fail()
        super().unlink(path)

    def _harden(self, descriptor: int) -> None:
        self._harden_path(self._paths[descriptor])

    def _harden_path(self, path: Path) -> None:
        if path.is_dir():
            gone = [name for name in self._durable_names if name.parent == path and not name.exists()]
            for name in gone:
                del self._durable_names[name]
            for entry in path.iterdir():
                self._durable_names[entry] = None if entry.is_dir() else entry.stat().st_ino
        else:
            self._durable_bytes[path.stat().st_ino] = path.read_bytes()

    def after_power_cut(self, target: Path) -> None:
        """What a new machine would find, in ``target``: names whose whole path is durable, with their durable bytes."""
        for name, inode in sorted(self._durable_names.items()):
            place = target / name.relative_to(self.root)
            if name == self.root or not place.parent.is_dir():
                continue
            if inode is None:
                place.mkdir()
            else:
                place.write_bytes(self._durable_bytes.get(inode, b""))


Group = dict[str, bytes]
names = st.sampled_from(["a.csv", "r/b.csv", "r/s/t/c.csv", "r/s/d.csv"])
groups = st.lists(st.dictionaries(names, st.binary(min_size=1, max_size=5), min_size=1), min_size=1, max_size=4)


def writes_of(group: Group, committed: Group) -> list[PartWrite]:
    """What appending ``group`` needs."""
    return [PartWrite(Part(1, file, (), (), 0, 0), len(committed.get(file, b"")), data) for file, data in group.items()]


def run(directory: Path, disk: FileSystem, groups: list[Group], committed: Group) -> None:
    """Write group by group; ``committed`` is the database."""
    for group in groups:
        write_parts(directory / "root", directory, writes_of(group, committed), disk)
        for file, data in group.items():
            committed[file] = committed.get(file, b"") + data


def length_in(committed: Group) -> Callable[[str], int | None]:
    """The database's answer to recovery."""
    return lambda file: len(committed[file]) if file in committed else None


def contents(directory: Path) -> Group:
    """The parts that are there."""
    root = directory / "root"
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.csv")}


@pytest.mark.slow
@pytest.mark.parametrize("many", [False, True])
@settings(deadline=None, max_examples=30)
@given(groups=groups, power=st.booleans())
def test_recovery_after_a_fault_at_every_operation(many: bool, groups: list[Group], power: bool) -> None:
    """A kill leaves what was written, a power cut what was synced; recovery is itself cut at every operation."""
    with pytest.MonkeyPatch.context() as patch:
        if many:
            patch.setattr(files, "MAX_SYNCED", 0)
        operations = attempt(groups, -1, power=False)
        for at in range(operations):
            attempt(groups, at, power=power)


def attempt(groups: list[Group], at: int, *, power: bool) -> int:
    """One life with a fault at operation ``at``, and the recovery; the number of operations."""
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        directory = Path(first)
        disk = FaultyDisk(directory, Killed, at)
        committed: Group = {}
        try:
            run(directory, disk, groups, committed)
        except Killed:
            assert at >= 0
        if power:
            disk.after_power_cut(Path(second))
            directory = Path(second)
        recover_with_kills(directory, committed)
        assert contents(directory) == committed
        return disk.operations


def recover_with_kills(directory: Path, committed: Group) -> None:
    """Recover, killed at its first, second, third ... operation until it gets through."""
    at = 0
    while True:
        try:
            damaged = recover(directory / "root", directory, length_in(committed), FaultyDisk(directory, Killed, at))
        except Killed:
            at += 1
        else:
            assert damaged == []
            return


@settings(deadline=None, max_examples=30)
@given(groups, groups, st.integers(0, 60))
def test_writing_goes_on_after_a_full_disk(before: list[Group], after: list[Group], at: int) -> None:
    """An OSError in the middle, recovery, and the same group again: as if nothing had happened."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        committed: Group = {}
        disk = FaultyDisk(directory, lambda: OSError(errno.ENOSPC, "No space left on device"), at)
        left = before
        while left:
            try:
                run(directory, disk, left[:1], committed)
                left = left[1:]
            except OSError:
                assert recover(directory / "root", directory, length_in(committed), disk) == []
                assert contents(directory) == committed
        run(directory, FileSystem(), after, committed)
        assert contents(directory) == committed


@pytest.mark.parametrize("cut", [0, 5, 20])
def test_a_torn_intent_means_that_nothing_was_written(tmp_path: Path, cut: int) -> None:
    """Nor does one with a wrong checksum name anything."""
    committed: Group = {}
    run(tmp_path, FileSystem(), [{"a.csv": b"1"}], committed)
    intent = tmp_path / INTENT
    whole = intent.read_bytes()
    for torn in (whole[:cut], whole.replace(b"a.csv", b"b.csv"), b"[]", b"\x00" * 40):
        intent.write_bytes(torn)
        assert recover(tmp_path / "root", tmp_path, lambda _: None) == []
        assert contents(tmp_path) == committed


def test_damage_from_outside_is_named(tmp_path: Path) -> None:
    """A part that is missing or shorter than committed: recovery lists it, writing refuses it."""
    committed: Group = {}
    run(tmp_path, FileSystem(), [{"a.csv": b"123", "b.csv": b"456", "c.csv": b"789"}], committed)
    (tmp_path / "root/a.csv").unlink()
    (tmp_path / "root/b.csv").write_bytes(b"4")
    assert recover(tmp_path / "root", tmp_path, length_in(committed)) == ["a.csv", "b.csv"]
    for file in ("a.csv", "b.csv"):
        with pytest.raises(CorruptDataError, match=file):
            run(tmp_path, FileSystem(), [{file: b"x"}], committed)
    assert contents(tmp_path) == {"b.csv": b"4", "c.csv": b"789"}


def test_bytes_that_no_commit_knows_are_cut_off(tmp_path: Path) -> None:
    """What lies behind the offset is no part of the table."""
    committed: Group = {}
    run(tmp_path, FileSystem(), [{"a.csv": b"12"}], committed)
    (tmp_path / "root/a.csv").write_bytes(b"12 and more")
    run(tmp_path, FileSystem(), [{"a.csv": b"3"}], committed)
    assert contents(tmp_path) == {"a.csv": b"123"}


def test_many_new_files_are_written_and_none_asks_for_nothing(tmp_path: Path) -> None:
    """More files than a process may have open."""
    group = {f"r{number}/t.csv": b"x" for number in range(2000)}
    committed: Group = {}
    run(tmp_path, FileSystem(), [group, {}], committed)
    assert contents(tmp_path) == committed == group


def test_a_short_write_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the kernel may write less than asked."""
    real: Any = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, offset: real(descriptor, data[:3], offset))
    run(tmp_path, FileSystem(), [{"a.csv": b"0123456789"}], {})
    assert contents(tmp_path) == {"a.csv": b"0123456789"}


def test_a_failed_sync_of_the_file_system_is_an_error() -> None:
    """With the system's reason."""
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        FileSystem().sync_file_system(-1)
