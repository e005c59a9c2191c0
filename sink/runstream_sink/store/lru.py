"""A mapping of bounded size that forgets what was not used for the longest time."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

__all__ = ["LruCache"]

K = TypeVar("K")
V = TypeVar("V")


class LruCache(Generic[K, V]):
    """Holds entries that together weigh ``capacity`` at most; ``weigh`` says what one value weighs.

    Not safe for use by several threads at once.
    """

    def __init__(self, capacity: int, weigh: Callable[[V], int] = lambda _: 1) -> None:
        self._capacity = capacity
        self._weigh = weigh
        self._weight = 0
        self._entries: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, keys: Iterable[K]) -> tuple[dict[K, V], list[K]]:
        """What is held of ``keys``, and the keys that are not held, each once, in their order."""
        held: dict[K, V] = {}
        missing: dict[K, None] = {}
        entries = self._entries
        for key in keys:
            try:
                entries.move_to_end(key)
            except KeyError:
                missing[key] = None
            else:
                held[key] = entries[key]
        return held, list(missing)

    def update(self, values: Mapping[K, V]) -> None:
        """Keep ``values``; the oldest entries make room."""
        entries, weigh = self._entries, self._weigh
        for key, value in values.items():
            if key in entries:
                self._weight -= weigh(entries[key])
                entries.move_to_end(key)
            entries[key] = value
            self._weight += weigh(value)
        while self._weight > self._capacity:
            self._weight -= weigh(entries.popitem(last=False)[1])
