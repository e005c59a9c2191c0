"""What one read of a stream brings: whoever takes events out of a queue directory or a topic hands it out."""

from dataclasses import dataclass, field

from runstream_schemas.batch import Batch

__all__ = ["Delivery"]


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
    weight: int = 0
    """What counts for a limit: these bytes, and what each event is said to take besides them."""

    def take(self, batch: Batch, event_weight: int = 0) -> None:
        """Add a batch; each of its events takes ``event_weight`` besides its bytes."""
        size = sum([len(body) for _, _, body in batch.records]) + 1
        self.batches.append(batch)
        self.size += size
        self.weight += size + event_weight * len(batch.records)

    def __bool__(self) -> bool:
        return bool(self.batches or self.positions or self.losses)
