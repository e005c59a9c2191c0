"""Ports for servers that tests start, stop, and start again at the same address.

The kernel's own choice would not do: while a server is down, its port may go to any outgoing connection.  So they are
taken from below the ports that the kernel hands out, and a lock file for each keeps other test processes away.
"""

import fcntl
import os
import random
import socket
import tempfile
from contextlib import suppress
from pathlib import Path

__all__ = ["Ports"]

_LOCKS = Path(tempfile.gettempdir()) / f"runstream-ports-{os.getuid()}"
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST = 12_000


class Ports:
    """Ports that belong to this object until it is closed; on 127.0.0.1."""

    def __init__(self) -> None:
        self._locks: list[int] = []

    def take(self) -> int:
        """One more port that nobody listens at; RuntimeError if there is none."""
        _LOCKS.mkdir(exist_ok=True)
        below = min(int(_RANGE.read_text().split()[0]), 32_768)
        for port in random.SystemRandom().sample(range(_LOWEST, below), 1_000):
            if self._lock(port):
                return port
        raise RuntimeError(f"no free port between {_LOWEST} and {below}")

    def close(self) -> None:
        """Give all of them back."""
        while self._locks:
            os.close(self._locks.pop())

    def _lock(self, port: int) -> bool:
        file = os.open(_LOCKS / str(port), os.O_CREAT | os.O_RDWR)
        with suppress(OSError), socket.socket() as candidate:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            candidate.bind(("127.0.0.1", port))
            self._locks.append(file)
            return True
        os.close(file)
        return False
