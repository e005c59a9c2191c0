"""Artifacts in a local directory, published from a staging directory by link or copy."""

import asyncio
import hashlib
import os
import shutil
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import aiofiles

from runstream_sink.artifacts.protocol import MissingArtifactError

__all__ = ["LocalArtifacts"]

_CHUNK: Final = 1 << 20


class LocalArtifacts:
    """Publishes to ``root`` what lies in ``staging`` as ``ab/<sha256>``."""

    def __init__(self, root: Path, staging: Path) -> None:
        self.root = root
        self._staging = staging
        self._unfinished = root / ".new"
        self._directories: set[Path] = set()

    def clear(self) -> None:
        """Remove what a sink that was killed left unfinished."""
        shutil.rmtree(self._unfinished, ignore_errors=True)

    async def publish(self, file: str, sha256: str, size: int) -> None:
        """Verify, then link or copy, then rename into place."""
        source = self._staging / sha256[:2] / sha256
        await self._verify(source, sha256, size)
        await self._replace(file, lambda fresh: self._place(source, fresh))

    async def publish_bytes(self, file: str, content: bytes) -> None:
        """Write, then rename into place."""

        async def write(fresh: Path) -> None:
            async with aiofiles.open(fresh, "wb") as target:
                await target.write(content)

        await self._replace(file, write)

    async def make_durable(self) -> None:
        """Sync the directories that got new entries; the files were synced before."""
        for directory in list(self._directories):
            await asyncio.to_thread(_sync, directory, os.O_DIRECTORY)
            self._directories.discard(directory)

    async def _replace(self, file: str, make: Callable[[Path], Awaitable[None]]) -> None:
        """Let ``make`` make a file under another name, sync it, and put it in place of ``file``."""
        target = self.root / file
        fresh = self._unfinished / uuid.uuid4().hex
        await asyncio.to_thread(self._make_directory, target.parent)
        await asyncio.to_thread(self._unfinished.mkdir, exist_ok=True)
        try:
            await make(fresh)
            await asyncio.to_thread(_sync, fresh)
            await asyncio.to_thread(_rename, fresh, target)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        self._directories.add(target.parent)

    async def _verify(self, source: Path, sha256: str, size: int) -> None:
        digest = hashlib.sha256()
        found = 0
        try:
            async with aiofiles.open(source, "rb") as file:
                while chunk := await file.read(_CHUNK):
                    digest.update(chunk)
                    found += len(chunk)
        except FileNotFoundError:
            raise MissingArtifactError(
                f"the bytes {sha256} are not in {self._staging}; they were removed, or the queue directory was moved"
            ) from None
        if (digest.hexdigest(), found) != (sha256, size):
            raise MissingArtifactError(
                f"{source} holds {found} bytes with another hash than its name says; it was changed"
            )

    async def _place(self, source: Path, fresh: Path) -> None:
        try:
            await asyncio.to_thread(os.link, source, fresh)
        except OSError:  # another file system, or one without links
            async with aiofiles.open(source, "rb") as reader, aiofiles.open(fresh, "wb") as writer:
                while chunk := await reader.read(_CHUNK):
                    await writer.write(chunk)

    def _make_directory(self, directory: Path) -> None:
        missing = [parent for parent in (directory, *directory.parents) if not parent.exists()]
        directory.mkdir(parents=True, exist_ok=True)
        self._directories.update(parent.parent for parent in missing)


def _rename(fresh: Path, target: Path) -> None:
    fresh.replace(target)
    fresh.unlink(missing_ok=True)  # still there where both were links to the same file: nothing is renamed then


def _sync(path: Path, flags: int = 0) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
