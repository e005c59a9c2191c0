"""The sink's loop: read, apply, write files, commit, acknowledge.

One delivery becomes one transaction::

    source.read -> apply (pure) -> artifacts published -> table rows written and synced
                -> store.commit (rows, positions, seen) -> source.committed

A crash anywhere before the commit leaves the store as it was: the delivery is read again, files are cut back to what
was committed.  A crash after it leaves nothing to do.  When the disk or the database refuses, the sink goes back to
what is committed, waits, says so, and tries again.
"""

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import structlog

from runstream_schemas.batch import Batch
from runstream_schemas.delivery import Delivery
from runstream_schemas.errors import EnvironmentUnavailableError
from runstream_schemas.events import ArtifactLogged, ArtifactPending, decode_event, encode_event
from runstream_sink.applied import Applied
from runstream_sink.apply import apply
from runstream_sink.artifacts import ArtifactStore, Publication
from runstream_sink.cancellation import finish
from runstream_sink.changes import ARTIFACT_PENDING, ArtifactChange, Changes, DeadLetter, order_of, origin_of
from runstream_sink.intervals import IntervalSet
from runstream_sink.isolation import apply_apart, may_be_of_an_event
from runstream_sink.placement import Placement
from runstream_sink.source import ReassignedError, Source, StreamReplacedError, StreamUnavailableError
from runstream_sink.store.protocol import Commit, FencedError, Store
from runstream_sink.tables.files import DamagedPartError, recover, write_parts
from runstream_sink.tables.parts import PART_LIMIT, Appended, Part, TableState, append
from runstream_sink.tuning import collect_garbage

__all__ = ["Consumer", "Progress"]

_DELIVERY: Final = 4 << 20
"""Most bytes of events in one transaction."""
_FIRST_DELIVERY: Final = 512 << 10
"""The same before it is known how much memory the events take: rows of one small integer take a hundred times more."""
_LEAST_DELIVERY: Final = 64 << 10
_MEMORY: Final = 48 << 20
"""About how many bytes of memory a delivery may take; there are two at a time."""
_BETWEEN_COMMITS: Final = 0.02
"""Seconds that events may gather, unless there is a backlog or somebody waits.  A commit of few costs as much as one of
many, and its sync of the journal disturbs the program that logs (see `runstream.pages`)."""
_SHORTEST_PAUSE: Final = 0.002
_LONGEST_PAUSE: Final = 0.05
_LONGEST_RETRY: Final = 30.0
_CANNOT: Final[Mapping[type[Exception], str]] = {
    StreamUnavailableError: "the stream cannot be read",
    FencedError: "what was read cannot be committed, as another sink was faster",
}
_log = structlog.get_logger(__name__)


@dataclass
class Progress:
    """What a consumer has done since it began."""

    events: int = 0
    duplicates: int = 0
    dead: int = 0
    lost: int = 0
    commits: int = 0
    bytes: int = 0
    failure: str = ""
    """Why the last try failed; empty while all is well."""


class _Prepared(NamedTuple):
    """A delivery and what it changes."""

    delivery: Delivery
    changes: Changes


