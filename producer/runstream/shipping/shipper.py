"""The shipper: follows all journals of a directory, puts them on a topic, notes and frees what was acknowledged.

What it promises, whatever transport it is given, and wherever it is killed:

* Every event of every journal comes to the topic at least once, those of one journal in the order of their seqs, and
  behind the chunks of the bytes that they refer to.  Every hole and every count of dropped events comes with them.
* A position is written, and a segment freed, only after the transport has said that all before it is acknowledged.
* Where the transport fails, it goes back to what is acknowledged, waits a little longer each time, and tries again as
  long as anything is left to ship.

The next delivery is read and encoded, in a thread, while the one before is on its way.
"""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import structlog

from runstream.shipping.cargo import Cargo, load
from runstream.shipping.losses import LossJournal
from runstream.shipping.progress import Progress
from runstream.shipping.transport import Transport, TransportError
from runstream_schemas.acknowledgements import Acknowledgements
from runstream_schemas.delivery import Delivery
from runstream_schemas.follower import Follower, parse_position
from runstream_schemas.retention import free

__all__ = ["CONSUMER", "IDLE", "News", "Shipper"]

CONSUMER: Final = "kafka"
"""What the shipper is called among the consumers of its directory."""
IDLE: Final = 5.0
"""Seconds without a living journal and anything to ship after which a shipper ends."""
_READ: Final = 4 << 20
"""Bytes of events of a delivery."""
_LEAST_PAUSE, _LONGEST_PAUSE = 0.002, 0.025
"""Seconds between looks for something new."""
_LEAST_WAIT, _LONGEST_WAIT = 0.1, 10.0
"""Seconds between tries of a transport that fails."""
_GRACE: Final = 5.0
"""Seconds that what is on its way may take once the shipper is to end."""
_LIVING: Final = 0.25
"""Seconds between looks whether anybody is left who could log."""
_FREE, _FREE_AT_LEAST = 1.0, 60.0
"""Seconds between two rounds of freeing: where something can be freed, and where only time has passed."""
_MOST_ROUNDS: Final = 3
"""How often, with ``once``, notices of losses are followed: a program may drop something all the time."""

_T = TypeVar("_T")
_log = structlog.get_logger(__name__)


class News(NamedTuple):
    """What a shipper tells of itself."""

    state: str
    """``connecting``, ``shipping`` or ``waiting`` (for the next try)."""
    error: str
    """Why it waits; empty while all is well."""
    shipped: int
    """Events that were acknowledged since it began."""


class _StoppedError(Exception):
    """It was told to end, and what was on its way has had its time."""


