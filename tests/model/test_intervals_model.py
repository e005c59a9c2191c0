"""Interval sets against sets of integers."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from runstream_sink.intervals import IntervalSet

NUMBERS = st.integers(-5, 60)
LENGTHS = st.integers(0, 12)


class IntervalMachine(RuleBasedStateMachine):
    """What is added is in; nothing else is; the intervals are the fewest."""

    def __init__(self) -> None:
        super().__init__()
        self.intervals = IntervalSet()
        self.numbers: set[int] = set()

    @rule(first=NUMBERS, length=LENGTHS)
    def add(self, first: int, length: int) -> None:
        """An interval."""
        self.intervals.add(first, first + length)
        self.numbers |= set(range(first, first + length + 1))

    @rule(first=NUMBERS, length=LENGTHS)
    def ask_what_is_missing(self, first: int, length: int) -> None:
        """The gaps are what is not in the set, in order, and do not touch."""
        gaps = self.intervals.missing(first, first + length)
        wanted = [number for number in range(first, first + length + 1) if number not in self.numbers]
        assert [number for low, high in gaps for number in range(low, high + 1)] == wanted
        assert all(left[1] + 1 < right[0] for left, right in pairwise(gaps))

    @rule(number=NUMBERS)
    def ask_for_one(self, number: int) -> None:
        """Membership."""
        assert (number in self.intervals) == (number in self.numbers)

    @rule(first=NUMBERS)
    def copy(self, first: int) -> None:
        """A copy is equal, and apart."""
        twin = self.intervals.copy()
        assert twin == self.intervals
        twin.add(first, first + 200)
        assert 180 not in self.intervals

    @rule(pairs=st.lists(st.tuples(NUMBERS, LENGTHS), max_size=4))
    def unite(self, pairs: list[tuple[int, int]]) -> None:
        """A union has both; the set itself stays as it is."""
        before = list(self.intervals)
        union = self.intervals.union([(first, first + length) for first, length in pairs])
        added = {number for first, length in pairs for number in range(first, first + length + 1)}
        assert {number for first, last in union for number in range(first, last + 1)} == self.numbers | added
        assert list(self.intervals) == before

    @invariant()
    def the_intervals_are_the_fewest(self) -> None:
        """Sorted, apart by at least one number, and all there is."""
        pairs = list(self.intervals)
        assert all(first <= last for first, last in pairs)
        assert all(left[1] + 1 < right[0] for left, right in pairwise(pairs))
        assert {number for first, last in pairs for number in range(first, last + 1)} == self.numbers
        assert self.intervals.count() == len(self.numbers)
        assert bool(self.intervals) == bool(self.numbers)
        assert IntervalSet(pairs) == self.intervals


TestIntervals = IntervalMachine.TestCase


@given(st.lists(st.tuples(NUMBERS, LENGTHS)), st.randoms(use_true_random=False))
def test_the_order_of_adding_does_not_matter(pairs: list[tuple[int, int]], random: object) -> None:
    """The same intervals come out."""
    intervals = [(first, first + length) for first, length in pairs]
    shuffled = sorted(intervals, key=lambda _: random.random())  # type: ignore[attr-defined]
    assert IntervalSet(intervals) == IntervalSet(shuffled)


def test_an_interval_that_is_no_interval_is_refused() -> None:
    """Its ends are the wrong way round."""
    with pytest.raises(ValueError, match="first number, 3, lies behind its last, 2"):
        IntervalSet().add(3, 2)
