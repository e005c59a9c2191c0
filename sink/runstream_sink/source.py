"""What a sink needs of a stream.  One protocol; the queue directory and, elsewhere, Kafka implement it.

Guarantees of every source:

* Batches of one producer come in the order of their seqs, as far as they come from one part (a journal, a partition).
* `read` hands out nothing twice unless `seek` went back; what was handed out and not committed comes again after a
  restart from the committed positions.
* What `read` hands out would survive a power cut: a store that commits it never knows more than its stream.
* `read` may run while another delivery is committed and acknowledged, but not while `seek` runs.
* `committed` may free what every consumer has applied; nothing is freed before.
"""

from dataclasses import dataclass, field
from typing import Protocol

from runstream_schemas.batch import Batch

__all__ = ["Delivery", "Source"]


@dataclass
class Delivery:
    """What one read brought, and where the stream stands after it."""

    batches: list[Batch] = field(default_factory=list)
    positions: dict[str, tuple[str | None, str]] = field(default_factory=dict)
    """By part: the position before (None at the part's beginning) and after, as opaque text."""
    losses: dict[tuple[bytes, int, str], int] = field(default_factory=dict)
    """By (producer_id, segment, reason): events that the producer dropped, so far."""
    size: int = 0
    """Bytes of events."""

    def __bool__(self) -> bool:
        return bool(self.batches or self.positions or self.losses)


class Source(Protocol):
    """A stream, read from the positions that a store has committed."""

    name: str
    """Identifies the stream in the store's positions."""

    async def open(self, consumer: str) -> None:
        """Connect.  ``consumer`` is the store's id."""

    async def read(self, limit: int) -> Delivery:
        """About ``limit`` bytes of events, or fewer if there are fewer; empty if there is nothing new."""

    async def seek(self, positions: dict[str, str]) -> None:
        """Begin, or begin again, at the positions (by part) that the store has committed."""

    async def committed(self, delivery: Delivery) -> None:
        """The store has committed a delivery."""

    def backlog(self) -> bool:
        """Whether the last read left something behind that can be read at once."""

    async def close(self) -> None:
        """Let go of everything."""
