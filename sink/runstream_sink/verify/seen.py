"""Sets of events in a bit each, and their comparison with what a store has seen."""

from collections.abc import Iterator
from typing import Final

from runstream_sink.intervals import IntervalSet

__all__ = ["EventBits"]

_BITS: Final = 12
"""An integer holds 4096 seqs, so that sets of few events stay small and those of many cost a bit each."""
_MASK: Final = (1 << _BITS) - 1


class EventBits:
    """A set of events, by producer (in hexadecimal) and seq."""

    def __init__(self) -> None:
        self._chunks: dict[str, dict[int, int]] = {}

    def add(self, producer: str, seq: int) -> bool:
        """Add an event; False if it was in already."""
        chunks = self._chunks.setdefault(producer, {})
        bit = 1 << (seq & _MASK)
        held = chunks.get(seq >> _BITS, 0)
        chunks[seq >> _BITS] = held | bit
        return not held & bit

    def __contains__(self, event: tuple[str, int]) -> bool:
        producer, seq = event
        return bool(self._chunks.get(producer, {}).get(seq >> _BITS, 0) >> (seq & _MASK) & 1)

    def producers(self) -> Iterator[str]:
        """The producers of the events."""
        return iter(self._chunks)

    def outside(self, producer: str, seen: IntervalSet) -> tuple[int, int]:
        """How many of a producer's events are not in ``seen``, and the first of them (-1: none)."""
        count, first = 0, -1
        for number, bits in sorted(self._chunks.get(producer, {}).items()):
            start = number << _BITS
            for begin, end in seen.missing(start, start + _MASK):
                extra = (bits >> (begin - start)) & ((1 << (end - begin + 1)) - 1)
                if extra:
                    count += extra.bit_count()
                    first = begin + (extra & -extra).bit_length() - 1 if first < 0 else first
        return count, first
