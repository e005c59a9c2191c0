"""What a sink needs of a place for artifacts.

Guarantees of every implementation:

* `publish` verifies hash and size before anything becomes visible at the path, and replaces what is there in one
  step: a reader sees the old bytes or the new ones.
* Publishing the same content again changes nothing, so that a redelivered event is harmless.
* The staged bytes stay: a replay of the stream finds them again.
"""

from typing import Protocol

from runstream_schemas.errors import RunstreamError

__all__ = ["ArtifactStore", "MissingArtifactError"]


class MissingArtifactError(RunstreamError):
    """The bytes that an event refers to are gone, or are others than it says."""


class ArtifactStore(Protocol):
    """A place for the artifacts of runs, by run id and file name."""

    async def publish(self, file: str, sha256: str, size: int) -> None:
        """Make staged bytes visible as ``file`` (``RUN_ID/path``, safe for the file system).

        Raises `MissingArtifactError` if there are no such bytes, OSError if the place fails.
        """

    async def publish_bytes(self, file: str, content: bytes) -> None:
        """Make bytes visible as ``file``.  Raises OSError if the place fails."""

    async def make_durable(self) -> None:
        """Return after all that was published would survive a power cut."""
