"""The client: counts, quota and policies, flush, close and reopen, settings that change, disks that refuse."""

import errno
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import runstream
from runstream.client import Client
from runstream.filesystem import Buffer, Filesystem
from runstream_schemas.errors import InvalidInputError
from runstream_schemas.events import MetricLogged
from runstream_schemas.reader import journal_names, segment_indices
from runstream_schemas.segment import DROP_REASONS, HEADER_SIZE, segment_name, unpack_header
from runstream_sink import query
from support.open_files import open_files
from support.pipeline import Pipeline

RUN = "0" * 31 + "1"


def metric(step: int) -> MetricLogged:
    """A point."""
    return MetricLogged(RUN, "m", float(step), step, 0)


def headers(queue: Path) -> dict[str, int]:
    """Drops that the segments' headers tell, by reason."""
    total = dict.fromkeys(DROP_REASONS, 0)
    for name in journal_names(queue / "journals"):
        for index in segment_indices(queue / "journals" / name):
            page = (queue / "journals" / name / segment_name(index)).read_bytes()[:HEADER_SIZE]
            for reason, count in zip(DROP_REASONS, unpack_header(page).drops, strict=True):
                total[reason] += count
    return total


def quota_drops() -> int:
    """How many events this process has dropped at the quota so far."""
    count: int = runstream.stats()["dropped"]["quota"]
    return count


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    """A client beside this process's own, on a disk that tests can make fail."""
    made = Client(Disk())
    made.configure(stream=f"queue:{tmp_path / 'queue'}")
    yield made
    disk(made).refuse = disk(made).hang = False
    made.close()


class Disk(Filesystem):
    """A real disk that refuses or hangs when told so."""

    refuse = False
    refuse_sync = False
    hang = False

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.tries = 0

    def allocate(self, path: Path, size: int) -> tuple[int, Buffer]:
        """Make a file, unless the disk is full."""
        self.tries += 1
        if self.refuse:
            raise OSError(errno.ENOSPC, "full")
        return super().allocate(path, size)

    def sync(self, descriptor: int) -> None:
        """Sync, perhaps only when the test lets it go on."""
        if self.hang:
            self.go_on.wait(60)
        if self.refuse_sync:
            raise OSError(errno.EIO, "broken")
        super().sync(descriptor)


def disk(client: Client) -> Disk:
    """The client's disk."""
    assert isinstance(client._filesystem, Disk)
    return client._filesystem


def test_the_counts_add_up(pipeline: Pipeline) -> None:
    """Accepted, synced, dropped, stalls, converted, the queue, no error; also over a close."""
    first = runstream.stats()
    with runstream.start_run():
        runstream.log_metric("m", 1)
        runstream.log_prediction({"a": "\ud800"})
    assert runstream.flush(60)
    stats = runstream.stats()
    new = stats["accepted"] - first["accepted"]
    assert new == 5
    assert stats["synced"] == stats["accepted"]
    assert stats["dropped"] == first["dropped"]
    assert stats["dropped"].keys() == set(DROP_REASONS)
    assert stats["converted"] - first["converted"] == 1
    assert (stats["queue"], stats["error"]) == (str(pipeline.queue), "")
    runstream.close()
    after = runstream.stats()
    assert (after["accepted"], after["synced"]) == (stats["accepted"], stats["synced"])


def test_after_close_logging_begins_anew(pipeline: Pipeline) -> None:
    """Another journal; nothing is lost, and closing twice does no harm."""
    with runstream.start_run() as run:
        for step in range(3):
            runstream.log_metric("m", step, step=step)
            runstream.close()
            runstream.close()
    assert len(journal_names(pipeline.queue / "journals")) == 4
    pipeline.drain()
    assert [point.step for point in pipeline.ask(query.metric_history, run.run_id, "m")] == [0, 1, 2]


def test_nothing_to_flush_is_flushed(pipeline: Pipeline) -> None:
    """Before the first event."""
    runstream.close()
    assert runstream.flush(0)


def test_flush_gives_up_after_its_timeout(client: Client) -> None:
    """False, in time, while the disk hangs; True when it goes on."""
    disk(client).hang = True
    client.emit(metric(0))
    began = time.monotonic()
    assert not client.flush(0.2)
    assert 0.1 < time.monotonic() - began < 60  # the disk never goes on by itself
    disk(client).go_on.set()
    assert client.flush(60)
    assert client.stats()["synced"] == 1


def test_a_disk_that_cannot_sync_shows_in_stats(client: Client) -> None:
    """The last error of the background thread, until a sync succeeds."""
    disk(client).refuse_sync = True
    client.emit(metric(0))
    assert not client.flush(0.5)
    assert "broken" in client.stats()["error"]
    disk(client).refuse_sync = False
    assert client.flush(60)
    assert client.stats()["error"] == ""


