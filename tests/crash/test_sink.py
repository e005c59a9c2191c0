"""The sink as a process: it ends gracefully, waits out a full disk, and leaves a store to one sink at a time."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from runstream_sink import query
from support.crash_round import start_sink
from support.mounting import mounted
from support.pipeline import Pipeline, run_program

PROGRAM = """
import runstream
with runstream.start_run() as run:
    for step in range({events}):
        run.log_metric("m", step, step=step)
        run.log_prediction({{"n": step, "text": "x" * 1000}})
    run.log_text("text", "t.txt")
print(run.run_id)
"""


def log(pipeline: Pipeline, events: int) -> str:
    """Log metrics, rows and an artifact; the run's id."""
    done = run_program(PROGRAM.format(events=events), pipeline)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def wait_for_rows(pipeline: Pipeline, run_id: str, count: int) -> None:
    """Wait until the store has that many rows of the run."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        tables = pipeline.ask(query.list_tables, run_id)
        if tables and tables[0].rows == count:
            return
        time.sleep(0.02)
    raise AssertionError(f"{count} rows did not arrive in 30 seconds")


@pytest.mark.crash
def test_sigterm_ends_the_sink_gracefully(tmp_path: Path) -> None:
    """What it has begun is committed, the exit code is 0, and the next sink goes on there."""
    pipeline = Pipeline(tmp_path)
    first = log(pipeline, 100)
    for run_id, number in ((first, signal.SIGTERM), ("", signal.SIGINT)):
        run_id = run_id or log(pipeline, 3_000)  # noqa: PLW2901 - logged only when its turn comes
        sink = start_sink(pipeline)
        assert sink.wait_for(b"sink started")
        if run_id == first:
            wait_for_rows(pipeline, first, 100)
        sink.signal(number)
        assert sink.wait() == 0
        assert any(b"sink ended" in line for line in sink.lines)
    second = run_id
    pipeline.drain()
    assert [row["n"] for row in pipeline.rows(second)] == list(range(3_000))
    assert pipeline.replay("replayed")[0] == pipeline.digest()


@pytest.mark.crash
def test_a_second_sink_on_a_store_is_refused(tmp_path: Path) -> None:
    """With a clear message and at once; the first one goes on."""
    pipeline = Pipeline(tmp_path)
    run_id = log(pipeline, 10)
    first = start_sink(pipeline)
    assert first.wait_for(b"sink started")
    second = start_sink(pipeline)
    assert second.wait() != 0
    assert b"StoreInUseError" in b"".join(second.lines)
    wait_for_rows(pipeline, run_id, 10)
    first.signal(signal.SIGTERM)
    assert first.wait() == 0


@pytest.mark.crash
def test_two_sinks_that_start_at_once_on_a_new_store_agree(tmp_path: Path) -> None:
    """One makes the store, the other is refused; never is a database locked."""
    for attempt in range(3):
        pipeline = Pipeline(tmp_path / str(attempt))
        run_id = log(pipeline, 10)
        sinks = [start_sink(pipeline) for _ in range(3)]
        started = [sink for sink in sinks if sink.wait_for(b"sink started")]
        assert len(started) == 1
        wait_for_rows(pipeline, run_id, 10)
        started[0].signal(signal.SIGTERM)
        assert sorted(sink.wait() for sink in sinks) == [0, 1, 1]
        output = b"".join(line for sink in sinks for line in sink.lines)
        assert b"database is locked" not in output
        assert output.count(b"StoreInUseError:") == 2


@pytest.mark.crash
def test_a_full_disk_is_waited_out(tmp_path: Path) -> None:
    """The sink says what is wrong and that nothing is lost, tries again, and goes on when there is room."""
    pipeline = Pipeline(tmp_path)
    with mounted(pipeline.store, "size=6m"):
        ballast = pipeline.store / "ballast"
        run_id = log(pipeline, 100)
        pipeline.drain()
        with ballast.open("wb") as file:
            room = os.statvfs(pipeline.store)
            file.write(b"\0" * (room.f_bavail * room.f_frsize - 300_000))
        run_id = log(pipeline, 2_000)
        sink = start_sink(pipeline)
        try:
            assert sink.wait_for(b"nothing is lost, trying again")
            assert not any(b"Traceback" in line for line in sink.lines)
            ballast.unlink()
            assert sink.wait_for(b"the store can be written again", timeout=60)
            wait_for_rows(pipeline, run_id, 2_000)
            sink.signal(signal.SIGTERM)
            assert sink.wait() == 0
        finally:
            sink.kill()
        assert [row["n"] for row in pipeline.rows(run_id)] == list(range(2_000))
        digest = pipeline.digest()
        assert pipeline.artifact(run_id, "t.txt") == b"text"
        assert pipeline.replay("replayed")[0] == digest


@pytest.mark.crash
def test_a_full_disk_does_not_keep_the_sink_from_ending(tmp_path: Path) -> None:
    """SIGTERM while it waits for room ends it; the store is as it was, and a later sink goes on."""
    pipeline = Pipeline(tmp_path)
    with mounted(pipeline.store, "size=6m"):
        first = log(pipeline, 10)
        pipeline.drain()
        before = pipeline.digest()
        ballast = pipeline.store / "ballast"
        done = subprocess.run(["dd", "if=/dev/zero", f"of={ballast}"], capture_output=True, check=False)
        assert done.returncode != 0
        second = log(pipeline, 500)
        sink = start_sink(pipeline)
        try:
            assert sink.wait_for(b"nothing is lost, trying again")
            sink.signal(signal.SIGTERM)
            assert sink.wait() == 0
        finally:
            sink.kill()
        ballast.unlink()
        assert pipeline.digest() == before
        pipeline.drain()
        assert len(pipeline.rows(first)) == 10
        assert len(pipeline.rows(second)) == 500
