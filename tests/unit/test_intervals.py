"""Sets of sequence numbers: what the model does not ask."""

import pytest

from runstream_sink.intervals import IntervalSet


def test_a_set_shows_its_intervals() -> None:
    """In a message, for example."""
    assert repr(IntervalSet([(5, 9), (1, 2), (3, 3)])) == "IntervalSet([(1, 3), (5, 9)])"


def test_a_set_that_can_change_has_no_hash() -> None:
    """As Python's own sets."""
    with pytest.raises(TypeError):
        hash(IntervalSet())


def test_a_set_is_equal_to_sets_only() -> None:
    """Of the same numbers."""
    assert IntervalSet([(1, 2)]) != [(1, 2)]
    assert IntervalSet([(1, 2)]) != IntervalSet([(1, 3)])


def test_seqs_of_a_long_life_take_no_room() -> None:
    """One interval, however many events."""
    seen = IntervalSet([(0, (1 << 62) - 1)])
    assert list(seen) == [(0, (1 << 62) - 1)]
    assert 1 << 61 in seen
    assert seen.count() == 1 << 62
    assert seen.missing(0, 1 << 62) == [(1 << 62, 1 << 62)]


def test_events_one_by_one_become_one_interval() -> None:
    """In any order."""
    seen = IntervalSet()
    for seq in (2, 0, 4, 1, 3):
        assert seen.missing(seq, seq) == [(seq, seq)]
        seen.add(seq, seq)
    assert list(seen) == [(0, 4)]
    assert seen.missing(1, 3) == []
