"""A simulated shipper: the real one, on a loop of its own, which goes on as long as it is allowed to."""

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from unittest import mock

from runstream.filesystem import Filesystem
from runstream.shipping import losses, shipper
from runstream.shipping.shipper import Shipper
from runstream.shipping.transport import Transport
from runstream_schemas.retention import free
from support.journals import FaultyFilesystem, Killed
from support.simulation_runtime import VirtualTime, new_loop

__all__ = ["SimulatedShipper"]

_LONG: Final = 3600.0
_IDLE: Final = 0.5
"""Seconds: more than anything takes; without anybody who could log."""
_LATE: Final = 2e9
"""When it frees, seconds since the epoch: staged bytes are as old then as they have to be."""


class SimulatedShipper:
    """The process that ships one journal directory; it may be started again and again."""

    name = "the shipper"

    def __init__(self, directory: Path, time: VirtualTime, connect: Callable[[], Transport]) -> None:
        self._directory = directory
        self._time = time
        self._connect = connect
        self._disks: list[FaultyFilesystem] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._transport: Transport | None = None
        self._shipper: Shipper | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        """Whether there is one."""
        return self._task is not None

    def start(self, *, once: bool) -> None:
        """Begin."""
        self._loop = new_loop(self._time)
        self._transport = self._connect()
        self._shipper = Shipper(self._directory, self._transport, once=once, patience=1.0, idle=_IDLE)
        self._task = self._loop.create_task(self._shipper.run())

    def go(self, seconds: float) -> None:
        """Let it work for a time.  Raises what it raises."""
        assert self._loop is not None
        assert self._task is not None
        task = self._task
        self._loop.run_until_complete(asyncio.wait({task}, timeout=seconds))
        if task.done():
            self._let_go()
            task.result()

    def finish(self) -> None:
        """Let it work until it ends by itself."""
        self.go(_LONG)
        assert not self.running, "the shipper does not end"

    def stop(self) -> None:
        """Tell it to end, and wait for that."""
        assert self._shipper is not None
        self._shipper.stop()
        self.finish()

    def die(self) -> None:
        """See `Process.die`."""
        if self._loop is not None and self._transport is not None:
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            if tasks:
                self._loop.run_until_complete(asyncio.wait(tasks, timeout=_LONG))
            with contextlib.suppress(Killed):
                self._loop.run_until_complete(self._transport.close())
            self._let_go()

    @contextlib.contextmanager
    def installed(self, choice: random.Random) -> Iterator[None]:
        """Let shippers do all by chance of this simulation, and on its disk."""
        with (
            mock.patch.object(shipper, "random", choice),
            mock.patch.object(shipper, "free", lambda *given, **named: free(*given, now=_LATE, **named)),
            mock.patch.object(losses, "Filesystem", self._disk),
        ):
            yield

    def _disk(self) -> Filesystem:
        self._disks.append(FaultyFilesystem())
        return self._disks[-1]

    def _let_go(self) -> None:
        assert self._loop is not None
        self._loop.close()
        self._loop = self._shipper = self._transport = self._task = None
        for disk in self._disks:
            disk.die()
        self._disks.clear()
