"""The points of a run's metrics, packed: the order that gives them their seqs, and what is new among them.

A point is 28 bytes that sort as ``(timestamp, step, key, value)`` does, the key being its place among the run's sorted
keys.  Programs log later points later, so this order is, as a rule, that in which they came, and what has come since
the last import lies behind what it brought.  Where that is not so, nothing is lost: the new points are what is there
more often than it was brought before.
"""

import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

__all__ = ["Point", "PointSet", "new_points", "pack_history"]

_BIAS: Final = 1 << 63
_HISTORY: Final = struct.Struct(">QQd")
_POINT: Final = struct.Struct(">QQId")


class Point(NamedTuple):
    """One point of a metric."""

    key: str
    step: int
    timestamp: int
    value: float


class _Stored(msgspec.Struct, array_like=True):
    keys: list[str]
    packed: bytes


def pack_history(points: Iterable[tuple[int, int, float]]) -> bytes:
    """Pack ``(step, timestamp, value)`` of one metric; steps and timestamps are integers of 64 bits with sign."""
    pack = _HISTORY.pack
    return b"".join([pack(timestamp + _BIAS, step + _BIAS, value) for step, timestamp, value in points])


class PointSet:
    """Points of several metrics of one run, in an order."""

    def __init__(self, keys: Sequence[str], points: list[bytes]) -> None:
        self.keys = list(keys)
        self._points = points

    @classmethod
    def of_histories(cls, histories: Mapping[str, bytes]) -> "PointSet":
        """All points of packed histories, sorted."""
        keys = sorted(histories)
        points = [point for at, key in enumerate(keys) for point in _with_key(histories[key], at)]
        points.sort()
        return cls(keys, points)

    @classmethod
    def load(cls, data: bytes) -> "PointSet":
        """What `dump` gave."""
        stored = msgspec.msgpack.decode(data, type=_Stored)
        packed = zlib.decompress(stored.packed)
        return cls(stored.keys, [packed[at : at + _POINT.size] for at in range(0, len(packed), _POINT.size)])

    def dump(self) -> bytes:
        """The points as bytes, in their order."""
        return msgspec.msgpack.encode(_Stored(self.keys, zlib.compress(b"".join(self._points), 1)))

    def __len__(self) -> int:
        return len(self._points)

    def __iter__(self) -> Iterator[Point]:
        keys = self.keys
        for timestamp, step, at, value in map(_POINT.unpack, self._points):
            yield Point(keys[at], step - _BIAS, timestamp - _BIAS, value)

    def packed(self) -> list[bytes]:
        """The points as they are packed, with the keys' places among this set's own keys."""
        return self._points

    def packed_by(self, places: Mapping[str, int]) -> Iterator[bytes]:
        """The points, packed with other places of the keys; a key that has none is left out."""
        moved = {at: struct.pack(">I", places[key]) for at, key in enumerate(self.keys) if key in places}
        for point in self._points:
            place = moved.get(int.from_bytes(point[16:20], "big"))
            if place is not None:
                yield point[:16] + place + point[20:]


def new_points(found: PointSet, known: Iterable[PointSet]) -> PointSet:
    """The points of ``found``, in its order, that are there more often than in all of ``known`` together."""
    places = {key: at for at, key in enumerate(found.keys)}
    held: Counter[bytes] = Counter()
    for points in known:
        held.update(points.packed_by(places))
    if not held:
        return found
    new = []
    for point in found.packed():
        if held[point] > 0:
            held[point] -= 1
        else:
            new.append(point)
    return PointSet(found.keys, new)


def _with_key(history: bytes, at: int) -> Iterator[bytes]:
    place = struct.pack(">I", at)
    for start in range(0, len(history), _HISTORY.size):
        yield history[start : start + 16] + place + history[start + 16 : start + _HISTORY.size]
