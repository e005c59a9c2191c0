"""What the benchmarks share: percentiles, a table of results, and the machine they ran on."""

import json
import os
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["machine", "percentiles", "print_table", "write_json"]


def percentiles(samples: Sequence[int]) -> dict[str, float]:
    """p50, p99, p99.9 and max of durations in nanoseconds, in microseconds."""
    ordered = sorted(samples)
    last = len(ordered) - 1
    points = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
    return {name: ordered[min(last, int(len(ordered) * share))] / 1000 for name, share in points.items()}


def median_of(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """By name, the median over several rounds."""
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}


def machine() -> dict[str, Any]:
    """Where this runs."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "cpus": os.cpu_count(),
        "switch_interval_ms": sys.getswitchinterval() * 1000,
    }


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table in aligned columns."""
    cells = [list(map(str, header)), *(list(map(_text, row)) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    print(f"\n{title}")
    for row in cells:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))


def write_json(path: Path, results: Any) -> None:
    """Write results with the machine they come from."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine(), "results": results}, indent=2))
    print(f"\nwritten: {path}")


def _text(value: object) -> str:
    return f"{value:,.2f}" if isinstance(value, float) else str(value)
