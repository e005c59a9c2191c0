"""Reading what was written before: a read waits until the sink has applied what this process has logged.

It waits only where a sink is seen to run, and no longer than the setting ``read_wait``; after a sink that did not apply
in time, for example because it reads another stream, reads do not wait for it for a while.
"""

import time
from typing import Final

from runstream.client import Client
from runstream.tracking.records import Source
from runstream_schemas.errors import EnvironmentUnavailableError

__all__ = ["Settling"]

_RETRY: Final = 30.0
"""Seconds for which a sink that did not apply in time is not waited for again."""
_PAUSE: Final = 0.002
_LONGEST_PAUSE: Final = 0.05


class Settling:
    """Waits for the events of one client.

    Thread-safe without a lock, which a forked child might inherit locked: what two threads learn at the same time is
    true of both, and the less of it is learned again.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._settled: dict[bytes, int] = {}
        self._retry_at = 0.0

    def settle(self, source: Source) -> bool:
        """Wait until what was logged so far is applied; whether it is."""
        if not self._waiting():
            return True
        try:
            return self._wait(source)
        except EnvironmentUnavailableError:
            return False

    def _waiting(self) -> dict[bytes, int]:
        """The last event of each journal that is not known to be applied."""
        return {one: seq for one, seq in self._client.counts.ends().items() if self._settled.get(one, -1) < seq}

    def _wait(self, source: Source) -> bool:
        begun, patience = time.monotonic(), self._client.config.read_wait
        patient = begun >= self._retry_at and source.is_fed()
        if patient and not self._client.flush(patience):
            return False
        deadline = begun + patience if patient else begun
        for producer_id, seq in self._waiting().items():
            if not _is_applied(source, producer_id, seq, deadline):
                if patient:
                    self._retry_at = time.monotonic() + _RETRY
                return False
            self._settled[producer_id] = seq
        self._retry_at = 0.0
        return True


def _is_applied(source: Source, producer_id: bytes, seq: int, deadline: float) -> bool:
    pause = _PAUSE
    while not source.is_applied(producer_id, seq):
        if time.monotonic() >= deadline:
            return False
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
    return True
