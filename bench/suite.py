"""The benchmarks that `run` runs, with their sizes, and how safe what they logged is when the time is taken."""

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["BENCHMARKS", "FOLDER", "SIZES", "Benchmark", "choose"]

FOLDER = Path(__file__).parent
SIZES: Final = ("full", "quick", "smallest")
"""Full takes hours and gives the figures; quick takes minutes and shows their order; smallest shows that it runs."""

JOURNALED = "journaled: it survives the death of the process; synced to the disk in the background, once a second"
COMMITTED = "committed: rows, positions and files are synced to the disk (SQLite in WAL mode, synchronous=FULL)"
ACKNOWLEDGED = "acknowledged and committed: by the broker's in-sync replicas (one of them), and in the store"
MEMORY = "as each logger keeps it: named beside its figures"
NONE = "not written: reading and starting only"


class Benchmark(NamedTuple):
    """A script of this folder, or of a folder below it, and its arguments for each size."""

    name: str
    durability: str
    minutes: float
    """About how long the full size takes."""
    full: str = ""
    quick: str = ""
    smallest: str | None = None
    """None: needs what is not there where tests run."""
    without_peers: str = ""
    """Further arguments where no peers are asked for."""
    needs: str = ""
    """A program that must be installed."""
    peers: bool = False
    """Whether it measures peers above all, and is left out where none are asked for."""

    @property
    def script(self) -> Path:
        """Its file."""
        return FOLDER / f"{self.name}.py"

    def arguments(self, size: str, *, peers: bool) -> list[str] | None:
        """What the script is called with; None if it has no such size, or nothing to do."""
        chosen = {"full": self.full, "quick": self.quick, "smallest": self.smallest}[size]
        if chosen is None or (self.peers and not peers):
            return None
        return shlex.split(chosen if peers else f"{chosen} {self.without_peers}")


# The sink's, growth and the replay remove very many files, and for minutes ext4 is slow to make new ones then: others
# stand between them.
BENCHMARKS: Final = (
    Benchmark("emit", JOURNALED, 6, "", "--rounds 2 --calls 20000 --mlflow-calls 10", None, "--no-mlflow"),
    Benchmark("instructions", JOURNALED, 1, needs="valgrind"),
    Benchmark("startup", NONE, 2, "", "--rounds 3", "--rounds 1 --no-peers", "--no-peers"),
    Benchmark("visible", COMMITTED, 4, "", "--rounds 2 --seconds 5", "--rounds 1 --rate 100 --seconds 0.5"),
    Benchmark("sink", COMMITTED, 10, "", "--rounds 1 --events 100000", "--rounds 1 --events 500"),
    Benchmark("memory", COMMITTED, 4, "", "--events 360000", "--events 1000"),
    Benchmark("search", NONE, 6, "", "--runs 20000 --rounds 5", "--runs 1000 --rounds 1"),
    Benchmark("history", NONE, 5, "", "--points 100000 --rounds 3", "--points 3000 --rounds 1"),
    Benchmark("tables", NONE, 5, "", "--rows 500000 --rounds 2", "--rows 20000 --rounds 1"),
    Benchmark(
        "serving",
        JOURNALED,
        15,
        "",
        "--rounds 2 --processes 1 --mlflow-rounds 1 --seconds 1",
        None,
        "--no-mlflow",
    ),
    Benchmark("serving_parts", JOURNALED, 2, "", "--rounds 3 --seconds 1"),
    Benchmark("growth", COMMITTED, 20, "", "--share 0.1 --rounds 1", "--share 0.001 --rounds 1 --scales 2"),
    Benchmark("kafka", ACKNOWLEDGED, 15, "", "--rounds 1 --events 50000 --seconds 5"),
    Benchmark("plugin", JOURNALED, 12, "", "--calls 100 --rounds 2", None, peers=True),
    Benchmark(
        "peers",
        MEMORY,
        10,
        "",
        "--rounds 3 --calls 3000",
        "--rounds 1 --calls 100 --only runstream 'logging queue'",
        peers=True,
    ),
    Benchmark(
        "replay",
        COMMITTED,
        15,
        "",
        "--rounds 1 --metrics 500000 --rows 50000 --runs 10000",
        "--rounds 1 --metrics 500 --rows 50 --runs 5",
    ),
)


def choose(names: Sequence[str]) -> Iterable[Benchmark]:
    """Those of these names, or all; in their order.  Raises `SystemExit` for one that is none."""
    if unknown := set(names) - {one.name for one in BENCHMARKS}:
        raise SystemExit(f"no such benchmark: {', '.join(sorted(unknown))}")
    return [one for one in BENCHMARKS if (one.name in names or not names) and one.script.exists()]
