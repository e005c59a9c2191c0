"""Histories of metrics: lists, pages and buckets as the query layer gives them; what a store keeps for them."""

import math
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from runstream_schemas import events as ev
from runstream_schemas.errors import InvalidInputError
from runstream_sink import query
from runstream_sink.query import metrics
from runstream_sink.store import Commit, SqliteReader, migrate, rollup, rollup_rows
from runstream_sink.verify.report import Collector
from runstream_sink.verify.rollups import check_rollups
from support.stores import batch, ingest, opened, prepare, reading, run_id

P, Q = b"p" * 16, b"q" * 16
RUN, OTHER = run_id(1), run_id(2)
SMALL: list[Any] = [
    ev.MetricLogged(RUN, "loss", 2.0, 0, 10),
    ev.MetricLogged(RUN, "loss", math.nan, 5, 20),
    ev.MetricLogged(RUN, "loss", 1.0, 5, 20),
    ev.MetricLogged(RUN, "loss", 1.0, 5, 20),
    ev.MetricsLogged(RUN, {"other": -0.0}, 7, 8),
    ev.MetricLogged(OTHER, "loss", 4.0, -9, 1),
]


@pytest.fixture
async def reader(tmp_path: Path) -> AsyncIterator[SqliteReader]:
    """A reader of a store with two small runs."""
    async with opened(tmp_path) as store:
        await ingest(store, [batch(P, SMALL)])
    async with reading(tmp_path) as reader:
        yield reader


def _line(run: str, steps: range, key: str = "m") -> list[Any]:
    return [ev.MetricLogged(run, key, step * 0.5, step, 1) for step in steps]


def _collected(collector: Collector) -> dict[str, int]:
    return dict(collector.report().counts)


async def test_the_metrics_of_a_run_are_listed_with_their_number_of_points(reader: SqliteReader) -> None:
    """By key; equal points count as often as they were logged."""
    loss, other = await query.list_metrics(reader, RUN)
    assert (loss.key, loss.points, loss.latest) == ("loss", 4, query.Point(1.0, 5, 20))
    assert (other.key, other.points, math.copysign(1, other.latest.value)) == ("other", 1, -1.0)
    assert await query.list_metrics(reader, run_id(9)) == []


async def test_a_history_is_read_page_by_page(reader: SqliteReader) -> None:
    """By step, timestamp and identity; equal points stay apart, and the last page has no cursor."""
    pages = [await query.metric_page(reader, RUN, "loss", 2)]
    pages.append(await query.metric_page(reader, RUN, "loss", 2, pages[0].cursor))
    assert [[point.step for point in page.points] for page in pages] == [[0, 5], [5, 5]]
    assert math.isnan(pages[0].points[1].value)
    assert pages[1].cursor is None
    assert await query.metric_page(reader, RUN, "none") == query.PointPage([], None)
    assert await query.metric_page(reader, RUN, "loss", 0) == query.PointPage([], None)


async def test_a_page_begins_behind_its_cursor_whatever_comes_meanwhile(tmp_path: Path) -> None:
    """Points that come later stand on later pages, or nowhere if they lie before the cursor."""
    async with opened(tmp_path) as store, reading(tmp_path) as reader:
        await ingest(store, [batch(P, _line(RUN, range(0, 10, 2)))])
        first = await query.metric_page(reader, RUN, "m", 3)
        await ingest(store, [batch(Q, _line(RUN, range(1, 12, 2)))])
        second = await query.metric_page(reader, RUN, "m", 100, first.cursor)
    assert [point.step for point in first.points] == [0, 2, 4]
    assert [point.step for point in second.points] == [5, 6, 7, 8, 9, 11]


@pytest.mark.parametrize("cursor", ["", "1:2:3", "a:b:c:d:e", "1:2:3:4:99999999999999999999"])
async def test_a_cursor_that_is_none_is_refused(reader: SqliteReader, cursor: str) -> None:
    """With words for whoever made it up."""
    with pytest.raises(InvalidInputError, match="cursor"):
        await query.metric_page(reader, RUN, "loss", cursor=cursor)


async def test_buckets_of_several_runs_have_the_same_width(reader: SqliteReader) -> None:
    """Aligned at multiples of it; NaN stands apart from the least and the greatest value."""
    found = await query.metric_buckets(reader, [RUN, OTHER, run_id(9), RUN], "loss", 4)
    assert list(found) == [RUN, OTHER]
    first, second = found[RUN][0], found[OTHER][0]
    assert (first.first_step, first.last_step, first.count, first.nans) == (0, 7, 4, 1)
    assert (first.min, first.max, first.first, first.last) == (
        1.0,
        2.0,
        query.Point(2.0, 0, 10),
        query.Point(1.0, 5, 20),
    )
    assert (second.first_step, second.last_step, second.count) == (-16, -9, 1)


async def test_buckets_are_cut_to_the_steps_that_are_asked_for(reader: SqliteReader) -> None:
    """Both ends included; nothing there is an empty list; no run is an empty answer."""
    found = await query.metric_buckets(reader, [RUN, OTHER], "loss", 10, start_step=1, end_step=5)
    assert [(bucket.first_step, bucket.count) for bucket in found[RUN]] == [(5, 3)]
    assert found[OTHER] == []
    assert await query.metric_buckets(reader, [RUN], "loss", 10, start_step=6) == {RUN: []}
    assert await query.metric_buckets(reader, [], "loss") == {}
    with pytest.raises(InvalidInputError, match="0 buckets"):
        await query.metric_buckets(reader, [RUN], "loss", 0)


