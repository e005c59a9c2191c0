"""Artifacts on their way: files are copied, content-addressed, to a staging directory beside the queue.

What is staged is what the file was at the call: cloned where the file system can share blocks (btrfs, XFS), copied
elsewhere.  The content lies under the name of its SHA-256, in ``ROOT/ab/abcdef...`` (64 hex digits), read-only, and the
name appears only when the content is whole.  A file that changes while it is copied is stored as it was read; name and
content agree in any case.  Content that is there already gets a new modification time, so that who removes old files
sees that it is wanted again.  Unfinished files lie in ``ROOT/tmp``; a process that was killed leaves its own there.

Any number of processes and threads may stage at once, also the same content.
"""

import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, NamedTuple

from runstream_schemas.directories import sync_directory
from runstream_schemas.errors import EnvironmentUnavailableError, InvalidInputError

if TYPE_CHECKING:
    from mimetypes import MimeTypes

__all__ = ["Staged", "Staging", "clone", "copy", "media_type_of", "open_regular", "walk"]

_FICLONE: Final = 0x40049409
_CHUNK: Final = 1 << 20
_TEMPORARY: Final = "tmp"
_MEDIA_TYPES: Final = {
    ".ipynb": "application/x-ipynb+json",
    ".jsonl": "application/jsonl",
    ".log": "text/plain",
    ".md": "text/markdown",
    ".parquet": "application/vnd.apache.parquet",
    ".toml": "application/toml",
    ".webp": "image/webp",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
}
_ENCODINGS: Final = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}


class Staged(NamedTuple):
    """Content that lies in the staging directory."""

    sha256: str
    """64 hexadecimal digits."""
    size: int
    """Bytes."""


class Staging:
    """The staging directory ``root``; it is made when first needed.

    With ``sync`` content is on the disk when a call returns; without, it is what the kernel will write, which survives
    the process but not the machine.
    """

    takes_later = True
    """Whether a large file may be copied after the call."""

    def __init__(self, root: Path, *, sync: bool = False) -> None:
        self.root = root
        self._sync = sync

    def path_of(self, digest: str) -> Path:
        """Where the content with that SHA-256 lies, once it is staged."""
        return self.root / digest[:2] / digest

    def add_file(self, path: Path) -> Staged:
        """Stage what the file is now.

        Raises `InvalidInputError` if there is no such regular file, `EnvironmentUnavailableError` if it cannot be read
        or if the staging directory takes nothing (no space, no permission).
        """
        source = open_regular(path)
        try:
            return self.add_open(source, path)
        finally:
            os.close(source)

    def add_open(self, source: int, path: Path) -> Staged:
        """Stage what an open file is now; ``path`` is what it is called.  Raises `EnvironmentUnavailableError`."""
        return self._store(lambda target: _clone_or_copy(source, target), f"the file {path}")

    def add_bytes(self, data: bytes) -> Staged:
        """Stage bytes.  Raises `EnvironmentUnavailableError` if the staging directory takes nothing."""
        from hashlib import sha256

        def write(target: int) -> Staged:
            _write(target, data)
            return Staged(sha256(data).hexdigest(), len(data))

        return self._store(write, f"{len(data)} bytes")

    def sync_all(self) -> None:
        """Put on the disk what was staged without ``sync``.  Raises `EnvironmentUnavailableError`."""
        try:
            _sync_file_system(self.root)
        except OSError as error:
            raise self._unavailable("what was staged", error) from error

    def begin(self) -> tuple[int, Path]:
        """An empty file for content to come: its descriptor and its path.  Raises `EnvironmentUnavailableError`."""
        temporary = self.root / _TEMPORARY / os.urandom(16).hex()
        try:
            return self._create(temporary), temporary
        except OSError as error:
            raise self._unavailable("a file", error) from error

    def finish(self, target: int, temporary: Path, staged: Staged) -> None:
        """Give the content that was written to such a file its name.  Raises OSError."""
        os.fchmod(target, 0o444)
        if self._sync:
            os.fsync(target)
        self._publish(temporary, staged)

    def _store(self, fill: Callable[[int], Staged], what: str) -> Staged:
        temporary = self.root / _TEMPORARY / os.urandom(16).hex()
        try:
            target = self._create(temporary)
            try:
                staged = fill(target)
                self.finish(target, temporary, staged)
            finally:
                os.close(target)
        except OSError as error:
            raise self._unavailable(what, error) from error
        finally:
            with suppress(OSError):
                temporary.unlink()
        return staged

    def _create(self, temporary: Path) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            return os.open(temporary, flags, 0o600)
        except FileNotFoundError:
            temporary.parent.mkdir(parents=True, exist_ok=True)
            return os.open(temporary, flags, 0o600)

    def _unavailable(self, what: str, error: OSError) -> EnvironmentUnavailableError:
        return EnvironmentUnavailableError(
            f"cannot stage {what} in {self.root}: {error}; free space there or choose another place for the queue"
        )

    def _publish(self, temporary: Path, staged: Staged) -> None:
        """Give whole content its name; the content that has the name already stays, unless a crash cut it."""
        path = self.path_of(staged.sha256)
        try:
            _link(temporary, path)
        except FileExistsError:
            if path.stat().st_size == staged.size:
                os.utime(path)
                return
            temporary.replace(path)
        if self._sync:
            for directory in (path.parent, self.root, self.root.parent):
                sync_directory(directory)


