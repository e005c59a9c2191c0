"""All checks, one after the other, on one snapshot of the database."""

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Final

from runstream_schemas.errors import CorruptDataError
from runstream_sink.intervals import IntervalSet
from runstream_sink.query.runs import list_artifacts
from runstream_sink.status import sink_process
from runstream_sink.store.protocol import Row, StoreReader
from runstream_sink.store.table_rows import part_of
from runstream_sink.verify.database import check_facts, check_metrics, check_seen, read_seen
from runstream_sink.verify.files import Problem, RowChecker, check_artifact
from runstream_sink.verify.report import Collector, Progress, Report
from runstream_sink.verify.rollups import check_rollups
from runstream_sink.verify.stream import check_stream

__all__ = ["verify"]

_CONFIRMATIONS: Final = 20
_PAUSE: Final = 0.1
"""Seconds between looks at an artifact that a running sink may be replacing: the file comes before its row."""


async def verify(
    reader: StoreReader, root: Path, *, queue: Path | None = None, progress: Progress = lambda *_: None
) -> Report:
    """Check a store whose artifacts and tables lie in ``root``; with ``queue``, against that stream as well.

    Raises what opening the store or the stream raises, and OSError if a disk fails; damage is a finding.
    """
    verification = _Verification(reader, root, progress)
    try:
        async with reader.snapshot() as snapshot:
            await verification.run(snapshot, queue)
    except CorruptDataError as error:
        verification.collector.add("database", reader.location.text, str(error))
    return verification.collector.report()


class _Verification:
    def __init__(self, reader: StoreReader, root: Path, progress: Progress) -> None:
        self.collector = Collector()
        self._live = reader
        self._root = root
        self._progress = progress
        self._running = sink_process(reader.location) is not None
        self._done = 0

    async def run(self, snapshot: StoreReader, queue: Path | None) -> None:
        collector = self.collector
        self._progress("the database's structure", 0, 0)
        await check_facts(snapshot, collector)
        self._progress("metrics", 0, 0)
        await check_metrics(snapshot, collector)
        await check_rollups(snapshot, collector)
        self._progress("what was seen", 0, 0)
        seen = await read_seen(snapshot, collector)
        await check_seen(snapshot, collector, seen)
        (artifact_bytes, part_bytes, _, _) = (await snapshot.fetch("verify_sizes"))[0]
        await self._artifacts(snapshot, artifact_bytes)
        checker = RowChecker(self._root, collector, running=self._running)
        await self._parts(snapshot, checker, part_bytes)
        for producer in checker.events.producers():
            count, first = checker.events.outside(producer, seen.get(producer, IntervalSet()))
            if count:
                detail = f"{count} events have rows in tables and were never seen, the first is {first}"
                collector.add("unseen", f"producer {producer}", detail)
        if queue is not None:
            await check_stream(snapshot, queue, collector, seen, checker.events, self._progress)

    async def _artifacts(self, snapshot: StoreReader, total: int) -> None:
        self._done = 0
        self._progress("artifacts", 0, total)

        def advance(count: int) -> None:
            self._done += count
            self._progress("artifacts", self._done, total)

        def check(rows: list[Row]) -> list[tuple[Row, Problem]]:
            found = [(row, check_artifact(self._root / row[0] / row[5], row[2], row[3], advance)) for row in rows]
            return [(row, problem) for row, problem in found if problem is not None]

        async with aclosing(snapshot.stream("logical_artifacts")) as pages:
            async for rows in pages:
                self.collector.checked["artifacts"] += len(rows)
                for row, problem in await asyncio.to_thread(check, rows):
                    confirmed = await self._confirmed(row, problem) if self._running else problem
                    if confirmed is not None:
                        self.collector.add(confirmed.kind, f"{row[0]}/{row[5]}", confirmed.detail)

    async def _confirmed(self, row: Row, problem: Problem) -> Problem | None:
        """The problem, if it stays while the sink, which may be replacing the artifact just now, goes on."""
        run_id, path = row[:2]
        found: Problem | None = problem
        for _ in range(_CONFIRMATIONS):
            await asyncio.sleep(_PAUSE)
            now = {artifact.path: artifact for artifact in await list_artifacts(self._live, run_id)}.get(path)
            if now is None:
                return found
            file = self._root / run_id / now.file
            found = await asyncio.to_thread(check_artifact, file, now.sha256, now.size, lambda _: None)
            if found is None:
                return None
        return found

    async def _parts(self, snapshot: StoreReader, checker: RowChecker, total: int) -> None:
        self._done = 0
        self._progress("tables", 0, total)

        def check(rows: list[Row]) -> None:
            for row in rows:
                part = part_of(row[2:])
                checker.check((row[0], row[1]), part)
                self._done += part.length
                self._progress("tables", self._done, total)

        async with aclosing(snapshot.stream("verify_parts")) as pages:
            async for rows in pages:
                await asyncio.to_thread(check, rows)
