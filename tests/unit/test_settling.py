"""Reads that wait for what was logged before: for how long, and where not."""

from pathlib import Path

import pytest

import runstream
from runstream.client import client
from runstream.tracking.http import HttpSource
from runstream.tracking.local import LocalSource
from runstream.tracking.settling import Settling
from runstream_schemas.errors import NotFoundError
from support.http_sink import http_sink_apart
from support.pipeline import Pipeline
from support.ports import Ports


def test_a_program_finds_what_it_has_just_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a sink that runs, over HTTP and from the store, also after its journal was closed."""
    with http_sink_apart(tmp_path) as sink:
        runstream.configure(stream=f"queue:{tmp_path / 'queue'}", store=str(tmp_path / "store"))
        for url in (sink.url, ""):
            monkeypatch.setenv("RUNSTREAM_URL", url)
            with runstream.start_run() as run:
                run.log_metric("m", 1.0)
                assert runstream.get_run(run.run_id).data.metrics == {"m": 1.0}
            runstream.close()
            assert runstream.get_run(run.run_id).info.status == "FINISHED"


def test_where_no_sink_runs_nothing_is_waited_for(pipeline: Pipeline) -> None:
    """What was applied before is read, and what was not is not there."""
    runstream.configure(read_wait=3600)
    with runstream.start_run() as first:
        pass
    pipeline.drain()
    with runstream.start_run() as second:
        pass
    assert runstream.get_run(first.run_id).info.status == "FINISHED"
    with pytest.raises(NotFoundError):
        runstream.get_run(second.run_id)
    assert not Settling(client).settle(LocalSource(str(pipeline.store)))


def test_a_sink_that_reads_another_stream_is_waited_for_once(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No longer than the patience; until it has applied what was logged, it is asked, and not waited for."""
    runstream.configure(read_wait=0.05)
    flushes: list[float | None] = []
    flush = client.flush
    monkeypatch.setattr(client, "flush", lambda timeout=None: flushes.append(timeout) or flush(timeout))
    with http_sink_apart(tmp_path / "other") as sink:
        source, settling = HttpSource(sink.url), Settling(client)
        assert settling.settle(source)
        runstream.start_run()
        assert [settling.settle(source) for _ in range(3)] == [False] * 3
        assert flushes == [0.05]
    runstream.flush()
    pipeline.drain()
    assert settling.settle(LocalSource(str(pipeline.store)))
    assert settling.settle(LocalSource(str(pipeline.store)))


def test_a_sink_that_does_not_answer_is_not_waited_for(pipeline: Pipeline) -> None:
    """The question itself tells why."""
    ports = Ports()
    runstream.start_run()
    assert not Settling(client).settle(HttpSource(f"http://127.0.0.1:{ports.take()}"))
    ports.close()


def test_closed_journals_are_waited_for_too(pipeline: Pipeline) -> None:
    """Of very many the newest, so that a process does not grow with them."""
    for _ in range(102):
        runstream.start_run()
        runstream.end_run()
        runstream.close()
    assert len(client.counts.ends()) == 100
    pipeline.drain()
    assert Settling(client).settle(LocalSource(str(pipeline.store)))
