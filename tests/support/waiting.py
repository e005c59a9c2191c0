"""Waiting for what other processes and threads do."""

import asyncio
from collections.abc import Callable

__all__ = ["until"]


async def until(condition: Callable[[], object], timeout: float = 60) -> None:  # noqa: ASYNC109 - for all callers alike
    """Wait until a condition holds; TimeoutError if it never does."""
    async with asyncio.timeout(timeout):
        while not condition():  # noqa: ASYNC110 - nobody could set an event: it is a file, or another process
            await asyncio.sleep(0.005)
