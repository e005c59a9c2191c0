"""What whoever runs a sink asks: positions, counts, losses, dead letters."""

from runstream_sink.query.records import Counts, DeadLetterRecord, Loss, NotFoundError, Position
from runstream_sink.store.protocol import Row, StoreReader

__all__ = [
    "count_dead_letters",
    "counts",
    "get_dead_letter",
    "is_applied",
    "list_dead_letters",
    "list_losses",
    "list_positions",
]


async def list_positions(reader: StoreReader) -> list[Position]:
    """How far each part of each stream was applied."""
    return [Position(*row) for row in await reader.fetch("all_positions")]


async def is_applied(reader: StoreReader, producer_id: bytes, seq: int) -> bool:
    """Whether an event was applied, be it as a dead letter."""
    rows = await reader.fetch("seen_at", producer_id=producer_id, seq=seq)
    return bool(rows) and seq <= rows[0][0]


async def counts(reader: StoreReader) -> Counts:
    """What the store holds."""
    return Counts(*(await reader.fetch("counts"))[0])


async def list_losses(reader: StoreReader) -> list[Loss]:
    """Events that producers dropped."""
    return [Loss(producer.hex(), *row) for producer, *row in await reader.fetch("all_losses")]


async def list_dead_letters(
    reader: StoreReader, *, reason: str | None = None, retried: bool = False, after: int = 0, limit: int = 100
) -> list[DeadLetterRecord]:
    """Dead letters by ascending id, from behind the id ``after``; with ``retried`` also those that were retried."""
    rows = await reader.fetch("dead_letters_page", reason=reason, retried=retried, after=after, limit=limit)
    return [_dead_letter(row) for row in rows]


async def get_dead_letter(reader: StoreReader, number: int) -> DeadLetterRecord:
    """One dead letter with its bytes.  Raises `NotFoundError`."""
    rows = await reader.fetch("dead_letter", id=number)
    if not rows:
        raise NotFoundError(f"there is no dead letter {number}; see `runstream dlq list`")
    return _dead_letter(rows[0])


async def count_dead_letters(reader: StoreReader) -> dict[str, int]:
    """How many dead letters that were not retried there are, by reason."""
    return dict(await reader.fetch("dead_letter_counts"))


def _dead_letter(row: Row) -> DeadLetterRecord:
    number, producer, *rest = row
    return DeadLetterRecord(number, producer.hex(), *rest)
