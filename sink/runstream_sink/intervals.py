"""Sets of sequence numbers as sorted, disjoint intervals: what a store has seen of one producer."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

__all__ = ["IntervalSet"]


class IntervalSet:
    """A set of integers, kept as the fewest intervals ``(first, last)``, both ends included."""

    __slots__ = ("_firsts", "_lasts")

    def __init__(self, intervals: Iterable[tuple[int, int]] = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in intervals:
            self.add(first, last)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(zip(self._firsts, self._lasts, strict=True))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IntervalSet) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"IntervalSet({list(self)})"

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._firsts, number) - 1
        return at >= 0 and number <= self._lasts[at]

    def __bool__(self) -> bool:
        return bool(self._firsts)

    def count(self) -> int:
        """How many numbers are in the set.  It is no ``__len__``, as ``list`` would make room for so many intervals."""
        return sum(last - first + 1 for first, last in self)

    def copy(self) -> "IntervalSet":
        """An independent copy."""
        twin = IntervalSet()
        twin._firsts, twin._lasts = self._firsts.copy(), self._lasts.copy()
        return twin

    def add(self, first: int, last: int) -> None:
        """Add all numbers from ``first`` to ``last``, both included."""
        if first > last:
            raise ValueError(f"an interval's first number, {first}, lies behind its last, {last}")
        left = bisect_left(self._lasts, first - 1)
        right = bisect_right(self._firsts, last + 1)
        if left < right:
            first = min(first, self._firsts[left])
            last = max(last, self._lasts[right - 1])
        self._firsts[left:right] = [first]
        self._lasts[left:right] = [last]

    def union(self, intervals: Iterable[tuple[int, int]]) -> "IntervalSet":
        """A set of these numbers and those of ``intervals``."""
        union = self.copy()
        for first, last in intervals:
            union.add(first, last)
        return union

    def missing(self, first: int, last: int) -> list[tuple[int, int]]:
        """The parts of ``first`` to ``last`` that are not in the set."""
        gaps: list[tuple[int, int]] = []
        at = bisect_left(self._lasts, first)
        while first <= last:
            if at == len(self._firsts) or self._firsts[at] > last:
                gaps.append((first, last))
                break
            if self._firsts[at] > first:
                gaps.append((first, self._firsts[at] - 1))
            first = self._lasts[at] + 1
            at += 1
        return gaps
