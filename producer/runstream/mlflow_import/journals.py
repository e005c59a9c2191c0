"""Whole journals, written at once: in the format that `runstream_schemas.segment` specifies, sealed from the start.

Nobody reads a journal before it is whole: it is written below a directory of its own and renamed into place later.
"""

import time
from pathlib import Path
from typing import Final

from runstream_schemas.reader import continuation_name
from runstream_schemas.segment import (
    HEADER_SIZE,
    LOCK_NAME,
    SEAL_OFFSET,
    STATE_OFFSET,
    pack_header,
    pack_record,
    pack_seal,
    record_seed,
    segment_name,
)

__all__ = ["SealedJournal"]

_SEGMENT: Final = 16 << 20
"""Bytes at which another segment is begun."""


class SealedJournal:
    """Writes what one producer logs from seq ``first`` on.  Nothing is synced; every method may raise OSError."""

    def __init__(self, parent: Path, producer_id: bytes, first: int = 0, segment_size: int = _SEGMENT) -> None:
        self.name = continuation_name(producer_id, first)
        self.next_seq = first
        self._path = parent / self.name
        self._producer_id = producer_id
        self._seed = record_seed(producer_id)
        self._segment_size = segment_size
        self._index = 0
        self._records: list[bytes] = []
        self._size = HEADER_SIZE
        self._path.mkdir(parents=True)
        (self._path / LOCK_NAME).touch()

    def add(self, emit_ts: int, body: bytes) -> None:
        """Append an event; ``emit_ts`` (nanoseconds since the epoch) is not less than that of the one before."""
        record = pack_record(self.next_seq, emit_ts, body, self._seed)
        if self._records and self._size + len(record) > self._segment_size:
            self._write(self._index + 1)
            self._index += 1
        self._records.append(record)
        self._size += len(record)
        self.next_seq += 1

    def close(self) -> None:
        """Write what is left."""
        self._write(0)

    def _write(self, following: int) -> None:
        page = bytearray(pack_header(self._producer_id, self._index, self._size, time.time_ns()))
        state, seal = pack_seal(self._size, following)
        page[STATE_OFFSET : STATE_OFFSET + len(state)] = state
        page[SEAL_OFFSET : SEAL_OFFSET + len(seal)] = seal
        with (self._path / segment_name(self._index)).open("xb") as file:
            file.write(page)
            file.writelines(self._records)
        self._records.clear()
        self._size = HEADER_SIZE
