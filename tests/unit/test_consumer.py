"""The consumer: one delivery, one transaction, whatever fails in it."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

import runstream
from runstream_schemas.delivery import Delivery
from runstream_schemas.errors import CorruptDataError, EnvironmentUnavailableError
from runstream_schemas.segment import segment_name
from runstream_sink import consumer as consumer_module
from runstream_sink import query
from runstream_sink.artifacts import LocalArtifacts, Publication
from runstream_sink.consumer import Consumer
from runstream_sink.queue_source import QueueSource
from runstream_sink.store.protocol import Commit
from runstream_sink.store.sqlite import SqliteStore
from support.pipeline import Pipeline
from support.waiting import until


class Trouble:
    """Makes chosen operations fail once each, the first time they are called after `next` named them."""

    def __init__(self) -> None:
        self.next: set[str] = set()
        self.error: Exception = OSError(28, "no space left")
        self.happened: list[str] = []

    def check(self, operation: str) -> None:
        """Fail if it is the operation's turn."""
        if operation in self.next:
            self.next.discard(operation)
            self.happened.append(operation)
            raise self.error


class Source(QueueSource):
    """A queue whose operations may fail."""

    def __init__(self, directory: Path, trouble: Trouble) -> None:
        super().__init__(directory)
        self.trouble = trouble

    async def read(self, limit: int) -> Delivery:
        """Read, and lose what was read where it fails."""
        delivery = await super().read(limit)
        self.trouble.check("read")
        return delivery

    async def committed(self, delivery: Delivery) -> None:
        """Acknowledge."""
        self.trouble.check("committed")
        await super().committed(delivery)


class Store(SqliteStore):
    """A store whose operations may fail."""

    trouble: Trouble

    async def seen(self, producer_ids: Any) -> Any:
        """What was applied."""
        self.trouble.check("seen")
        return await super().seen(producer_ids)

    async def commit(self, commit: Commit) -> None:
        """Commit, and fail before or behind it."""
        self.trouble.check("before commit")
        await super().commit(commit)
        self.trouble.check("behind commit")


class Artifacts(LocalArtifacts):
    """A place whose operations may fail."""

    trouble: Trouble

    async def publish_all(self, publications: Sequence[Publication]) -> dict[str, str]:
        """Publish, and fail behind it."""
        missing = await super().publish_all(publications)
        self.trouble.check("publish")
        return missing

    async def make_durable(self) -> None:
        """Sync: the last step before the commit, when rows are written already."""
        self.trouble.check("make_durable")
        await super().make_durable()


@asynccontextmanager
async def consuming(pipeline: Pipeline, trouble: Trouble, part_limit: int = 1 << 20) -> AsyncIterator[Consumer]:
    """A consumer whose parts may fail."""
    store = Store(pipeline.options.store)
    store.trouble = trouble
    await store.open()
    source = Source(pipeline.queue, trouble)
    await source.open(store.store_id)
    artifacts = Artifacts(pipeline.options.artifacts, pipeline.queue / "staging")
    artifacts.trouble = trouble
    consumer = Consumer(source, store, artifacts, pipeline.options.artifacts, part_limit=part_limit)
    try:
        yield consumer
    finally:
        await consumer.close()
        await source.close()
        await store.close()


async def consume(pipeline: Pipeline, trouble: Trouble) -> tuple[Consumer, list[Any]]:
    """Apply all that is there; the consumer, and what it logged."""
    with capture_logs() as logs:
        async with consuming(pipeline, trouble) as consumer:
            await consumer.run(once=True, stop=asyncio.Event())
    return consumer, logs


def log_file(run: runstream.Run, name: str, content: str) -> None:
    """Log a file whose bytes are staged."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / name
        file.write_text(content)
        run.log_artifact(file)


def log_some(count: int = 20) -> str:
    """Metrics, rows and an artifact; the run's id."""
    with runstream.start_run() as run:
        for step in range(count):
            run.log_metric("m", step, step=step)
            run.log_prediction({"n": step, f"c{step % 3}": "x"})
        log_file(run, "a.txt", "content")
        run.log_text("inlined", "b.txt")
    return run.run_id


OPERATIONS = ["read", "seen", "publish", "make_durable", "before commit", "behind commit", "committed"]


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    "error", [OSError(28, "no space left"), EnvironmentUnavailableError("database or disk is full")]
)
def test_an_operation_that_fails_once_changes_nothing_in_the_end(
    pipeline: Pipeline, operation: str, error: Exception
) -> None:
    """It says so, goes back to what is committed, tries again, says that all is well, and applies each event once."""
    first = log_some()
    pipeline.drain()
    second = log_some()
    trouble = Trouble()
    trouble.next, trouble.error = {operation}, error
    consumer, logs = asyncio.run(consume(pipeline, trouble))
    assert trouble.happened == [operation]
    events = [line["event"] for line in logs]
    assert events.index("the store cannot be written; nothing is lost, trying again") < events.index(
        "the store can be written again"
    )
    assert consumer.progress.failure == ""
    for run_id in (first, second):
        assert [row["n"] for row in pipeline.rows(run_id)] == list(range(20))
        assert len(pipeline.ask(query.metric_history, run_id, "m")) == 20
        assert pipeline.artifact(run_id, "a.txt") == b"content"
        assert pipeline.artifact(run_id, "b.txt") == b"inlined"
    assert pipeline.replay("replayed")[0] == pipeline.digest()


