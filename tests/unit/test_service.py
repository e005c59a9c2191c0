"""The sink as a service: what it opens and closes, replays, and what a stream no longer holds."""

import asyncio
import os
import resource
import shutil
import signal
import threading

import pytest
from structlog.testing import capture_logs

import runstream
from runstream_schemas.errors import EnvironmentUnavailableError, StoreInUseError
from runstream_schemas.reader import journal_names
from runstream_schemas.segment import segment_name
from runstream_schemas.streams import QueueStream
from runstream_sink import query, service
from runstream_sink.consumer import Progress
from runstream_sink.queue_source import QueueSource
from runstream_sink.service import open_consumer, replay, run_sink
from support.pipeline import Pipeline
from support.waiting import until


def log_metrics(count: int) -> str:
    """Metrics of a run; its id."""
    with runstream.start_run() as run:
        for step in range(count):
            run.log_metric("m", step, step=step)
    return run.run_id


def test_a_sink_on_an_empty_queue_ends_once_nothing_is_there(pipeline: Pipeline) -> None:
    """Queue and store are made; a producer may come later."""
    assert pipeline.drain() == Progress()
    assert pipeline.ask(query.counts).events == 0
    run_id = log_metrics(3)
    assert pipeline.drain().events > 3
    assert len(pipeline.ask(query.metric_history, run_id, "m")) == 3


def test_once_ends_though_a_producer_goes_on(pipeline: Pipeline) -> None:
    """What is logged while it runs is left for the next one, or it would never end."""
    stop = threading.Event()

    def log() -> None:
        with runstream.start_run() as run:
            while not stop.wait(0.0005):
                run.log_metric("m", 1)

    thread = threading.Thread(target=log)
    thread.start()
    try:
        for _ in range(3):
            pipeline.drain()
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_sink_after_the_delivery_it_is_at(pipeline: Pipeline, number: signal.Signals) -> None:
    """It says that it ends; what was read before is applied."""
    run_id = log_metrics(5)

    async def scenario() -> Progress:
        task = asyncio.create_task(run_sink(pipeline.options, once=False))
        await until(lambda: any((pipeline.queue / "consumers").glob("*/*")))
        os.kill(os.getpid(), number)
        return await asyncio.wait_for(task, 60)

    with capture_logs() as logs:
        progress = asyncio.run(scenario())
    assert [line["event"] for line in logs if line["event"].startswith("sink")] == ["sink started", "sink ended"]
    assert progress.events > 5
    assert len(pipeline.ask(query.metric_history, run_id, "m")) == 5


def test_a_store_that_is_in_use_is_refused_and_let_go_of(pipeline: Pipeline) -> None:
    """The second sink ends; when the first has ended a third one works."""

    async def scenario() -> None:
        async with open_consumer(pipeline.options, QueueSource(pipeline.queue)):
            with pytest.raises(StoreInUseError):
                await run_sink(pipeline.options, once=True)

    asyncio.run(scenario())
    pipeline.drain()


def test_a_stream_that_cannot_be_opened_lets_go_of_the_store(pipeline: Pipeline) -> None:
    """The message names the directory; the store can be opened again."""
    pipeline.queue.write_text("in the way")
    with pytest.raises(OSError, match="queue"):
        pipeline.drain()
    pipeline.queue.unlink()
    pipeline.drain()


def test_a_replay_gives_an_equal_store_and_reports_its_progress(pipeline: Pipeline) -> None:
    """Nothing is registered in the queue, nothing of it is changed."""
    log_metrics(100)
    pipeline.drain()
    before = sorted(path for path in pipeline.queue.rglob("*"))
    fresh = Pipeline(pipeline.root / "fresh")
    seen: list[int] = []
    options = fresh.options._replace(stream=pipeline.options.stream)
    replayed = asyncio.run(replay(options, lambda progress: seen.append(progress.events)))
    assert seen[-1] == replayed.progress.events > 100
    assert (replayed.missing, replayed.removed) == ([], [])
    assert fresh.digest() == pipeline.digest()
    assert sorted(path for path in pipeline.queue.rglob("*")) == before
    with pytest.raises(EnvironmentUnavailableError, match="exists already"):
        asyncio.run(replay(options, lambda _: None))


def test_a_replay_of_no_queue_is_refused(pipeline: Pipeline) -> None:
    """It would make an empty store of a wrong path."""
    with pytest.raises(EnvironmentUnavailableError, match="no queue directory"):
        pipeline.replay("replayed")


def test_a_replay_reports_what_the_stream_no_longer_holds(pipeline: Pipeline) -> None:
    """By producer and interval, for a segment that is gone; by name for a journal that retention removed."""
    runstream.configure(segment_size="64KiB")
    log_metrics(5_000)
    runstream.close()
    (name,) = journal_names(pipeline.queue / "journals")
    (pipeline.queue / "journals" / name / segment_name(0)).unlink()
    (pipeline.queue / "removed").write_text("f" * 32 + "\n")
    _, replayed = pipeline.replay("replayed")
    assert replayed.removed == ["f" * 32]
    (missing,) = replayed.missing
    assert missing.producer_id.hex() == name
    ((first, last),) = missing.intervals
    assert first == 0
    assert last + 1 + replayed.progress.events == 5_000 + 3


def test_retention_frees_at_the_end_and_from_time_to_time(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """What every consumer has applied, and is too old or too much; it says how much."""
    log_metrics(100)
    runstream.close()
    options = pipeline.options._replace(retention_size=0)
    monkeypatch.setattr(service, "_RETENTION_INTERVAL", 0.01)

    async def scenario() -> None:
        task = asyncio.create_task(run_sink(options, once=False))
        await until(lambda: any(line["event"] == "freed" for line in logs))
        os.kill(os.getpid(), signal.SIGTERM)
        await task

    with capture_logs() as logs:
        asyncio.run(scenario())
    (freed,) = [line for line in logs if line["event"] == "freed"]
    assert freed["segments"] == 1
    assert journal_names(pipeline.queue / "journals") == []
    _, replayed = pipeline.replay("replayed")
    assert len(replayed.removed) == 1


def test_a_queue_that_cannot_be_cleaned_does_not_stop_the_sink(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told, and tried again later."""
    log_metrics(3)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "not yours")

    monkeypatch.setattr(service, "free", refuse)
    with capture_logs() as logs:
        assert pipeline.drain().events > 3
    assert any("could not be cleaned" in line["event"] for line in logs)


def test_as_many_files_as_possible_may_be_open(pipeline: Pipeline) -> None:
    """Every living journal needs two descriptors; the soft limit is often 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
    try:
        pipeline.drain()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_moved_queue_is_still_the_same_stream(pipeline: Pipeline) -> None:
    """Its identity lies in it, so nothing is applied twice."""
    run_id = log_metrics(10)
    runstream.close()
    pipeline.drain()
    moved = pipeline.root / "moved"
    shutil.move(pipeline.queue, moved)
    progress = asyncio.run(run_sink(pipeline.options._replace(stream=QueueStream(moved)), once=True))
    assert progress.events == 0
    assert len(pipeline.ask(query.metric_history, run_id, "m")) == 10
