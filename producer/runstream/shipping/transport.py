"""What the shipper needs of a topic, and what it may rely on."""

from collections.abc import Iterable
from typing import Protocol

from runstream_schemas.errors import EnvironmentUnavailableError

__all__ = ["Transport", "TransportError"]


class TransportError(EnvironmentUnavailableError):
    """The topic cannot be had now.  ``may_retry``: whether waiting alone can help."""

    def __init__(self, message: str, *, may_retry: bool) -> None:
        super().__init__(message)
        self.may_retry = may_retry


class Transport(Protocol):
    """One topic.  Opened, used until something fails, closed; then it may be opened again, as often as needed."""

    limit: int
    """Bytes of the largest value that the topic takes.  Known once it is open; may be another one the next time."""

    async def open(self) -> None:
        """Connect, and find the topic or make it.  Raises `TransportError`, within a deadline of its own."""

    async def send(self, key: bytes, values: Iterable[bytes]) -> None:
        """Put values on the topic: all in the same partition, in their order, none above `limit`.

        The values are taken as they are sent, so that there may be more of them than fit into memory.  When this
        returns, all in-sync replicas have all of them.  Several calls may be under way; their order is not defined.

        Raises `TransportError` once nothing is acknowledged any more, or something is refused.  Any part of the values
        may be on the topic then, or come later; the transport is of no use until it was closed and opened again.
        """

    async def close(self) -> None:
        """Let go of everything, within a deadline of its own.  Never raises; may be called in any state."""
