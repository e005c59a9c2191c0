"""The journal's disk operations, gathered in one small class, so that tests can make each of them fail."""

import contextlib
import errno
import fcntl
import mmap
import os
import time
from pathlib import Path
from typing import Final, Protocol

__all__ = ["Buffer", "Filesystem"]

_MADV_POPULATE_WRITE: Final = 23
_PIECE: Final = 32 << 10
"""Such pages the kernel keeps at hand for each CPU.  Larger ones save little more, and where it takes them from memory
that nobody used before, as it often does, a virtual machine's host has to find that first."""
_PATIENCE: Final = 0.02
"""Seconds: four switch intervals of the interpreter."""


class Buffer(Protocol):
    """A shared mapping of a segment file, or what stands for it in a simulation."""

    def __len__(self) -> int: ...
    def __getitem__(self, key: slice, /) -> bytes: ...
    def __setitem__(self, key: slice, value: bytes, /) -> None: ...

    def close(self) -> None:
        """Unmap."""


class Filesystem:
    """Real files.  Every method may raise OSError."""

    def make_directory(self, path: Path) -> None:
        """Make a directory and its parents."""
        path.mkdir(parents=True, exist_ok=True)

    def lock(self, path: Path) -> int:
        """Create a file, take an exclusive lock on it, and return its descriptor."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def allocate(self, path: Path, size: int) -> tuple[int, Buffer]:
        """Create a file of ``size`` bytes with all of its blocks, and map it.  Nothing is left behind on failure.

        The room is asked for first: some file systems would take up all that is left before they say that it is not
        enough, and other files would find none meanwhile.
        """
        room = os.statvfs(path.parent)
        if room.f_blocks and room.f_bavail * room.f_frsize < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            os.posix_fallocate(descriptor, 0, size)
            return descriptor, mmap.mmap(descriptor, size)
        except BaseException:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                path.unlink()
            raise

    def fill(self, descriptor: int, size: int) -> None:
        """Store zeros into the first ``size`` bytes of a file, as far as time allows, so that they are in memory.

        The kernel makes a large page of each piece, where it can (ext4 since Linux 6.16, XFS since 5.18), for a
        fraction of what small ones cost.  It ends early where the interpreter lock, which is taken again behind each
        piece, is hard to get.
        """
        zeros = bytes(_PIECE)
        deadline = time.monotonic() + _PATIENCE
        for start in range(0, size, _PIECE):
            os.pwrite(descriptor, zeros[: size - start], start)
            if time.monotonic() > deadline:
                break

    def populate(self, buffer: Buffer) -> bool:
        """Have all pages of a mapping ready to be stored into; False where the kernel cannot (Linux before 5.14).

        Other threads run meanwhile, as they do not in `mmap.madvise`.
        """
        if not isinstance(buffer, mmap.mmap):
            return False
        import ctypes  # here: it takes milliseconds, which the background thread has

        address = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
        advise = ctypes.CDLL(None).madvise
        return bool(advise(ctypes.c_void_p(address), ctypes.c_size_t(len(buffer)), _MADV_POPULATE_WRITE) == 0)

    def sync(self, descriptor: int) -> None:
        """Wait until a file's data are on the disk."""
        os.fdatasync(descriptor)

    def sync_directory(self, path: Path) -> None:
        """Wait until a directory's entries are on the disk."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def truncate(self, descriptor: int, size: int) -> None:
        """Cut a file."""
        os.ftruncate(descriptor, size)

    def has_name(self, descriptor: int) -> bool:
        """Whether an open file still has a name: False once somebody has removed it."""
        return os.fstat(descriptor).st_nlink > 0

    def close(self, descriptor: int) -> None:
        """Close a descriptor; its lock goes with it."""
        os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Rename within one file system."""
        source.rename(target)

    def remove(self, path: Path) -> None:
        """Remove a file."""
        path.unlink()

    def remove_directory(self, path: Path) -> None:
        """Remove an empty directory."""
        path.rmdir()

    def read_texts(self, directory: Path, name: str) -> list[str]:
        """For each directory in ``directory``: the text of its file ``name``, "" if there is none that can be read."""
        try:
            with os.scandir(directory) as entries:
                places = [Path(entry.path) / name for entry in entries if entry.is_dir()]
        except FileNotFoundError:
            return []
        return [_text(place) for place in places]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (FileNotFoundError, UnicodeDecodeError):
        return ""
