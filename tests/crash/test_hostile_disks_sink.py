"""Disks that are full, limited, read-only or broken under the sink: it waits, says so, and goes on by itself."""

import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runstream_schemas.reader import journal_names
from runstream_sink import query
from support.crash_round import Victim, start_sink
from support.injecting import failing_calls
from support.mounting import mounted
from support.pipeline import Pipeline, run_program
from support.programs import Program, settle

pytestmark = pytest.mark.crash

WAITS = b"nothing is lost, trying again"
GOES_ON = b"the store can be written again"
PROGRAM = """
    import os, runstream
    with runstream.start_run() as run:
        for step in range({events}):
            run.log_metric("m", step, step=step)
            run.log_prediction({{"n": step, "text": "x" * 1000}})
        run.log_text("text " * 100_000, "t.txt")
    print(run.run_id)
"""


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    """A queue and a store."""
    return Pipeline(tmp_path)


def log(pipeline: Pipeline, events: int) -> str:
    """Log metrics, rows and an artifact; the run's id."""
    done = run_program(PROGRAM.format(events=events), pipeline)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def wait_for_rows(pipeline: Pipeline, run_id: str, count: int) -> None:
    """Wait until the store has that many rows of the run."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        tables = pipeline.ask(query.list_tables, run_id)
        if tables and tables[0].rows == count:
            return
        time.sleep(0.02)
    raise AssertionError(f"{count} rows did not arrive")


@contextmanager
def sinking(pipeline: Pipeline) -> Iterator[Victim]:
    """A sink that has started; it must end well."""
    sink = start_sink(pipeline)
    try:
        assert sink.wait_for(b"sink started", 60)
        yield sink
        sink.signal(signal.SIGTERM)
        assert sink.wait() == 0
        assert not any(b"Traceback" in line for line in sink.lines)
    finally:
        sink.kill()


def check(pipeline: Pipeline, runs: dict[str, int]) -> None:
    """Everything is there, and an undisturbed replay says the same."""
    settle(pipeline)
    for run_id, count in runs.items():
        assert [row["n"] for row in pipeline.rows(run_id)] == list(range(count))
        assert len(pipeline.ask(query.metric_history, run_id, "m")) == count
        assert pipeline.artifact(run_id, "t.txt") == b"text " * 100_000


@pytest.mark.parametrize("error", ["EIO", "EROFS", "EDQUOT", "ENOSPC"])
def test_a_store_that_cannot_be_written_is_waited_for(pipeline: Pipeline, error: str) -> None:
    """Whatever the disk says: a broken device, a file system that became read-only, a quota, no room."""
    runs = {log(pipeline, 50): 50}
    with sinking(pipeline) as sink:
        wait_for_rows(pipeline, *runs, 50)
        with failing_calls(sink.process_id, error, "pwrite64", "fdatasync", "fsync", "ftruncate", "rename", "mkdir"):
            runs[log(pipeline, 300)] = 300
            assert sink.wait_for(WAITS, 60)
        assert sink.wait_for(GOES_ON, 90)
        wait_for_rows(pipeline, list(runs)[1], 300)
    check(pipeline, runs)


def test_a_disk_that_cannot_be_read_is_waited_for(pipeline: Pipeline) -> None:
    """The queue's or the store's: nothing becomes a dead letter of it."""
    runs = {log(pipeline, 50): 50}
    with sinking(pipeline) as sink:
        wait_for_rows(pipeline, *runs, 50)
        with failing_calls(sink.process_id, "EIO", "pread64"):
            runs[log(pipeline, 300)] = 300
            assert sink.wait_for(WAITS, 60)
        assert sink.wait_for(GOES_ON, 90)
        wait_for_rows(pipeline, list(runs)[1], 300)
    check(pipeline, runs)


def test_a_limit_of_the_size_of_files_is_waited_out(pipeline: Pipeline) -> None:
    """The table, or the database, may not grow; once the limit is raised the sink goes on."""
    runs = {log(pipeline, 50): 50}
    with sinking(pipeline) as sink:
        wait_for_rows(pipeline, *runs, 50)
        _, hard = resource.prlimit(sink.process_id, resource.RLIMIT_FSIZE)
        resource.prlimit(sink.process_id, resource.RLIMIT_FSIZE, (60_000, hard))
        runs[log(pipeline, 300)] = 300
        assert sink.wait_for(WAITS, 60)
        resource.prlimit(sink.process_id, resource.RLIMIT_FSIZE, (hard, hard))
        assert sink.wait_for(GOES_ON, 90)
        wait_for_rows(pipeline, list(runs)[1], 300)
    check(pipeline, runs)


def test_a_sink_that_is_killed_on_a_full_disk_leaves_a_store_that_goes_on(pipeline: Pipeline) -> None:
    """Several times, each time with as little room; then there is room, and the next sink goes on."""
    with mounted(pipeline.store, "size=6m"):
        runs = {log(pipeline, 50): 50}
        pipeline.drain()
        ballast = pipeline.store / "ballast"
        room = os.statvfs(pipeline.store)
        with ballast.open("wb") as file:
            file.write(b"\0" * (room.f_bavail * room.f_frsize - 300_000))
        runs[log(pipeline, 1000)] = 1000
        for _ in range(3):
            sink = start_sink(pipeline)
            try:
                assert sink.wait_for(WAITS, 60)
            finally:
                sink.kill()
        ballast.unlink()
        check(pipeline, runs)


def test_a_read_only_store_is_refused_at_the_start(pipeline: Pipeline) -> None:
    """A sink that has not begun says why and ends, for whoever supervises it; nothing of the store has changed."""
    with mounted(pipeline.store, "size=16m"):
        runs = {log(pipeline, 50): 50}
        pipeline.drain()
        before = pipeline.digest()
        runs[log(pipeline, 100)] = 100
        subprocess.run(["mount", "-o", "remount,ro", pipeline.store], check=True)
        sink = start_sink(pipeline)
        try:
            assert sink.wait() == 1
        finally:
            sink.kill()
        assert any(b"EnvironmentUnavailableError" in line and b"Read-only" in line for line in sink.lines)
        subprocess.run(["mount", "-o", "remount,rw", pipeline.store], check=True)
        assert pipeline.digest() == before
        check(pipeline, runs)


def test_a_queue_without_room_for_acknowledgements_holds_up_nothing(pipeline: Pipeline) -> None:
    """They only decide what may be freed: the sink applies all the same, says it, and acknowledges later."""
    with mounted(pipeline.queue, "size=16m"):
        runs = {log(pipeline, 50): 50}
        pipeline.drain()
        (consumer,) = (pipeline.queue / "consumers").iterdir()
        program = Program(PROGRAM.format(events=300) + "    input()\n    runstream.close()", pipeline)
        run_id = program.wait_for("")
        runs[run_id] = 300
        (living,) = set(journal_names(pipeline.queue / "journals")) - {path.name for path in consumer.iterdir()}
        ballast = pipeline.queue / "ballast"
        room = os.statvfs(pipeline.queue)
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize)
        with sinking(pipeline) as sink:
            assert sink.wait_for(b"what is applied cannot be acknowledged", 60)
            wait_for_rows(pipeline, run_id, 300)
            assert not (consumer / living).exists()
            ballast.unlink()
            deadline = time.monotonic() + 60
            while not (consumer / living).exists():
                assert time.monotonic() < deadline, "what was applied is never acknowledged"
                time.sleep(0.02)
            assert not any(WAITS in line for line in sink.lines)
        program.tell()
        program.end_well()
        check(pipeline, runs)
