"""Apply: artifacts whose bytes come later, and what the letters of refused events say."""

from typing import Any

import pytest

from runstream_schemas import events as ev
from runstream_sink.apply import apply
from runstream_sink.changes import ArtifactChange, Changes, order_of
from support.stores import batch, run_id

RUN = run_id(1)
PRODUCER = b"p" * 16
ORIGIN = b"\xab" * 16
INT64 = 1 << 63
SHA = "ab" * 32


def _completed(**fields: Any) -> ev.ArtifactCompleted:
    given = {
        "run_id": RUN,
        "path": "a",
        "sha256": SHA,
        "size": 1,
        "media_type": None,
        "journal": ORIGIN.hex(),
        "seq": 7,
        "emit_ts": 5,
    }
    return ev.ArtifactCompleted(**{**given, **fields})


def _failed(**fields: Any) -> ev.ArtifactFailed:
    given = {"run_id": RUN, "path": "a", "journal": ORIGIN.hex(), "seq": 7, "reason": "changed", "detail": "why"}
    return ev.ArtifactFailed(**{**given, **fields})


def _one(event: Any) -> Changes:
    return apply([batch(PRODUCER, [event])], {})


def test_a_pending_artifact_is_dead_until_it_comes() -> None:
    """The run is there; the letter holds the event."""
    event = ev.ArtifactPending(run_id=RUN, path="a", size=9)
    changes = _one(event)
    (letter,) = changes.dead
    assert (letter.seq, letter.emit_ts, letter.raw) == (0, 1_000, ev.encode_event(event))
    assert "artifact 'a'" in letter.detail
    assert changes.run_ids == {RUN}


@pytest.mark.parametrize("emit_ts", [5, INT64 - 1, -INT64])
@pytest.mark.parametrize("seq", [0, 7, INT64 - 1])
def test_a_completed_artifact_has_the_identity_of_the_first_event(emit_ts: int, seq: int) -> None:
    """So it competes as if its bytes had been there at the call."""
    changes = _one(_completed(emit_ts=emit_ts, seq=seq))
    order = order_of(emit_ts, ORIGIN, seq)
    assert changes.artifacts == {(RUN, "a"): ArtifactChange(order, SHA, 1, None)}
    assert changes.resolved == {(ORIGIN, seq)}
    assert (changes.run_ids, changes.dead) == ({RUN}, [])


def test_an_artifact_that_failed_is_a_letter_with_its_reason() -> None:
    """And what was pending is resolved."""
    event = _failed()
    changes = _one(event)
    (letter,) = changes.dead
    assert (letter.reason, letter.seq, letter.raw) == ("artifact_changed", 0, ev.encode_event(event))
    assert letter.detail == f"artifact 'a' of run {RUN} is lost: why"
    assert changes.resolved == {(ORIGIN, 7)}
    assert changes.run_ids == {RUN}


@pytest.mark.parametrize("make", [_completed, _failed])
@pytest.mark.parametrize(
    "wrong",
    [
        {"journal": "ab"},
        {"journal": "AB" * 16},
        {"journal": "x" * 32},
        {"seq": -1},
        {"seq": INT64},
        {"path": "/a"},
        {"run_id": "x"},
    ],
    ids=str,
)
def test_an_end_that_names_no_beginning_is_invalid(make: Any, wrong: dict[str, Any]) -> None:
    """It changes nothing."""
    changes = _one(make(**wrong))
    (letter,) = changes.dead
    assert letter.reason == "invalid"
    assert changes == Changes(events=1, seen={PRODUCER: [(0, 0)]}, dead=[letter])


@pytest.mark.parametrize("emit_ts", [INT64, -INT64 - 1])
def test_a_time_that_is_none_is_invalid(emit_ts: int) -> None:
    """It could not be ordered.  The smallest cannot travel at all."""
    if emit_ts < 0:
        with pytest.raises(OverflowError):
            ev.encode_event(_completed(emit_ts=emit_ts))
        return
    assert [letter.reason for letter in _one(_completed(emit_ts=emit_ts)).dead] == ["invalid"]


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (ev.MetricLogged(RUN, "", 1.0, 0, 0), "a metric's key"),
        (ev.MetricsLogged(RUN, {"": 1.0}, 0, 0), "a metric's key"),
        (ev.ParamsLogged(RUN, {"": "v"}), "a param's key"),
        (ev.TagsSet(RUN, {"": "v"}), "a tag's key"),
        (ev.TagDeleted(RUN, ""), "a tag's key"),
        (ev.ExperimentCreated("1", "a", 0, {"": "v"}), "a tag's key"),
        (ev.ExperimentTagsSet("1", {"": "v"}), "a tag's key"),
        (ev.ExperimentTagDeleted("1", ""), "a tag's key"),
        (ev.RowsLogged(RUN, "", [], []), "the table's name ''"),
        (ev.ArtifactLogged(RUN, "", SHA, 0), "the artifact's path ''"),
        (ev.ArtifactInlined(RUN, "", b""), "the artifact's path ''"),
        (ev.ArtifactPending(run_id=RUN, path="", size=0), "the artifact's path ''"),
        (_failed(path=""), "the artifact's path ''"),
        (_completed(path=""), "the artifact's path ''"),
    ],
)
def test_a_letter_says_what_is_wrong_with_what(event: Any, words: str) -> None:
    """Whoever reads it finds the place in the program."""
    (letter,) = _one(event).dead
    assert letter.detail.startswith(words)


@pytest.mark.parametrize("event", [ev.MetricsLogged(RUN, {}, 0, 0), ev.ArtifactPending(run_id=RUN, path="a", size=0)])
def test_an_event_makes_its_run_even_where_it_holds_nothing(event: Any) -> None:
    """The run is a placeholder until its start comes."""
    assert _one(event).run_ids == {RUN}
