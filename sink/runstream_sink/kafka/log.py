"""What the source needs of a topic.  One protocol; `runstream_sink.kafka.client` implements it with aiokafka.

Guarantees of every implementation:

* The records of a partition come by ascending offset, from the offset on that `seek` said, none twice and none left
  out, as long as `generation` stays what it was at that `seek`.
* `generation` changes when other partitions are to be read than before, or when these might no longer be what they
  were: a partition was added, given to or taken from this member of the group, or its leader or topic has changed.
* No call takes longer than its own deadline.  What cannot be had raises `StreamUnavailableError`; from then on, the log
  must be closed and opened anew.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from runstream_sink.source import StreamUnavailableError

__all__ = ["Extent", "Log", "LogRecord", "OutOfRangeError"]


class OutOfRangeError(StreamUnavailableError):
    """An offset that was to be read is not, or no longer, in its partition."""


class LogRecord(NamedTuple):
    """One record of a topic."""

    partition: int
    offset: int
    timestamp: int
    """When it was sent, milliseconds since the epoch, as the broker keeps it."""
    value: bytes


class Extent(NamedTuple):
    """The offsets of a partition: those from ``begin`` to before ``end`` can be read."""

    begin: int
    end: int


class Log(Protocol):
    """A topic; partitions are known by their numbers."""

    @property
    def name(self) -> str:
        """``cluster id/topic``, once the log is open."""

    @property
    def whole(self) -> bool:
        """Whether `partitions` are all that the topic has."""

    @property
    def generation(self) -> int:
        """Changes with what is to be read."""

    async def open(self, group: str) -> None:
        """Connect, and find the topic; ``group`` is the id of the consumer group."""

    async def partitions(self) -> frozenset[int]:
        """The partitions that are to be read, all of them or those that the group gives to this member."""

    async def extents(self, partitions: Iterable[int]) -> dict[int, Extent]:
        """Where partitions begin and end now."""

    async def offsets_at(self, timestamps: Mapping[int, int]) -> dict[int, int | None]:
        """By partition, the first offset that was sent at a time (milliseconds since the epoch) or later, if any."""

    async def record_at(self, offsets: Mapping[int, int]) -> dict[int, LogRecord]:
        """The first record at or behind an offset of each partition; it must be there.  `seek` comes after it."""

    def seek(self, offsets: Mapping[int, int]) -> None:
        """Read on from these offsets, and from these partitions only.

        Raises `ReassignedError` if one of the partitions is no longer this member's.
        """

    async def fetch(self, limit: int, wait: float) -> list[LogRecord]:
        """About ``limit`` bytes of records; if there are none, wait up to ``wait`` seconds for them.

        Raises `OutOfRangeError`, which leaves the log usable.
        """

    async def reached(self) -> dict[int, int]:
        """By partition, the offset that is read next, which may lie behind what is no record."""

    async def commit(self, offsets: Mapping[int, int]) -> None:
        """Tell the group, for tools that show its lag.  Raises nothing but `StreamUnavailableError`."""

    async def close(self) -> None:
        """Let go of everything; what hangs is given up after some seconds."""
