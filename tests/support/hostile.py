"""Hostile bytes for tests: random ones, and good ones with something changed.  Everything follows from a seed."""

import random
import resource
import signal
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any
from zlib import crc32

from runstream_schemas.segment import MAX_SEQ, pack_header, pack_record, pack_seal, record_seed

__all__ = ["attack", "hostile_event", "hostile_records", "hostile_segment", "limited", "mutate", "sign_batch"]

_INTERESTING = (0, 1, 2, 0x7F, 0x80, 0xC0, 0xC1, 0xC7, 0xC9, 0xD4, 0xDC, 0xDD, 0xDE, 0xDF, 0xFE, 0xFF)
_WORDS = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 24, 4096, 64 << 20)
_TIME = 1_790_000_000_000_000_000
_LAST_TIME = (1 << 63) - 1
_MEMORY = 300 << 20
"""Bytes that a process may grow by under an attack with small inputs."""


def mutate(rng: random.Random, corpus: Sequence[bytes]) -> bytes:
    """One of the corpus with one to four changes: bytes set, flipped, cut, doubled, inserted, spliced with another."""
    data = bytearray(rng.choice(corpus))
    for _ in range(rng.choice((1, 1, 1, 2, 2, 4))):
        size = len(data)
        if not size:
            return rng.randbytes(rng.randrange(40))
        at = int(rng.random() * size)
        kind = int(rng.random() * 9)
        if kind < 2:
            data[at] = int(rng.random() * 256)
        elif kind == 2:
            data[at] ^= 1 << int(rng.random() * 8)
        elif kind == 3:
            data[at] = _INTERESTING[int(rng.random() * len(_INTERESTING))]
        elif kind == 4:
            del data[at : at + int(rng.random() * 16)]
        elif kind == 5:
            data[at:at] = data[int(rng.random() * size) :][:40]
        elif kind == 6:
            data[at : at + 4] = struct.pack(rng.choice("<>") + "I", rng.choice(_WORDS))
        elif kind == 7:
            del data[at:]
        else:
            other = rng.choice(corpus)
            data[at:] = other[int(rng.random() * len(other)) :]
    return bytes(data)


def sign_batch(data: bytes) -> bytes:
    """A record batch with the checksum that its bytes should have."""
    if len(data) < 40:
        return data
    return data[:36] + struct.pack("<I", crc32(data[40:], crc32(data[:36]))) + data[40:]


def hostile_event(rng: random.Random, bodies: Sequence[bytes]) -> bytes:
    """The body of an event: good, changed, or any bytes; never empty."""
    kind = rng.random()
    if kind < 0.3:
        return rng.choice(bodies)
    return (mutate(rng, bodies) if kind < 0.9 else rng.randbytes(rng.randrange(1, 200))) or b"\xc1"


def hostile_records(rng: random.Random, bodies: Sequence[bytes], seed: int, first: int = 0) -> bytes:
    """Some records as they lie in a segment, most with right checksums, some with hostile fields."""
    parts: list[bytes] = []
    seq, emit_ts = first, _TIME
    for _ in range(rng.randrange(8)):
        emit_ts = rng.choice((min(emit_ts, _LAST_TIME - 1) + 1,) * 6 + (0, -(1 << 63), _LAST_TIME, _TIME))
        record = pack_record(seq, emit_ts, hostile_event(rng, bodies), seed)
        kind = rng.random()
        if kind < 0.1:
            record = mutate(rng, [record])
        elif kind < 0.15:
            record = bytes(4) + record[4:]  # unfinished
        elif kind < 0.2:
            record = record[:4] + struct.pack("<I", rng.choice(_WORDS)) + record[8:]
        parts.append(record.ljust(-(-len(record) // 8) * 8, b"\0"))
        seq = rng.choice((seq + 1,) * 9 + (seq, 0, seq + 3, MAX_SEQ - 1, MAX_SEQ, MAX_SEQ + 1, (1 << 64) - 1))
        seq %= 1 << 64
    parts.append(bytes(rng.choice((0, 8, 64, 4096))))
    return b"".join(parts)


def hostile_segment(rng: random.Random, bodies: Sequence[bytes], producer_id: bytes, index: int) -> bytes:
    """A whole segment, whose header and bytes may be wrong too."""
    records = hostile_records(rng, bodies, record_seed(producer_id), rng.choice((0, 0, 5)))
    header = bytearray(pack_header(producer_id, index, 4096 + len(records), _TIME))
    if rng.random() < 0.5:
        end = rng.choice((4096 + len(records), 4096, 0, 8, (1 << 64) - 1, rng.randrange(4096 + len(records))))
        header[64:80], header[56:60] = pack_seal(end, rng.choice((0, 0, index + 1, index, 1 << 63, (1 << 64) - 1)))
    if rng.random() < 0.3:
        header[80 : 80 + 32] = rng.randbytes(32)
    data = bytes(header) + records
    return mutate(rng, [data]) if rng.random() < 0.3 else data


def attack(target: Callable[[random.Random], Any], seed: int, count: int, seconds: float = 600) -> None:
    """Let ``target`` make and try ``count`` inputs.  What it raises says with which seed to do it again.

    ``count`` inputs share a generator; a failure tells which of them it was.
    """
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rng = random.Random(seed)
    number = 0
    try:
        with limited(seconds):
            while number < count:
                target(rng)
                number += 1
    except BaseException as error:
        error.add_note(f"again: attack(..., seed={seed}, count={number + 1}), whose last input fails")
        raise
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    assert grown < _MEMORY, f"seed {seed} takes {grown} bytes of memory"


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in a block that takes too long, as in an endless loop."""

    def late(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"it takes more than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
