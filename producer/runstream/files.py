"""Files on their way into events: inlined where they are made and small, staged, or copied in the background."""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from runstream import artifacts
from runstream.background import LargeFile
from runstream.client import Client
from runstream.inputs import join_path
from runstream_schemas.errors import EnvironmentUnavailableError
from runstream_schemas.events import ArtifactInlined, ArtifactLogged, ArtifactPending
from runstream_schemas.names import check_path

__all__ = ["log_bytes", "log_directory", "log_file"]

_INLINE_LIMIT: Final = 256 << 10
"""Bytes of a made file up to which it travels in its event, so that logging it touches no file."""
_MANY_FILES: Final = 64
"""From so many files on, syncing everything once is faster than syncing each."""
_FILES_AT_ONCE: Final = 4096
"""Files of a directory that are staged before the events of any of them are logged."""


def log_file(client: Client, run_id: str, path: str, source: Path) -> artifacts.Staged | None:
    """Log one file as it is now; what was staged, or None if it is copied later.  Raises as `Staging.add_file`."""
    staged = _stage(client, run_id, path, source, client.staging())
    if staged is not None:
        _emit(client, run_id, path, staged)
    return staged


def log_directory(client: Client, run_id: str, directory: Path, prefix: str | None) -> None:
    """Log all files of a directory.  Raises, before anything is logged, for a name that cannot be logged.

    The directory is walked twice, so that its files need not be remembered.
    """
    count = sum(1 for _ in _walk(directory, prefix))
    many = count >= _MANY_FILES
    staging = client.staging(sync=not many)
    found = _walk(directory, prefix)
    while batch := list(islice(found, _FILES_AT_ONCE)):
        staged = [(path, _stage(client, run_id, path, source, staging)) for source, path in batch]
        if many:
            staging.sync_all()
        for path, content in staged:
            if content is not None:
                _emit(client, run_id, path, content)


def log_bytes(client: Client, run_id: str, path: str, data: bytes) -> None:
    """Log a file that was made in memory; where it cannot be staged it is dropped and counted."""
    if len(data) <= _INLINE_LIMIT:
        client.emit(ArtifactInlined(run_id, path, data, artifacts.media_type_of(path)))
        return
    try:
        staged = client.staging().add_bytes(data)
    except EnvironmentUnavailableError:
        client.count_drop("disk")
        return
    _emit(client, run_id, path, staged)


def _walk(directory: Path, prefix: str | None) -> Iterator[tuple[Path, str]]:
    for source, relative in artifacts.walk(directory):
        yield source, check_path(join_path(prefix, relative), "the artifact's path")


def _stage(client: Client, run_id: str, path: str, source: Path, staging: artifacts.Staging) -> artifacts.Staged | None:
    """Stage a file; None for a large one, which logs itself when its bytes are there."""
    descriptor = artifacts.open_regular(source)
    if staging.takes_later and os.fstat(descriptor).st_size > client.config.background_size:
        _copy_later(client, run_id, path, LargeFile(client.staging(), descriptor))
        return None
    try:
        return staging.add_open(descriptor, source)
    finally:
        os.close(descriptor)


def _copy_later(client: Client, run_id: str, path: str, file: LargeFile) -> None:
    origin = client.emit_located(ArtifactPending(run_id, path, file.size))
    if origin is None:  # it was dropped, and counted
        file.close()
        return
    client.copies().add(file, run_id, path, origin)


def _emit(client: Client, run_id: str, path: str, staged: artifacts.Staged) -> None:
    client.emit(ArtifactLogged(run_id, path, staged.sha256, staged.size, artifacts.media_type_of(path)))
