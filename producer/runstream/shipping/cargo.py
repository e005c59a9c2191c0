"""What is sent of a delivery: for each producer, chunks and record batches in the order in which they must arrive."""

from collections.abc import Iterator, Sequence
from hashlib import sha256
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from runstream.shipping.staged import chunks_of_staged, staged_contents
from runstream_schemas.batch import Batch, EncodedBatch, claim_batch, encode_batches
from runstream_schemas.chunk import chunks_of
from runstream_schemas.delivery import Delivery
from runstream_schemas.segment import Hole

__all__ = ["LARGEST_BATCH", "Cargo", "load"]

LARGEST_BATCH: Final = 512 << 10
"""Bytes of a record batch, where its event allows and the topic takes it."""


_log = structlog.get_logger(__name__)


class Cargo(NamedTuple):
    """What one producer's part of a delivery becomes."""

    key: bytes
    """producer_id."""
    values: Sequence[bytes] | Iterator[bytes]
    """A sequence where it is in memory already; else an iterator that reads files while it is taken."""
    events: int
    """How many events it holds."""


def load(delivery: Delivery, staging: Path, limit: int) -> list[Cargo]:
    """Encode a delivery for a topic that takes ``limit`` bytes a value."""
    found: dict[bytes, list[Batch]] = {}
    for batch in delivery.batches:
        found.setdefault(batch.producer_id, []).append(batch)
    return [_cargo(key, batches, staging, limit) for key, batches in found.items()]


def _cargo(key: bytes, batches: list[Batch], staging: Path, limit: int) -> Cargo:
    records = [record for batch in batches for record in batch.records]
    holes = [hole for batch in batches for hole in batch.holes]
    encoded = _encode(Batch(key, records, holes), min(limit, LARGEST_BATCH))
    values = [value for one in encoded for value in _within(one.data, limit)]
    contents = staged_contents(staging, records)
    if not contents:
        return Cargo(key, values, len(records))
    files = chain.from_iterable(chunks_of_staged(staging, content, limit) for content in contents)
    return Cargo(key, chain(files, values), len(records))


def _encode(batch: Batch, limit: int) -> list[EncodedBatch]:
    """Damage must not stop a stream: where a journal tells of a seq twice, an event counts, and the first one of them.

    That can be where a file of another journal lies among the segments of this one.
    """
    try:
        return encode_batches(batch, limit)
    except ValueError as error:
        _log.warning("a journal tells of an event twice", journal=batch.producer_id.hex(), reason=str(error))
    records = {record[0]: record for record in reversed(batch.records)}
    holes: dict[int, Hole] = {}
    for hole in batch.holes:
        if not any(hole.first <= seq <= hole.last for seq in (*records, *holes)):
            holes[hole.first] = hole
    ordered = [records[seq] for seq in sorted(records)]
    return encode_batches(Batch(batch.producer_id, ordered, list(holes.values())), limit)


def _within(data: bytes, limit: int) -> Iterator[bytes]:
    """A batch, or, where its one event is too large for a value, the event in chunks and a batch that refers to it."""
    if len(data) <= limit:
        yield data
        return
    small, payload = claim_batch(data)
    yield from chunks_of(sha256(payload).hexdigest(), len(payload), BytesIO(payload).read, limit)
    yield small
