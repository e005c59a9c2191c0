"""Apply: what each event changes, which of two events wins, and what is refused."""

from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest

from runstream_schemas import events as ev
from runstream_schemas.batch import Batch
from runstream_schemas.segment import Hole
from runstream_sink.apply import apply
from runstream_sink.changes import (
    ArtifactChange,
    Changes,
    DeadLetter,
    ExperimentCreation,
    HoleSeen,
    RowsEntry,
    RunStart,
    RunStatus,
    TagValue,
    order_of,
)
from runstream_sink.intervals import IntervalSet
from support.stores import batch, record, run_id

RUN = run_id(1)
PRODUCER = b"p" * 16
OTHER = b"q" * 16
EARLY, LATE = order_of(1_000, PRODUCER, 0), order_of(1_001, PRODUCER, 1)
INT64 = 1 << 63
SHA = "ab" * 32

BOTH = [
    pytest.param(
        [ev.RunStarted(RUN, "1", 5, "a", "u"), ev.RunStarted(RUN, "2", 6, "b", "v")],
        {
            "run_starts": {RUN: RunStart(EARLY, "1", 5, "u")},
            "run_statuses": {RUN: RunStatus(LATE, "RUNNING", None)},
            "run_names": {RUN: TagValue(LATE, "b")},
        },
        id="starts",
    ),
    pytest.param(
        [ev.RunUpdated(RUN, "a", "KILLED"), ev.RunUpdated(RUN, "b", "FAILED")],
        {
            "run_statuses": {RUN: RunStatus(LATE, "FAILED", None)},
            "run_names": {RUN: TagValue(LATE, "b")},
        },
        id="updates",
    ),
    pytest.param(
        [ev.RunUpdated(RUN, "a"), ev.RunUpdated(RUN, None, "FAILED")],
        {"run_statuses": {RUN: RunStatus(LATE, "FAILED", None)}, "run_names": {RUN: TagValue(EARLY, "a")}},
        id="partial updates",
    ),
    pytest.param(
        [ev.RunEnded(RUN, "FAILED", 7), ev.RunEnded(RUN, "FINISHED", 8)],
        {"run_statuses": {RUN: RunStatus(LATE, "FINISHED", 8)}},
        id="ends",
    ),
    pytest.param(
        [ev.ParamsLogged(RUN, {"k": "1", "l": "2"}), ev.ParamsLogged(RUN, {"k": "3"})],
        {"params": {(RUN, "k"): TagValue(EARLY, "1"), (RUN, "l"): TagValue(EARLY, "2")}},
        id="params",
    ),
    pytest.param(
        [ev.MetricLogged(RUN, "m", 1.5, 3, 4), ev.MetricsLogged(RUN, {"m": 2.5, "n": 0.0}, 5, 6)],
        {
            "metrics": {
                (RUN, "m"): [(3, 4, 1.5, PRODUCER, 0, 0), (5, 6, 2.5, PRODUCER, 1, 0)],
                (RUN, "n"): [(5, 6, 0.0, PRODUCER, 1, 1)],
            }
        },
        id="metrics",
    ),
    pytest.param(
        [ev.TagsSet(RUN, {"k": "1", "l": "2"}), ev.TagDeleted(RUN, "k")],
        {"tags": {(RUN, "k"): TagValue(LATE, None), (RUN, "l"): TagValue(EARLY, "2")}},
        id="tags",
    ),
    pytest.param(
        [ev.RowsLogged(RUN, "e\u0301", ["a"], [[1], [2]]), ev.RowsLogged(RUN, "\u00e9", [], [])],
        {
            "rows": {
                (RUN, "\u00e9"): [
                    RowsEntry(PRODUCER, 0, 1_000, ["a"], [[1], [2]]),
                    RowsEntry(PRODUCER, 1, 1_001, [], []),
                ]
            }
        },
        id="rows",
    ),
    pytest.param(
        [ev.ArtifactLogged(RUN, "a", SHA, 9, "text/plain"), ev.ArtifactInlined(RUN, "a", b"x", "image/png")],
        {
            "artifacts": {
                (RUN, "a"): ArtifactChange(LATE, sha256(b"x").hexdigest(), 1, "image/png", b"x"),
            }
        },
        id="inlined artifact",
    ),
    pytest.param(
        [ev.ArtifactInlined(RUN, "a", b"x"), ev.ArtifactLogged(RUN, "a", SHA, 9, "text/plain")],
        {"artifacts": {(RUN, "a"): ArtifactChange(LATE, SHA, 9, "text/plain", None)}},
        id="artifact",
    ),
    pytest.param(
        [ev.RunDeleted(RUN), ev.RunRestored(RUN)],
        {"run_lifecycles": {RUN: TagValue(LATE, "active")}},
        id="restored",
    ),
    pytest.param(
        [ev.RunRestored(RUN), ev.RunDeleted(RUN)],
        {"run_lifecycles": {RUN: TagValue(LATE, "deleted")}},
        id="deleted",
    ),
]
EXPERIMENTS = [
    pytest.param(
        [ev.ExperimentCreated("7", "a", 5, {"k": "1"}), ev.ExperimentCreated("7", "b", 6, {"k": "2"})],
        {
            "experiments": {"7": ExperimentCreation(EARLY, 5, "a")},
            "experiment_tags": {("7", "k"): TagValue(LATE, "2")},
        },
        id="created",
    ),
    pytest.param(
        [ev.ExperimentRenamed("7", "a"), ev.ExperimentRenamed("7", "b")],
        {"experiment_names": {"7": TagValue(LATE, "b")}},
        id="renamed",
    ),
    pytest.param(
        [ev.ExperimentTagsSet("7", {"k": "1", "l": "2"}), ev.ExperimentTagDeleted("7", "k")],
        {"experiment_tags": {("7", "k"): TagValue(LATE, None), ("7", "l"): TagValue(EARLY, "2")}},
        id="tagged",
    ),
    pytest.param(
        [ev.ExperimentDeleted("7"), ev.ExperimentRestored("7")],
        {"experiment_lifecycles": {"7": TagValue(LATE, "active")}},
        id="restored",
    ),
    pytest.param(
        [ev.ExperimentRestored("7"), ev.ExperimentDeleted("7")],
        {"experiment_lifecycles": {"7": TagValue(LATE, "deleted")}},
        id="deleted",
    ),
    pytest.param(
        [ev.LossNotice(OTHER.hex(), 3, "quota", 5), ev.LossNotice(OTHER.hex(), 3, "quota", 4)],
        {"losses": {(OTHER, 3, "quota"): 5}},
        id="losses",
    ),
    pytest.param(
        [ev.Abandoned(), ev.Abandoned()],
        {"holes": [HoleSeen(PRODUCER, 0, 0, "abandoned"), HoleSeen(PRODUCER, 1, 1, "abandoned")]},
        id="abandoned",
    ),
    pytest.param(
        [ev.Abandoned(1 << 40, "torn"), ev.Abandoned(2, "corrupt", b"raw")],
        {
            "holes": [HoleSeen(PRODUCER, 0, 0, "torn"), HoleSeen(PRODUCER, 1, 1, "corrupt")],
            "dead": [
                DeadLetter(PRODUCER, 1, 0, "corrupt", "damaged bytes in the journal, in place of events 1 to 1", b"raw")
            ],
        },
        id="abandoned with fields, which have one seq each",
    ),
]


