"""Verification against the stream: what the store lost without a trace is found in the events."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import runstream
from runstream_schemas.errors import InvalidInputError
from runstream_sink.verify import Report, verify
from support.pipeline import Pipeline


@pytest.fixture
def run_id(pipeline: Pipeline) -> str:
    """The id of a run whose store is whole; some of its facts overrule others."""
    runstream.set_experiment("stream")
    runstream.set_experiment_tag("stage", "test")
    with runstream.start_run("one") as run:
        runstream.log_params({"lr": 0.1, "model": "m"})
        for team in ("red", "blue"):
            runstream.set_tag("team", team)
        runstream.set_tag("gone", "soon")
        runstream.delete_tag("gone")
        for step in range(3):
            runstream.log_metrics({"loss": 1 / (step + 1), "accuracy": float("nan")}, step=step)
        for number in range(3):
            runstream.log_prediction({"number": number})
        for text in ("first", "second"):
            runstream.log_text(text, "note.txt")
    runstream.delete_run(run.info.run_id)
    runstream.close()
    pipeline.drain()
    assert _verify(pipeline).counts == {}
    return str(run.info.run_id)


def _verify(pipeline: Pipeline) -> Report:
    return pipeline.ask(verify, pipeline.options.artifacts, queue=pipeline.queue)


def _sql(pipeline: Pipeline, *statements: str) -> None:
    with closing(sqlite3.connect(pipeline.options.store.database)) as connection, connection:
        for statement in statements:
            assert connection.execute(statement).rowcount > 0, statement


_KEY = "(SELECT id FROM keys WHERE name = '{}')"


@pytest.mark.parametrize(
    ("statement", "counts"),
    [
        (f"DELETE FROM params WHERE key = {_KEY.format('lr')}", {"effect_missing": 1}),
        (f"UPDATE params SET value = '0.2' WHERE key = {_KEY.format('lr')}", {"effect_differs": 1}),
        (
            f"UPDATE params SET ord = CAST(x'7F' || substr(ord, 2) AS BLOB) WHERE key = {_KEY.format('lr')}",
            {"effect_missing": 1},
        ),
        (f"DELETE FROM tags WHERE key = {_KEY.format('team')}", {"effect_missing": 1}),
        (f"UPDATE tags SET value = 'red' WHERE key = {_KEY.format('team')}", {"effect_differs": 1}),
        (f"UPDATE tags SET value = 'back' WHERE key = {_KEY.format('gone')}", {"effect_differs": 1}),
        ("DELETE FROM experiment_tags", {"effect_missing": 1}),
        ("DELETE FROM artifacts", {"effect_missing": 1}),
        ("DELETE FROM metrics WHERE step = 1", {"effect_missing": 2}),
        ("DELETE FROM metrics WHERE step = 1 AND idx = 1", {"effect_missing": 1}),
        ("UPDATE metrics SET value = 0.75 WHERE step = 1 AND idx = 0", {"effect_differs": 1}),
        ("UPDATE runs SET lifecycle = NULL, lifecycle_ord = NULL", {"effect_missing": 1}),
        ("UPDATE runs SET name = 'other'", {"effect_differs": 1}),
        ("UPDATE runs SET status = 'FAILED'", {"effect_differs": 1}),
        ("UPDATE runs SET experiment_id = 0", {"effect_differs": 1}),
        ("UPDATE experiments SET created_name = 'x', renamed = 'y' WHERE id <> 0", {"effect_differs": 1}),
    ],
)
def test_a_change_without_a_trace_in_the_store_is_found_in_the_stream(
    pipeline: Pipeline, run_id: str, statement: str, counts: dict[str, int]
) -> None:
    """Each event's effect is looked up, with its value."""
    _sql(pipeline, statement)
    report = _verify(pipeline)
    found = {kind: count for kind, count in report.counts.items() if kind.startswith("effect")}
    assert found == counts, report.findings


def test_a_table_without_rows_of_an_event_is_found(pipeline: Pipeline, run_id: str) -> None:
    """Rows that are gone from the file and from what the database says of it."""
    (part,) = (pipeline.options.artifacts / run_id).glob("*.csv")
    data = part.read_bytes()
    kept = data[: data.rindex(b"\n", 0, -1) + 1]
    part.write_bytes(kept)
    _sql(pipeline, f"UPDATE parts SET rows = rows - 1, length = {len(kept)}", "UPDATE tables SET rows = rows - 1")
    report = _verify(pipeline)
    assert report.counts == {"effect_missing": 1}
    assert "1 rows are not in the table" in report.findings[0].detail


def test_an_event_that_was_read_and_not_applied_is_found(pipeline: Pipeline, run_id: str) -> None:
    """The position has moved past it."""
    _sql(pipeline, "UPDATE seen SET last = last - 1")
    report = _verify(pipeline)
    assert report.counts["event_missing"] == 1
    assert "1 events" in next(f.detail for f in report.findings if f.kind == "event_missing")


def test_backlog_is_passed_over(pipeline: Pipeline, run_id: str) -> None:
    """Events that come after the store's position are nobody's fault."""
    events = _verify(pipeline).checked["events"]
    with runstream.start_run("two"):
        runstream.log_metric("loss", 1.0)
    runstream.close()
    report = _verify(pipeline)
    assert (report.ok, report.checked["events"]) == (True, events)


def test_dead_letters_have_no_effect_to_be_missed(pipeline: Pipeline, run_id: str, tmp_path: Path) -> None:
    """The artifact whose bytes are gone, and the event whose type nobody knows, are in the dead letters."""
    from runstream.client import client

    client.emit_body(b"\x91\xcd\xff\xff")
    with runstream.start_run("three"):
        (tmp_path / "third.txt").write_text("third")
        runstream.log_artifact(tmp_path / "third.txt")
    runstream.close()
    for staged in (pipeline.queue / "staging").glob("*/*"):
        if staged.read_bytes() == b"third":
            staged.unlink()
    pipeline.drain()
    report = _verify(pipeline)
    assert (report.counts, report.known_counts) == ({}, {"dead_letter": 2})
    _sql(pipeline, "DELETE FROM dead_letters")
    assert _verify(pipeline).counts == {"effect_missing": 2}


def test_another_stream_is_refused(pipeline: Pipeline, run_id: str, tmp_path: Any) -> None:
    """Nothing could be said about a stream that the store never read."""
    other = tmp_path / "other"
    (other / "journals").mkdir(parents=True)
    with pytest.raises(InvalidInputError, match="never read the stream"):
        pipeline.ask(verify, pipeline.options.artifacts, queue=other)
