"""A client and its journal whose directory fails or vanishes, and what a sink does then, in one process."""

import asyncio
import errno
import os
import shutil
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

import runstream
from runstream import config
from runstream.client import Client
from runstream.filesystem import Filesystem
from runstream_schemas.events import MetricLogged
from runstream_schemas.reader import journal_names
from runstream_sink import query
from runstream_sink.queue_source import QueueSource
from support.journals import FaultyFilesystem, make_journal
from support.pipeline import Pipeline
from support.waiting import until


def metric(step: int) -> MetricLogged:
    """An event."""
    return MetricLogged("0" * 32, "m", 1.0, step, step)


def test_drops_from_before_the_first_journal_reach_the_store(pipeline: Pipeline) -> None:
    """The first journal that can be made tells them; none is told twice."""
    client = Client()
    client.configure(stream=pipeline.stream)
    pipeline.queue.write_text("in the way")
    for step in range(5):
        client.emit(metric(step))
    assert not client.flush(1)
    assert client.stats()["dropped"]["disk"] == 5
    pipeline.queue.unlink()
    client._open_failed_at = -1.0
    client.emit(metric(5))
    assert client.stats()["dropped"]["disk"] == 5
    client.close()
    pipeline.drain()
    assert [(loss.reason, loss.count) for loss in pipeline.ask(query.list_losses)] == [("disk", 5)]


def test_a_journal_that_is_removed_is_left_for_another(pipeline: Pipeline) -> None:
    """The background thread notices; `stats` names the journal, and counts go on."""
    client = Client()
    client.configure(stream=pipeline.stream)
    client.emit(metric(0))
    (before,) = journal_names(pipeline.queue / "journals")
    while (pipeline.queue / "journals" / before).exists():  # the background thread may be making a segment in it
        shutil.rmtree(pipeline.queue / "journals" / before, ignore_errors=True)
    asyncio.run(until(lambda: before in client.stats()["error"], 60))
    client.emit(metric(1))
    (after,) = journal_names(pipeline.queue / "journals")
    assert after != before
    assert client.stats()["accepted"] == 2
    client.configure(stream=f"queue:{pipeline.root / 'other'}")
    assert (client.stats()["accepted"], client.stats()["error"]) == (2, "")


def test_a_file_system_that_cannot_tell_does_not_end_a_journal(tmp_path: Path) -> None:
    """Only a file that surely has no name counts as removed."""

    class Mute(Filesystem):
        """Knows nothing of names."""

        def has_name(self, descriptor: int) -> bool:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    journal = make_journal(tmp_path, Mute())
    assert not journal.directory.vanished()
    journal.close()
    assert not journal.directory.vanished()


def test_a_journal_whose_segments_cannot_be_synced_lets_go_of_all_of_them(tmp_path: Path) -> None:
    """Those in the middle and the one that was prepared, too."""
    disk = FaultyFilesystem()
    journal = make_journal(tmp_path, disk)
    for _ in range(300):
        assert journal.append(bytes(1_000)) is None
    journal.prepare()
    assert len(disk._open) > 4
    disk.fail(OSError(errno.EIO, "sync"), 0)
    with pytest.raises(OSError, match="sync"):
        journal.close()
    assert not disk._open


@pytest.mark.parametrize("size", [0, 1 << 62])
def test_a_segment_that_cannot_be_made_leaves_nothing_behind(tmp_path: Path, size: int) -> None:
    """Neither one that the disk has no room for, nor one that it refuses."""
    with pytest.raises(OSError, match=r"No space|Invalid"):
        Filesystem().allocate(tmp_path / "made", size)
    assert list(tmp_path.iterdir()) == []


def test_settings_are_found_without_a_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path stays one: nothing can be made there, and nothing raises."""
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.chdir(place)
    place.rmdir()
    monkeypatch.delenv("RUNSTREAM_STREAM", raising=False)
    assert config.resolve().queue == Path("runstream-data/queue")
    client = Client()
    client.emit(metric(0))
    assert client.stats()["dropped"]["disk"] == 1


def test_no_call_waits_long_for_room_once_the_interpreter_ends(pipeline: Pipeline) -> None:
    """Whatever the policy says: all of them together have half a second."""
    pipeline.queue.write_text("in the way")
    client = Client()
    client.configure(stream=pipeline.stream, policy="block", block_timeout=60)
    began = time.monotonic()
    client._at_exit()
    client.emit(metric(0))
    client.emit(metric(1))
    assert time.monotonic() - began < 60
    assert client.stats()["dropped"]["disk"] == 2


def test_acknowledgements_that_are_refused_are_made_later(pipeline: Pipeline) -> None:
    """The sink goes on, says so, and tries again by itself, also where nothing new comes."""
    with runstream.start_run():
        runstream.log_metric("m", 1)

    async def scenario() -> None:
        source = QueueSource(pipeline.queue)
        await source.open("store")
        consumer = pipeline.queue / "consumers" / "store"
        consumer.rmdir()
        consumer.write_text("in the way")
        delivery = await source.read(1 << 20)
        with capture_logs() as logs:
            await source.committed(delivery)
        assert [line["event"] for line in logs] == ["what is applied cannot be acknowledged; its room is not freed"]
        consumer.unlink()
        await source.read(1 << 20)
        assert not consumer.exists()  # it does not try at every look
        source._acknowledgements._owed_since -= 2
        await source.read(1 << 20)
        assert [path.read_text() for path in consumer.iterdir()] == ["0"]
        await source.close()

    asyncio.run(scenario())


def test_a_consumer_that_was_removed_while_its_sink_was_not_looking_is_made_again(pipeline: Pipeline) -> None:
    """When the sink goes back to what is committed, it acknowledges that."""
    with runstream.start_run():
        runstream.log_metric("m", 1)

    async def scenario() -> None:
        source = QueueSource(pipeline.queue)
        await source.open("store")
        delivery = await source.read(1 << 20)
        (pipeline.queue / "consumers" / "store").rmdir()
        await source.seek({name: text for name, (_, text) in delivery.positions.items()})
        assert len(list((pipeline.queue / "consumers" / "store").iterdir())) == 1
        await source.close()

    asyncio.run(scenario())
