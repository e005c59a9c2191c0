"""Nothing that was acknowledged is lost or doubled, whoever is killed whenever."""

import random
from pathlib import Path

import pytest

from support.crash_round import Round


def survive(root: Path, seed: int) -> None:
    """One round; whatever fails names the seed."""
    killing = Round(root, seed)
    try:
        killing.run(seconds=1.5)
        killing.check()
    except BaseException as error:
        error.add_note(f"the round's seed is {seed}")
        raise
    assert killing.kills > 4
    assert killing.acknowledged


@pytest.mark.crash
@pytest.mark.parametrize("number", range(20))
def test_every_acknowledged_event_is_there_exactly_once(tmp_path: Path, number: int) -> None:
    """Four producers and the sink are killed at random moments; the store equals an undisturbed replay."""
    survive(tmp_path, random.SystemRandom().getrandbits(32))


@pytest.mark.crash
@pytest.mark.long
@pytest.mark.parametrize("number", range(200))
def test_every_acknowledged_event_is_there_exactly_once_ever_again(tmp_path: Path, number: int) -> None:
    """The same, ten times as often."""
    survive(tmp_path, random.SystemRandom().getrandbits(32))
