"""What every store guarantees its caller, run on each implementation (see `runstream_sink.store.protocol`)."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from runstream_schemas import events as ev
from runstream_schemas.batch import Batch
from runstream_schemas.errors import EnvironmentUnavailableError, StoreInUseError
from runstream_schemas.segment import Hole
from runstream_sink import query
from runstream_sink.apply import apply
from runstream_sink.changes import Changes, order_of
from runstream_sink.digest import digest
from runstream_sink.intervals import IntervalSet
from runstream_sink.location import StoreLocation
from runstream_sink.store import Commit, FencedError, SqliteStore, Store, StoreReader, open_reader
from runstream_sink.tables.parts import TableState
from support.stores import batch, prepare, run_id

P, Q = b"p" * 16, b"q" * 16
RUN = run_id(1)


class Backend(Protocol):
    """A place for stores of one implementation, by name."""

    def make(self, name: str = "store") -> Store:
        """A store, not yet open."""

    async def read(self, name: str = "store") -> StoreReader:
        """A reader of a store that exists."""


@dataclass
class SqliteBackend:
    """Stores in directories."""

    root: Path

    def make(self, name: str = "store") -> Store:
        """See `Backend`."""
        return SqliteStore(StoreLocation.parse(str(self.root / name)))

    async def read(self, name: str = "store") -> StoreReader:
        """See `Backend`."""
        return await open_reader(StoreLocation.parse(str(self.root / name)))


@pytest.fixture(params=[SqliteBackend], ids=["sqlite"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """Every implementation in turn."""
    made: Backend = request.param(tmp_path)
    return made


@pytest.fixture
async def store(backend: Backend) -> AsyncIterator[Store]:
    """An open store."""
    store = backend.make()
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def reader(store: Store, backend: Backend) -> AsyncIterator[StoreReader]:
    """A reader of the same store, opened while it is written."""
    reader = await backend.read()
    yield reader
    await reader.close()


async def _commit(store: Store, *batches: Batch, **options: object) -> None:
    changes = apply(batches, await store.seen({held.producer_id for held in batches}))
    await store.commit(Commit(changes, **options))  # type: ignore[arg-type]


def _started(number: int = 1) -> ev.RunStarted:
    return ev.RunStarted(run_id(number), "7", 5, "first", "me")


async def test_a_new_store_holds_nothing_but_the_default_experiment(store: Store, reader: StoreReader) -> None:
    """Experiment 0 always exists."""
    experiments = await query.list_experiments(reader)
    assert [(e.experiment_id, e.name, e.lifecycle) for e in experiments] == [("0", "Default", "active")]
    assert await query.counts(reader) == query.Counts(0, 1, 0, 0, 0, 0)


async def test_a_store_keeps_its_id(store: Store, reader: StoreReader, backend: Backend) -> None:
    """It is the store's name as a consumer of a queue; readers know it, too."""
    first = store.store_id
    assert reader.store_id == first
    await store.close()
    again = backend.make()
    await again.open()
    try:
        assert again.store_id == first
        assert len(first) == 32
    finally:
        await again.close()


async def test_a_second_sink_is_refused_until_the_first_has_closed(store: Store, backend: Backend) -> None:
    """One writer."""
    second = backend.make()
    with pytest.raises(StoreInUseError, match="one sink at a time"):
        await second.open()
    await store.close()
    await second.open()
    await second.close()


async def test_of_several_sinks_that_open_a_new_store_at_once_one_is_let_in(backend: Backend) -> None:
    """The others are refused, whoever makes it."""
    stores = [backend.make() for _ in range(5)]
    results = await asyncio.gather(*(store.open() for store in stores), return_exceptions=True)
    assert sorted(map(str, map(type, results))) == sorted(["<class 'NoneType'>"] + [str(StoreInUseError)] * 4)
    for store in stores:
        await store.close()


async def test_a_closed_store_says_so(store: Store) -> None:
    """Nothing is waited for, and closing twice is closing."""
    await store.close()
    await store.close()
    with pytest.raises(EnvironmentUnavailableError, match="not open"):
        await store.positions("s")


async def test_positions_move_by_compare_and_set(store: Store) -> None:
    """By stream and part; a part without a row is expected as None."""
    await store.commit(Commit(stream="s", positions={"a": (None, "1"), "b": (None, "2")}))
    await store.commit(Commit(stream="s", positions={"a": ("1", "3")}))
    await store.commit(Commit(stream="t", positions={"a": (None, "9")}))
    assert await store.positions("s") == {"a": "3", "b": "2"}
    assert await store.positions("none") == {}