def test_without_a_background_thread_flush_syncs_itself(client: Client) -> None:
    """As while the interpreter ends, when no thread can be started any more."""
    client._at_exit()
    client.emit(metric(0))
    assert client.flush()
    assert client.stats()["synced"] == 1
    client.emit(metric(1))
    disk(client).refuse_sync = True
    assert not client.flush()
    disk(client).refuse_sync = False


def test_events_beyond_the_quota_are_dropped_and_counted_everywhere(pipeline: Pipeline) -> None:
    """In stats, in the segment's header, and in the store; what was accepted is there."""
    runstream.configure(journal_quota="512KiB", segment_size="64KiB")
    before, text = quota_drops(), "x" * 1000
    with runstream.start_run() as run:
        for number in range(1_000):
            runstream.log_prediction({"n": number, "text": text})
        dropped = quota_drops() - before
        assert 0 < dropped < 1_000
        assert headers(pipeline.queue)["quota"] == dropped
        pipeline.drain()
        assert sum(loss.count for loss in pipeline.ask(query.list_losses)) == dropped
        assert len(pipeline.rows(run.run_id)) == 1_000 - dropped
        assert pipeline.ask(query.counts).lost_events == dropped


def test_what_a_sink_has_applied_frees_the_quota(pipeline: Pipeline) -> None:
    """The producer goes on in the room of segments that every consumer has applied."""
    runstream.configure(journal_quota="512KiB", segment_size="64KiB")
    before, text = quota_drops(), "x" * 1000
    with runstream.start_run() as run:
        for number in range(1_500):
            runstream.log_prediction({"n": number, "text": text})
            if number % 250 == 249:
                pipeline.drain()
    pipeline.drain()
    assert quota_drops() == before
    assert len(pipeline.rows(run.run_id)) == 1_500


def test_a_call_that_may_block_waits_until_its_deadline_and_drops(pipeline: Pipeline) -> None:
    """`policy=block` with a deadline: the caller chose to wait that long, and no longer."""
    runstream.configure(journal_quota="256KiB", segment_size="64KiB", policy="block", block_timeout=0.2)
    runstream.start_run()
    before, text = quota_drops(), "x" * 60_000
    began = time.monotonic()
    for number in range(8):
        runstream.log_prediction({"n": number, "text": text})
    took = time.monotonic() - began
    dropped = quota_drops() - before
    assert dropped > 0
    assert 0.2 * dropped <= took < 0.2 * dropped + 60


def test_a_call_that_may_block_goes_on_when_there_is_room(pipeline: Pipeline) -> None:
    """Nothing is dropped when a sink frees room in time."""
    runstream.configure(journal_quota="256KiB", segment_size="64KiB", policy="block", block_timeout=60)
    before = quota_drops()
    with runstream.start_run() as run:
        done = threading.Event()

        def work() -> None:
            for number in range(12):
                run.log_prediction({"n": number, "text": "x" * 60_000})
            done.set()

        thread = threading.Thread(target=work)
        thread.start()
        while not done.wait(0.01):
            pipeline.drain()
        thread.join()
    pipeline.drain()
    assert quota_drops() == before
    assert [row["n"] for row in pipeline.rows(run.run_id)] == list(range(12))


def test_an_event_that_is_too_large_is_dropped_and_counted(pipeline: Pipeline) -> None:
    """Beyond 64 MiB no record is possible."""
    before = runstream.stats()["dropped"]["too_large"]
    with runstream.start_run() as run:
        runstream.configure(claim_size="1GiB")
        runstream.log_prediction({"text": "x" * ((64 << 20) + 1)})
        runstream.log_prediction({"text": "small"})
    assert runstream.stats()["dropped"]["too_large"] == before + 1
    pipeline.drain()
    assert pipeline.rows(run.run_id) == [{"text": "small"}]
    assert [(loss.reason, loss.count) for loss in pipeline.ask(query.list_losses)] == [("too_large", 1)]


def test_a_full_disk_drops_and_counts_and_leaks_nothing(client: Client) -> None:
    """No exception, one try a second, no descriptor or directory left; then all goes on."""
    queue = client.config.queue
    disk(client).refuse = True
    before = open_files(queue)
    for step in range(50):
        client._open_failed_at = 0.0  # as if the second had passed
        client.emit(metric(step))
    assert client.stats()["dropped"]["disk"] == 50
    assert not client.flush(1)
    assert open_files(queue) == before
    assert list((queue / "journals").iterdir()) == []
    disk(client).refuse = False
    client._open_failed_at = 0.0
    client.emit(metric(50))
    assert client.stats()["accepted"] == 1


