"""Whether an event would take far more memory than its bytes do: found out before it is decoded.

A byte of MessagePack can stand for an empty list, which takes some 90 bytes of memory: a forged event of 64 MiB would
take gigabytes.  The walk over the headers of the values makes no values, and stops where there are too many.
"""

import re
from typing import Final

__all__ = ["MAX_WEIGHT", "is_too_heavy"]

MAX_WEIGHT: Final = 768 << 20
"""About the most memory that one event may take when it is decoded, bytes.  64 MiB of small integers weigh 512 MiB."""

_LIGHT: Final = 1 << 20
"""Bytes of an event that is not looked at: whatever it holds is light."""
_SLOT: Final = 8
_STEP: Final = 64
"""What a step of the walk weighs at least, which bounds its time: some seconds for the worst event."""
_CONTAINER: Final = 96
_MAP: Final = 256
_ENTRY: Final = 64
_NUMBER: Final = 40
_TEXT: Final = 64
_WIDEST_LETTER: Final = 4

_RUNS: Final = {
    rb"[\x00-\x7f\xc0\xc2\xc3\xe0-\xff]++": _SLOT,
    rb"[\x80\x90-\x9f]++": _CONTAINER,
    rb"(?:[\xcc\xd0].)++": _NUMBER / 2,
    rb"(?:[\xcd\xd1]..)++": _NUMBER / 3,
    rb"(?:[\xca\xce\xd2].{4})++": _NUMBER / 5,
    rb"(?:[\xcb\xcf\xd3].{8})++": _NUMBER / 9,
}
"""Patterns of values of one kind in a row, and what a byte of them weighs."""
_RUN_WEIGHTS: Final = tuple(_RUNS.values())
_run = re.compile(b"|".join(b"(%b)" % pattern for pattern in _RUNS), re.DOTALL).match
_EXTENSIONS: Final = {0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17}
"""Bytes behind the first of an extension of fixed size."""
_LENGTHS: Final = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xC7: 1, 0xC8: 2, 0xC9: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
"""Bytes of the length of bytes, extensions and texts."""
_COUNTS: Final = {0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}
"""Bytes of the count of arrays and maps."""


def is_too_heavy(body: bytes | memoryview) -> bool:
    """Whether MessagePack would take more than `MAX_WEIGHT` when it is decoded, as far as it is well-formed."""
    end = len(body)
    if end <= _LIGHT:
        return False
    at, weight = 0, 0.0
    while at < end and weight <= MAX_WEIGHT:
        run = _run(body, at)
        if run is not None and run.lastindex is not None:
            size = run.end() - at
            more = size * _RUN_WEIGHTS[run.lastindex - 1]
        else:
            size, more = _value(body, at)
        at += size
        weight += max(more, _STEP)
    return weight > MAX_WEIGHT


def _value(body: bytes | memoryview, at: int) -> tuple[int, float]:
    """How far the next value or the next header of a container reaches, and what it weighs."""
    first = body[at]
    if first < 0x90:
        return 1, _of_map(first & 0x0F)
    if 0xA0 <= first < 0xC0:
        length = first & 0x1F
        return 1 + length, _TEXT + _WIDEST_LETTER * length
    if first in _COUNTS:
        size = _COUNTS[first]
        count = int.from_bytes(body[at + 1 : at + 1 + size])
        return 1 + size, _of_map(count) if first >= 0xDE else _CONTAINER
    if first in _LENGTHS:
        size = _LENGTHS[first]
        length = int.from_bytes(body[at + 1 : at + 1 + size])
        return 1 + size + length + (0xC7 <= first <= 0xC9), _TEXT + _WIDEST_LETTER * length
    return 1 + _EXTENSIONS.get(first, 0), _CONTAINER  # or no value at all, as decoding will say


def _of_map(count: int) -> float:
    return _MAP + _ENTRY * count if count else _CONTAINER
