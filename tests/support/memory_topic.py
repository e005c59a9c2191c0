"""A topic in memory that stores what it is sent, and fails on command: a transport for tests of the shipper."""

import asyncio
from collections.abc import Iterable

from runstream.shipping.transport import TransportError
from runstream_schemas.batch import Batch, decode_batch
from runstream_schemas.chunk import decode_chunk, is_chunk
from runstream_schemas.errors import EnvironmentUnavailableError

__all__ = ["MemoryTopic", "payloads"]


class MemoryTopic:
    """One partition a key.  Values are there, whether or not their acknowledgement arrives."""

    def __init__(self, limit: int = 1 << 20) -> None:
        self.limit = limit
        self.values: dict[bytes, list[bytes]] = {}
        self.opened = self.closed = 0
        self.refusals: list[EnvironmentUnavailableError] = []
        """What the next openings raise."""
        self.fail_after: int | None = None
        """How many values are taken until one comes that is stored and not acknowledged."""
        self.acknowledges = asyncio.Event()
        self.acknowledges.set()
        self.waiting = asyncio.Event()
        """Set once something waits for its acknowledgement."""
        self._open = False

    async def open(self) -> None:
        """Connect, unless that is to be refused."""
        assert not self._open, "opened twice"
        self.opened += 1
        if self.refusals:
            raise self.refusals.pop(0)
        self._open = True

    async def send(self, key: bytes, values: Iterable[bytes]) -> None:
        """Store values, one after the other."""
        assert self._open, "used after it was closed, or before it was opened"
        for value in values:
            assert len(value) <= self.limit, f"a value of {len(value)} bytes"
            self.values.setdefault(key, []).append(value)
            await asyncio.sleep(0)
            if self.fail_after is not None:
                self.fail_after -= 1
                if self.fail_after < 0:
                    self.fail_after = None
                    raise TransportError("the brokers are gone", may_retry=True)
        self.waiting.set()
        await self.acknowledges.wait()

    async def close(self) -> None:
        """Let go."""
        self.closed += 1
        self._open = False

    def batches(self, key: bytes) -> list[Batch]:
        """What was sent of one producer, in its order; every payload that is referred to lies before its reference."""
        found: list[Batch] = []
        held: dict[str, bytearray] = {}
        for value in self.values.get(key, []):
            if is_chunk(value):
                chunk = decode_chunk(value)
                whole = held.setdefault(chunk.sha256, bytearray(chunk.size))
                whole[chunk.offset : chunk.offset + len(chunk.data)] = chunk.data
            else:
                found.append(decode_batch(value, lambda sha256, _: bytes(held[sha256])))
        return found

    def events(self, key: bytes) -> dict[int, bytes]:
        """Bodies by seq, as whoever counts each event once has them."""
        records = (record for batch in self.batches(key) for record in batch.records)
        found: dict[int, bytes] = {}
        for record in records:
            assert found.setdefault(record[0], record[2]) == record[2]
        return found


def payloads(values: Iterable[bytes]) -> dict[str, bytes]:
    """What chunks make up, by SHA-256."""
    held: dict[str, bytearray] = {}
    for value in values:
        if is_chunk(value):
            chunk = decode_chunk(value)
            whole = held.setdefault(chunk.sha256, bytearray(chunk.size))
            whole[chunk.offset : chunk.offset + len(chunk.data)] = chunk.data
    return {sha256: bytes(whole) for sha256, whole in held.items()}
