"""How a store stands, read from the disk, beside `runstream_schemas.journal_status`: no sink need run."""

import fcntl
import os

from msgspec import Struct

from runstream_schemas.follower import parse_position
from runstream_schemas.journal_status import Loss
from runstream_schemas.reader import Position
from runstream_sink.location import StoreLocation
from runstream_sink.query.operations import count_dead_letters, list_losses, list_positions
from runstream_sink.store.protocol import StoreReader

__all__ = ["StoreStatus", "read_store_status", "sink_process"]


class StoreStatus(Struct, frozen=True):
    """A store, as far as it concerns the stream."""

    store: str
    store_id: str
    sink: str | None
    """Process id of the running sink, as far as it is known; None if none runs."""
    losses: list[Loss]
    dead_letters: dict[str, int]
    """By reason; those that were retried are left out."""
    positions: dict[str, Position]
    """By journal, for the stream that was asked for."""


async def read_store_status(reader: StoreReader, stream: str) -> StoreStatus:
    """The store's side; ``stream`` is the name that `journal_status.stream_name` gives."""
    positions = {p.part: parse_position(p.position) for p in await list_positions(reader) if p.stream == stream}
    return StoreStatus(
        store=reader.location.text,
        store_id=reader.store_id,
        sink=sink_process(reader.location),
        losses=await list_losses(reader),
        dead_letters=await count_dead_letters(reader),
        positions=positions,
    )


def sink_process(location: StoreLocation) -> str | None:
    """The process that holds the store's lock: its id, or "unknown"; None if nobody does."""
    try:
        descriptor = os.open(location.lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
    finally:
        os.close(descriptor)
    return None
