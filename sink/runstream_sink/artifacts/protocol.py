"""What a sink needs of a place for artifacts.

Guarantees of every implementation:

* `publish_all` verifies hash and size before anything becomes visible at a path, and replaces what is there in one
  step: a reader sees the old bytes or the new ones.
* Publishing the same content again changes nothing, so that a redelivered event is harmless.
* The staged bytes stay: a replay of the stream finds them again.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

__all__ = ["ArtifactStore", "Publication"]


class Publication(NamedTuple):
    """What is to be published as ``file`` (``RUN_ID/path``, safe for the file system)."""

    file: str
    sha256: str
    size: int
    content: bytes | None = None
    """The bytes, where they are not those that were staged under ``sha256``."""


class ArtifactStore(Protocol):
    """A place for the artifacts of runs, by run id and file name."""

    async def publish_all(self, publications: Sequence[Publication]) -> dict[str, str]:
        """Make bytes visible as files.

        Returns, by file, why one is not: the staged bytes that it refers to are gone, or are others than it says.
        Raises OSError if the place fails.
        """

    async def make_durable(self) -> None:
        """Return after all that was published would survive a power cut."""