def _expected(fields: dict[str, Any], runs: set[str]) -> Changes:
    return Changes(events=2, seen={PRODUCER: [(0, 1)]}, run_ids=runs, **fields)


@pytest.mark.parametrize(("events", "fields"), BOTH)
def test_two_events_of_a_run_change_exactly_this(events: list[Any], fields: dict[str, Any]) -> None:
    """In whichever order they come."""
    assert apply([batch(PRODUCER, events)], {}) == _expected(fields, {RUN})
    backwards = [Batch(PRODUCER, [item], []) for item in reversed(batch(PRODUCER, events).records)]
    changes = apply(backwards, {})
    assert changes.seen == {PRODUCER: [(1, 1), (0, 0)]}
    for name, value in fields.items():
        held = getattr(changes, name)
        if name in {"metrics", "rows"}:
            held = {key: sorted(found) for key, found in held.items()}
        assert held == value


@pytest.mark.parametrize(("events", "fields"), EXPERIMENTS)
def test_two_other_events_change_exactly_this(events: list[Any], fields: dict[str, Any]) -> None:
    """No run is touched."""
    assert apply([batch(PRODUCER, events)], {}) == _expected(fields, set())
    backwards = [Batch(PRODUCER, [item], []) for item in reversed(batch(PRODUCER, events).records)]
    changes = apply(backwards, {})
    for name, value in fields.items():
        assert getattr(changes, name) == value or name == "holes"