def walk(local_dir: Path) -> Iterator[tuple[Path, str]]:
    """All files under a directory with their paths in it (``/`` between the parts), sorted, hidden ones included.

    Symbolic links are followed.  What is held at a time are the names of one directory at each level.  Raises
    `InvalidInputError` if it is no directory, for a link that points nowhere, and for a link that leads back to a
    directory around it.
    """
    if not local_dir.is_dir():
        raise InvalidInputError(f"{local_dir} is no directory; pass the path of an existing one")
    yield from _walk(local_dir, "", ())


def _walk(directory: Path, prefix: str, around: tuple[tuple[int, int], ...]) -> Iterator[tuple[Path, str]]:
    try:
        status = directory.stat()
        names = sorted(os.listdir(directory))  # noqa: PTH208 - there may be very many: text is smaller than a Path
    except OSError as error:
        raise EnvironmentUnavailableError(f"cannot list the directory {directory}: {error}") from error
    identity = (status.st_dev, status.st_ino)
    if identity in around:
        raise InvalidInputError(f"the link {directory} leads back to a directory around it; remove it")
    for name in names:
        entry = directory / name
        if entry.is_dir():
            yield from _walk(entry, f"{prefix}{name}/", (*around, identity))
        elif not entry.exists():
            raise InvalidInputError(f"the link {entry} points nowhere; remove it")
        else:
            yield entry, prefix + name


def media_type_of(path: str) -> str | None:
    """The media type that a file's name tells, the same on every machine; None where it tells none."""
    kind, encoding = _known_types().guess_type(PurePosixPath(path).name)
    if encoding is not None:
        return _ENCODINGS.get(encoding)
    return _MEDIA_TYPES.get(PurePosixPath(path).suffix.lower(), kind)


@cache
def _known_types() -> "MimeTypes":
    import mimetypes

    return mimetypes.MimeTypes(filenames=())  # not the machine's own lists


def open_regular(path: Path) -> int:
    """A descriptor to read a file by.

    Raises `InvalidInputError` if there is no such regular file, `EnvironmentUnavailableError` if it cannot be read.
    """
    try:
        source = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise InvalidInputError(f"there is no file {path}; pass the path of an existing one") from error
    except OSError as error:
        raise EnvironmentUnavailableError(f"cannot read the file {path}: {error}") from error
    if not stat.S_ISREG(os.fstat(source).st_mode):
        os.close(source)
        raise InvalidInputError(f"{path} is no regular file; pass the path of one")
    return source


def clone(source: int, target: int) -> bool:
    """Let ``target`` share the blocks of ``source``; False where the file system cannot, or they are on two."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        return False
    return True


def copy(source: int, target: int | None, check: Callable[[], None] = lambda: None) -> Staged:
    """Hash what ``source`` holds, and write it to ``target`` if there is one; ``check`` is called again and again."""
    from hashlib import sha256  # here: it loads OpenSSL

    digest = sha256()
    size = 0
    while chunk := os.pread(source, _CHUNK, size):
        digest.update(chunk)
        size += len(chunk)
        if target is not None:
            _write(target, chunk)
        check()
    return Staged(digest.hexdigest(), size)


def _clone_or_copy(source: int, target: int) -> Staged:
    return copy(target, None) if clone(source, target) else copy(source, target)


def _link(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
    except FileNotFoundError:
        path.parent.mkdir(exist_ok=True)
        os.link(temporary, path)


def _sync_file_system(directory: Path) -> None:
    """Sync the file system that a directory lies in.  Raises OSError."""
    import ctypes  # here: only directories of many files need it

    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(descriptor)


def _write(target: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(target, view) :]