def test_a_disk_that_refuses_is_not_asked_at_every_event(client: Client) -> None:
    """Otherwise each log call would cost system calls."""
    disk(client).refuse = True
    began = time.monotonic()
    for step in range(1_000):
        client.emit(metric(step))
    assert disk(client).tries < 5 + time.monotonic() - began
    assert client.stats()["dropped"]["disk"] == 1_000


def test_a_disk_that_fills_up_later_drops_and_goes_on(client: Client) -> None:
    """The journal is there, the next segment is not; counted in its header."""
    client.configure(segment_size="64KiB")
    client.emit(metric(0))
    disk(client).refuse = True
    step = 1
    while not client.stats()["dropped"]["disk"]:
        client.emit(metric(step))
        step += 1
    dropped = client.stats()["dropped"]["disk"]
    assert headers(client.config.queue)["disk"] == dropped
    disk(client).refuse = False
    accepted = client.stats()["accepted"]
    deadline = time.monotonic() + 60
    while client.stats()["accepted"] == accepted and time.monotonic() < deadline:
        client.emit(metric(step))
    assert client.stats()["accepted"] > accepted


def test_a_queue_directory_that_vanishes_raises_nothing(pipeline: Pipeline) -> None:
    """Events go to a new journal, once it is noticed, or are counted."""
    runstream.configure(segment_size="64KiB")
    runstream.start_run()
    runstream.log_metric("m", 1)
    before = runstream.stats()
    while pipeline.queue.exists():  # the background thread may be making a segment in it
        shutil.rmtree(pipeline.queue, ignore_errors=True)
    for step in range(20_000):
        runstream.log_metric("m", 1, step=step)
    after = runstream.stats()
    dropped = after["dropped"]["disk"] - before["dropped"]["disk"]
    assert after["accepted"] - before["accepted"] + dropped == 20_000


def test_settings_add_up_and_an_unknown_one_is_refused(pipeline: Pipeline) -> None:
    """What is not named stays; a wrong value changes nothing."""
    runstream.configure(policy="block")
    runstream.configure(block_timeout=1)
    assert runstream.stats()["queue"] == str(pipeline.queue)
    with pytest.raises(InvalidInputError, match="no setting polciy"):
        runstream.configure(polciy="drop")
    with pytest.raises(InvalidInputError, match="policy"):
        runstream.configure(policy="wait")
    config = runstream.fluent.client.config
    assert (config.policy, config.block_timeout) == ("block", 1.0)


def test_settings_that_stay_the_same_leave_the_journal_open(pipeline: Pipeline) -> None:
    """A second `configure` with the same values costs nothing."""
    runstream.start_run()
    runstream.configure(stream=pipeline.stream)
    runstream.log_metric("m", 1)
    assert len(journal_names(pipeline.queue / "journals")) == 1


def test_another_stream_hears_of_the_experiment_too(pipeline: Pipeline, tmp_path: Path) -> None:
    """A run that begins after the change is known there with its experiment's name."""
    runstream.set_experiment("e")
    with runstream.start_run():
        pass
    other = Pipeline(tmp_path / "other")
    runstream.configure(stream=other.stream)
    with runstream.start_run() as run:
        pass
    other.drain()
    assert other.ask(query.find_experiment, "e").experiment_id == other.run(run.run_id).experiment_id


def test_configure_while_threads_log_loses_nothing(pipeline: Pipeline, tmp_path: Path) -> None:
    """Each event lands in one of the two streams."""
    other = Pipeline(tmp_path / "other")
    run_ids: list[str] = []
    stop = threading.Event()

    def work() -> None:
        with runstream.start_run() as run:
            run_ids.append(run.run_id)
            step = 0
            while not stop.is_set():
                run.log_metric("m", step, step=step)
                step += 1
            counts[run.run_id] = step

    counts: dict[str, int] = {}
    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for stream in [other.stream, pipeline.stream] * 5:
        runstream.configure(stream=stream)
    stop.set()
    for thread in threads:
        thread.join()
    runstream.close()
    events = [event for event in (*pipeline.events(), *other.events()) if isinstance(event, MetricLogged)]
    for run_id in run_ids:
        assert sorted(event.step for event in events if event.run_id == run_id) == list(range(counts[run_id]))


def test_eight_threads_lose_nothing(pipeline: Pipeline) -> None:
    """10,000 events each, of all sizes, in one journal."""

    def work(number: int) -> None:
        with runstream.start_run(f"{number}") as run:
            for step in range(10_000):
                run.log_metric("m", step, step=step)
            for row in range(10):
                run.log_prediction({"row": row, "text": "x" * 50_000})

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(journal_names(pipeline.queue / "journals")) == 1
    progress = pipeline.drain()
    assert progress.dead == 0
    for run in pipeline.runs():
        history = pipeline.ask(query.metric_history, run.run_id, "m")
        assert [point.step for point in history] == list(range(10_000))
        assert [row["row"] for row in pipeline.rows(run.run_id)] == list(range(10))
