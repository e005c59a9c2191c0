"""Planted damage: each kind is found, named, and nothing else with it."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import runstream
from runstream_schemas.events import ParamsLogged
from runstream_sink.store.lock import StoreLock
from runstream_sink.verify import Report, verify
from runstream_sink.verify.report import MOST_LISTED, Collector
from support.pipeline import Pipeline


def _log(pipeline: Pipeline) -> str:
    """A run with some of everything, applied; its id."""
    runstream.set_experiment("damage")
    with runstream.start_run("one") as run:
        runstream.log_params({"lr": 0.1, "model": "m"})
        runstream.set_tag("team", "red")
        for step in range(4):
            runstream.log_metrics({"loss": 1 / (step + 1), "accuracy": step / 4}, step=step)
        runstream.log_metric("loss", 0.5, step=4)
        runstream.log_table({"question": ["a", "b", "c"], "answer": [1, 2, 3]}, "batch.csv")
        for number in range(10):
            runstream.log_prediction({"number": number, "text": "long enough to be cut"})
        runstream.log_text("hello", "notes/hello.txt")
        runstream.log_text("world", "notes/world.txt")
    runstream.close()
    pipeline.drain()
    return str(run.info.run_id)


@pytest.fixture
def run_id(pipeline: Pipeline) -> str:
    """The id of a run whose store is whole."""
    run_id = _log(pipeline)
    assert _verify(pipeline).counts == {}
    return run_id


def _verify(pipeline: Pipeline, **options: Any) -> Report:
    return pipeline.ask(verify, pipeline.options.artifacts, **options)


def _kinds(pipeline: Pipeline, **options: Any) -> dict[str, int]:
    report = _verify(pipeline, **options)
    assert report.ok == (not report.counts)
    return report.counts


def _sql(pipeline: Pipeline, *statements: str) -> None:
    """Change the database behind everybody's back."""
    with closing(sqlite3.connect(pipeline.options.store.database)) as connection, connection:
        for statement in statements:
            assert connection.execute(statement).rowcount > 0, statement


def _rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Replace a file; an artifact may share its bytes with the staged ones."""
    data = change(path.read_bytes())
    path.unlink()
    path.write_bytes(data)


def _file(pipeline: Pipeline, run_id: str, name: str) -> Path:
    return pipeline.options.artifacts / run_id / name


def _lines(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[bytes], bytes]:
    return lambda data: b"".join(change(data.splitlines(keepends=True)))


def test_a_whole_store_has_no_findings_and_says_what_was_checked(pipeline: Pipeline, run_id: str) -> None:
    """All artifacts, parts, rows and, with the stream, events were looked at."""
    report = _verify(pipeline, queue=pipeline.queue)
    assert (report.ok, report.findings, report.known) == (True, [], [])
    events = report.checked.pop("events")
    assert report.checked == {"artifacts": 2, "parts": 2, "rows": 13}
    assert events == len(pipeline.events())


def test_a_flipped_bit_in_an_artifact_is_found(pipeline: Pipeline, run_id: str) -> None:
    """The hash tells it, and the finding names the file."""
    _rewrite(_file(pipeline, run_id, "notes/hello.txt"), lambda data: bytes([data[0] ^ 1]) + data[1:])
    report = _verify(pipeline)
    assert report.counts == {"artifact_hash": 1}
    assert report.findings[0].subject == f"{run_id}/notes/hello.txt"


def test_an_artifact_of_another_size_is_found(pipeline: Pipeline, run_id: str) -> None:
    """Before the hash is computed, the size tells it."""
    _rewrite(_file(pipeline, run_id, "notes/hello.txt"), lambda data: data + b"!")
    assert _kinds(pipeline) == {"artifact_size": 1}


def test_a_deleted_artifact_is_found(pipeline: Pipeline, run_id: str) -> None:
    """Each one that is missing is a finding."""
    _file(pipeline, run_id, "notes/hello.txt").unlink()
    _file(pipeline, run_id, "notes/world.txt").unlink()
    assert _kinds(pipeline) == {"artifact_missing": 2}


def test_a_table_that_is_cut_within_a_row_is_found(pipeline: Pipeline, run_id: str) -> None:
    """The finding says how many rows can still be read."""
    _rewrite(_file(pipeline, run_id, "predictions.csv"), lambda data: data[:-10])
    report = _verify(pipeline)
    assert report.counts == {"part_short": 1}
    assert "9 of 10 rows can be read" in report.findings[0].detail


def test_a_removed_row_is_found(pipeline: Pipeline, run_id: str) -> None:
    """A row with an event of its own leaves a file that is too short."""
    _rewrite(_file(pipeline, run_id, "predictions.csv"), _lines(lambda lines: lines[:4] + lines[5:]))
    report = _verify(pipeline)
    assert report.counts == {"part_short": 1}
    assert "9 of 10 rows" in report.findings[0].detail


def test_a_removed_row_is_found_where_the_length_is_kept(pipeline: Pipeline, run_id: str) -> None:
    """The rows are counted, whatever the file's length says."""
    name = _file(pipeline, run_id, "predictions.csv")
    removed = name.read_bytes().splitlines(keepends=True)[4]
    filling = removed.split(b",")[1][:-2] + b"x" * len(removed)
    cut = _lines(lambda lines: [*lines[:4], lines[5].replace(b"cut", b"cut" + filling[: len(removed)]), *lines[6:]])
    _rewrite(name, cut)
    assert _kinds(pipeline) == {"part_rows": 1}


