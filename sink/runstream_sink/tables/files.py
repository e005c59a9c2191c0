"""Parts on disk: written durably before the database commits their lengths, cut back to them by recovery.

The database is the truth.  Before a group of writes touches a part, an intent names the parts of the group::

    <store>/pending.json   {"crc32": <of the JSON text of parts>, "parts": {file: committed length, ...}}

It is overwritten in place and synced.  A torn intent means that nothing was written under it; an old one does no harm,
since recovery asks the database for the committed lengths.  The caller's order::

    write_parts  ->  commit the lengths  ->  write_parts  -> ...
    recover      at start, and after any error between write_parts and the commit

All functions block: they belong into a worker thread, one at a time.
"""

import json
import os
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from runstream_schemas.errors import CorruptDataError
from runstream_sink.tables.filesystem import FileSystem
from runstream_sink.tables.parts import PartWrite

__all__ = ["INTENT", "MAX_SYNCED", "DamagedPartError", "recover", "write_parts"]

INTENT: Final = "pending.json"
MAX_SYNCED: Final = 64
"""Above so many files, syncing the file system is faster than syncing each."""

_FILE_SYSTEM: Final = FileSystem()


class DamagedPartError(CorruptDataError):
    """A part is shorter than its committed length: somebody else has cut or removed it."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path} {what}; restore it from a backup, or replay the stream into a new store")
        self.path = path


def write_parts(root: Path, store: Path, writes: Sequence[PartWrite], fs: FileSystem = _FILE_SYSTEM) -> None:
    """Write, at most one write a part, and make durable; ``store`` is where the intent lies.

    Bytes behind an offset, which no commit knows, are cut off.  Raises OSError (recover, then try again), and
    `DamagedPartError` for a part that is shorter than its committed length.
    """
    if not writes:
        return
    _write_intent(store, {write.part.file: write.offset for write in writes}, fs)
    if len(writes) > MAX_SYNCED:
        _write_many(root, writes, fs)
    else:
        _write_few(root, writes, fs)


def recover(
    root: Path, store: Path, committed: Callable[[str], int | None], fs: FileSystem = _FILE_SYSTEM
) -> list[str]:
    """Cut each part that the intent names to the length that ``committed`` says for its file; unlink it at None.

    Returns the files that are shorter than committed, or missing: damage from outside.  Raises OSError.
    """
    damaged = []
    unlinked: set[Path] = set()
    for file in _read_intent(store, fs):
        path = root / file
        length = committed(file)
        if length is not None:
            if not _cut(path, length, fs):
                damaged.append(file)
        elif _unlink(path, fs):
            unlinked.add(path.parent)
    _sync_directories(unlinked, fs)
    return damaged


def _write_few(root: Path, writes: Sequence[PartWrite], fs: FileSystem) -> None:
    changed: set[Path] = set()
    _make_directories(root, changed, fs)
    for write in writes:
        if write.offset == 0:  # a sink that was killed may have made the directories, and not come to syncing them
            changed.update(root / place for place in Path(write.part.file).parents)
    with ExitStack() as stack:
        descriptors = []
        for write in writes:
            descriptors.append(_write(root, write, fs))
            stack.callback(fs.close, descriptors[-1])
        for descriptor in descriptors:
            fs.sync_data(descriptor)
    _sync_directories(changed, fs)


def _write_many(root: Path, writes: Sequence[PartWrite], fs: FileSystem) -> None:
    _make_directories(root, set(), fs)
    with ExitStack() as stack:
        descriptor = fs.open(root, os.O_RDONLY)  # before the writes, so that it is told of every failed write-back
        stack.callback(fs.close, descriptor)
        for write in writes:
            fs.close(_write(root, write, fs))
        fs.sync_file_system(descriptor)


def _write(root: Path, write: PartWrite, fs: FileSystem) -> int:
    """Write one part; its open descriptor."""
    path = root / write.part.file
    descriptor = _open(path, set(), fs) if write.offset == 0 else _open_existing(path, fs)
    try:
        _cut_at(path, descriptor, write.offset, fs)
        fs.write(descriptor, write.data, write.offset)
    except BaseException:
        fs.close(descriptor)
        raise
    return descriptor


def _cut_at(path: Path, descriptor: int, length: int, fs: FileSystem) -> None:
    size = fs.size(descriptor)
    if size < length:
        raise DamagedPartError(path, f"has {size} bytes, but {length} are committed")
    if size > length:
        fs.truncate(descriptor, length)
        fs.sync(descriptor)


def _open(path: Path, changed: set[Path], fs: FileSystem) -> int:
    changed.add(path.parent)
    try:
        return fs.open(path, os.O_RDWR | os.O_CREAT)
    except FileNotFoundError:
        _make_directories(path.parent, changed, fs)
        return fs.open(path, os.O_RDWR | os.O_CREAT)


def _open_existing(path: Path, fs: FileSystem) -> int:
    try:
        return fs.open(path, os.O_RDWR)
    except FileNotFoundError:
        raise DamagedPartError(path, "is missing, but its rows are committed") from None


def _make_directories(path: Path, changed: set[Path], fs: FileSystem) -> None:
    parent = path.parent
    try:
        fs.make_directory(path)
    except FileExistsError:
        return
    except FileNotFoundError:
        _make_directories(parent, changed, fs)
        fs.make_directory(path)
    changed.add(parent)


def _sync_directories(paths: Iterable[Path], fs: FileSystem) -> None:
    for path in sorted(paths):
        descriptor = fs.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fs.sync(descriptor)
        finally:
            fs.close(descriptor)


def _cut(path: Path, length: int, fs: FileSystem) -> bool:
    """Cut a file; whether it had that length."""
    try:
        descriptor = _open_existing(path, fs)
    except DamagedPartError:
        return False
    try:
        _cut_at(path, descriptor, length, fs)
    except DamagedPartError:
        return False
    finally:
        fs.close(descriptor)
    return True


def _unlink(path: Path, fs: FileSystem) -> bool:
    try:
        fs.unlink(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _write_intent(store: Path, lengths: Mapping[str, int], fs: FileSystem) -> None:
    text = json.dumps(lengths)
    data = f'{{"crc32": {zlib.crc32(text.encode())}, "parts": {text}}}'.encode()
    path = store / INTENT
    changed: set[Path] = set()
    try:
        descriptor = fs.open(path, os.O_RDWR)
    except FileNotFoundError:
        descriptor = _open(path, changed, fs)
    try:
        fs.write(descriptor, data, 0)
        fs.truncate(descriptor, len(data))
        fs.sync_data(descriptor)
    finally:
        fs.close(descriptor)
    _sync_directories(changed, fs)


def _read_intent(store: Path, fs: FileSystem) -> list[str]:
    """The files that the intent names; none where there is no whole intent."""
    try:
        descriptor = fs.open(store / INTENT, os.O_RDONLY)
    except FileNotFoundError:
        return []
    try:
        intent = json.loads(fs.read(descriptor))
        parts: dict[str, int] = intent["parts"]
        whole = intent["crc32"] == zlib.crc32(json.dumps(parts).encode())
    except (ValueError, KeyError, TypeError):
        return []
    finally:
        fs.close(descriptor)
    return list(parts) if whole else []
