"""How a topic, the journals of this machine on their way to it, and a store stand.

Nothing need run, and nothing is written or registered.  Where the brokers cannot be reached, the rest is told all the
same.
"""

import time
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from runstream_schemas.errors import CorruptDataError, EnvironmentUnavailableError
from runstream_schemas.follower import parse_position
from runstream_schemas.journal_status import StreamStatus, read_stream_status
from runstream_schemas.reader import Position as JournalPosition
from runstream_schemas.reader import journal_names
from runstream_schemas.streams import KafkaStream
from runstream_sink.kafka.log import Extent, Log
from runstream_sink.kafka.positions import parse_position as parse_offset
from runstream_sink.query.operations import list_positions
from runstream_sink.query.records import Position
from runstream_sink.store.protocol import StoreReader

__all__ = [
    "JournalsStatus",
    "PartitionStatus",
    "ShipperStatus",
    "TopicStatus",
    "read_journals_status",
    "read_topic_status",
]


class PartitionStatus(Struct, frozen=True):
    """One partition, in records."""

    partition: int
    begin: int
    end: int
    position: int | None
    """The next offset that the store reads; None if it has read nothing."""
    lag: int
    """Records that are there and that the store has not read."""
    lost: int
    """Records that were gone before the store had read them; later it knows only which events are missing."""


class TopicStatus(Struct, frozen=True):
    """A topic; without partitions where it could not be asked."""

    stream: str
    brokers: list[str]
    topic: str
    error: str | None
    """Why the topic could not be asked."""
    partitions: list[PartitionStatus]


class ShipperStatus(Struct, frozen=True):
    """What the shipper of a journal directory, or the last one, says of itself (its file ``shipper.json``)."""

    pid: int
    state: str
    error: str = ""
    shipped: int = 0
    """Events that brokers have acknowledged to it."""
    since: float = 0.0
    """When it came into this state, seconds since the epoch."""


class JournalsStatus(Struct, frozen=True):
    """A journal directory; its backlog is what no broker has acknowledged."""

    directory: str
    journals: StreamStatus | None
    """None if nothing was logged to the stream on this machine."""
    shipper: ShipperStatus | None
    oldest_age: float | None
    """Seconds since the first event of the backlog was emitted."""


async def read_topic_status(log: Log, stream: KafkaStream, reader: StoreReader | None) -> TopicStatus:
    """Ask the brokers, and the store if there is one."""
    positions = await list_positions(reader) if reader is not None else []
    error, found = None, []
    try:
        await log.open("")
        extents = await log.extents(await log.partitions())
        held = _offsets(positions, f"kafka:{log.name}")
        found = [_partition(number, extents[number], held.get(number)) for number in sorted(extents)]
    except EnvironmentUnavailableError as failure:
        error = str(failure)
    finally:
        await log.close()
    return TopicStatus(str(stream), list(stream.servers), stream.topic, error, found)


def read_journals_status(directory: Path) -> JournalsStatus:
    """What lies on this machine."""
    journals, oldest = None, None
    if (directory / "journals").is_dir():
        journals = read_stream_status(directory, _shipped(directory))
        oldest = journals.backlog.oldest
    age = None if oldest is None else max((time.time_ns() - oldest) / 1e9, 0.0)
    return JournalsStatus(str(directory), journals, _shipper(directory), age)


def _offsets(positions: list[Position], stream: str) -> dict[int, int]:
    return {int(held.part): parse_offset(held.position).offset for held in positions if held.stream == stream}


def _partition(number: int, extent: Extent, position: int | None) -> PartitionStatus:
    begin, end = extent
    start = begin if position is None else position
    lost = max(begin - start, 0)
    return PartitionStatus(number, begin, end, position, max(end - max(start, begin), 0), lost)


def _shipped(directory: Path) -> Mapping[str, JournalPosition]:
    """By journal, how far it is acknowledged."""
    found = {}
    for name in journal_names(directory / "journals"):
        try:
            found[name] = parse_position((directory / "shipped" / name).read_text(encoding="ascii"))
        except (OSError, UnicodeDecodeError, CorruptDataError):  # then nothing is known to be acknowledged
            continue
    return found


def _shipper(directory: Path) -> ShipperStatus | None:
    try:
        return msgspec.json.decode((directory / "shipper.json").read_bytes(), type=ShipperStatus)
    except (OSError, msgspec.MsgspecError):
        return None