class Shipper:
    """Ships one directory, once; `run` is the whole of it.

    With ``once`` it ships what is there when it begins, and ends; without, it ends when nobody is left who could log,
    and nothing to ship, for ``idle`` seconds.  Both end early, in order, after `stop`.
    """

    def __init__(
        self,
        directory: Path,
        transport: Transport,
        tell: Callable[[News], None] = lambda _: None,
        *,
        once: bool = False,
        patience: float = 30.0,
        idle: float = IDLE,
    ) -> None:
        """``patience``: with ``once``, seconds without any success after which `run` gives up."""
        self._directory = directory
        self._transport = transport
        self._tell = tell
        self._once = once
        self._patience = patience
        self._idle = idle
        self._follower = self._follow()
        self._progress = Progress(directory)
        self._acknowledgements = Acknowledgements(directory, CONSUMER, self._trim)
        self._losses = LossJournal(directory)
        self._untold: dict[tuple[bytes, int, str], int] = {}
        self._stopping = asyncio.Event()
        self._news = News("connecting", "", 0)
        self._succeeded = self._busy = time.monotonic()
        self._wait = _LEAST_WAIT
        self._looked = self._freed = 0.0
        self._freeable = True
        self._quiet = False
        self._rounds = 0

    def stop(self) -> None:
        """End soon: what is on its way gets a few seconds to be acknowledged."""
        self._stopping.set()

    @property
    def stopped(self) -> bool:
        """Whether it was told to end."""
        return self._stopping.is_set()

    async def run(self) -> None:
        """Ship.  Raises OSError if the directory cannot be had, and `TransportError` if it gives up (``once`` only)."""
        await asyncio.to_thread(self._begin)
        try:
            while not await self._try():
                pass
        except _StoppedError:
            _log.warning("shipping ends before everything that was on its way is acknowledged")
        finally:
            await asyncio.to_thread(self._end)

    def _follow(self) -> Follower:
        until = time.time_ns() if self._once else None
        return Follower(self._directory, until=until, unreadable=_tell_unreadable)

    def _begin(self) -> None:
        (self._directory / "journals").mkdir(parents=True, exist_ok=True)
        self._acknowledgements.register()
        self._progress.load()

    def _end(self) -> None:
        self._losses.close()
        self._guarded(lambda: self._progress.write(everything=True))
        self._guarded(self._free)
        self._guarded(self._follower.close)

    async def _try(self) -> bool:
        """Ship until all is done, which is the answer, or something fails."""
        try:
            await self._session()
        except (TransportError, OSError) as error:
            may_retry = error.may_retry if isinstance(error, TransportError) else True
            if self._gives_up(may_retry=may_retry):
                raise
            self._inform(state="waiting", error=str(error))
            return await self._wait_or_end(may_retry=may_retry)
        return True

    def _gives_up(self, *, may_retry: bool) -> bool:
        return self._once and (not may_retry or time.monotonic() - self._succeeded > self._patience)

    async def _wait_or_end(self, *, may_retry: bool) -> bool:
        """Wait for the next try; True if there is nothing to try it for."""
        if not self._once and await asyncio.to_thread(self._nothing_left):
            return True
        self._wait = min(self._wait * 2, _LONGEST_WAIT) if may_retry else _LONGEST_WAIT
        return await self._stopped_within(self._wait * random.uniform(0.5, 1.0))  # noqa: S311 - jitter

    def _nothing_left(self) -> bool:
        """Whether nobody lives and nothing is unshipped, so that it does not matter that the transport fails."""
        try:
            living = self._follower.living(self._losses.names)
            self._rewind()
            return not living and not self._follower.read(1) and self._follower.exhausted()
        except OSError:
            return False

    async def _session(self) -> None:
        """Everything from one opening of the transport to its closing."""
        try:
            self._inform(state="connecting")
            await self._unless_stopped(self._transport.open(), grace=0)
            await asyncio.to_thread(self._rewind)
            self._inform(state="shipping", error="")
            await self._ship()
        finally:
            await self._transport.close()

    def _trim(self, name: str) -> None:
        self._follower.trim(name)

    def _rewind(self) -> None:
        """Go on behind what is acknowledged."""
        self._follower.seek(self._progress.positions)
        self._owe(self._acknowledgements.resume(self._progress.positions))

    async def _ship(self) -> None:
        ahead = self._read_ahead()
        try:
            pause = _LEAST_PAUSE
            while not self._stopping.is_set():
                delivery, cargo = await ahead
                if delivery:
                    ahead = self._read_ahead()
                    await self._send(cargo)
                    await asyncio.to_thread(self._acknowledge, delivery, sum(one.events for one in cargo))
                    pause = _LEAST_PAUSE
                    continue
                if await asyncio.to_thread(self._finished) or await self._stopped_within(pause):
                    return
                pause = min(pause * 2, _LONGEST_PAUSE)
                ahead = self._read_ahead()
        finally:
            await asyncio.wait([ahead])  # the thread reads on: nobody else may use the follower before it is done
            if not ahead.cancelled():
                ahead.exception()

    def _read_ahead(self) -> "asyncio.Task[tuple[Delivery, list[Cargo]]]":
        return asyncio.create_task(asyncio.to_thread(self._read))

    def _read(self) -> tuple[Delivery, list[Cargo]]:
        delivery = self._follower.read(_READ)
        return delivery, load(delivery, self._directory / "staging", self._transport.limit)

    async def _send(self, cargo: list[Cargo]) -> None:
        """Have all producers' parts on the topic.  The first failure is everybody's."""
        sends = [asyncio.create_task(self._transport.send(one.key, one.values)) for one in cargo]
        if not sends:
            return
        try:
            done, _ = await self._unless_stopped(asyncio.wait(sends, return_when=asyncio.FIRST_EXCEPTION), grace=_GRACE)
            for send in done:
                send.result()
        finally:
            for send in sends:
                send.cancel()
            await asyncio.gather(*sends, return_exceptions=True)

    def _acknowledge(self, delivery: Delivery, events: int) -> None:
        """All of a delivery is on the topic."""
        self._succeeded = self._busy = time.monotonic()
        self._wait, self._quiet = _LEAST_WAIT, False
        self._untold |= delivery.losses
        self._guarded(self._tell_losses)
        positions = {name: after for name, (_, after) in delivery.positions.items()}
        self._guarded(lambda: self._progress.advance(positions))
        self._owe(self._acknowledgements.settle(positions))
        self._freeable |= any(_leaves_segment(*ends) for ends in delivery.positions.values())
        self._free_if_due()
        self._inform(shipped=self._news.shipped + events)

    def _tell_losses(self) -> None:
        self._losses.tell(self._untold)
        self._untold.clear()

    def _finished(self) -> bool:
        """Nothing was there to read: look after what is due, and say whether that was all."""
        self._guarded(self._tell_losses)
        self._guarded(self._progress.write)
        self._owe(self._acknowledgements.try_again())
        self._free_if_due()
        if self._once:
            return not self._has_own_losses()
        if self._quiet and self._follower.exhausted():
            return not self._has_own_losses()
        now = time.monotonic()
        if now - self._looked >= _LIVING:
            self._looked = now
            if self._follower.living(self._losses.names):
                self._busy = now
        self._quiet = now - self._busy >= self._idle and not self._follower.living(self._losses.names)
        return False

    def _has_own_losses(self) -> bool:
        """Close the journal of this process, and say whether it must be shipped first."""
        if not self._losses.close() or self._rounds == _MOST_ROUNDS:
            return False
        if self._once:  # it has come after what is there
            self._rounds += 1
            self._follower.close()
            self._follower = self._follow()
            self._follower.seek(self._progress.positions)
        return True

    def _free_if_due(self) -> None:
        since = time.monotonic() - self._freed
        if since >= _FREE_AT_LEAST or (self._freeable and since >= _FREE):
            self._guarded(self._free)

    def _free(self) -> None:
        self._freed, self._freeable = time.monotonic(), False
        free(self._directory, 0, 0, note_removed=False)
        self._progress.forget_removed()

    def _guarded(self, work: Callable[[], None]) -> None:
        """Do something that a full or failing disk may refuse; shipping goes on, and it comes up again."""
        try:
            work()
        except OSError as error:
            self._owe(error)

    def _owe(self, error: OSError | None) -> None:
        if error is not None:
            _log.warning("the journal directory's disk refuses something; its room is not freed", reason=str(error))

    def _inform(self, **changes: Any) -> None:
        self._news = self._news._replace(**changes)
        self._tell(self._news)

    async def _unless_stopped(self, work: Coroutine[Any, Any, _T], *, grace: float) -> _T:
        """Do something; once the shipper is to end, for at most ``grace`` seconds more: then raises `_StoppedError`."""
        task, stopping = asyncio.create_task(work), asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                await asyncio.wait({task}, timeout=grace)
            if task.done():
                return task.result()
            raise _StoppedError
        finally:
            for one in (task, stopping):
                one.cancel()
            await asyncio.gather(task, stopping, return_exceptions=True)

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self._stopping.wait()
        except TimeoutError:
            return False


def _leaves_segment(before: str | None, after: str) -> bool:
    old, new = parse_position(before or ""), parse_position(after)
    return new.done or new.segment != old.segment


def _tell_unreadable(name: str, reason: str) -> None:
    _log.error("a journal is left unread", journal=name, reason=reason)
