"""Bytes that come in chunks, put together in a directory: artifacts, and payloads of batches that were too large.

The directory looks as a producer's staging directory does: what is whole lies in ``ROOT/ab/<sha256>`` (64 hexadecimal
digits), read-only, what is not yet in ``ROOT/tmp``: ``<sha256>-<size>`` holds all bytes up to its length, and
``<sha256>-<size>.<offset>`` those that came before the ones between.  So nothing but the files' lengths needs to be
known after a restart.  Whole bytes have both names until the last one is on the disk.  Chunks may come in any order,
twice, and from several senders at once.  Whole bytes with another hash than their name says are removed.
"""

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import structlog

from runstream_schemas.chunk import ArtifactChunk
from runstream_schemas.directories import make_durable, sync_directory
from runstream_schemas.errors import MissingPayloadError

__all__ = ["UNFINISHED_AGE", "ChunkStore"]

UNFINISHED_AGE: Final = 7 * 86400.0
"""Seconds for which bytes are kept of which no more came."""
_BLOCK: Final = 1 << 20
_log = structlog.get_logger(__name__)


class ChunkStore:
    """The directory ``root``; it is made when the first chunk comes.  Its methods block, and raise OSError.

    One thread at a time may use it; other processes may add to the same directory.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._unfinished = root / "tmp"
        self._ahead: set[str] | None = None
        """Names of which bytes came before those between; None: not looked yet."""
        self._written: set[Path] = set()
        self._directories: set[Path] = set()
        self._whole: dict[Path, Path] = {}
        """Unfinished names of whole bytes, and their last ones.  The first go when the last are on the disk: of bytes
        behind a committed position, a power cut into a rename between directories might leave neither."""
        self._durable: set[Path] = set()
        """Directories whose names are on the disk: whoever has made one may have died before it came to that."""

    def add(self, chunk: ArtifactChunk) -> None:
        """Take the bytes of a chunk; `sync` puts them on the disk."""
        whole = self._path_of(chunk.sha256)
        name = f"{chunk.sha256}-{chunk.size}"
        path = self._unfinished / name
        if whole.exists():
            self._have(whole.parent)  # whoever put it there may have died before its name was on the disk
            self._whole[path] = whole
            with contextlib.suppress(PermissionError):  # a producer that reaches this directory has staged it
                os.utime(whole)  # it is wanted again
            return
        self._have(self._unfinished)
        length = path.stat().st_size if path.exists() else 0
        if chunk.offset > length:
            self._write(path.with_name(f"{name}.{chunk.offset}"), 0, chunk.data)
            self._names_ahead().add(name)
            return
        self._write(path, chunk.offset, chunk.data)
        joined = name in self._names_ahead() and self._join(path)
        reached = chunk.offset + len(chunk.data) == chunk.size
        # The length alone says nothing: after a power cut a file may be long and empty until all is read again.
        if (reached or joined) and path.stat().st_size == chunk.size:
            self._finish(path, chunk.sha256)

    def sync(self) -> None:
        """Wait until all that was added is on the disk."""
        for path in self._written:
            with contextlib.suppress(FileNotFoundError):  # somebody has cleaned up
                _sync(path)
        self._written.clear()
        for directory in self._directories | {whole.parent for whole in self._whole.values()}:
            sync_directory(directory)
        self._directories.clear()
        for path, whole in self._whole.items():
            with contextlib.suppress(FileNotFoundError, PermissionError):
                path.unlink()
            with contextlib.suppress(FileNotFoundError, PermissionError):
                whole.chmod(0o444)
        self._whole.clear()

    def read(self, sha256: str, size: int) -> bytes:
        """Whole bytes.  Raises `MissingPayloadError` where they are not there."""
        try:
            data = self._path_of(sha256).read_bytes()
        except FileNotFoundError as error:
            raise MissingPayloadError(f"the payload {sha256} of {size} bytes is not in {self.root}") from error
        return data

    def clean(self, max_age: float, now: float | None = None) -> int:
        """Remove what is whole and was last wanted ``max_age`` seconds ago, and what is not and has come to a stop."""
        now = time.time() if now is None else now
        removed = 0
        for path in self._files():
            age = UNFINISHED_AGE if path.parent == self._unfinished else max_age
            with contextlib.suppress(FileNotFoundError, PermissionError):
                if now - path.stat().st_mtime > age:
                    path.unlink()
                    removed += 1
        self._ahead = None
        return removed

    def _files(self) -> Iterator[Path]:
        return iter(list(self.root.glob("??/*")) + list(self.root.glob("tmp/*")))

    def _path_of(self, sha256: str) -> Path:
        return self.root / sha256[:2] / sha256

    def _names_ahead(self) -> set[str]:
        if self._ahead is None:
            self._ahead = {path.stem for path in self._unfinished.glob("*.*")}
        return self._ahead

    def _have(self, directory: Path) -> None:
        """Have a directory, by a name that stays."""
        if directory not in self._durable or not directory.is_dir():
            make_durable(directory)
            self._durable.add(directory)

    def _write(self, path: Path, offset: int, data: bytes) -> None:
        """Write at an offset; what lies there already are the same bytes, or such as a power cut left."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            view = memoryview(data)
            while view:
                written = os.pwrite(descriptor, view, offset)
                view, offset = view[written:], offset + written
        finally:
            os.close(descriptor)
        self._written.add(path)
        self._directories.add(path.parent)

    def _join(self, path: Path) -> bool:
        """Append what came too early and fits now; whether anything did."""
        joined = False
        early = sorted((int(piece.suffix[1:]), piece) for piece in self._unfinished.glob(f"{path.name}.*"))
        while early and early[0][0] <= path.stat().st_size:
            offset, piece = early.pop(0)
            self._write(path, offset, piece.read_bytes())
            _sync(path)  # before its only other copy goes
            self._written.discard(piece)
            piece.unlink()
            joined = True
        if not early:
            self._names_ahead().discard(path.name)
        return joined

    def _finish(self, path: Path, sha256: str) -> None:
        self._written.discard(path)
        if _hash(path) != sha256:
            path.unlink()
            _log.error("bytes that came in chunks are not what their name says; they are thrown away", sha256=sha256)
            return
        _sync(path)
        whole = self._path_of(sha256)
        self._have(whole.parent)
        with contextlib.suppress(FileExistsError):  # another sink was quicker
            os.link(path, whole)
        self._whole[path] = whole


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
