"""What the sink asks of a store, and what a store guarantees.

A store keeps what follows from the events: experiments, runs, params, tags, metric points, artifact references, the
state of the CSV tables, which events were seen, and how far each stream was read.  Its guarantees:

* **All or nothing.**  A `Commit` becomes visible as a whole or not at all, also to the store's own later answers, also
  after an error, a cancellation or a crash.  Once ``commit`` has returned it survives the machine.
* **Fenced.**  A commit moves positions by compare-and-set, and its events must all be new; a consumer that lost its
  part of the stream gets `FencedError` and changes nothing.
* **Commutative.**  The content after a set of commits does not depend on their order or grouping.
* **One writer.**  ``open`` refuses a store that another sink writes; readers never wait for the writer, nor it for
  them, and each read sees whole commits only.
"""

from collections.abc import AsyncGenerator, Collection, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from runstream_schemas.errors import RunstreamError
from runstream_sink.changes import Changes, Order
from runstream_sink.intervals import IntervalSet
from runstream_sink.location import StoreLocation
from runstream_sink.store.search_plan import Placed, SearchPlan
from runstream_sink.tables.parts import Part, TableState

__all__ = ["Commit", "FencedError", "Row", "Store", "StoreReader"]

Row = tuple[Any, ...]
"""A row of a named query."""


class FencedError(RunstreamError):
    """Another consumer moved a position, or applied an event, that this commit takes for its own."""


@dataclass
class Commit:
    """One transaction."""

    changes: Changes = field(default_factory=Changes)
    stream: str = ""
    """Name of the stream that ``positions`` belong to."""
    positions: Mapping[str, tuple[str | None, str]] = field(default_factory=dict)
    """By part of the stream: the position that the store holds (None: no row), and the one that it then holds."""
    tables: Collection[TableState] = ()
    """New states of tables."""
    parts: Collection[tuple[str, str, Part]] = ()
    """New or changed parts of tables, as (run_id, table, part)."""
    files: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """By (run_id, path), the name of the file that holds the artifact; the path itself where nothing is said."""
    retried: Collection[tuple[bytes, int]] = ()
    """Dead letters, by (producer_id, seq), that this commit applies; their events are not new."""


class Store(Protocol):
    """The writing side.  One task at a time may call ``commit``; what the other methods return must not be changed."""

    @property
    def store_id(self) -> str:
        """Random, made with the store: its name as a consumer of a queue."""

    @property
    def location(self) -> StoreLocation:
        """Where the store lies."""

    async def open(self) -> None:
        """Open, create or migrate.

        Raises `StoreInUseError` if another sink has it, `StoreVersionError` if a newer version wrote it.
        """

    async def close(self) -> None:
        """Finish what was begun and let go of the store."""

    async def positions(self, stream: str) -> dict[str, str]:
        """The committed position of each part of a stream; opaque text of the source's."""

    async def seen(self, producer_ids: Iterable[bytes]) -> dict[bytes, IntervalSet]:
        """The seqs that were applied, of each of the producers."""

    async def artifact_orders(self, keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Order]:
        """The order of the artifact at each (run_id, path) that has one."""

    async def files(self, run_ids: Iterable[str]) -> tuple[dict[str, list[str]], dict[str, dict[str, str]]]:
        """The files of runs, below the run's directory: by run id those of table parts, and by path of artifacts."""

    async def tables(self, keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], TableState]:
        """The state of the table at each (run_id, table); a table that has none is fresh."""

    async def committed_length(self, file: str) -> int | None:
        """Committed bytes of the CSV part ``file``; None if no part has that name."""

    async def commit(self, commit: Commit) -> None:
        """Apply one transaction.

        A commit that was begun is finished if the task is cancelled meanwhile, and ``CancelledError`` raised then.
        Raises `FencedError` if somebody else was faster, `EnvironmentUnavailableError` if the disk or the server
        refuses; nothing has changed then.
        """


class StoreReader(Protocol):
    """The reading side: named queries, which every store answers with the same columns (see ``sql/``)."""

    @property
    def store_id(self) -> str:
        """As in `Store`."""

    @property
    def location(self) -> StoreLocation:
        """Where the store lies."""

    async def close(self) -> None:
        """Let go of the store."""

    async def fetch(self, query: str, **parameters: Any) -> list[Row]:
        """All rows of a named query."""

    async def search(self, plan: SearchPlan) -> list[Placed]:
        """The rows of a search, in its order, each with its place there; see `search_plan`."""

    def stream(self, query: str, **parameters: Any) -> AsyncGenerator[list[Row], None]:
        """The rows of a named query in lists of bounded length, for queries that return very many.

        Whoever may stop early closes it (``contextlib.aclosing``).
        """

    def snapshot(self) -> AbstractAsyncContextManager["StoreReader"]:
        """A reader of its own whose queries all see the same state of the store."""
