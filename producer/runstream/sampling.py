"""Sampling: which runs, or which rows, are logged, where a share of them is enough.

The decision depends on nothing but the run's id, a row's key or a row's bytes, so that every process decides alike:
the first 64 bits of BLAKE2b, as a fraction of 2**64, are below the share.  What is kept at a share is kept at every
greater one.

* By run: all rows and metric points of a run, or none of them.
* By row: each row for itself, after redaction: by the MessagePack encoding of its cell in the key column (so that
  ``5`` and ``"5"`` are two keys), or of all its cells where there is no such column.

Params, tags, artifacts, a run's start and end are always logged.  A run that was sampled has the tags
``runstream.sample.share``, ``runstream.sample.by``, ``runstream.sample.key`` (with a key column) and, by run,
``runstream.sample.kept``.
"""

from threading import get_ident
from typing import Any, Final

from runstream_schemas.values import RowEncoder

__all__ = ["Sampling", "Tally"]

_RUNS_REMEMBERED: Final = 10_000


class Tally:
    """A count that threads and signal handlers may add to without waiting for each other."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}

    def add(self, count: int = 1) -> None:
        """Add to the count."""
        thread = get_ident()
        self._counts[thread] = self._counts.get(thread, 0) + count

    @property
    def total(self) -> int:
        """The count."""
        return sum(list(self._counts.values()))


class Sampling:
    """Keeps the ``share``, between 0 and 1, ``by`` run or row, of rows by the column ``key`` if that is named."""

    def __init__(self, share: float, by: str, key: str) -> None:
        self.by_row = by == "row"
        self._share = share
        self._key = key
        self._limit = int(share * (1 << 64))
        self._encoder = RowEncoder()  # its own: what it gives up is not logged
        self._runs: dict[str, bool] = {}

    def keeps_run(self, run_id: str) -> bool:
        """Whether rows and points of the run may be logged."""
        return self.by_row or self._keeps(run_id.encode())

    def is_new(self, run_id: str) -> bool:
        """Whether the run is met for the first time, so that its tags are to be set."""
        if run_id in self._runs:
            return False
        if len(self._runs) >= _RUNS_REMEMBERED:
            self._runs.clear()
        self._runs[run_id] = True
        return True

    def keeps_row(self, columns: list[Any], values: list[Any]) -> bool:
        """Whether a row is logged, as far as that depends on the row."""
        if not self.by_row:
            return True
        cells = [values[columns.index(self._key)]] if self._key and self._key in columns else values
        return self._keeps(self._encoder.encode_row(cells))

    def tags(self, run_id: str) -> dict[str, str]:
        """What a run says about how it was sampled."""
        tags = {"runstream.sample.share": repr(self._share), "runstream.sample.by": "row" if self.by_row else "run"}
        if self.by_row and self._key:
            tags["runstream.sample.key"] = self._key
        if not self.by_row:
            tags["runstream.sample.kept"] = "true" if self.keeps_run(run_id) else "false"
        return tags

    def _keeps(self, data: bytes) -> bool:
        from hashlib import blake2b  # here: it loads OpenSSL

        return int.from_bytes(blake2b(data, digest_size=8).digest(), "big") < self._limit
