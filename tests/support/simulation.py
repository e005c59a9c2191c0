"""Runs seeds of the simulation; as a program, any number of them on all processors.

python -m support.simulation --seeds 1000
python -m support.simulation --seed 4711
"""

import argparse
import multiprocessing
import sys
import traceback
from collections.abc import Iterable

from support.simulation_checks import check
from support.simulation_kafka import KafkaWorld
from support.simulation_world import World

__all__ = ["failure_of", "failures", "main", "world_of"]


def world_of(seed: int) -> World:
    """What a seed decides: even ones have a queue directory as their stream, odd ones a topic."""
    return KafkaWorld(seed) if seed % 2 else World(seed)


def failure_of(seed: int) -> str:
    """Run one seed.  Empty if all is well; else the schedule, what is wrong, and how to run it again."""
    with world_of(seed) as world:
        try:
            world.run()
            check(world)
        except Exception:  # noqa: BLE001 - whatever it is, it is what the simulation was to find
            schedule = "\n".join(world.schedule)
            return f"{schedule}\n{traceback.format_exc()}\nseed {seed}; again: make simulate SEED={seed}"
    return ""


def failures(seeds: Iterable[int]) -> list[str]:
    """What `failure_of` says of those seeds that fail."""
    return [failure for failure in map(failure_of, seeds) if failure]


def main() -> int:
    """Run what the command line names; the exit code."""
    parser = argparse.ArgumentParser(description="Run seeds of the simulation.")
    parser.add_argument("--seeds", type=int, default=100, help="how many, from --first on")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, help="this one alone")
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.seeds) if options.seed is None else [options.seed]
    found = 0
    with multiprocessing.Pool() as pool:
        for done, failure in enumerate(pool.imap_unordered(failure_of, seeds), start=1):
            if failure:
                found += 1
                print(failure)
            if done % 100 == 0:
                print(f"{done} of {len(seeds)} seeds, {found} failed", file=sys.stderr)
    print(f"{len(seeds)} seeds, {found} failed")
    return min(found, 1)


if __name__ == "__main__":
    sys.exit(main())
