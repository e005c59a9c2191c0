"""What a client has to do with shipping: nothing where its stream is a queue.

The rest of this package is loaded when the first journal of a stream in Kafka is opened, so that other programs do not
pay for it.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from runstream.config import Config
from runstream.journal import Journal
from runstream_schemas.streams import KafkaStream

if TYPE_CHECKING:
    from runstream.shipping.launch import Launcher
    from runstream.shipping.shipments import Shipments

__all__ = ["Link"]

_PATIENCE: Final = 30.0
"""Seconds that are waited for brokers where nobody says how long."""


class Link:
    """One process's tie to the shippers of its journals.  Nothing raises."""

    def __init__(self) -> None:
        self._launcher: Launcher | None = None
        self._shipments: Shipments | None = None

    def opened(self, journal: Journal, config: Config, arguments: Mapping[str, Any]) -> None:
        """A journal was opened, with these settings, of which the program has given ``arguments``."""
        if not isinstance(config.stream, KafkaStream):
            self._launcher = None
            return
        from runstream.shipping.launch import Launcher
        from runstream.shipping.shipments import Shipments

        self._shipments = self._shipments or Shipments()
        self._shipments.add(config.queue, journal)
        launcher = Launcher(config.queue, config.stream, arguments, starts=config.shipper == "auto")
        launcher.begin()
        self._launcher = launcher

    def closed(self, journal: Journal, *, lost: bool = False) -> None:
        """A journal was closed; one that somebody has removed is ``lost``, and not waited for."""
        if self._shipments is not None:
            self._shipments.settle(journal, lost=lost)

    def look(self) -> None:
        """Called again and again by the background thread."""
        if self._launcher is not None:
            self._launcher.look()

    def end(self) -> None:
        """The program ends; takes two seconds at most."""
        if self._launcher is not None:
            self._launcher.end()

    @property
    def error(self) -> str:
        """Why nothing is shipped now, empty while all is well."""
        return self._launcher.error if self._launcher is not None else ""

    @property
    def shipped(self) -> int:
        """Events that the brokers have acknowledged."""
        return self._shipments.shipped if self._shipments is not None else 0

    def wait(self, timeout: float | None) -> bool:
        """Wait until the brokers have all that was accepted; False if ``timeout`` (30) seconds were not enough."""
        return self._shipments is None or self._shipments.wait(_PATIENCE if timeout is None else timeout)