GOOD = [
    ev.RunStarted(RUN, "9223372036854775807", INT64 - 1),
    ev.RunStarted(RUN, "0", -INT64),
    ev.RunEnded(RUN, "FINISHED", INT64 - 1),
    ev.RunEnded(RUN, "FINISHED", -INT64),
    ev.MetricLogged(RUN, "m" * 250, 1.0, INT64 - 1, -INT64),
    ev.MetricLogged(RUN, "m", 1.0, -INT64, INT64 - 1),
    ev.MetricsLogged(RUN, {"m": 1.0}, INT64 - 1, -INT64),
    ev.ArtifactLogged(RUN, "a", SHA, 0),
    ev.ArtifactLogged(RUN, "a", SHA, INT64 - 1),
    ev.ArtifactInlined(RUN, "a", b""),
    ev.ExperimentCreated("1", "", INT64 - 1),
    ev.LossNotice(OTHER.hex(), 0, "quota", INT64 - 1),
    ev.LossNotice(OTHER.hex(), INT64 - 1, "quota", 0),
    ev.RowsLogged(RUN, "t", ["a", "b"], [[1, 2]]),
    ev.RowsLogged(RUN, "t" * 1000, [], [[], []]),
]
BAD = [
    ev.RunStarted("F" * 32, "0", 0),
    ev.RunStarted(RUN, "01", 0),
    ev.RunStarted(RUN, str(INT64), 0),
    ev.RunStarted(RUN, "0", INT64),
    ev.RunUpdated("f" * 31, "a"),
    ev.RunUpdated(RUN, "a", "finished"),
    ev.RunEnded(RUN, "DONE", 0),
    ev.RunEnded(RUN, "FINISHED", INT64),
    ev.RunEnded("", "FINISHED", 0),
    ev.ParamsLogged("", {"k": "v"}),
    ev.ParamsLogged(RUN, {"k": "v", "": "v"}),
    ev.MetricLogged("", "m", 1.0, 0, 0),
    ev.MetricLogged(RUN, "", 1.0, 0, 0),
    ev.MetricLogged(RUN, "m", 1.0, INT64, 0),
    ev.MetricLogged(RUN, "m", 1.0, 0, INT64),
    ev.MetricsLogged("", {"m": 1.0}, 0, 0),
    ev.MetricsLogged(RUN, {"m": 1.0, "\n": 1.0}, 0, 0),
    ev.MetricsLogged(RUN, {"m": 1.0}, INT64, 0),
    ev.MetricsLogged(RUN, {"m": 1.0}, 0, INT64),
    ev.TagsSet("", {"k": "v"}),
    ev.TagsSet(RUN, {"k": "v", "k" * 251: "v"}),
    ev.TagDeleted("", "k"),
    ev.TagDeleted(RUN, ""),
    ev.RowsLogged("", "t", [], []),
    ev.RowsLogged(RUN, "../t", [], []),
    ev.RowsLogged(RUN, "t", ["a"], [[1], [1, 2]]),
    ev.RowsLogged(RUN, "t", ["a", "a"], [[1, 2]]),
    ev.ArtifactLogged("", "a", SHA, 0),
    ev.ArtifactLogged(RUN, "/a", SHA, 0),
    ev.ArtifactLogged(RUN, "a", SHA[:-1], 0),
    ev.ArtifactLogged(RUN, "a", "AB" * 32, 0),
    ev.ArtifactLogged(RUN, "a", "~" * 64, 0),
    ev.ArtifactLogged(RUN, "a", SHA, -1),
    ev.ArtifactLogged(RUN, "a", SHA, INT64),
    ev.ArtifactInlined("", "a", b""),
    ev.ArtifactInlined(RUN, "a/../b", b""),
    ev.ExperimentCreated("-1", "a", 0),
    ev.ExperimentCreated("1", "a", INT64),
    ev.ExperimentCreated("1", "a", 0, {"k": "v", "": "v"}),
    ev.ExperimentRenamed("x", "a"),
    ev.ExperimentTagsSet("x", {"k": "v"}),
    ev.ExperimentTagsSet("1", {"k": "v", "": "v"}),
    ev.ExperimentTagDeleted("x", "k"),
    ev.ExperimentTagDeleted("1", ""),
    ev.ExperimentDeleted("x"),
    ev.ExperimentRestored("x"),
    ev.RunDeleted("x"),
    ev.RunRestored("x"),
    ev.LossNotice("xy", 0, "quota", 0),
    ev.LossNotice(OTHER.hex(), -1, "quota", 0),
    ev.LossNotice(OTHER.hex(), INT64, "quota", 0),
    ev.LossNotice(OTHER.hex(), 0, "quota", -1),
    ev.LossNotice(OTHER.hex(), 0, "quota", INT64),
]