@pytest.mark.parametrize("expected", [None, "0"])
async def test_a_commit_that_expects_another_position_is_fenced_and_changes_nothing(
    store: Store, reader: StoreReader, expected: str | None
) -> None:
    """Neither rows nor the parts whose position was right."""
    await store.commit(Commit(stream="s", positions={"a": (None, "1")}))
    before = await digest(reader)
    with pytest.raises(FencedError, match="another sink"):
        await _commit(store, batch(P, [_started()]), stream="s", positions={"b": (None, "1"), "a": (expected, "2")})
    assert await store.positions("s") == {"a": "1"}
    assert await store.seen([P]) == {P: IntervalSet()}
    assert await digest(reader) == before


async def test_a_commit_of_events_that_were_applied_meanwhile_is_fenced(store: Store, reader: StoreReader) -> None:
    """Two consumers got the same events; the slower one must ask again what was seen."""
    changes = [apply([batch(P, [_started()] * 3, first)], {}) for first in (0, 2)]
    await store.commit(Commit(changes[0]))
    with pytest.raises(FencedError, match="applied meanwhile"):
        await store.commit(Commit(changes[1]))
    assert await store.seen([P]) == {P: IntervalSet([(0, 2)])}
    assert (await query.counts(reader)).events == 3


async def test_seen_intervals_merge_across_commits_and_openings(store: Store, reader: StoreReader) -> None:
    """Whatever their order."""
    for first, count in ((10, 5), (0, 2), (5, 5), (30, 1)):
        await _commit(store, batch(P, [ev.Abandoned()] * count, first), batch(Q, [ev.Abandoned()], first))
    expected = {P: [(0, 1), (5, 14), (30, 30)], Q: [(0, 0), (5, 5), (10, 10), (30, 30)], b"x" * 16: []}
    for _ in range(2):
        seen = await store.seen(expected)
        assert {producer: list(intervals) for producer, intervals in seen.items()} == expected
        assert [row[1:] for row in await reader.fetch("all_seen") if row[0] == P] == expected[P]
        await store.close()
        await store.open()


async def test_events_that_were_seen_change_nothing_when_they_come_again(store: Store, reader: StoreReader) -> None:
    """Also in other batches and after a restart."""
    events = [_started(), ev.MetricLogged(RUN, "m", 1.0, 0, 0), ev.ParamsLogged(RUN, {"a": "1"})]
    await _commit(store, batch(P, events))
    before = await digest(reader)
    await store.close()
    await store.open()
    await _commit(store, batch(P, events[1:], 1), batch(P, events[:2]))
    assert await digest(reader) == before
    assert (await query.counts(reader)).events == 3


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        (_started(), ev.RunStarted(RUN, "8", 6, "second", "you")),
        (ev.RunUpdated(RUN, "a"), ev.RunUpdated(RUN, "b")),
        (ev.RunEnded(RUN, "FAILED", 9), ev.RunUpdated(RUN, None, "RUNNING")),
        (ev.RunDeleted(RUN), ev.RunRestored(RUN)),
        (ev.ParamsLogged(RUN, {"k": "1"}), ev.ParamsLogged(RUN, {"k": "2"})),
        (ev.TagsSet(RUN, {"k": "1"}), ev.TagsSet(RUN, {"k": "2"})),
        (ev.TagsSet(RUN, {"k": "1"}), ev.TagDeleted(RUN, "k")),
        (ev.ArtifactLogged(RUN, "a", "0" * 64, 1, "x"), ev.ArtifactLogged(RUN, "a", "1" * 64, 2)),
        (ev.ExperimentCreated("7", "a", 1), ev.ExperimentCreated("7", "b", 2)),
        (ev.ExperimentCreated("0", "Default", 1), ev.ExperimentCreated("0", "other", 2)),
        (ev.ExperimentRenamed("7", "a"), ev.ExperimentRenamed("7", "b")),
        (ev.ExperimentRenamed("7", "a"), ev.ExperimentCreated("7", "b", 2)),
        (ev.ExperimentDeleted("7"), ev.ExperimentRestored("7")),
        (ev.ExperimentTagsSet("7", {"k": "1"}), ev.ExperimentTagDeleted("7", "k")),
        (ev.MetricLogged(RUN, "m", 9.0, 1, 1), ev.MetricLogged(RUN, "m", 1.0, 2, 0)),
        (ev.MetricLogged(RUN, "m", 9.0, 1, 1), ev.MetricLogged(RUN, "m", 1.0, 1, 2)),
        (ev.MetricLogged(RUN, "m", -1.0, 1, 1), ev.MetricLogged(RUN, "m", NAN, 1, 1)),
        (ev.MetricLogged(RUN, "m", NAN, 1, 1), ev.MetricLogged(RUN, "m", -INF, 1, 1)),
        (ev.MetricLogged(RUN, "m", 0.0, 1, 1), ev.MetricLogged(RUN, "m", -0.0, 1, 1)),
        (ev.MetricLogged(RUN, "m", NAN, 1, 1), ev.MetricLogged(RUN, "m", NAN, 1, 1)),
    ],
)
async def test_who_wins_does_not_depend_on_which_commit_comes_first(
    backend: Backend, earlier: ev.Event, later: ev.Event
) -> None:
    """One after the other, the other way round, and together: one digest."""
    digests = set()
    first, second = batch(P, [earlier], emit_ts=10), batch(Q, [later], emit_ts=20)
    for number, groups in enumerate([[[first], [second]], [[second], [first]], [[second, first]]]):
        store = backend.make(str(number))
        await store.open()
        for group in groups:
            await _commit(store, *group)
        await store.close()
        reader = await backend.read(str(number))
        digests.add(await digest(reader))
        await reader.close()
    assert len(digests) == 1


