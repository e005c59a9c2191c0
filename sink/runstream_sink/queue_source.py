"""The queue directory as a source: a thin asynchronous layer over what everybody does with a queue directory.

See `runstream_schemas.follower` for the directory and its positions, `runstream_schemas.acknowledgements` for what a
registered consumer writes there.
"""

import asyncio
from pathlib import Path

import structlog

from runstream_schemas.acknowledgements import Acknowledgements
from runstream_schemas.delivery import Delivery
from runstream_schemas.directories import make_durable
from runstream_schemas.errors import EnvironmentUnavailableError
from runstream_schemas.follower import Follower, queue_id
from runstream_sink.source import EVENT_WEIGHT

__all__ = ["QueueSource"]

_log = structlog.get_logger(__name__)


class QueueSource:
    """Reads all journals of a queue directory, living and dead.

    With ``register=False`` nothing is written to the queue directory: no consumer is registered, nothing is
    acknowledged or trimmed.  With ``until`` (nanoseconds since the epoch) it reads what is there, and ends: see
    `Follower`.
    """

    def __init__(self, directory: Path, *, register: bool = True, until: int | None = None) -> None:
        self.directory = directory
        self.name = ""
        self._register = register
        self._journals = directory / "journals"
        self._follower = Follower(directory, until=until, unreadable=_tell_unreadable, event_weight=EVENT_WEIGHT)
        self._acknowledgements: Acknowledgements | None = None

    async def open(self, consumer: str) -> None:
        """Find the queue, and register as a consumer."""
        await asyncio.to_thread(self._open, consumer)

    async def read(self, limit: int) -> Delivery:
        """Take turns among the journals that have something new."""
        return await asyncio.to_thread(self._read, limit)

    async def committed(self, delivery: Delivery) -> None:
        """Note for the producers and for retention which segments are applied."""
        if self._acknowledgements is not None:
            positions = {name: text for name, (_, text) in delivery.positions.items()}
            _tell_refused(await asyncio.to_thread(self._acknowledgements.settle, positions))

    def backlog(self) -> bool:
        """Whether the last read stopped at its limit."""
        return self._follower.backlog

    async def seek(self, positions: dict[str, str]) -> None:
        """Begin at the positions that the store has committed."""
        await asyncio.to_thread(self._seek, positions)

    async def close(self) -> None:
        """Close all files."""
        await asyncio.to_thread(self._seek, {})

    def _open(self, consumer: str) -> None:
        if self._register:
            make_durable(self._journals)
            self._acknowledgements = Acknowledgements(self.directory, consumer, self._follower.trim)
            self._acknowledgements.register()
        elif not self._journals.is_dir():
            raise EnvironmentUnavailableError(
                f"{self.directory} is no queue directory (it has no journals); check --stream"
            )
        self.name = f"queue:{queue_id(self.directory, make=self._register)}"

    def _read(self, limit: int) -> Delivery:
        if self._acknowledgements is not None:
            _tell_refused(self._acknowledgements.try_again())
        return self._follower.read(limit)

    def _seek(self, positions: dict[str, str]) -> None:
        self._follower.seek(positions)
        if self._acknowledgements is not None:
            _tell_refused(self._acknowledgements.resume(positions))


def _tell_unreadable(journal: str, reason: str) -> None:
    _log.error("a journal is left unread", journal=journal, reason=reason)


def _tell_refused(error: OSError | None) -> None:
    if error is not None:
        _log.warning("what is applied cannot be acknowledged; its room is not freed", reason=str(error))