def _named(event: Any) -> str:
    return f"{type(event).__name__}-{ev.encode_event(event).hex()[-24:]}"


@pytest.mark.parametrize("event", GOOD, ids=_named)
def test_an_event_at_the_limits_is_applied(event: Any) -> None:
    """It is no dead letter."""
    assert apply([batch(PRODUCER, [event])], {}).dead == []


@pytest.mark.parametrize("event", BAD, ids=_named)
def test_an_event_beyond_the_limits_is_dead_and_changes_nothing(event: Any) -> None:
    """Not even the run that it names is made; the letter holds its bytes."""
    changes = apply([batch(PRODUCER, [event])], {})
    (letter,) = changes.dead
    assert letter == DeadLetter(PRODUCER, 0, 1_000, "invalid", letter.detail, ev.encode_event(event))
    assert letter.detail
    assert changes == Changes(events=1, seen={PRODUCER: [(0, 0)]}, dead=[letter])


def test_events_with_the_same_columns_share_them() -> None:
    """What comes between may have others, and columns that are named twice are dead among them."""
    sent = [["a", "b"], ["a", "b"], ["b", "b"], ["b", "a"], ["b", "a"]]
    changes = apply([batch(PRODUCER, [ev.RowsLogged(RUN, "t", columns, [[1, 2]]) for columns in sent])], {})
    entries = changes.rows[RUN, "t"]
    assert [(entry.seq, entry.columns) for entry in entries] == [(seq, sent[seq]) for seq in (0, 1, 3, 4)]
    assert entries[0].columns is entries[1].columns
    assert entries[2].columns is entries[3].columns
    assert [letter.seq for letter in changes.dead] == [2]


@pytest.mark.parametrize(("body", "reason"), [(b"\xc1", "undecodable"), (b"\x91\xcd\xff\xff", "unknown_type")])
def test_bytes_that_are_no_known_event_are_dead(body: bytes, reason: str) -> None:
    """An upgrade may know the second ones."""
    (letter,) = apply([batch(PRODUCER, [body])], {}).dead
    assert (letter.reason, letter.raw, letter.seq, letter.emit_ts) == (reason, body, 0, 1_000)


def _metric(seq: int) -> Any:
    return record(seq, ev.MetricLogged(RUN, "m", 0.0, seq, 0))


