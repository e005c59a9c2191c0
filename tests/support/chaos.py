"""Rounds of chaos on one cluster of three brokers; as a program, any number of them.

python -m support.chaos --rounds 200
python -m support.chaos --seed 4711
"""

import argparse
import random
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from support.chaos_round import ChaosRound
from support.kafka import KafkaCluster
from support.toxiproxy import Toxiproxy

__all__ = ["Arena", "arena", "main"]

SECONDS = 8.0
"""In which the faults of a round begin."""


class Arena:
    """Where rounds take place, one after the other."""

    def __init__(self, root: Path, cluster: KafkaCluster, toxiproxy: Toxiproxy) -> None:
        self._root = root
        self._cluster = cluster
        self._toxiproxy = toxiproxy

    def play(self, seed: int) -> None:
        """One round; whatever fails names its seed and what is known."""
        one = ChaosRound(self._root / str(seed), seed, self._cluster, self._toxiproxy)
        one.run_all(SECONDS)


@contextmanager
def arena(root: Path) -> Iterator[Arena]:
    """Three brokers behind toxiproxy."""
    with ExitStack() as stack:
        toxiproxy = stack.enter_context(closing(Toxiproxy(root / "toxiproxy")))
        cluster = stack.enter_context(closing(KafkaCluster(root / "cluster", 3, toxiproxy=toxiproxy)))
        cluster.start()
        yield Arena(root / "rounds", cluster, toxiproxy)


def main() -> int:
    """Play what the command line names; the exit code."""
    parser = argparse.ArgumentParser(description="Play rounds of chaos.")
    parser.add_argument("--rounds", type=int, default=1, help="how many")
    parser.add_argument("--seed", type=int, help="of the first one; the next ones have the numbers behind it")
    options = parser.parse_args()
    first = random.SystemRandom().getrandbits(32) if options.seed is None else options.seed
    with tempfile.TemporaryDirectory(prefix="chaos-") as root, arena(Path(root)) as place:
        failed = sum(not _survives(place, seed) for seed in range(first, first + options.rounds))
    print(f"{options.rounds} rounds from seed {first} on, {failed} failed")
    return min(failed, 1)


def _survives(place: Arena, seed: int) -> bool:
    try:
        place.play(seed)
    except Exception:  # noqa: BLE001 - whatever it is, it is what the round was to find
        print(traceback.format_exc(), flush=True)
        return False
    print(f"seed {seed}: all is there, once", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main())
