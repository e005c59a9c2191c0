"""Records that are gone from a topic before they were read: whose events they held, as far as later ones show it."""

from collections.abc import Iterable
from typing import Final

import structlog

from runstream_sink.intervals import IntervalSet
from runstream_sink.location import StoreLocation
from runstream_sink.missing import Missing, find_missing
from runstream_sink.store.reading import open_reader

__all__ = ["GapReporter"]

_MOST_LISTED: Final = 20
"""Producers that are named one by one."""
_log = structlog.get_logger(__name__)


class GapReporter:
    """Logs, by producer, the events that are missing from a store and were not when records were lost."""

    def __init__(self, location: StoreLocation) -> None:
        self._location = location
        self._known: dict[bytes, list[tuple[int, int]]] | None = None

    async def lost(self) -> None:
        """Remember what was missing before."""
        if self._known is None:
            self._known = {held.producer_id: held.intervals for held in await self._missing()}

    async def passed(self) -> None:
        """Tell what is missing now."""
        known, self._known = self._known or {}, None
        fresh = [found for held in await self._missing() if (found := _unknown(held, known)).intervals]
        for held in fresh[:_MOST_LISTED]:
            _log.error(
                "events are lost: they are gone from the topic",
                producer=held.producer_id.hex(),
                count=held.events,
                intervals=held.intervals[:_MOST_LISTED],
            )
        _log.error("events are lost, of all producers", producers=len(fresh), count=sum(held.events for held in fresh))

    async def _missing(self) -> Iterable[Missing]:
        reader = await open_reader(self._location)
        try:
            return await find_missing(reader)
        finally:
            await reader.close()


def _unknown(held: Missing, known: dict[bytes, list[tuple[int, int]]]) -> Missing:
    before = IntervalSet(known.get(held.producer_id, ()))
    return Missing(held.producer_id, [gap for first, last in held.intervals for gap in before.missing(first, last)])
