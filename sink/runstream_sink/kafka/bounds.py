"""Where a replay of a topic begins and ends.

==============================  =============================================================================
``earliest``, ``latest``        the first record that the topic still holds; behind the last one
``2026-11-24T08:30:00Z``        the first record that was sent then or later (ISO 8601; UTC where no zone is named)
``1795509000000``               the same, milliseconds since the epoch
``0=100,1=250``                 offsets by partition; of others everything
==============================  =============================================================================
"""

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from runstream_schemas.errors import InvalidInputError
from runstream_sink.kafka.log import Extent, Log

__all__ = ["EARLIEST", "LATEST", "Bound", "parse_bound", "resolve_bound"]

_OFFSETS: Final = re.compile(r"[0-9]{1,9}=[0-9]{1,18}(,[0-9]{1,9}=[0-9]{1,18})*", re.ASCII)
_MILLISECONDS: Final = re.compile(r"[0-9]{1,18}", re.ASCII)


@dataclass(frozen=True)
class Bound:
    """A place in each partition of a topic."""

    text: str
    timestamp: int | None = None
    """Milliseconds since the epoch."""
    offsets: Mapping[int, int] = field(default_factory=dict)
    """By partition."""


EARLIEST: Final = Bound("earliest")
LATEST: Final = Bound("latest")


def parse_bound(text: str, option: str) -> Bound:
    """A bound from what a user wrote for ``option``.  Raises `InvalidInputError`."""
    named = {"--from": EARLIEST, "--until": LATEST}[option]
    if text == named.text:
        return named
    if _OFFSETS.fullmatch(text):
        pairs = [pair.split("=") for pair in text.split(",")]
        return Bound(text, offsets={int(partition): int(offset) for partition, offset in pairs})
    if _MILLISECONDS.fullmatch(text):
        return Bound(text, int(text))
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInputError(
            f"{option} is {text!r:.100}; it must be {named.text}, a time such as 2026-11-24T08:30:00Z or "
            "1795509000000 (milliseconds), or offsets by partition such as 0=100,1=250"
        ) from None
    zoned = moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
    return Bound(text, int(zoned.timestamp() * 1000))


async def resolve_bound(bound: Bound, log: Log, extents: Mapping[int, Extent], *, end: bool) -> dict[int, int]:
    """The offset of a bound in each partition; what it does not name is whole, whether its ``end`` is asked for or not.

    Raises `InvalidInputError` for a partition that there is not.
    """
    unknown = sorted(bound.offsets.keys() - extents.keys())
    if unknown:
        raise InvalidInputError(
            f"{bound.text!r:.100} names partition {unknown[0]}, and the topic has none but 0 to {max(extents)}"
        )
    places = {partition: extent.end if end else extent.begin for partition, extent in extents.items()}
    if bound.timestamp is not None:
        found = await log.offsets_at(dict.fromkeys(extents, bound.timestamp))
        places = {
            partition: extent.end if found[partition] is None else found[partition] or 0
            for partition, extent in extents.items()
        }
    places |= bound.offsets
    return {partition: min(max(places[partition], extent.begin), extent.end) for partition, extent in extents.items()}
