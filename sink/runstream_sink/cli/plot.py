"""A metric's history as a picture of letters: as wide and high as it is told."""

import math
from collections.abc import Sequence
from typing import Final

from runstream_sink.query.metrics import Bucket

__all__ = ["plot"]

_DOTS: Final = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bits of the dots of a Braille letter, which has four rows of two."""
_BRAILLE: Final = 0x2800
_ASCII: Final = ((1, 1),)


def plot(buckets: Sequence[Bucket], width: int, height: int, *, braille: bool = True) -> list[str]:
    """Lines of a plot of buckets that are in order: from the least to the greatest value of each, over the steps.

    Numbers stand at the left and below and count towards ``width`` columns and ``height`` lines; there are no fewer
    than a few of each.  ``braille``: eight dots a letter; else one, as plain ASCII.  Values that are not finite are
    left out.
    """
    shown = [bucket for bucket in buckets if bucket.min is not None and _is_finite(bucket)]
    if not shown:
        return ["(no finite values)"]
    low, high = min(_low(bucket) for bucket in shown), max(_high(bucket) for bucket in shown)
    labels = [f"{value:.5g}" for value in (high, low)]
    margin = max(map(len, labels))
    columns, rows = max(width - margin - 2, 4), max(height - 2, 2)
    grid = _draw(shown, (low, high), (columns, rows), _DOTS if braille else _ASCII)
    letters = [[" " if not dots else chr(_BRAILLE + dots) if braille else "*" for dots in row] for row in grid]
    lines = [f"{'':>{margin}} |{''.join(row).rstrip()}" for row in letters]
    lines[0] = f"{labels[0]:>{margin}} |{''.join(letters[0]).rstrip()}"
    lines[-1] = f"{labels[1]:>{margin}} |{''.join(letters[-1]).rstrip()}"
    first, last = str(shown[0].first.step), str(shown[-1].last.step)
    ruler = first if first == last else f"{first}{last:>{max(columns - len(first), len(last) + 1)}}"
    return [*lines, f"{'':>{margin}} +{'-' * columns}", f"{'':>{margin}}  {ruler}"]


def _draw(
    shown: Sequence[Bucket], values: tuple[float, float], size: tuple[int, int], dots: Sequence[Sequence[int]]
) -> list[list[int]]:
    """The dots of each letter, row by row from above."""
    columns, rows = size
    across, down = columns * len(dots[0]), rows * len(dots)
    begin, end = shown[0].first.step, shown[-1].last.step
    low, high = values
    grid = [[0] * columns for _ in range(rows)]
    for bucket in shown:
        middle = (bucket.first.step + bucket.last.step) // 2
        x = (middle - begin) * (across - 1) // max(end - begin, 1)
        for y in range(_height(_high(bucket), low, high, down), _height(_low(bucket), low, high, down) + 1):
            grid[y // len(dots)][x // len(dots[0])] |= dots[y % len(dots)][x % len(dots[0])]
    return grid


def _height(value: float, low: float, high: float, down: int) -> int:
    """How far below the top a value is drawn."""
    span = high / 2 - low / 2  # halves do not overflow
    share = (value / 2 - low / 2) / span if span else 0.5
    return round((1 - share) * (down - 1))


def _low(bucket: Bucket) -> float:
    return bucket.min or 0.0


def _high(bucket: Bucket) -> float:
    return bucket.max or 0.0


def _is_finite(bucket: Bucket) -> bool:
    return math.isfinite(_low(bucket)) and math.isfinite(_high(bucket))
