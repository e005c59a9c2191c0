"""Brokers, shippers, sinks and connections fail in all ways at once; what was logged is in the store once."""

import random
from collections.abc import Iterable, Iterator

import pytest

from support.chaos import Arena, arena
from support.chaos_faults import FAULTS, Agenda, plan


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    """Three brokers behind toxiproxy, for all rounds."""
    with arena(tmp_path_factory.mktemp("chaos")) as one:
        yield one


def play(place: Arena, seeds: Iterable[int]) -> None:
    """A round for each seed; whatever fails names it."""
    for seed in seeds:
        place.play(seed)


@pytest.mark.crash
def test_what_was_logged_is_there_once_whatever_fails_whenever(place: Arena) -> None:
    """The store equals an undisturbed replay and what the programs say, and nothing is missing."""
    play(place, range(1, 6))


@pytest.mark.crash
@pytest.mark.long
def test_what_was_logged_is_there_once_ever_again(place: Arena) -> None:
    """The same, four times as often, with seeds that nobody has played."""
    play(place, (random.SystemRandom().getrandbits(32) for _ in range(20)))


def test_a_seed_decides_all_faults_and_a_hundred_seeds_bring_all_kinds() -> None:
    """A round can be run again; none is left out for ever."""
    plans = [plan(seed, 8.0) for seed in range(100)]
    assert plans == [plan(seed, 8.0) for seed in range(100)]
    assert {fault.kind for faults in plans for fault in faults} == set(FAULTS)
    assert all(8 <= len(faults) <= 14 and 0 <= faults[0].start <= faults[-1].start <= 8.0 for faults in plans)


def test_an_agenda_is_done_in_its_order_with_what_is_added_meanwhile() -> None:
    """And says what was done."""
    done: list[str] = []
    agenda = Agenda(lines := [])
    agenda.add(0.02, "last", lambda: done.append("last"))
    agenda.add(0.0, "first", lambda: agenda.add(0.01, "second", lambda: done.append("second")))
    agenda.run()
    assert done == ["second", "last"]
    assert [line.rpartition(": ")[2] for line in lines] == ["first", "second", "last"]