def _seqs(changes: Changes) -> list[int]:
    return [seq for points in changes.metrics.values() for *_, seq, _ in points]


@pytest.mark.parametrize(
    ("seen", "seqs", "fresh", "intervals"),
    [
        ([], [0, 1, 2], [0, 1, 2], [(0, 2)]),
        ([(0, 1)], [0, 1, 2], [2], [(2, 2)]),
        ([(1, 1)], [0, 1, 2], [0, 2], [(0, 0), (2, 2)]),
        ([(0, 9)], [0, 1, 2], [], None),
        ([], [0, 2, 3], [0, 2, 3], [(0, 0), (2, 2), (3, 3)]),
        ([], [0, 0, 1], [0, 1], [(0, 0), (1, 1)]),
        ([], [1, 0, 2], [1, 0, 2], [(1, 1), (0, 0), (2, 2)]),
        ([], [5, 6, 7], [5, 6, 7], [(5, 7)]),
    ],
)
def test_only_events_that_were_not_seen_are_applied(
    seen: list[tuple[int, int]], seqs: list[int], fresh: list[int], intervals: list[tuple[int, int]] | None
) -> None:
    """What the caller has seen stays as it is; the rest is counted as duplicates."""
    held = {PRODUCER: IntervalSet(seen)}
    changes = apply([Batch(PRODUCER, [_metric(seq) for seq in seqs], [])], held)
    assert _seqs(changes) == fresh
    assert (changes.events, changes.duplicates) == (len(fresh), len(seqs) - len(fresh))
    assert changes.seen == ({} if intervals is None else {PRODUCER: intervals})
    assert held == {PRODUCER: IntervalSet(seen)}


def test_a_loss_of_nothing_is_none() -> None:
    """A count of 0 stays 0."""
    assert apply([batch(PRODUCER, [ev.LossNotice(OTHER.hex(), 3, "quota", 0)])], {}).losses == {(OTHER, 3, "quota"): 0}


def test_batches_of_a_delivery_see_each_other() -> None:
    """An event that comes twice in it is applied once; another producer's events are others."""
    batches = [Batch(producer, [_metric(0), _metric(1)], []) for producer in (PRODUCER, OTHER, PRODUCER)]
    changes = apply(batches, {OTHER: IntervalSet([(1, 1)])})
    assert (changes.events, changes.duplicates) == (3, 3)
    assert changes.seen == {PRODUCER: [(0, 1)], OTHER: [(0, 0)]}


def test_holes_are_seen_where_nothing_else_was() -> None:
    """Damaged bytes become a dead letter for each part of the hole that is new."""
    holes = [Hole(0, 4, "corrupt", b"raw"), Hole(4, 6, "abandoned"), Hole(7, 7, "torn")]
    changes = apply([Batch(PRODUCER, [_metric(1)], holes)], {PRODUCER: IntervalSet([(3, 3)])})
    assert changes.holes == [
        HoleSeen(PRODUCER, 0, 0, "corrupt"),
        HoleSeen(PRODUCER, 2, 2, "corrupt"),
        HoleSeen(PRODUCER, 4, 4, "corrupt"),
        HoleSeen(PRODUCER, 5, 6, "abandoned"),
        HoleSeen(PRODUCER, 7, 7, "torn"),
    ]
    assert [(dead.seq, dead.emit_ts, dead.reason, dead.raw) for dead in changes.dead] == [
        (seq, 0, "corrupt", b"raw") for seq in (0, 2, 4)
    ]
    assert "events 2 to 2" in changes.dead[1].detail
    assert changes.seen == {PRODUCER: [(1, 1), (0, 0), (2, 2), (4, 4), (5, 6), (7, 7)]}
    assert (changes.events, changes.duplicates) == (1, 0)


@pytest.mark.parametrize("make", [list, lambda: [Batch(PRODUCER, [], [])]], ids=["none", "empty"])
def test_nothing_changes_nothing(make: Callable[[], list[Batch]]) -> None:
    """No batch, or a batch without anything."""
    assert apply(make(), {}) == Changes()