async def test_a_failed_commit_leaves_nothing_behind_in_the_store_or_its_memory(
    store: Store, reader: StoreReader, tmp_path: Path
) -> None:
    """New runs, keys, producers, tables: what the failed transaction gave a number is given one anew."""
    events = [_started(), ev.MetricLogged(RUN, "m", 1.0, 0, 0), ev.RowsLogged(RUN, "t", ["x"], [[1]])]
    doomed = await prepare(store, tmp_path / "artifacts", [batch(P, events)])
    doomed.changes.losses[P, 1 << 80, "no store can hold this segment"] = 1
    with pytest.raises(OverflowError):
        await store.commit(doomed)
    assert await store.seen([P]) == {P: IntervalSet()}
    assert await store.tables([(RUN, "t")]) == {(RUN, "t"): TableState(RUN, "t")}
    assert await query.counts(reader) == query.Counts(0, 1, 0, 0, 0, 0)
    other = [ev.RunStarted(run_id(2), "8", 1), ev.MetricLogged(run_id(2), "other", 2.0, 0, 0)]
    await _commit(store, batch(Q, other))
    del doomed.changes.losses[P, 1 << 80, "no store can hold this segment"]
    await store.commit(doomed)
    run = await query.get_run(reader, RUN)
    assert (run.experiment_id, {key: point.value for key, point in run.metrics.items()}) == ("7", {"m": 1.0})
    assert (await query.get_run(reader, run_id(2))).metrics.keys() == {"other"}


async def test_a_commit_that_was_begun_is_finished_under_cancellation(store: Store, reader: StoreReader) -> None:
    """The task is told that it was cancelled only when the commit is done; the store stays usable."""
    changes = apply([batch(P, [ev.MetricLogged(RUN, "m", 1.0, step, 0) for step in range(5000)])], {})
    task = asyncio.create_task(store.commit(Commit(changes, "s", {"a": (None, "1")})))
    await asyncio.sleep(0)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await query.counts(reader)).events == 5000
    await store.commit(Commit(stream="s", positions={"a": ("1", "2")}))


async def test_a_commit_that_fails_while_it_is_cancelled_reports_the_cancellation(store: Store) -> None:
    """With the failure as its cause."""
    task = asyncio.create_task(store.commit(Commit(stream="s", positions={"a": ("wrong", "1")})))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert isinstance(caught.value.__cause__, FencedError)
    assert await store.positions("s") == {}


async def test_reads_see_whole_commits_while_others_are_made(store: Store, reader: StoreReader) -> None:
    """A run has both its param and its metric, or is not there; a snapshot stays what it was."""

    async def write() -> None:
        for seq in range(60):
            run = run_id(seq)
            await _commit(
                store, batch(P, [ev.ParamsLogged(run, {"a": "1"}), ev.MetricLogged(run, "m", 1.0, 0, 0)], 2 * seq)
            )

    writer = asyncio.create_task(write())
    async with reader.snapshot() as snapshot:
        first = await query.counts(snapshot)
        while not writer.done():
            page = await query.list_runs(reader, limit=1000)
            assert all(run.params and run.metrics for run in page.runs)
        await writer
        assert await query.counts(snapshot) == first
    assert (await query.counts(reader)).runs == 60


