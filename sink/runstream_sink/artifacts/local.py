"""Artifacts in a local directory, published from a staging directory by link or copy.

All that one delivery publishes is made aside by one call in a worker thread, synced, and renamed into place.  Above
some number of files or directories the file system is synced once, which takes a fraction of syncing each.
"""

import asyncio
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from runstream_sink.artifacts.protocol import Publication
from runstream_sink.tables.filesystem import FileSystem

__all__ = ["LocalArtifacts"]

_CHUNK: Final = 1 << 20
_MAX_SYNCED: Final = 64
"""Above so many files, syncing the file system is faster than syncing each."""
_FILE_SYSTEM: Final = FileSystem()


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

    async def publish_all(self, publications: Sequence[Publication]) -> dict[str, str]:
        """Verify, then link, copy or write, then rename into place."""
        return await asyncio.to_thread(self._publish_all, publications)

    async def make_durable(self) -> None:
        """Sync the directories that got new entries; the files were synced before."""
        if self._directories:
            await asyncio.to_thread(self._sync_directories)

    def _publish_all(self, publications: Sequence[Publication]) -> dict[str, str]:
        if len(publications) <= _MAX_SYNCED:
            return self._publish_synced(publications, _sync_each)
        self.root.mkdir(parents=True, exist_ok=True)
        descriptor = _FILE_SYSTEM.open(self.root, os.O_RDONLY)  # before the writes: so it is told of each that fails
        try:
            return self._publish_synced(publications, lambda _: _FILE_SYSTEM.sync_file_system(descriptor))
        finally:
            _FILE_SYSTEM.close(descriptor)

    def _publish_synced(
        self, publications: Sequence[Publication], sync: Callable[[Iterable[Path]], None]
    ) -> dict[str, str]:
        """Make all files aside, sync them, and rename them into place."""
        missing: dict[str, str] = {}
        made: dict[Path, Path] = {}
        directories: set[Path] = set()
        try:
            for publication in publications:
                problem = self._problem(publication)
                if problem:
                    missing[publication.file] = problem
                else:
                    self._make(publication, made, directories)
            sync(made)
            for fresh, target in made.items():
                _rename(fresh, target)
        except BaseException:
            for fresh in made:
                fresh.unlink(missing_ok=True)
            raise
        self._directories |= directories
        return missing

    def _problem(self, publication: Publication) -> str:
        """Why something cannot be published; empty if it can."""
        if publication.content is not None:
            return ""
        source = self._source(publication)
        try:
            found, digest = _read(source)
        except FileNotFoundError:
            return (
                f"the bytes {publication.sha256} are not in {self._staging}; they were removed, or the queue "
                "directory was moved"
            )
        if (digest, found) != (publication.sha256, publication.size):
            return f"{source} holds {found} bytes with another hash than its name says; it was changed"
        return ""

    def _make(self, publication: Publication, made: dict[Path, Path], directories: set[Path]) -> None:
        """Make a file under another name, which is noted with where it goes; its directory is there from then on."""
        target = self.root / publication.file
        if target.parent not in directories:
            target.parent.mkdir(parents=True, exist_ok=True)
            self._unfinished.mkdir(exist_ok=True)
            # All up to the root: a sink that was killed may have made them, and not come to syncing them.
            directories.update(self.root / place for place in Path(publication.file).parents)
        fresh = self._unfinished / uuid.uuid4().hex
        made[fresh] = target
        if publication.content is not None:
            fresh.write_bytes(publication.content)
            return
        source = self._source(publication)
        try:
            os.link(source, fresh)
        except OSError:  # another file system, or one without links
            shutil.copyfile(source, fresh)

    def _source(self, publication: Publication) -> Path:
        return self._staging / publication.sha256[:2] / publication.sha256

    def _sync_directories(self) -> None:
        directories = list(self._directories)
        if len(directories) > _MAX_SYNCED:
            _sync_file_system(self.root)
            self._directories.difference_update(directories)
            return
        for directory in directories:
            _sync(directory, os.O_DIRECTORY)
            self._directories.discard(directory)


def _read(path: Path) -> tuple[int, str]:
    """Size and SHA-256 of a file."""
    digest = hashlib.sha256()
    size = 0
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return size, digest.hexdigest()


def _rename(fresh: Path, target: Path) -> None:
    fresh.replace(target)
    fresh.unlink(missing_ok=True)  # still there where both were links to the same file: nothing is renamed then


def _sync_each(files: Iterable[Path]) -> None:
    for file in files:
        _sync(file)


def _sync_file_system(root: Path) -> None:
    descriptor = _FILE_SYSTEM.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _FILE_SYSTEM.sync_file_system(descriptor)
    finally:
        _FILE_SYSTEM.close(descriptor)


def _sync(path: Path, flags: int = 0) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
