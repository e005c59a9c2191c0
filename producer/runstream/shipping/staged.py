"""Staged bytes of artifacts as chunks: whatever an event of a batch refers to goes before it, to the same partition.

Bytes that do not lie in the journal directory's own staging directory are none of the shipper's business: they lie
where the sink reaches them, or are lost, which the sink tells.
"""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from runstream_schemas.chunk import chunks_of
from runstream_schemas.errors import CorruptDataError
from runstream_schemas.events import ArtifactCompleted, ArtifactLogged, decode_event
from runstream_schemas.segment import Record

__all__ = ["Content", "chunks_of_staged", "staged_contents"]

_SHORT_ARRAY: Final = 0x90
_NAMING: Final = frozenset({10, 23})
"""Tags of the events that name staged bytes."""

Content = tuple[str, int]
"""SHA-256, in hexadecimal, and size."""


def staged_contents(staging: Path, records: Iterable[Record]) -> list[Content]:
    """What the events of these records name and what lies in the staging directory, each content once."""
    named = dict.fromkeys(content for _, _, body in records if (content := _named(body)) is not None)
    return [content for content in named if _size(_path(staging, content[0])) == content[1]]


def chunks_of_staged(staging: Path, content: Content, limit: int) -> Iterator[bytes]:
    """The encoded chunks of staged bytes, each at most ``limit`` bytes; fewer if the file is cut or gone meanwhile."""
    sha256, size = content
    with contextlib.suppress(OSError, CorruptDataError), _path(staging, sha256).open("rb") as file:
        yield from chunks_of(sha256, size, file.read, limit)


def _named(body: bytes) -> Content | None:
    """What an event names, told from its first bytes where it names nothing."""
    if len(body) < 2 or body[0] & 0xF0 != _SHORT_ARRAY or body[1] not in _NAMING:
        return None
    try:
        event = decode_event(body)
    except CorruptDataError:
        return None
    return (event.sha256, event.size) if isinstance(event, ArtifactLogged | ArtifactCompleted) else None


def _path(staging: Path, sha256: str) -> Path:
    return staging / sha256[:2] / sha256


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return -1
