"""What a sink needs of a stream.  One protocol; the queue directory and, elsewhere, Kafka implement it.

Guarantees of every source:

* Batches of one producer come in the order of their seqs, as far as they come from one part (a journal, a partition).
* `read` hands out nothing twice unless `seek` went back; what was handed out and not committed comes again after a
  restart from the committed positions.
* What `read` hands out would survive a power cut: a store that commits it never knows more than its stream.
* `read` may run while another delivery is committed and acknowledged, but not while `seek` runs.
* `committed` may free what every consumer has applied; nothing is freed before.
"""

from typing import Final, Protocol

from runstream_schemas.delivery import Delivery
from runstream_schemas.errors import EnvironmentUnavailableError, RunstreamError

__all__ = ["EVENT_WEIGHT", "ReassignedError", "Source", "StreamReplacedError", "StreamUnavailableError"]

EVENT_WEIGHT: Final = 128
"""Bytes that an event counts for, besides its own, in the limit of a read: small ones take many times their bytes."""


class StreamUnavailableError(EnvironmentUnavailableError):
    """The stream cannot be read now; it may be later, from the positions on that are committed.

    ``may_retry`` says whether waiting can help.
    """

    def __init__(self, message: str, *, may_retry: bool = True) -> None:
        super().__init__(message)
        self.may_retry = may_retry


class StreamReplacedError(EnvironmentUnavailableError):
    """The stream is another than the one that the store has read: waiting does not help."""


class ReassignedError(RunstreamError):
    """Other parts of the stream are to be read than before; `Source.seek` goes on from what is committed."""


class Source(Protocol):
    """A stream, read from the positions that a store has committed."""

    name: str
    """Identifies the stream in the store's positions."""

    async def open(self, consumer: str) -> None:
        """Connect.  ``consumer`` is the store's id."""

    async def read(self, limit: int) -> Delivery:
        """About ``limit`` bytes of events, or fewer if there are fewer; empty if there is nothing new.

        Each event counts for `EVENT_WEIGHT` more.  Raises `StreamUnavailableError` or `ReassignedError`; nothing may be
        read then before the next `seek`.
        """

    async def seek(self, positions: dict[str, str]) -> None:
        """Begin, or begin again, at the positions (by part) that the store has committed.

        Raises `StreamReplacedError` where the stream is not the one that these positions are of.
        """

    async def committed(self, delivery: Delivery) -> None:
        """The store has committed a delivery."""

    def backlog(self) -> bool:
        """Whether the last read left something behind that can be read at once."""

    async def close(self) -> None:
        """Let go of everything."""