def test_an_error_that_is_no_failure_of_the_disk_ends_the_consumer(pipeline: Pipeline) -> None:
    """A bug must not be retried for ever; what is committed stays consistent, and another consumer goes on."""
    run_id = log_some()
    trouble = Trouble()
    trouble.next, trouble.error = {"read"}, ZeroDivisionError("a bug")
    with pytest.raises(ZeroDivisionError):
        asyncio.run(consume(pipeline, trouble))
    pipeline.drain()
    assert [row["n"] for row in pipeline.rows(run_id)] == list(range(20))


def test_an_error_that_passes_leaves_no_dead_letter(pipeline: Pipeline) -> None:
    """What fails together and not apart is applied in parts."""
    run_id = log_some()
    trouble = Trouble()
    trouble.next, trouble.error = {"make_durable"}, ZeroDivisionError("a bug")
    consumer, logs = asyncio.run(consume(pipeline, trouble))
    assert (consumer.progress.dead, consumer.progress.failure) == (0, "")
    assert any("applied in parts" in line["event"] for line in logs)
    assert [row["n"] for row in pipeline.rows(run_id)] == list(range(20))
    assert pipeline.replay("replayed")[0] == pipeline.digest()


def test_a_stop_ends_the_waiting_for_a_broken_disk(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, though the next try would come much later."""
    log_some()
    wait = consumer_module._wait
    monkeypatch.setattr(consumer_module, "_wait", lambda stop, seconds: wait(stop, 10_000 * seconds))

    class Always(set[str]):
        def discard(self, element: str) -> None:
            """It fails again and again."""

    async def stopped() -> Consumer:
        trouble = Trouble()
        trouble.next = Always({"before commit"})
        stop = asyncio.Event()
        async with consuming(pipeline, trouble) as consumer:
            task = asyncio.create_task(consumer.run(once=False, stop=stop))
            await until(lambda: consumer.progress.failure)
            stop.set()
            await asyncio.wait_for(task, 60)
        return consumer

    consumer = asyncio.run(stopped())
    assert "no space left" in consumer.progress.failure
    assert pipeline.ask(query.counts).events == 0


def test_a_cancelled_consumer_leaves_whole_deliveries(pipeline: Pipeline) -> None:
    """Cancelled at any moment: what follows is what an undisturbed sink makes."""
    run_id = log_some(300)

    async def cancelled(after: float) -> None:
        async with consuming(pipeline, Trouble(), part_limit=1 << 12) as consumer:
            task = asyncio.create_task(consumer.run(once=False, stop=asyncio.Event()))
            await asyncio.wait({task}, timeout=after)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    for milliseconds in range(0, 40, 4):
        asyncio.run(cancelled(milliseconds / 1000))
    pipeline.drain()
    assert [row["n"] for row in pipeline.rows(run_id)] == list(range(300))
    assert pipeline.replay("replayed")[0] == pipeline.digest()


def test_events_are_followed_while_they_come(pipeline: Pipeline) -> None:
    """An event is visible soon after it was logged, without a new start."""

    async def follow() -> None:
        stop = asyncio.Event()
        async with consuming(pipeline, Trouble()) as consumer:
            task = asyncio.create_task(consumer.run(once=False, stop=stop))
            with runstream.start_run() as run:
                for step in range(5):
                    before = consumer.progress.events
                    await asyncio.to_thread(run.log_metric, "m", step, step)
                    await until(lambda seen=before: consumer.progress.events > seen)  # type: ignore[misc]
            stop.set()
            await task
            assert consumer.progress.commits >= 5

    asyncio.run(follow())


def test_artifacts_without_bytes_become_dead_letters(pipeline: Pipeline) -> None:
    """With the event, so that it can be retried; the rest of the delivery is applied."""
    with runstream.start_run() as run:
        log_file(run, "lost.txt", "lost")
        log_file(run, "kept.txt", "kept")
        run.log_metric("m", 1)
    for staged in (pipeline.queue / "staging").glob("??/*"):
        if staged.read_bytes() == b"lost":
            staged.unlink()
    progress = pipeline.drain()
    assert progress.dead == 1
    assert [held.path for held in pipeline.ask(query.list_artifacts, run.run_id)] == ["kept.txt"]
    (letter,) = pipeline.ask(query.list_dead_letters)
    assert letter.reason == "artifact_missing"
    assert letter.size > 0
    assert set(pipeline.run(run.run_id).metrics) == {"m"}


def test_an_older_artifact_does_not_replace_a_newer_one(pipeline: Pipeline) -> None:
    """Whose event comes later, from another journal, and was emitted before."""
    with runstream.start_run() as run:
        runstream.log_text("old", "a.txt")
        runstream.close()
        (old,) = (pipeline.queue / "journals").iterdir()
        hidden = old.rename(pipeline.queue / "hidden")
        runstream.log_text("new", "a.txt")
    pipeline.drain()
    hidden.rename(old)
    pipeline.drain()
    assert pipeline.artifact(run.run_id, "a.txt") == b"new"
    assert pipeline.replay("replayed")[0] == pipeline.digest()


def test_a_table_that_is_shorter_than_its_commit_is_told(pipeline: Pipeline) -> None:
    """Somebody cut a file by hand while a write was under way: an error in the log, and the sink goes on."""
    run_id = log_some()
    pipeline.drain()
    with runstream.start_run(run_id=run_id) as run:
        run.log_prediction({"n": 99, "c0": "x"})
    trouble = Trouble()
    trouble.next, trouble.error = {"make_durable"}, CorruptDataError("killed here")
    with pytest.raises(CorruptDataError):
        asyncio.run(consume(pipeline, trouble))
    parts = pipeline.ask(query.get_table, run_id, "predictions").parts
    file = pipeline.store / "artifacts" / parts[-1].file
    with file.open("r+b") as opened:
        opened.truncate(parts[-1].length - 5)
    _, logs = asyncio.run(consume(pipeline, Trouble()))
    assert any(line["event"].startswith("a table's file is shorter") for line in logs)


def test_a_backlog_is_read_ahead_and_applied_in_order(pipeline: Pipeline) -> None:
    """More than one delivery: the second is read while the first is committed."""
    with runstream.start_run() as run:
        for number in range(12):
            run.log_prediction({"n": number, "text": "x" * (1_000 << 10), "more": "x" * (1_000 << 10)})
    progress = pipeline.drain()
    assert progress.commits > 1
    assert [row["n"] for row in pipeline.rows(run.run_id)] == list(range(12))


def test_losses_are_told_and_kept(pipeline: Pipeline) -> None:
    """Drops at the quota: a warning with counts and without payloads."""
    runstream.configure(journal_quota="256KiB", segment_size="64KiB")
    runstream.start_run()
    for step in range(10_000):
        runstream.log_metric("secret name", step, step=step)
    _, logs = asyncio.run(consume(pipeline, Trouble()))
    told = [line for line in logs if line["event"] == "a producer dropped events"]
    assert {line["reason"] for line in told} == {"quota"}
    assert sum(line["count"] for line in told) == sum(loss.count for loss in pipeline.ask(query.list_losses))
    assert "secret" not in str(logs)


def test_damage_in_a_journal_is_told_and_passed(pipeline: Pipeline) -> None:
    """A dead letter with the bytes; what lies around it is applied."""
    with runstream.start_run() as run:
        for step in range(10):
            run.log_metric("m", step, step=step)
    runstream.close()
    (journal,) = (pipeline.queue / "journals").iterdir()
    segment = journal / segment_name(0)
    content = bytearray(segment.read_bytes())
    at = content.rindex(b"\xa1m\xcb") + 4
    content[at] ^= 0xFF
    segment.write_bytes(content)
    _, logs = asyncio.run(consume(pipeline, Trouble()))
    assert [line["reason"] for line in logs if line["event"] == "dead letter"] == ["corrupt"]
    assert len(pipeline.ask(query.metric_history, run.run_id, "m")) == 9


@pytest.mark.parametrize("thin", [True, False])
def test_a_delivery_has_as_many_bytes_as_its_memory_allows(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, thin: bool
) -> None:
    """Rows of one number take a hundred times the memory of their bytes, long text takes little more than them."""
    table = {"n": list(range(100_000))} if thin else {"text": ["x" * 4000] * 1000}
    with runstream.start_run() as run:
        for _ in range(5):
            run.log_table(table, "t.json")
    limits: list[int] = []
    read = QueueSource.read

    async def noted(source: QueueSource, limit: int) -> Delivery:
        limits.append(limit)
        return await read(source, limit)

    monkeypatch.setattr(QueueSource, "read", noted)
    pipeline.drain()
    first, *later = limits
    assert first < consumer_module._DELIVERY
    if thin:
        assert max(later) < consumer_module._DELIVERY // 4
    else:
        assert max(later) == consumer_module._DELIVERY
    assert min(later) >= consumer_module._LEAST_DELIVERY
    assert len(pipeline.rows(run.run_id, "t.json")) == (500_000 if thin else 5_000)