def test_a_row_removed_from_within_an_event_is_named(pipeline: Pipeline, run_id: str) -> None:
    """Rows of one event are numbered."""
    _rewrite(_file(pipeline, run_id, "batch.csv"), _lines(lambda lines: [*lines[:2], *lines[3:]]))
    report = _verify(pipeline)
    assert report.counts == {"part_short": 1, "row_missing": 1}
    assert "rows 1 to 1 are missing" in next(f.detail for f in report.findings if f.kind == "row_missing")


def test_a_duplicated_row_at_the_end_makes_the_file_too_long(pipeline: Pipeline, run_id: str) -> None:
    """What lies behind the committed length is not part of the table."""
    _rewrite(_file(pipeline, run_id, "predictions.csv"), _lines(lambda lines: [*lines, lines[-1]]))
    assert _kinds(pipeline) == {"part_long": 1}


def test_a_duplicated_row_within_the_table_is_found(pipeline: Pipeline, run_id: str) -> None:
    """The identity stands twice, wherever the second one is."""
    _rewrite(_file(pipeline, run_id, "predictions.csv"), _lines(lambda lines: [*lines[:3], lines[1], *lines[3:]]))
    assert _kinds(pipeline) == {"row_twice": 1, "part_long": 1}


def test_a_row_that_stands_in_the_place_of_another_is_found(pipeline: Pipeline, run_id: str) -> None:
    """Nothing but the identities tells it."""
    _rewrite(_file(pipeline, run_id, "predictions.csv"), _lines(lambda lines: [*lines[:3], lines[1], *lines[4:]]))
    assert _kinds(pipeline) == {"row_twice": 1}


def test_a_row_that_is_repeated_at_once_is_found(pipeline: Pipeline, run_id: str) -> None:
    """The rows of one event do not repeat a number."""
    _rewrite(_file(pipeline, run_id, "batch.csv"), _lines(lambda lines: [*lines[:3], lines[2]]))
    assert _kinds(pipeline) == {"row_twice": 1}


def test_rows_of_one_event_in_two_tables_are_found(pipeline: Pipeline, run_id: str) -> None:
    """An event goes to one table."""
    name = _file(pipeline, run_id, "predictions.csv")
    identity = name.read_bytes().splitlines()[1].rpartition(b",")[2]
    digits = len(identity)
    _rewrite(
        _file(pipeline, run_id, "batch.csv"),
        _lines(lambda lines: [*lines[:3], lines[3][: -digits - 1] + identity + b"\n"]),
    )
    assert _kinds(pipeline) == {"row_twice": 1}


def test_a_deleted_part_is_found(pipeline: Pipeline, run_id: str) -> None:
    """The finding says how many rows went with it."""
    _file(pipeline, run_id, "predictions.csv").unlink()
    report = _verify(pipeline)
    assert report.counts == {"part_missing": 1}
    assert "10 rows are committed" in report.findings[0].detail


def test_a_part_that_is_no_csv_any_more_is_found(pipeline: Pipeline, run_id: str) -> None:
    """A header that is not true, a quote where none may be."""
    _rewrite(_file(pipeline, run_id, "predictions.csv"), lambda data: b"N" + data[1:])
    _rewrite(_file(pipeline, run_id, "batch.csv"), _lines(lambda lines: [*lines[:2], b'"' + lines[2][1:], *lines[3:]]))
    assert _kinds(pipeline) == {"part_unreadable": 2}