class Consumer:
    """Moves one stream into one store."""

    def __init__(
        self, source: Source, store: Store, artifacts: ArtifactStore, root: Path, *, part_limit: int = PART_LIMIT
    ) -> None:
        """``root`` is the local directory of the tables' parts; the intent of a write lies beside the database."""
        self.progress = Progress()
        self.applied = Applied()
        """Told of each commit."""
        self._source = source
        self._store = store
        self._artifacts = artifacts
        self._root = root
        self._intent = store.location.database.parent
        self._part_limit = part_limit
        self._placement = Placement(store)
        self._recovered = False
        self._failing = ""
        self._ahead: asyncio.Task[_Prepared | None] | None = None
        self._limit = _FIRST_DELIVERY
        self._seen: dict[bytes, IntervalSet] = {}
        """What the store has seen of the producers of the last delivery, as soon as that is committed."""

    async def run(self, *, once: bool, stop: asyncio.Event) -> None:
        """Consume until ``stop`` is set, or, with ``once``, until nothing is left to read."""
        pause = _SHORTEST_PAUSE
        retry = 0.1
        while not stop.is_set():
            try:
                moved = await self.step()
            except StreamReplacedError:
                raise
            except ReassignedError as error:
                _log.info("reading on from what is committed", reason=str(error))
                continue
            except (OSError, EnvironmentUnavailableError, FencedError) as error:
                await self._back_off(error, retry, stop)
                retry = min(retry * 2, _LONGEST_RETRY)
                continue
            retry = 0.1
            self._report_recovery()
            if moved:
                pause = _SHORTEST_PAUSE
                if not (once or self._ahead or self._source.backlog()):
                    await self.applied.pause(_BETWEEN_COMMITS)
            elif once:
                return
            else:
                await self.applied.pause(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)

    async def step(self) -> bool:
        """Move one delivery, and have the next one prepared meanwhile; False if there was nothing to move.

        After an error anywhere in it, the next step begins at what is committed.
        """
        if not self._recovered:
            await self._recover()
        try:
            prepared = await self._next()
            if prepared is None:
                return False
            behind = self._source.backlog()
            collect_garbage(rarely=behind)
            if behind:
                self._ahead = asyncio.create_task(self._prepare())
            await finish(self._move(*prepared))
        except BaseException:
            self._recovered = False
            raise
        return True

    async def _move(self, delivery: Delivery, changes: Changes) -> None:
        began = time.perf_counter()
        try:
            await self.commit(changes, delivery)
        except Exception as error:
            if not may_be_of_an_event(error):
                raise
            await self._move_apart(delivery, error)
            return
        self.applied.took(time.perf_counter() - began)
        self._count(changes, delivery)
        await self._source.committed(delivery)

    async def _move_apart(self, delivery: Delivery, error: Exception) -> None:
        """Commit the events without moving the positions; they are then read again, as duplicates, which moves them."""
        _log.warning("a delivery is applied in parts, to find what cannot be", reason=repr(error))
        nowhere = Delivery()

        async def apply_some(batches: Sequence[Batch]) -> Changes:
            return await asyncio.to_thread(apply, batches, await self._store.seen({b.producer_id for b in batches}))

        async def commit_some(changes: Changes) -> None:
            await self.commit(changes, nowhere)
            self._count(changes, nowhere)

        try:
            await apply_apart(delivery.batches, error, apply_some, commit_some)
        finally:
            self._recovered = False

    async def close(self) -> None:
        """Stop reading ahead.  What was read and not committed comes again to the next consumer."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            with contextlib.suppress(OSError, EnvironmentUnavailableError, ReassignedError):
                await ahead

    async def changes_of(self, delivery: Delivery) -> Changes:
        """What a delivery changes, given what the store will have seen once the one before is committed."""
        producers = {batch.producer_id for batch in delivery.batches}
        seen = {producer: held for producer, held in self._seen.items() if producer in producers}
        if unknown := producers - seen.keys():  # else nothing is asked: the store answers after the commit under way
            seen |= await self._store.seen(unknown)
        changes = await asyncio.to_thread(apply, delivery.batches, seen)
        self._seen = {producer: held.union(changes.seen.get(producer, ())) for producer, held in seen.items()}
        for key, count in delivery.losses.items():
            changes.losses[key] = max(count, changes.losses.get(key, 0))
        return changes

    async def commit(self, changes: Changes, delivery: Delivery, retried: tuple[tuple[bytes, int], ...] = ()) -> None:
        """Write files and commit; after an error nothing of it is there, and the source stands where the store does."""
        try:
            if not self._recovered:
                await self._recover()
            await self._placement.load({run_id for run_id, _ in (*changes.artifacts, *changes.rows)})
            files = await self._publish(changes)
            await self._resolve(changes)
            tables = await self._write_tables(changes)
            await self._artifacts.make_durable()
            await self._store.commit(
                Commit(
                    changes,
                    self._source.name,
                    delivery.positions,
                    [appended.state for appended in tables],
                    [(done.state.run_id, done.state.name, part) for done in tables for part in done.parts],
                    files=files,
                    retried=retried,
                )
            )
        except BaseException:
            self._recovered = False
            raise

    async def _publish(self, changes: Changes) -> dict[tuple[str, str], str]:
        """Publish the artifacts that win; those without bytes become dead letters.  Returns the files by key."""
        files: dict[tuple[str, str], str] = {}
        if not changes.artifacts:
            return files
        held = await self._store.artifact_orders(changes.artifacts)
        winning: dict[str, tuple[str, str]] = {}
        for key, change in changes.artifacts.items():
            files[key] = file = self._placement.artifact(*key)
            if held.get(key, b"") < change.order:
                winning[f"{key[0]}/{file}"] = key
        missing = await self._artifacts.publish_all(
            [_publication(file, changes.artifacts[key]) for file, key in winning.items()]
        )
        for file, problem in missing.items():
            change = changes.artifacts.pop(winning[file])
            changes.dead.append(_dead_artifact(winning[file], change, problem))
        return files

    async def _resolve(self, changes: Changes) -> None:
        """Artifacts that were announced and came before that was read, from another journal, are not pending."""
        pending = {
            (event.run_id, event.path): order_of(letter.emit_ts, letter.producer_id, letter.seq)
            for letter in changes.dead
            if letter.reason == ARTIFACT_PENDING and isinstance(event := decode_event(letter.raw), ArtifactPending)
        }
        if pending:
            held = await self._store.artifact_orders(pending)
            changes.resolved |= {origin_of(order)[1:] for key, order in pending.items() if held.get(key, b"") >= order}

    async def _write_tables(self, changes: Changes) -> list[Appended]:
        if not changes.rows:
            return []
        states = await self._store.tables(changes.rows)
        return await asyncio.to_thread(self._append_and_write, changes, states)

    def _append_and_write(self, changes: Changes, states: dict[tuple[str, str], TableState]) -> list[Appended]:
        """Append to the open parts; one that somebody else has cut or removed is closed, and a new one begun."""
        closed: dict[tuple[str, str], list[Part]] = {}
        while True:
            done = [
                append(states[key], entries, self._part_limit, partial(self._placement.part, *key))
                for key, entries in changes.rows.items()
            ]
            try:
                write_parts(self._root, self._intent, [write for appended in done for write in appended.writes])
            except DamagedPartError as error:
                _log.error("a table goes on in a new part", reason=str(error))
                states = {key: self._closing(state, error.path, closed) for key, state in states.items()}
                continue
            return [
                one._replace(parts=[*closed.get((one.state.run_id, one.state.name), ()), *one.parts]) for one in done
            ]

    def _closing(self, state: TableState, path: Path, closed: dict[tuple[str, str], list[Part]]) -> TableState:
        """The same table, without its open part if that lies at ``path``; it is then among the ``closed``."""
        if state.open is None or self._root / state.open.file != path:
            return state
        closed.setdefault((state.run_id, state.name), []).append(msgspec.structs.replace(state.open, closed=True))
        return msgspec.structs.replace(state, open=None)

    async def _next(self) -> _Prepared | None:
        ahead, self._ahead = self._ahead, None
        return await (ahead or self._prepare())

    async def _prepare(self) -> _Prepared | None:
        """Read a delivery and work out what it changes, both of which may go on while the one before is committed."""
        delivery = await self._source.read(min(self._limit, _DELIVERY))
        if not delivery:
            return None
        changes = await self.changes_of(delivery)
        if delivery.weight:
            fitting = _MEMORY * delivery.weight // max(changes.memory(), 1)
            self._limit = max(_LEAST_DELIVERY, min(fitting, _DELIVERY))
        return _Prepared(delivery, changes)

    async def _recover(self) -> None:
        """Go back to what is committed: positions, and the lengths of the parts that were being written."""
        await self.close()
        self._placement.forget()
        self._seen = {}
        await self._source.seek(await self._store.positions(self._source.name))
        loop = asyncio.get_running_loop()

        def committed(file: str) -> int | None:
            return asyncio.run_coroutine_threadsafe(self._store.committed_length(file), loop).result()

        damaged = await asyncio.to_thread(recover, self._root, self._intent, committed)
        for file in damaged:
            _log.error("a table's file is shorter than what was committed", file=file, action="run `runstream verify`")
        self._recovered = True

    async def _back_off(self, error: Exception, seconds: float, stop: asyncio.Event) -> None:
        self.progress.failure = str(error)
        self._failing = _CANNOT.get(type(error), "the store cannot be written")
        _log.warning(f"{self._failing}; nothing is lost, trying again", reason=str(error), seconds=seconds)
        await _wait(stop, seconds)

    def _report_recovery(self) -> None:
        if self.progress.failure:
            _log.info(self._failing.replace("cannot be", "can be") + " again", was=self.progress.failure)
            self.progress.failure = ""

    def _count(self, changes: Changes, delivery: Delivery) -> None:
        progress = self.progress
        progress.events += changes.events
        progress.duplicates += changes.duplicates
        progress.dead += len(changes.dead)
        progress.commits += 1
        progress.bytes += delivery.size
        self.applied.tell(changes)
        for (producer_id, segment, reason), count in delivery.losses.items():
            _log.warning(
                "a producer dropped events", journal=producer_id.hex(), segment=segment, reason=reason, count=count
            )
        for letter in changes.dead:
            _log.warning("dead letter", journal=letter.producer_id.hex(), seq=letter.seq, reason=letter.reason)


def _publication(file: str, change: ArtifactChange) -> Publication:
    return Publication(file, change.sha256, change.size, change.content)


def _dead_artifact(key: tuple[str, str], change: ArtifactChange, detail: str) -> DeadLetter:
    run_id, path = key
    emit_ts, producer_id, seq = origin_of(change.order)
    raw = encode_event(ArtifactLogged(run_id, path, change.sha256, change.size, change.media_type))
    return DeadLetter(producer_id, seq, emit_ts, "artifact_missing", detail, raw)


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
