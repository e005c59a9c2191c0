"""Several readers of one store that look like one: requests do not wait for each other's queries.

A query goes to the reader that has the least to do.  What is read piece by piece gets a reader of its own, since an
unfinished query would show all others on its connection the store as it was when it began.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from runstream_sink.location import StoreLocation
from runstream_sink.store.protocol import Row, StoreReader
from runstream_sink.store.reading import open_reader
from runstream_sink.store.search_plan import Placed, SearchPlan

__all__ = ["PooledReader"]

_READERS: Final = 3
_STREAMS: Final = 32
"""Most queries that are read piece by piece at a time."""


class PooledReader:
    """A `StoreReader` of several connections."""

    def __init__(self, readers: list[StoreReader]) -> None:
        self._readers = readers
        self._busy = [0] * len(readers)
        self._idle: list[StoreReader] = []
        self._streams = asyncio.Semaphore(_STREAMS)
        self._closed = False

    @classmethod
    async def open(cls, location: StoreLocation, readers: int = _READERS) -> "PooledReader":
        """Open a store.  Raises what `open_reader` raises."""
        opened: list[StoreReader] = []
        try:
            for _ in range(readers):
                opened.append(await open_reader(location))  # noqa: PERF401 - those that are open are closed below
        except BaseException:
            for reader in opened:
                await reader.close()
            raise
        return cls(opened)

    @property
    def store_id(self) -> str:
        """See `StoreReader.store_id`."""
        return self._readers[0].store_id

    @property
    def location(self) -> StoreLocation:
        """See `StoreReader.location`."""
        return self._readers[0].location

    async def close(self) -> None:
        """See `StoreReader.close`."""
        self._closed = True
        idle, self._idle = self._idle, []
        for reader in (*self._readers, *idle):
            await reader.close()

    async def fetch(self, query: str, **parameters: Any) -> list[Row]:
        """See `StoreReader.fetch`."""
        async with self._least_busy() as reader:
            return await reader.fetch(query, **parameters)

    async def search(self, plan: SearchPlan) -> list[Placed]:
        """See `StoreReader.search`."""
        async with self._least_busy() as reader:
            return await reader.search(plan)

    async def stream(self, query: str, **parameters: Any) -> AsyncGenerator[list[Row], None]:
        """See `StoreReader.stream`."""
        async with self._streams:
            reader = self._idle.pop() if self._idle else await open_reader(self.location)
            rows = reader.stream(query, **parameters)
            try:
                async for page in rows:
                    yield page
            finally:
                await rows.aclose()
                await self._give_back(reader)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[StoreReader]:
        """See `StoreReader.snapshot`."""
        async with self._streams, self._readers[0].snapshot() as frozen:
            yield frozen

    @asynccontextmanager
    async def _least_busy(self) -> AsyncIterator[StoreReader]:
        chosen = min(range(len(self._readers)), key=self._busy.__getitem__)
        self._busy[chosen] += 1
        try:
            yield self._readers[chosen]
        finally:
            self._busy[chosen] -= 1

    async def _give_back(self, reader: StoreReader) -> None:
        if self._closed or len(self._idle) >= len(self._readers):
            await reader.close()
        else:
            self._idle.append(reader)
