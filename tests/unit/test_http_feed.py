"""The feed of changes: watchers are told everything that comes, or that something is missing."""

import asyncio

from runstream_sink.changes import (
    ArtifactChange,
    Changes,
    DeadLetter,
    ExperimentCreation,
    RowsEntry,
    RunStart,
    TagValue,
)
from runstream_sink.http import feed as module
from runstream_sink.http.feed import Change, ChangeFeed

A, B = "a" * 32, "b" * 32


def _tags(run_id: str) -> Changes:
    return Changes(events=1, run_ids={run_id}, tags={(run_id, "k"): TagValue(b"", "v")})


async def test_a_change_says_what_of_which_run_and_experiment() -> None:
    """Of all kinds of events."""
    feed = ChangeFeed()
    with feed:
        place = feed.place
        changes = _tags(A)
        changes.run_ids |= {B, "c" * 32}
        changes.run_starts[B] = RunStart(b"", "0", 1, None)
        changes.params[B, "p"] = TagValue(b"", "v")
        changes.metrics[B, "m"] = [(0, 0, 1.0, b"", 0, 0)]
        changes.rows[B, "t"] = [RowsEntry(b"", 0, 0, [], [])]
        changes.artifacts[B, "f"] = ArtifactChange(b"", "", 0, None)
        changes.experiments["5"] = ExperimentCreation(b"", 1, "five")
        changes.experiment_tags["6", "k"] = TagValue(b"", "v")
        changes.dead = [DeadLetter(b"", 0, 0, "invalid", "", b"")]
        feed.note(changes)
        merged = feed.behind(place)
    kinds = ["artifacts", "metrics", "params", "run", "tables"]
    assert merged.change == Change({A: ["tags"], B: kinds, "c" * 32: []}, ["5", "6"], 1, 1)
    assert merged.place == feed.place


async def test_many_commits_are_told_as_one_change() -> None:
    """From behind any place that is remembered."""
    feed = ChangeFeed()
    with feed:
        places = [feed.place]
        for run_id in (A, B, A):
            feed.note(_tags(run_id))
            places.append(feed.place)
        told = [feed.behind(place).change for place in places]
    assert [change and (sorted(change.runs), change.events) for change in told] == [
        ([A, B], 3),
        ([A, B], 2),
        ([A], 1),
        ([], 0),
    ]


async def test_what_is_not_remembered_is_said_to_be_missing() -> None:
    """From another feed, from too far back, from the future, and what is no place."""
    feed = ChangeFeed()
    with feed:
        first = feed.place
        for _ in range(module._REMEMBERED + 1):
            feed.note(_tags(A))
        name = first.rpartition("-")[0]
        for place in (
            first,
            f"other-{feed.place.rpartition('-')[2]}",
            f"{name}-99999",
            f"{name}-x",
            "",
            "-",
            f"{name}--1",
        ):
            assert feed.behind(place).change is None
        big = Changes(run_ids={f"{number:032x}" for number in range(module._MOST_RUNS + 1)})
        place = feed.place
        feed.note(big)
        assert feed.behind(place).change is None


async def test_nothing_is_remembered_where_nobody_watches() -> None:
    """Until a watcher comes; and for a while after it has gone."""
    feed = ChangeFeed()
    place = feed.place
    feed.note(_tags(A))
    assert feed.behind(place).change is None
    with feed:
        place = feed.place
    feed.note(_tags(B))
    change = feed.behind(place).change
    assert change is not None
    assert change.runs == {B: ["tags"]}


async def test_a_watcher_waits_for_news_or_the_end() -> None:
    """And is told where there is none in time."""
    feed = ChangeFeed()
    assert not await feed.wait(feed.place, 0.001)
    waiting = asyncio.create_task(feed.wait(feed.place, 60))
    await asyncio.sleep(0)
    feed.note(_tags(A))
    assert await waiting
    waiting = asyncio.create_task(feed.wait(feed.place, 60))
    await asyncio.sleep(0)
    feed.close()
    assert await waiting
    assert feed.closed
