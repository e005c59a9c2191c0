"""Bytes of a topic that stand where an event should be: a record that is none of ours, or that lacks its payload.

See `runstream_sink.kafka.source`: such a record is handed out as the body of an event.
"""

from typing import Final

from runstream_schemas.batch import Batch, Fetch, decode_batch
from runstream_schemas.chunk import decode_chunk, is_chunk
from runstream_schemas.errors import CorruptDataError, MissingPayloadError, UnknownEventError

__all__ = ["batch_in", "reason_of"]

_BATCH: Final = b"RSB"


def reason_of(error: CorruptDataError, body: bytes) -> tuple[str, Exception]:
    """Why a body that cannot be decoded is dead: a word to group by, and an error that says it best."""
    if isinstance(error, UnknownEventError):
        return "unknown_type", error
    try:
        if is_chunk(body):
            decode_chunk(body)
        elif body.startswith(_BATCH):
            decode_batch(body)
    except MissingPayloadError as missing:
        return "payload_missing", missing
    except CorruptDataError as corrupt:
        return "undecodable", corrupt
    return "undecodable", error


def batch_in(body: bytes, fetch: Fetch) -> Batch | None:
    """The record batch that a body is, if it can be decoded by now; ``fetch`` gives payloads."""
    if not body.startswith(_BATCH):
        return None
    try:
        return decode_batch(body, fetch)
    except (CorruptDataError, MissingPayloadError):
        return None