@pytest.mark.parametrize("points", [1, 2, 200])
async def test_a_bucket_of_nothing_but_nan_has_no_least_value(tmp_path: Path, points: int) -> None:
    """None, which no chart takes for a number."""
    async with opened(tmp_path) as store, reading(tmp_path) as reader:
        await ingest(store, [batch(P, [ev.MetricLogged(RUN, "m", math.nan, 1, 1)] * points)])
        (bucket,) = (await query.metric_buckets(reader, [RUN], "m"))[RUN]
    assert (bucket.count, bucket.nans, bucket.min, bucket.max) == (points, points, None, None)


async def test_a_metric_with_very_many_points_is_not_scanned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where its rollup gives a few buckets, these are taken; a closer look reads the points."""
    monkeypatch.setattr(rollup, "ROLLED_ABOVE", 100)
    monkeypatch.setattr(rollup, "MAX_BUCKETS", 128)
    async with opened(tmp_path) as store, reading(tmp_path) as reader:
        await ingest(store, [batch(P, _line(RUN, range(4096)))])
        coarse = (await query.metric_buckets(reader, [RUN], "m", 1000))[RUN]
        fine = (await query.metric_buckets(reader, [RUN], "m", 1000, 0, 2000))[RUN]
        monkeypatch.setattr(metrics, "_VERY_MANY", 1000)
        taken = (await query.metric_buckets(reader, [RUN], "m", 1000, 0, 2000))[RUN]
        close = (await query.metric_buckets(reader, [RUN], "m", 1000, 0, 500))[RUN]
        whole = (await query.metric_buckets(reader, [RUN], "m", 100))[RUN]
    assert (len(coarse), len(fine), len(taken), len(close), len(whole)) == (512, 501, 32, 501, 64)
    for buckets, points in ((coarse, 4096), (fine, 2001), (taken, 2001), (close, 501), (whole, 4096)):
        assert sum(bucket.count for bucket in buckets) == points
        assert buckets[-1].last == query.Point((points - 1) * 0.5, points - 1, 1)


async def test_a_dead_letter_that_is_retried_twice_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The points of a metric, and those in its rollup, are counted as they lie there."""
    monkeypatch.setattr(rollup, "ROLLED_ABOVE", 3)
    async with opened(tmp_path) as store, reading(tmp_path) as reader:
        commit = await prepare(store, tmp_path, [batch(P, _line(RUN, range(8)))])
        await store.commit(commit)
        again = Commit(commit.changes, retried=[(P, 0)])
        commit.changes.seen = {}
        await store.commit(again)
        (metric,) = await query.list_metrics(reader, RUN)
        collector = Collector()
        await check_rollups(reader, collector)
    assert metric.points == 8
    assert _collected(collector) == {}


async def test_a_commit_that_fails_leaves_counts_and_rollups_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in what the writer remembers."""
    monkeypatch.setattr(rollup, "ROLLED_ABOVE", 3)
    async with opened(tmp_path) as store, reading(tmp_path) as reader:
        await ingest(store, [batch(P, _line(RUN, range(8)))])
        commit = await prepare(store, tmp_path, [batch(P, _line(RUN, range(8, 12)), first=8)])
        monkeypatch.setattr("runstream_sink.store.writing._write_incidents", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await store.commit(commit)
        monkeypatch.undo()
        monkeypatch.setattr(rollup, "ROLLED_ABOVE", 3)
        await store.commit(commit)
        collector = Collector()
        await check_rollups(reader, collector)
        assert (await query.list_metrics(reader, RUN))[0].points == 12
    assert _collected(collector) == {}


async def test_the_migration_makes_rollups_of_points_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if they had been kept from the beginning."""
    monkeypatch.setattr(rollup, "ROLLED_ABOVE", 50)
    monkeypatch.setattr(rollup_rows, "_POINTS_AT_ONCE", 16)
    async with opened(tmp_path) as store:
        await ingest(store, [batch(P, _line(RUN, range(60)) + _line(RUN, range(20), "few"))])
    with closing(sqlite3.connect(tmp_path / "runstream.db", isolation_level=None)) as connection:
        kept = connection.execute("SELECT * FROM metric_rollups").fetchall()
        assert len(kept) == 60
        connection.executescript(
            "DROP TABLE metric_rollups; ALTER TABLE latest_metrics DROP COLUMN points; PRAGMA user_version = 2"
        )
        migrate.migrate(connection, "store")
        assert connection.execute("SELECT * FROM metric_rollups").fetchall() == kept
        assert connection.execute("SELECT points FROM latest_metrics ORDER BY key").fetchall() == [(20,), (60,)]


@pytest.mark.parametrize(
    ("statement", "kinds"),
    [
        ("UPDATE latest_metrics SET points = 7", {"metric_count": 1, "rollup": 1}),
        ("UPDATE metric_rollups SET count = 2 WHERE bucket = 3", {"rollup": 1}),
        ("DELETE FROM metric_rollups WHERE bucket = 3", {"rollup": 1}),
        ("UPDATE metric_rollups SET scale = 2", {"rollup": 1}),
        ("DELETE FROM metric_rollups", {"rollup": 1}),
        ("DELETE FROM metrics", {"rollup": 1}),
    ],
)
async def test_a_rollup_that_does_not_fit_its_points_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statement: str, kinds: dict[str, int]
) -> None:
    """By `runstream verify`, with the metric's name."""
    monkeypatch.setattr(rollup, "ROLLED_ABOVE", 10)
    async with opened(tmp_path) as store:
        await ingest(store, [batch(P, _line(RUN, range(20)))])
    with closing(sqlite3.connect(tmp_path / "runstream.db")) as connection, connection:
        connection.execute(statement)
    async with reading(tmp_path) as reader:
        collector = Collector()
        await check_rollups(reader, collector)
    assert _collected(collector) == kinds
    assert all("metric 'm'" in finding.detail for finding in collector.report().findings)
