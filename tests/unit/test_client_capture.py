"""`runstream.testing`: the in-memory stream for users' tests."""

import asyncio
import doctest
import os
import threading
from pathlib import Path

import pytest

import runstream
from runstream import testing
from runstream_schemas.errors import EnvironmentUnavailableError, InvalidInputError
from runstream_schemas.events import ExperimentCreated, MetricLogged, ParamsLogged, RowsLogged, RunEnded, RunStarted
from support.pipeline import Pipeline


def test_the_example_in_the_docstring_is_true() -> None:
    """It is what users copy."""
    assert doctest.testmod(testing).failed == 0


def test_events_are_recorded_and_the_disk_is_not_touched(pipeline: Pipeline) -> None:
    """The typed events, in their order."""
    with testing.capture() as events:
        with runstream.start_run("r") as run:
            runstream.log_param("p", 1)
            runstream.log_prediction({"a": 1})
        assert runstream.flush()
        assert asyncio.run(runstream.aflush())
    assert isinstance(events[0], RunStarted)
    assert events.of(ParamsLogged) == [ParamsLogged(run.run_id, {"p": "1"})]
    assert events.of(RowsLogged) == [RowsLogged(run.run_id, "predictions", ["a"], [[1]])]
    assert isinstance(events[-1], RunEnded)
    assert not pipeline.queue.exists()


def test_bytes_of_artifacts_are_there(tmp_path: Path) -> None:
    """The last ones at a path; files must exist as ever."""
    file = tmp_path / "f.bin"
    file.write_bytes(b"\x00\x01")
    with testing.capture() as events:
        runstream.log_artifact(file, "dir")
        runstream.log_text("one", "t.txt")
        runstream.log_text("two", "t.txt")
        with pytest.raises(InvalidInputError, match="there is no file"):
            runstream.log_artifact(tmp_path / "missing")
        file.unlink()
    assert events.artifact("dir/f.bin") == b"\x00\x01"
    assert events.artifact("t.txt") == b"two"
    with pytest.raises(KeyError, match="missing"):
        events.artifact("missing")


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As outside a capture."""
    file = tmp_path / "f.bin"
    file.write_bytes(b"x")

    def refuse(self: object, source: int, path: Path) -> object:
        os.close(source)
        os.dup2(os.open(tmp_path, os.O_RDONLY), source)  # a directory cannot be read
        return add_open(self, source, path)

    add_open = testing._MemoryStaging.add_open
    monkeypatch.setattr(testing._MemoryStaging, "add_open", refuse)
    with testing.capture(), pytest.raises(EnvironmentUnavailableError, match="cannot read"):
        runstream.log_artifact(file)


def test_afterwards_all_is_as_it_was(pipeline: Pipeline) -> None:
    """Active run, experiment, settings and the real stream; a run that was left open is forgotten."""
    runstream.set_experiment("outside")
    with runstream.start_run() as run:
        with testing.capture() as events:
            assert runstream.active_run() is None
            runstream.set_experiment("inside")
            runstream.configure(stream="queue:/nowhere", redact=lambda row: {})
            runstream.log_metric("inside", 1.0)
        assert runstream.active_run() is run
        runstream.log_metric("outside", 1.0)
        runstream.log_prediction({"a": 1})
    with runstream.start_run() as second:
        pass
    assert [event.key for event in events.of(MetricLogged)] == ["inside"]
    pipeline.drain()
    assert set(pipeline.run(run.run_id).metrics) == {"outside"}
    assert pipeline.rows(run.run_id) == [{"a": 1}]
    assert second.experiment_id == run.experiment_id
    assert len(pipeline.runs()) == 2


def test_an_exception_in_the_block_restores_all_the_same(pipeline: Pipeline) -> None:
    """A test that fails leaves nothing behind for the next one."""
    with pytest.raises(RuntimeError), testing.capture():
        raise RuntimeError
    with runstream.start_run() as run:
        pass
    pipeline.drain()
    assert pipeline.run(run.run_id).status == "FINISHED"


def test_the_innermost_capture_records(pipeline: Pipeline) -> None:
    """The outer one goes on behind it, and announces experiments of its own."""
    with testing.capture() as outer:
        runstream.log_metric("first", 1)
        with testing.capture() as inner:
            runstream.log_metric("second", 2)
            runstream.create_experiment("e")
        runstream.log_metric("third", 3)
    assert [event.key for event in outer.of(MetricLogged)] == ["first", "third"]
    assert [event.key for event in inner.of(MetricLogged)] == ["second"]
    assert [event.name for event in inner.of(ExperimentCreated)] == ["e"]


def test_threads_are_recorded_and_captures_of_threads_may_overlap(pipeline: Pipeline) -> None:
    """Events of all threads are recorded; a capture that ends first does not end the other."""
    began, ended = threading.Event(), threading.Event()

    def other() -> None:
        with testing.capture():
            began.set()
            assert ended.wait(60)

    thread = threading.Thread(target=other)
    with testing.capture() as events:
        worker = threading.Thread(target=lambda: runstream.log_metric("in a thread", 1))
        worker.start()
        worker.join()
        thread.start()
        assert began.wait(60)
    ended.set()
    thread.join()
    assert [event.key for event in events.of(MetricLogged)] == ["in a thread"]
    assert not pipeline.queue.exists()
    runstream.log_metric("real", 1)
    assert pipeline.queue.exists()
