"""What a store lacks: the gaps in what it has seen of each producer."""

from typing import NamedTuple

from runstream_sink.store.protocol import StoreReader

__all__ = ["Missing", "find_missing"]


class Missing(NamedTuple):
    """Events of one producer that never came, though later ones did."""

    producer_id: bytes
    intervals: list[tuple[int, int]]

    @property
    def events(self) -> int:
        """How many there are."""
        return sum(last - first + 1 for first, last in self.intervals)


async def find_missing(reader: StoreReader, *, leading: bool = True) -> list[Missing]:
    """Per producer, the seqs below the last one seen that a store has not seen; ``leading``: the first ones as well."""
    missing: dict[bytes, list[tuple[int, int]]] = {}
    next_seqs: dict[bytes, int] = {}
    async for rows in reader.stream("all_seen"):
        for producer_id, first, last in rows:
            expected = next_seqs.get(producer_id, 0 if leading else first)
            if first > expected:
                missing.setdefault(producer_id, []).append((expected, first - 1))
            next_seqs = {producer_id: last + 1}  # rows come producer by producer
    return [Missing(producer_id, intervals) for producer_id, intervals in missing.items()]