def test_a_row_of_an_event_that_was_never_seen_is_found(pipeline: Pipeline, run_id: str) -> None:
    """The producer and the first of its events are named."""
    name = _file(pipeline, run_id, "predictions.csv")
    producer = name.read_bytes().splitlines()[1].rpartition(b",")[2].partition(b":")[0]
    _rewrite(name, lambda data: data.replace(producer, b"f" * 32))
    report = _verify(pipeline)
    assert report.counts == {"unseen": 1}
    assert report.findings[0].subject == f"producer {'f' * 32}"
    assert "10 events" in report.findings[0].detail


def test_a_longer_part_is_right_while_a_sink_runs(pipeline: Pipeline, run_id: str) -> None:
    """The sink writes before it commits."""
    with _file(pipeline, run_id, "predictions.csv").open("ab") as file:
        file.write(b"half a row")
    lock = StoreLock(pipeline.options.store.lock, "the test's")
    lock.acquire()
    try:
        assert _kinds(pipeline) == {}
    finally:
        lock.release()
    assert _kinds(pipeline) == {"part_long": 1}


def test_an_artifact_that_stays_wrong_while_a_sink_runs_is_found(
    pipeline: Pipeline, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked at again for a while, since the sink may be replacing it."""
    monkeypatch.setattr("runstream_sink.verify.run._PAUSE", 0.0)
    _rewrite(_file(pipeline, run_id, "notes/hello.txt"), lambda _: b"HELLO")
    lock = StoreLock(pipeline.options.store.lock, "the test's")
    lock.acquire()
    try:
        assert _kinds(pipeline) == {"artifact_hash": 1}
    finally:
        lock.release()


def test_a_gap_in_what_was_seen_is_found(pipeline: Pipeline, run_id: str) -> None:
    """The producer and the missing events are named."""
    first = min(seq for seq, event in enumerate(pipeline.events()) if isinstance(event, ParamsLogged))
    _sql(
        pipeline,
        f"INSERT INTO seen SELECT producer, {first + 1}, last FROM seen WHERE first = 0",
        f"UPDATE seen SET last = {first - 1} WHERE first = 0",
        f"DELETE FROM params WHERE hex(substr(ord, 25)) = '{first:016X}'",
    )
    report = _verify(pipeline)
    assert report.counts == {"seen_gap": 1}
    assert f"events {first} to {first} (1) are missing" in report.findings[0].detail


def test_facts_of_an_event_that_was_never_seen_are_found(pipeline: Pipeline, run_id: str) -> None:
    """Beside the gap, what came from the event."""
    first = min(seq for seq, event in enumerate(pipeline.events()) if isinstance(event, ParamsLogged))
    _sql(
        pipeline,
        f"INSERT INTO seen SELECT producer, {first + 1}, last FROM seen WHERE first = 0",
        f"UPDATE seen SET last = {first - 1} WHERE first = 0",
    )
    assert _kinds(pipeline) == {"seen_gap": 1, "unseen": 2}


def test_what_was_seen_twice_is_found(pipeline: Pipeline, run_id: str) -> None:
    """Intervals are disjoint."""
    _sql(pipeline, "INSERT INTO seen SELECT producer, 3, 4 FROM seen WHERE first = 0")
    assert set(_kinds(pipeline)) == {"seen_overlap", "unseen"}


def test_a_position_behind_which_events_are_not_seen_is_found(pipeline: Pipeline, run_id: str) -> None:
    """The last events of a producer leave no gap behind them; the stream's position tells."""
    _sql(pipeline, "UPDATE seen SET last = last - 1")
    counts = _kinds(pipeline)
    assert counts.pop("unseen") >= 1  # the run's end came from that event
    assert counts == {"position": 1}


@pytest.mark.parametrize(
    ("statement", "kinds"),
    [
        ("DELETE FROM parts WHERE number = 1 AND file LIKE '%predictions%'", {"table_rows"}),
        ("UPDATE parts SET number = 7 WHERE file LIKE '%predictions%'", {"table_parts"}),
        ("UPDATE parts SET rows = rows + 1 WHERE file LIKE '%batch%'", {"table_rows", "part_rows"}),
        ("UPDATE tables SET rows = 9 WHERE name = 'batch'", {"table_rows"}),
        ("DELETE FROM table_columns WHERE name = 'question'", {"table_column"}),
        ("DELETE FROM runs", {"reference"}),
        ("DELETE FROM keys WHERE name = 'lr'", {"reference"}),
        ("DELETE FROM experiments WHERE id <> 0", {"reference"}),
        (
            "UPDATE artifacts SET file = 'notes/world.txt' WHERE path = 'notes/hello.txt'",
            {"file_shared", "artifact_hash"},
        ),
        ("DELETE FROM metrics WHERE step = 4", {"latest_metric", "metric_count"}),
        ("DELETE FROM metrics WHERE step = 2 AND idx = 0", {"metric_missing", "metric_count"}),
        ("UPDATE metrics SET idx = 0 WHERE step = 2", {"metric_twice"}),
        ("UPDATE latest_metrics SET value = 7.5 WHERE step = 4", {"latest_metric"}),
        ("UPDATE latest_metrics SET step = 9 WHERE step = 4", {"latest_metric"}),
        ("UPDATE metrics SET seq = seq + 1000 WHERE step = 1", {"unseen"}),
        ("DELETE FROM latest_metrics WHERE step = 4", {"latest_metric"}),
        ("UPDATE tags SET ord = x'00'", {"database"}),
        ("UPDATE params SET ord = CAST(substr(ord, 1, 24) || x'00000000000F0000' AS BLOB)", {"unseen"}),
    ],
)
def test_a_changed_row_of_the_database_is_found(
    pipeline: Pipeline, run_id: str, statement: str, kinds: set[str]
) -> None:
    """Rows that contradict each other."""
    _sql(pipeline, statement)
    assert set(_kinds(pipeline)) == kinds


def test_all_points_of_a_metric_gone_are_found(pipeline: Pipeline, run_id: str) -> None:
    """A latest point without points."""
    _sql(pipeline, "DELETE FROM metrics WHERE key = (SELECT id FROM keys WHERE name = 'accuracy')")
    assert _kinds(pipeline) == {"latest_metric": 1}


def test_a_damaged_page_of_the_database_is_found(pipeline: Pipeline, run_id: str) -> None:
    """What SQLite cannot read any more is a finding, not an error."""
    _sql(pipeline, "UPDATE meta SET value = value")
    with closing(sqlite3.connect(pipeline.options.store.database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'params'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with pipeline.options.store.database.open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xff" * size)
    assert set(_kinds(pipeline)) == {"database"}


def test_known_losses_are_listed_and_are_no_findings(pipeline: Pipeline, run_id: str) -> None:
    """Drops, calls that never returned, and dead letters."""
    _sql(
        pipeline,
        "INSERT INTO losses SELECT id, 0, 'quota', 5 FROM producers",
        "INSERT INTO holes SELECT id, 1, 2, 'abandoned' FROM producers",
        "INSERT INTO dead_letters SELECT 1, id, 3, 0, 'invalid', '', x'00', 0, NULL FROM producers",
        "INSERT INTO dead_letters SELECT 2, id, 4, 0, 'invalid', '', x'00', 0, 77 FROM producers",
    )
    report = _verify(pipeline)
    assert report.ok
    assert report.known_counts == {"dropped": 5, "abandoned": 2, "dead_letter": 1}
    assert len(report.known) == 3


@pytest.mark.parametrize("reason", ["corrupt", "torn"])
def test_damage_in_the_journal_is_a_finding(pipeline: Pipeline, run_id: str, reason: str) -> None:
    """Events that were accepted and lost by the disk are no known losses."""
    _sql(
        pipeline,
        f"INSERT INTO holes SELECT id, 1, 2, '{reason}' FROM producers",
        f"INSERT INTO dead_letters SELECT 1, id, 1, 0, '{reason}', '', x'00', 0, NULL FROM producers",
    )
    assert _kinds(pipeline) == {"hole": 1}


def test_a_hole_that_was_never_seen_is_found(pipeline: Pipeline, run_id: str) -> None:
    """A hole takes the place of events that count as seen."""
    _sql(pipeline, "INSERT INTO holes SELECT id, 5000, 5001, 'abandoned' FROM producers")
    assert _kinds(pipeline) == {"unseen": 1}


def test_progress_is_told_in_bytes(pipeline: Pipeline, run_id: str) -> None:
    """Artifacts and tables reach their totals."""
    told: dict[str, tuple[int, int]] = {}
    _verify(pipeline, progress=lambda what, done, total: told.update({what: (done, total)}))
    assert told["artifacts"] == (10, 10)
    assert told["tables"][0] == told["tables"][1] > 100


def test_no_more_than_some_findings_of_a_kind_are_listed() -> None:
    """A ruined store does not fill the memory, and all is counted."""
    collector = Collector()
    for number in range(MOST_LISTED + 50):
        collector.add("row_twice", "x.csv", str(number))
        collector.know("abandoned", "x", str(number), 2)
    report = collector.report()
    assert len(report.findings) == len(report.known) == MOST_LISTED
    assert report.counts == {"row_twice": MOST_LISTED + 50}
    assert report.known_counts == {"abandoned": 2 * (MOST_LISTED + 50)}
