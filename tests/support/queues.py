"""Reading a queue directory in tests: what a delivery holds, reading on to its end, journals of killed processes."""

import struct
from pathlib import Path
from zlib import crc32

from runstream_schemas.delivery import Delivery
from runstream_schemas.segment import pack_header, pack_record, record_seed, segment_name
from runstream_sink.queue_source import QueueSource

__all__ = ["LIMIT", "TIME", "dead_journal", "events", "read_on"]

LIMIT = 8 << 20
TIME = 1_795_496_400_000_000_000


def events(delivery: Delivery) -> dict[bytes, list[bytes]]:
    """Bodies by producer."""
    found: dict[bytes, list[bytes]] = {}
    for batch in delivery.batches:
        found.setdefault(batch.producer_id, []).extend(body for _, _, body in batch.records)
    return found


async def read_on(source: QueueSource, limit: int = LIMIT) -> list[Delivery]:
    """Read, and acknowledge, until nothing comes any more."""
    deliveries = []
    while delivery := await source.read(limit):
        deliveries.append(delivery)
        await source.committed(delivery)
    return deliveries


def dead_journal(queue: Path, number: int, *bodies: bytes, version: int = 1, time: int = TIME) -> Path:
    """A journal whose process was killed, in one segment; its first event was emitted at ``time``."""
    producer = number.to_bytes(16, "big")
    path = queue / "journals" / producer.hex()
    path.mkdir(parents=True)
    page = bytearray(pack_header(producer, 0, 65_536, time))
    struct.pack_into("<I", page, 12, version)
    struct.pack_into("<I", page, 8, crc32(page[12:56]))
    records = b"".join(pack_record(seq, time + seq, body, record_seed(producer)) for seq, body in enumerate(bodies))
    (path / segment_name(0)).write_bytes((bytes(page) + records).ljust(65_536, b"\0"))
    return path