async def test_artifact_orders_are_those_of_the_last_reference_at_each_path(store: Store) -> None:
    """A path without an artifact is left out."""
    artifact = ev.ArtifactLogged(RUN, "dir/a", "0" * 64, 1)
    await _commit(store, batch(P, [artifact, artifact]), batch(Q, [artifact], emit_ts=5))
    orders = await store.artifact_orders([(RUN, "dir/a"), (RUN, "b"), (run_id(9), "dir/a")])
    assert orders == {(RUN, "dir/a"): order_of(1_001, P, 1)}


async def test_an_artifact_lies_where_the_commit_says_or_at_its_path(store: Store, reader: StoreReader) -> None:
    """Names that a file system would confuse get other files."""
    events = [ev.ArtifactLogged(RUN, "a", "0" * 64, 1, "text/plain"), ev.ArtifactLogged(RUN, "A", "1" * 64, 2)]
    await _commit(store, batch(P, events), files={(RUN, "A"): "A~1"})
    artifacts = await query.list_artifacts(reader, RUN)
    assert artifacts == [
        query.Artifact("A", "1" * 64, 2, None, "A~1"),
        query.Artifact("a", "0" * 64, 1, "text/plain", "a"),
    ]


async def test_the_files_of_a_run_are_those_of_its_parts_and_artifacts(store: Store, tmp_path: Path) -> None:
    """Below its directory; a run without files is left out."""
    events = [ev.ArtifactLogged(RUN, "A", "1" * 64, 2), ev.RowsLogged(RUN, "a/t", ["x"], [[1]])]
    commit = await prepare(store, tmp_path / "artifacts", [batch(P, events)])
    commit.files = {(RUN, "A"): "A~1"}
    await store.commit(commit)
    assert await store.files([RUN, run_id(9)]) == ({RUN: ["a/t.csv"]}, {RUN: {"A": "A~1"}})


async def test_tables_are_what_was_committed_of_them(store: Store, tmp_path: Path) -> None:
    """State, open part and committed lengths, also in a store that was opened anew."""
    root = tmp_path / "artifacts"
    key, fresh = (RUN, "a/t"), (RUN, "none")
    for seq, (columns, row) in enumerate([(["x"], [1]), (["x", "y"], ["text", [1]]), (["x"], [None])]):
        commit = await prepare(store, root, [batch(P, [ev.RowsLogged(RUN, "a/t", columns, [row] * 9)], seq)], 200)
        await store.commit(commit)
    (expected,) = commit.tables
    assert expected.rows == 27
    for _ in range(2):
        assert await store.tables([key, fresh]) == {key: expected, fresh: TableState(RUN, "none")}
        for file in root.rglob("*.csv"):
            assert await store.committed_length(str(file.relative_to(root))) == file.stat().st_size
        assert await store.committed_length("none.csv") is None
        await store.close()
        await store.open()


async def test_dead_letters_losses_and_holes_are_kept(store: Store, reader: StoreReader) -> None:
    """With their reasons; the greatest count of a loss holds."""
    loss = [ev.LossNotice(Q.hex(), 3, "quota", count) for count in (5, 9, 7)]
    damaged = Batch(P, [], [Hole(10, 12, "corrupt", b"raw")])
    await _commit(store, batch(P, [b"\xc1", *loss]), damaged)
    await _commit(store, batch(P, [loss[0]], 4))
    assert await query.list_losses(reader) == [query.Loss(Q.hex(), 3, "quota", 9)]
    letters = await query.list_dead_letters(reader)
    assert [(letter.seq, letter.reason, letter.size) for letter in letters] == [
        (0, "undecodable", 1),
        (10, "corrupt", 3),
    ]
    assert await reader.fetch("all_holes") == [(P, 10, 12, "corrupt")]
    assert await reader.fetch("all_seen") == [(P, 0, 4), (P, 10, 12)]


async def test_a_dead_letter_is_applied_by_a_retry(store: Store, reader: StoreReader) -> None:
    """Its event is not new; if it is refused again, it is a dead letter again."""
    await _commit(store, batch(P, [b"\xc1", b"\xc1"]))
    changes = Changes()
    changes.run_ids.add(RUN)
    await store.commit(Commit(changes, retried=[(P, 0), (P, 1)]))
    assert await query.count_dead_letters(reader) == {}
    again = apply([batch(P, [b"\xc1"], 1)], {})
    again.seen.clear()
    await store.commit(Commit(again, retried=[(P, 1)]))
    open_letters = await query.list_dead_letters(reader)
    assert [letter.seq for letter in open_letters] == [1]
    assert [letter.seq for letter in await query.list_dead_letters(reader, retried=True)] == [0, 1]
    assert (await query.get_run(reader, RUN)).status is None
