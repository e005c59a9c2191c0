"""The file operations that ``files`` needs, each one a point where a disk may fail: tests inject faults here."""

import ctypes
import os
from pathlib import Path

__all__ = ["FileSystem"]


class FileSystem:
    """Plain file operations.  All raise OSError."""

    def open(self, path: Path, flags: int) -> int:
        """Open a file or directory."""
        return os.open(path, flags | os.O_CLOEXEC, 0o644)

    def close(self, descriptor: int) -> None:
        """Close it."""
        os.close(descriptor)

    def read(self, descriptor: int) -> bytes:
        """The whole file."""
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0)

    def size(self, descriptor: int) -> int:
        """Bytes."""
        return os.fstat(descriptor).st_size

    def write(self, descriptor: int, data: bytes, offset: int) -> None:
        """Write all of ``data``."""
        written = os.pwrite(descriptor, data, offset)
        while written < len(data):
            written += os.pwrite(descriptor, data[written:], offset + written)

    def truncate(self, descriptor: int, length: int) -> None:
        """Cut the file."""
        os.ftruncate(descriptor, length)

    def sync_data(self, descriptor: int) -> None:
        """Make the file's bytes durable."""
        os.fdatasync(descriptor)

    def sync(self, descriptor: int) -> None:
        """Make the file's bytes and length, or a directory's entries, durable."""
        os.fsync(descriptor)

    def sync_file_system(self, descriptor: int) -> None:
        """Make all files durable that lie in the file system of this one."""
        if _libc.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def make_directory(self, path: Path) -> None:
        """Make one directory."""
        path.mkdir()

    def unlink(self, path: Path) -> None:
        """Remove a file."""
        path.unlink()


_libc = ctypes.CDLL(None, use_errno=True)
