"""Whatever happens to programs, sinks and disks, in whatever order: what was accepted is there, or its loss is told."""

import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from runstream_schemas.directories import sync_directory
from support.simulation import failure_of, failures, world_of
from support.simulation_disk import Disk
from support.simulation_kafka import KafkaWorld
from support.simulation_world import World

pytestmark = pytest.mark.slow

BLOCK = 10


@pytest.mark.parametrize("first", range(0, 100, BLOCK))
def test_a_hundred_schedules_lose_nothing_that_was_promised(first: int) -> None:
    """A failing seed prints its schedule, and the command that runs it again."""
    found = failures(range(first, first + BLOCK))
    assert not found, "\n\n".join(found)


@pytest.mark.long
@pytest.mark.parametrize("first", range(100, 5_100, 50))
def test_five_thousand_schedules_lose_nothing_that_was_promised(first: int) -> None:
    """The same, for longer."""
    found = failures(range(first, first + 50))
    assert not found, "\n\n".join(found)


@pytest.mark.parametrize("seed", [1, 2, 7, 8])
def test_a_seed_is_a_schedule(seed: int) -> None:
    """The same seed does the same again, down to each step, in any process: else no failure could be looked into."""
    with world_of(seed) as world:
        world.run()
        here = _without_places(world.schedule)
    program = (
        f"from support.simulation import world_of\nwith world_of({seed}) as w: w.run(); print(*w.schedule, sep='\\n')"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONHASHSEED": str(1 + seed)}
    there = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert here == _without_places(there.stdout.splitlines())


def _without_places(schedule: list[str]) -> list[str]:
    """Errors name files, and these lie elsewhere each time."""
    return [re.sub(r"runstream-simulation-\w+", "", line) for line in schedule]


def test_half_of_the_schedules_go_over_a_topic() -> None:
    """Every other one."""
    worlds = [type(world_of(seed)) for seed in range(100)]
    assert worlds.count(World) == worlds.count(KafkaWorld) == 50


def test_a_failure_tells_how_to_run_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the schedule that led to it."""
    monkeypatch.setattr("support.simulation.check", _complain)
    said = failure_of(3)
    assert "end: everything drained" in said
    assert "planted" in said
    assert said.endswith("make simulate SEED=3")


def _complain(_: World) -> None:
    raise AssertionError("planted")


def test_a_power_cut_leaves_what_was_synced_and_any_part_of_the_rest(tmp_path: Path) -> None:
    """Page by page, and name by name."""
    left = set()
    for seed in range(60):
        place = tmp_path / str(seed)
        disk = Disk(place / "machine", place / "links", random.Random(seed))
        with disk.installed():
            file = disk.root / "a"
            file.write_bytes(b"old " * 2048)
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
            sync_directory(disk.root)
            file.write_bytes(b"new " * 2048)
            (disk.root / "b").touch()
            disk.restore(disk.after_power_cut(disk.capture()))
        content = file.read_bytes()
        left.add((content[:4], content[-4:], (disk.root / "b").exists()))
    assert {(b"old ", b"old ", False), (b"new ", b"new ", True)} < left
    assert {content[:2] for content in left} >= {(b"old ", b"new "), (b"new ", b"old ")}
