"""The connection to SQLite: how it ends when it cannot begin."""

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from runstream_schemas.errors import CorruptDataError, EnvironmentUnavailableError
from runstream_sink.store.connection import connect


def test_a_connection_that_fails_needs_the_event_loop_no_more(tmp_path: Path) -> None:
    """A command that ends at once, since it cannot open its store, leaves no thread that answers to a closed loop."""

    async def fail() -> None:
        with pytest.raises(EnvironmentUnavailableError, match="the store mine"):
            await connect(tmp_path / "missing.db", "mine", lambda _: None, mode="ro")

    for _ in range(300):
        asyncio.run(fail())


def test_a_connection_that_is_cancelled_needs_the_event_loop_no_more(tmp_path: Path) -> None:
    """The same where somebody gave up while the connection was being made."""
    go_on = threading.Event()

    def prepare(_: sqlite3.Connection) -> None:
        go_on.wait(60)

    async def give_up() -> None:
        task = asyncio.create_task(connect(tmp_path / "new.db", "mine", prepare, mode="rwc"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    for _ in range(100):
        go_on.clear()
        asyncio.run(give_up())


async def test_a_schema_that_is_no_text_is_damage(tmp_path: Path) -> None:
    """SQLite repeats it in its complaint, which Python then cannot decode."""

    def prepare(_: sqlite3.Connection) -> None:
        b"\xff".decode()

    with pytest.raises(CorruptDataError, match="the store mine is damaged"):
        await connect(tmp_path / "new.db", "mine", prepare, mode="rwc")
