"""The journal's disk operations, gathered in one small class, so that tests can make each of them fail."""

import contextlib
import errno
import fcntl
import mmap
import os
from pathlib import Path
from typing import Any, Final, Protocol

__all__ = ["Buffer", "Filesystem"]

_MADV_POPULATE_WRITE: Final = 23


class Buffer(Protocol):
    """A shared mapping of a segment file, or what stands for it in a simulation."""

    def __len__(self) -> int: ...
    def __getitem__(self, key: slice, /) -> bytes: ...
    def __setitem__(self, key: slice, value: bytes, /) -> None: ...

    def close(self) -> None:
        """Unmap."""


class Filesystem:
    """Real files.  Every method may raise OSError."""

    _ctypes: Any = None
    _madvise: Any = None

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
        """Store zeros into the first ``size`` bytes of a fresh file, so that they are in memory, in large pages.

        One call into the kernel does it all (Linux 6.5 and later; before, nothing is done): behind each, the
        interpreter lock must be waited for.  Its pages have at most 64 KiB, and 4 where the file system has no larger
        ones (ext4 has since Linux 6.16, XFS since 5.18).  Still larger ones come from memory that nobody has used,
        which the host of a virtual machine often has to find first.
        """
        with contextlib.suppress(OSError):
            zeros = os.open("/dev/zero", os.O_RDONLY | os.O_CLOEXEC)
            try:
                while size > 0 and (sent := os.sendfile(descriptor, zeros, None, size)):
                    size -= sent
            finally:
                os.close(zeros)

    def load_advice(self) -> None:
        """Make `populate` and `detach` work, which do nothing before.

        Only where no lock is held: an import may wait for another thread, and that for the lock.
        """
        if self._madvise is None:
            import ctypes  # here: it takes milliseconds, which the background thread has

            self._ctypes, self._madvise = ctypes, ctypes.CDLL(None).madvise

    def populate(self, buffer: Buffer, start: int = 0) -> bool:
        """Have the pages of a mapping from offset ``start`` on ready to be stored into; what they hold stays.

        False where the kernel cannot (Linux before 5.14).
        """
        return self._advise(buffer, min(start, len(buffer)) & -mmap.PAGESIZE, _MADV_POPULATE_WRITE)

    def detach(self, buffer: Buffer) -> bool:
        """Take all pages out of a shared mapping; they stay in the file, and the next access to each maps it again.

        When the kernel writes a page out that is mapped and was stored into, it interrupts all CPUs on which the
        process runs, page by page.  This does so once for all of them.
        """
        return self._advise(buffer, 0, mmap.MADV_DONTNEED)

    def _advise(self, buffer: Buffer, start: int, advice: int) -> bool:
        """``madvise``; unlike `mmap.madvise` it lets other threads run meanwhile."""
        if self._madvise is None or not isinstance(buffer, mmap.mmap):
            return False
        address = self._ctypes.addressof(self._ctypes.c_char.from_buffer(buffer)) + start
        size = self._ctypes.c_size_t(len(buffer) - start)
        return bool(self._madvise(self._ctypes.c_void_p(address), size, advice) == 0)

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
