"""What the benchmarks share: percentiles, rounds, a table of results, and the machine they ran on.

A benchmark's file of results is JSON: ``{"machine": {...}, "options": {...}, "results": {...}}``, with `machine` and
the options that it was run with.
"""

import argparse
import datetime
import importlib.metadata
import json
import math
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = [
    "COLUMNS",
    "ROOT",
    "exponent",
    "machine",
    "median_of",
    "percentiles",
    "print_table",
    "steep",
    "write_json",
]

ROOT = Path(__file__).parents[1]
COLUMNS = ("p50", "p99", "p99.9", "max")
LIBRARIES = (
    *("msgspec", "aiosqlite", "duckdb", "pyarrow", "litestar", "uvicorn", "aiokafka", "confluent-kafka"),
    *("mlflow", "opentelemetry-sdk", "langfuse", "wandb"),
)
_BEGAN, _LOAD = datetime.datetime.now(datetime.UTC), os.getloadavg()


def percentiles(samples: Sequence[int]) -> dict[str, float]:
    """p50, p99, p99.9 and max of durations in nanoseconds, in microseconds."""
    ordered = sorted(samples)
    last = len(ordered) - 1
    points = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
    return {name: ordered[min(last, int(len(ordered) * share))] / 1000 for name, share in points.items()}


def median_of(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """By name, the median over several rounds."""
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """By which power of the size the values grow: the slope of a line through the logarithms of all."""
    across, up = [math.log(size) for size in sizes], [math.log(value) for value in values]
    return statistics.linear_regression(across, up).slope


def steep(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The greater of the exponents over all sizes and over the last two: what is fixed hides growth at small sizes."""
    return max(exponent(sizes, values), exponent(sizes[-2:], values[-2:]))


def machine() -> dict[str, Any]:
    """Where and when this program runs; the load average is that from before it did anything."""
    return {
        "date": _BEGAN.isoformat(timespec="seconds"),
        "commit": _commit(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "processor": _field(Path("/proc/cpuinfo"), "model name") or platform.processor(),
        "cpus": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "file_system": _file_system(Path(tempfile.gettempdir())),
        "switch_interval_ms": sys.getswitchinterval() * 1000,
        "load_average": list(_LOAD),
        "versions": {"SQLite": sqlite3.sqlite_version, **dict(_versions(LIBRARIES))},
    }


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table in aligned columns."""
    cells = [list(map(str, header)), *(list(map(_text, row)) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    print(f"\n{title}")
    for row in cells:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def write_json(path: Path, results: Any, options: argparse.Namespace | None = None) -> None:
    """Write results with the machine that they come from and the options that they were measured with."""
    path.parent.mkdir(parents=True, exist_ok=True)
    held = {"machine": machine(), "options": vars(options) if options else {}, "results": results}
    path.write_text(json.dumps(held, indent=2, default=str))
    print(f"\nwritten: {path}")


def _text(value: object) -> str:
    return f"{value:,.2f}" if isinstance(value, float) else str(value)


def _versions(names: Iterable[str]) -> Iterable[tuple[str, str]]:
    for name in names:
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue


def _commit() -> str:
    try:
        command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _field(file: Path, name: str) -> str:
    """The value of the first line ``name : value``."""
    try:
        lines = [line.partition(":") for line in file.read_text().splitlines()]
    except OSError:
        return ""
    return next((value.strip() for key, _, value in lines if key.strip() == name), "")


def _file_system(path: Path) -> str:
    """The type of the file system in which a directory lies, where the kernel tells it."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return ""
    held = [(len(mount[1]), mount[2]) for mount in mounts if path.resolve().is_relative_to(mount[1])]
    return max(held, default=(0, ""))[1]
