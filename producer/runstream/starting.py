"""How a run begins: an id that needs no server, a name, and the event that tells of it."""

import time

from runstream import run_names
from runstream.client import client
from runstream.run import Run
from runstream_schemas import events as ev

__all__ = ["begin"]


def begin(experiment_id: str, name: str | None, user: str | None, start_time: int | None = None) -> Run:
    """Begin a run, at ``start_time`` (milliseconds since the epoch) or now.  Without a name it is given one."""
    now = time.time_ns() // 1_000_000
    start_time = now if start_time is None else start_time
    name = run_names.generate(client.random) if name is None else str(name)
    run_id = _uuid7(now)
    client.emit(ev.RunStarted(run_id, experiment_id, start_time, name, user))
    return Run(client, run_id, experiment_id, name=name, user=user, start_time=start_time)


def _uuid7(milliseconds: int) -> str:
    """32 hex digits of a UUIDv7 (RFC 9562): 48 bits of time, version, 12 random bits, variant, 62 random bits."""
    bits = client.random.getrandbits(74)
    number = milliseconds << 80 | 7 << 76 | (bits >> 62) << 64 | 2 << 62 | bits & ((1 << 62) - 1)
    return f"{number:032x}"
