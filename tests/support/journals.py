"""Journals for tests: written by the real writer on a disk that fails on command, read by the real reader."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from runstream.filesystem import Buffer, Filesystem
from runstream.journal import Clock, Journal
from runstream.journal_directory import JournalDirectory
from runstream_schemas.reader import Chunk, JournalReader
from runstream_schemas.segment import Hole, Record

__all__ = [
    "Abort",
    "FaultyBuffer",
    "FaultyFilesystem",
    "Killed",
    "bodies",
    "chunks",
    "copy_reader",
    "drops",
    "journal_path",
    "make_journal",
    "read_all",
]


class Killed(BaseException):
    """The process dies here."""


class Abort(BaseException):
    """An asynchronous exception, as from Ctrl-C."""


class FaultyBuffer:
    """A mapping of which one store raises, when a share of its bytes is there; up to 8 bytes are stored at once."""

    def __init__(self, buffer: Buffer, filesystem: "FaultyFilesystem") -> None:
        self.mapping = self._buffer = buffer
        self._filesystem = filesystem

    def __len__(self) -> int:
        return len(self._buffer)

    def __getitem__(self, key: slice) -> bytes:
        return self._buffer[key]

    def __setitem__(self, key: slice, value: bytes) -> None:
        fault = self._filesystem.next_store()
        if fault is None:
            self._buffer[key] = value
            return
        share = self._filesystem.share
        done = round(len(value) * share) if len(value) > 8 or share == 1 else 0
        self._buffer[key.start : key.start + done] = value[:done]
        raise fault

    def close(self) -> None:
        """Unmap."""
        self._buffer.close()


class FaultyFilesystem(Filesystem):
    """Real files, of which one operation from now on fails; stores into mappings are counted apart.

    After `Killed` nothing works any more, as the process is dead; `die` then closes what the kernel closes.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.full = False
        self.share = 0.0
        self._fault: BaseException | None = None
        self._countdown = -1
        self._store_fault: BaseException | None = None
        self._store_countdown = -1
        self._dead = False
        self._open: set[int] = set()

    def fail(self, fault: BaseException, after: int) -> None:
        """Let the operation behind the next ``after`` ones fail."""
        self._fault, self._countdown = fault, after

    def fail_store(self, fault: BaseException, after: int, share: float) -> None:
        """Let the store behind the next ``after`` ones raise, when ``share`` of it is done."""
        self._store_fault, self._store_countdown, self.share = fault, after, share

    def calm(self) -> None:
        """Let nothing fail any more."""
        self._countdown = self._store_countdown = -1
        self.full = False

    def next_store(self) -> BaseException | None:
        """What the present store is to raise."""
        if self._dead:
            self.share = 0.0
            return Killed()
        self._store_countdown -= 1
        if self._store_countdown != -1:
            self._store_countdown = max(self._store_countdown, -2)
            return None
        self._dead = isinstance(self._store_fault, Killed)
        return self._store_fault

    def operate(self, name: str) -> None:
        """Count an operation, and fail if it is its turn."""
        if self._dead:
            raise Killed
        self.calls.append(name)
        self._countdown -= 1
        if self._countdown != -1:
            self._countdown = max(self._countdown, -2)
            return
        self._dead = isinstance(self._fault, Killed)
        if self._fault is not None:
            raise self._fault

    def allocate(self, path: Path, size: int) -> tuple[int, Buffer]:
        """Create a file, unless the disk is full."""
        self.operate("allocate")
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        descriptor, buffer = super().allocate(path, size)
        self._open.add(descriptor)
        return descriptor, FaultyBuffer(buffer, self)

    def populate(self, buffer: Buffer, start: int = 0) -> bool:
        """Map pages."""
        return super().populate(getattr(buffer, "mapping", buffer), start)

    def detach(self, buffer: Buffer) -> bool:
        """Unmap pages."""
        return super().detach(getattr(buffer, "mapping", buffer))

    def lock(self, path: Path) -> int:
        """Lock a file."""
        self.operate("lock")
        descriptor = super().lock(path)
        self._open.add(descriptor)
        return descriptor

    def close(self, descriptor: int) -> None:
        """Close a descriptor; where that fails it is closed nevertheless, as Linux does it."""
        if not self._dead:
            self._open.discard(descriptor)
            super().close(descriptor)
        self.operate("close")

    def die(self) -> None:
        """Close everything, as the kernel does for a dead process."""
        self._dead = True
        for descriptor in self._open:
            os.close(descriptor)
        self._open.clear()


def _counted(name: str) -> Callable[..., Any]:
    def operation(self: FaultyFilesystem, *arguments: Any) -> Any:
        self.operate(name)
        return getattr(Filesystem, name)(self, *arguments)

    return operation


for _name in (
    *("make_directory", "fill", "sync", "sync_directory", "truncate"),
    *("rename", "remove", "remove_directory", "read_texts"),
):
    setattr(FaultyFilesystem, _name, _counted(_name))


def make_journal(
    queue: Path,
    filesystem: Filesystem | None = None,
    clock: Clock | None = None,
    *,
    quota: int = 1 << 30,
    segment_size: int = 64 << 10,
) -> Journal:
    """A journal in a queue directory, with small segments."""
    disk = filesystem or Filesystem()
    return Journal(
        lambda: JournalDirectory(queue / "journals", queue / "consumers", disk),
        disk,
        clock or Clock(),
        quota=quota,
        segment_size=segment_size,
    )


def journal_path(queue: Path, journal: Journal) -> Path:
    """Where a journal lies."""
    return queue / "journals" / journal.directory.name


def chunks(reader: JournalReader, limit: int = 1 << 20) -> Iterator[Chunk]:
    """Read until nothing changes."""
    while True:
        before = reader.position
        chunk = reader.read(limit)
        yield chunk
        if chunk.position == before or chunk.position.done:
            return


def read_all(reader: JournalReader, limit: int = 1 << 20) -> tuple[list[Record], list[Hole]]:
    """All that can be read now."""
    records: list[Record] = []
    holes: list[Hole] = []
    for chunk in chunks(reader, limit):
        records += chunk.records
        holes += chunk.holes
    return records, holes


def copy_reader(reader: JournalReader) -> JournalReader:
    """Another reader at the same position; the first is closed."""
    reader.close()
    return JournalReader(reader.path, reader.position)


def bodies(records: list[Record]) -> list[bytes]:
    """What was logged."""
    return [body for _, _, body in records]


def drops(path: Path) -> dict[tuple[int, str], int]:
    """What a reader is told of drops."""
    reader = JournalReader(path)
    told: dict[tuple[int, str], int] = {}
    for chunk in chunks(reader):
        told |= chunk.drops
    reader.close()
    return told
