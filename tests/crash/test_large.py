"""Large things, in small in every run and in full in long ones: many files, rows, columns, metrics, bytes."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import runstream
from runstream_sink import query
from support.environment import unmeasured
from support.pipeline import Pipeline, forget_everything, run_program

pytestmark = pytest.mark.slow

FULL = pytest.mark.long
MIB = 1 << 20


@pytest.fixture
def pipeline(tmp_path: Path) -> Iterator[Pipeline]:
    """A queue that this process logs to, and a store."""
    pipe = Pipeline(tmp_path)
    runstream.configure(stream=pipe.stream, store=str(pipe.store))
    yield pipe
    forget_everything()


def peak(status: str) -> int:
    """The most memory that a process has held so far, bytes; it is told from that of the process that started it."""
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def sink_peak(pipeline: Pipeline) -> int:
    """Apply all that is there, in a process of its own: the bytes of memory that it needed at most."""
    program = (
        "import asyncio, sys; from runstream_sink.config import resolve; "
        "from runstream_sink.service import run_sink; "
        "asyncio.run(run_sink(resolve(stream=sys.argv[1], store=sys.argv[2]), once=True)); "
        "print(open('/proc/self/status').read())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, pipeline.stream, str(pipeline.store)],
        env=unmeasured(),
        capture_output=True,
        text=True,
        timeout=3_000,
        check=True,
    )
    return peak(done.stdout)


@pytest.mark.parametrize("count", [3_000, pytest.param(100_000, marks=FULL)])
def test_a_directory_of_very_many_files(pipeline: Pipeline, tmp_path: Path, count: int) -> None:
    """In bounded memory on both sides; each file is there."""
    source = tmp_path / "files"
    for number in range(count):
        if number % 1_000 == 0:
            (source / f"{number // 1_000:03d}").mkdir(parents=True)
        (source / f"{number // 1_000:03d}" / f"{number}.txt").write_text(f"content {number}")
    before = peak(Path("/proc/self/status").read_text())
    with runstream.start_run() as run:
        runstream.log_artifacts(source)
    assert peak(Path("/proc/self/status").read_text()) - before < 100 * MIB
    runstream.close()
    assert sink_peak(pipeline) < 400 * MIB
    assert len(pipeline.ask(query.list_artifacts, run.run_id)) == count
    assert pipeline.artifact(run.run_id, f"000/{count % 1_000 + 7}.txt") == f"content {count % 1_000 + 7}".encode()
    assert pipeline.ask(query.list_dead_letters) == []


@pytest.mark.parametrize("count", [100_000, pytest.param(10_000_000, marks=FULL)])
def test_a_table_of_very_many_rows(pipeline: Pipeline, count: int) -> None:
    """The sink's memory does not grow with the table; a page from its end is read without holding the rest."""
    with runstream.start_run() as run:
        for first in range(0, count, 50_000):
            runstream.log_table({"n": range(first, first + 50_000), "text": "some text"}, "t")
            assert runstream.flush(60)
    runstream.close()
    assert sink_peak(pipeline) < 400 * MIB
    page = pipeline.ask(query.load_table, run.run_id, "t", start=count - 3, limit=2)
    assert [row["n"] for row in page] == [count - 3, count - 2]


@pytest.mark.parametrize("names", [2_000, pytest.param(12_000, marks=FULL)])
def test_a_run_of_very_many_metrics(pipeline: Pipeline, names: int) -> None:
    """More names than are remembered; each with its points."""
    with runstream.start_run() as run:
        for step in range(3):
            runstream.log_metrics({f"m{number}": number + step for number in range(names)}, step=step)
        for number in range(names):
            runstream.log_metric(f"m{number}", 0.5, step=3)
    pipeline.drain()
    metrics = pipeline.run(run.run_id).metrics
    assert len(metrics) == names
    assert len(pipeline.ask(query.metric_history, run.run_id, f"m{names - 1}")) == 4


@pytest.mark.parametrize("columns", [500, pytest.param(2_000, marks=FULL)])
def test_a_table_of_very_many_columns(pipeline: Pipeline, columns: int) -> None:
    """One row lacks most of them."""
    rows = [{f"c{number}": number * row for number in range(columns)} for row in range(20)]
    with runstream.start_run() as run:
        runstream.log_table(rows, "t")
        runstream.log_prediction({"c7": 7}, "t")
    pipeline.drain()
    found = pipeline.rows(run.run_id, "t")
    assert found[:-1] == rows
    assert found[-1]["c7"] == 7
    assert len(found[-1]) == columns


@pytest.mark.parametrize("size", [70 * MIB, pytest.param(400 * MIB, marks=FULL)])
def test_a_row_larger_than_any_event(pipeline: Pipeline, size: int) -> None:
    """Its value comes back as it was."""
    with runstream.start_run() as run:
        runstream.log_prediction({"text": "x" * size, "n": 1})
        runstream.log_prediction({"text": "small", "n": 2})
    pipeline.drain()
    table = runstream.load_table("predictions", [run.run_id])
    assert [len(text) for text in table["text"]] == [size, 5]


@pytest.mark.parametrize("size", [300 * MIB, pytest.param(5 << 30, marks=FULL)])
def test_a_very_large_file(pipeline: Pipeline, tmp_path: Path, size: int) -> None:
    """The call does not wait for its bytes; the program that ends does, or says that they never came."""
    path = tmp_path / "model.bin"
    with path.open("wb") as file:
        file.truncate(size)
        os.pwrite(file.fileno(), b"end", size - 3)
    program = """
        import sys, time
        import runstream
        with runstream.start_run() as run:
            begun = time.monotonic()
            runstream.log_artifact("model.bin")
            called = time.monotonic() - begun
            flushed = runstream.flush(900)
        print(run.run_id, called, flushed)
    """
    run_id, called, flushed = run_program(program, pipeline, timeout=1_000).stdout.split()
    assert (float(called) < 5, flushed) == (True, "True")
    assert sink_peak(pipeline) < 300 * MIB
    (artifact,) = pipeline.ask(query.list_artifacts, run_id)
    assert artifact.size == size
    with (pipeline.store / "artifacts" / run_id / artifact.file).open("rb") as stored:
        assert os.pread(stored.fileno(), 5, size - 5) == b"\0\0end"
