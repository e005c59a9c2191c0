"""Writing on behalf of others: the sink's HTTP server puts what it is asked to write on the stream it consumes.

The sink finds this by the entry point group ``runstream.writing``, since it never imports the producer.  Events go
through a journal of this process, as those of any program do.  An event that the journal does not take raises, and is
not counted as lost: whoever asked is told.
"""

from typing import Any, NoReturn

from msgspec import Struct

from runstream.artifacts import Staging, media_type_of
from runstream.client import Client
from runstream_schemas.errors import EnvironmentUnavailableError

__all__ = ["Writing", "open_writing"]


def open_writing(stream: str, **settings: Any) -> "Writing":
    """Something that writes on ``stream``; nothing is opened before the first event.

    ``settings`` are those of `runstream.configure`.  Raises `InvalidInputError` for what is none.
    """
    return Writing(stream, **settings)


class Writing:
    """Puts events on one stream.  Thread-safe."""

    def __init__(self, stream: str, **settings: Any) -> None:
        self._client = _Refusing()
        self._client.configure(**{**settings, "stream": stream, "policy": "drop", "sample": 1.0})

    def emit(self, event: Struct) -> tuple[bytes, int]:
        """Put an event on the stream; returns its producer_id and seq.

        Raises `EnvironmentUnavailableError` if it is not accepted; there is no trace of it then.
        """
        origin = self._client.emit_located(event)
        if origin is None:
            raise EnvironmentUnavailableError("the journal took the event and lost it")
        return bytes.fromhex(origin[0]), origin[1]

    @property
    def staging(self) -> Staging:
        """Where bytes of artifacts go before their event."""
        return self._client.staging()

    @property
    def error(self) -> str:
        """What keeps events from reaching the stream's other end, as far as it is known here; empty if nothing."""
        return str(self._client.stats()["error"])

    @staticmethod
    def media_type(path: str) -> str | None:
        """The media type that a file's name tells."""
        return media_type_of(path)

    def close(self) -> None:
        """Sync and seal the journal, and let what ships it know."""
        self._client.close()
        self._client.end()


class _Refusing(Client):
    """A client whose events are accepted, or raise."""

    def count_drop(self, reason: str) -> NoReturn:
        """Refuse an event."""
        raise EnvironmentUnavailableError(_REFUSALS.get(reason, f"the journal takes no events: {reason}"))

    def end(self) -> None:
        """Nothing will be written any more: what was written must be shipped without this process."""
        self._link.end()


_REFUSALS = {
    "disk": "no journal can be written where the stream's journals lie; free space there, or make it writable",
    "quota": "the journal is full of events that nobody has read yet; let the sink catch up, or raise the quota",
    "too_large": "the event is too large for a journal; write less at once",
}
