"""`status`: the journals on the disk against what the store has applied, with and without a sink."""

import os
from pathlib import Path

import pytest

import runstream
from runstream.client import client
from runstream_schemas import journal_status
from runstream_schemas.journal_status import read_stream_status, stream_name
from runstream_schemas.reader import Position
from runstream_schemas.segment import DROP_REASONS, HEADER_SIZE, drop_offset, pack_header, segment_name
from runstream_sink.status import sink_process
from support.commands import invoke, invoke_json
from support.pipeline import Pipeline

Capture = pytest.CaptureFixture[str]


def _status(pipeline: Pipeline, capsys: Capture) -> dict[str, object]:
    found = invoke_json(capsys, "status", "--stream", pipeline.stream, "--store", pipeline.store)
    assert isinstance(found, dict)
    return found


def _log(rows: int, size: int = 10) -> None:
    with runstream.start_run("status"):
        for _ in range(rows):
            runstream.log_prediction({"text": "x" * size})


def test_without_a_store_everything_is_backlog(pipeline: Pipeline, capsys: Capture) -> None:
    """A living journal, read while its writer goes on."""
    _log(10)
    runstream.flush()
    found = _status(pipeline, capsys)
    assert found["backlog_events"] == len(pipeline.events())
    assert (found["journals"], found["living"], found["store"], found["sink"]) == (1, 1, None, None)
    assert 0 <= float(str(found["oldest_age_seconds"])) < 60
    text = invoke(capsys, "status", "--stream", pipeline.stream, "--store", pipeline.store).out
    assert "store    none yet" in text
    assert "journals 1 living, 0 dead" in text


def test_what_is_applied_is_no_backlog(pipeline: Pipeline, capsys: Capture) -> None:
    """Nothing is behind, and the store is a consumer of the queue."""
    _log(10)
    runstream.close()
    pipeline.drain()
    found = _status(pipeline, capsys)
    assert (found["backlog_events"], found["backlog_bytes"], found["oldest_age_seconds"]) == (0, 0, None)
    (consumer,) = found["consumers"]  # type: ignore[misc]
    assert consumer["this_store"]
    assert consumer["segments_behind"] == 0
    assert consumer["acknowledged"] > 0
    text = invoke(capsys, "status", "--stream", pipeline.stream, "--store", pipeline.store).out
    assert "(this store)" in text
    assert "backlog  0 events, 0 B, oldest -" in text


def test_the_backlog_counts_from_the_position_of_the_store(pipeline: Pipeline, capsys: Capture) -> None:
    """Within a journal that goes on."""
    _log(10)
    runstream.flush()
    pipeline.drain()
    before = len(pipeline.events())
    _log(5)
    runstream.flush()
    found = _status(pipeline, capsys)
    assert found["backlog_events"] == len(pipeline.events()) - before
    assert 0 < int(str(found["backlog_bytes"])) < 10_000


def test_a_backlog_over_several_segments_is_counted(pipeline: Pipeline, capsys: Capture) -> None:
    """Without reading all of it."""
    runstream.configure(stream=pipeline.stream, store=str(pipeline.store), segment_size=64 << 10)
    _log(8, 30_000)
    runstream.close()
    (journal,) = (pipeline.queue / "journals").iterdir()
    assert len(list(journal.glob("*.seg"))) > 3
    found = _status(pipeline, capsys)
    assert found["backlog_events"] == len(pipeline.events())
    assert 240_000 < int(str(found["backlog_bytes"])) < 300_000


def test_a_consumer_that_is_behind_is_shown_with_what_is_kept_for_it(pipeline: Pipeline, capsys: Capture) -> None:
    """Another store that never acknowledged anything, or nothing that can be read."""
    _log(3)
    runstream.close()
    pipeline.drain()
    other = pipeline.queue / "consumers" / ("f" * 32)
    other.mkdir()
    (journal,) = (pipeline.queue / "journals").iterdir()
    (other / journal.name).write_text("")
    consumers = {found["store_id"]: found for found in _status(pipeline, capsys)["consumers"]}  # type: ignore[attr-defined]
    lagging = consumers["f" * 32]
    assert (lagging["this_store"], lagging["segments_behind"]) == (False, 1)
    assert lagging["bytes_behind"] > 0


def test_losses_are_summed_by_journal_and_reason(pipeline: Pipeline, capsys: Capture) -> None:
    """Those that journals tell and those that the store knows are the same losses."""
    _log(1)
    for _ in range(3):
        client.count_drop("quota")
    runstream.close()
    first = _status(pipeline, capsys)["losses"]
    pipeline.drain()
    second = _status(pipeline, capsys)["losses"]
    assert first == second
    assert [(loss["reason"], loss["count"]) for loss in second] == [("quota", 3)]  # type: ignore[attr-defined]
    text = invoke(capsys, "status", "--stream", pipeline.stream, "--store", pipeline.store).out
    assert "lost     3 events" in text
    assert "quota" in text


def test_dead_letters_are_counted_by_reason(pipeline: Pipeline, capsys: Capture) -> None:
    """Those that were not retried."""
    client.emit_body(b"\xc1")
    runstream.close()
    pipeline.drain()
    assert _status(pipeline, capsys)["dead_letters"] == {"undecodable": 1}
    text = invoke(capsys, "status", "--stream", pipeline.stream, "--store", pipeline.store).out
    assert "dead     1 letters" in text
    assert "undecodable" in text


def test_an_empty_queue_has_a_status(pipeline: Pipeline, capsys: Capture) -> None:
    """Nothing was logged yet."""
    (pipeline.queue / "journals").mkdir(parents=True)
    found = _status(pipeline, capsys)
    assert (found["journals"], found["backlog_events"], found["consumers"]) == (0, 0, [])


def _journal(queue: Path, name: str = "ab" * 16) -> Path:
    journal = queue / "journals" / name
    journal.mkdir(parents=True)
    return journal


def test_segments_that_nobody_can_read_do_not_stop_the_status(tmp_path: Path) -> None:
    """A damaged header, and one of a newer format."""
    damaged = _journal(tmp_path)
    (damaged / segment_name(0)).write_bytes(b"\xff" * 8192)
    newer = _journal(tmp_path, "cd" * 16)
    page = bytearray(pack_header(bytes.fromhex("cd" * 16), 0, 8192, 1))
    page[12:16] = (99).to_bytes(4, "little")
    from zlib import crc32

    page[8:12] = crc32(bytes(page[12:56])).to_bytes(4, "little")
    (newer / segment_name(0)).write_bytes(page.ljust(8192, b"\0"))
    found = read_stream_status(tmp_path, {})
    assert [journal.backlog_events for journal in found.journals] == [0, 0]
    assert [journal.bytes for journal in found.journals] == [8192, 8192]


def test_losses_in_a_journal_without_events_are_told(tmp_path: Path) -> None:
    """A process that could log nothing at all."""
    journal = _journal(tmp_path)
    page = bytearray(pack_header(bytes.fromhex("ab" * 16), 0, HEADER_SIZE, 1))
    at = drop_offset(DROP_REASONS[1])
    page[at : at + 8] = (7).to_bytes(8, "little")
    (journal / segment_name(0)).write_bytes(page)
    (loss,) = read_stream_status(tmp_path, {}).losses
    assert (loss.producer_id, loss.reason, loss.count) == ("ab" * 16, DROP_REASONS[1], 7)


def test_a_segment_that_is_freed_meanwhile_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Retention goes on while the status is read."""
    _journal(tmp_path)
    monkeypatch.setattr(journal_status, "segment_indices", lambda _: [0])
    (found,) = read_stream_status(tmp_path, {"ab" * 16: Position()}).journals
    assert (found.bytes, found.backlog_events) == (0, 0)


def test_nobody_holds_a_store_that_is_not_there(pipeline: Pipeline) -> None:
    """Nor does a queue without an id have a name."""
    assert sink_process(pipeline.options.store) is None
    assert stream_name(pipeline.root / "nowhere") == ""


def test_a_lock_without_a_number_is_held_by_somebody(pipeline: Pipeline) -> None:
    """Between taking the lock and writing it, for example."""
    import fcntl

    pipeline.options.store.lock.parent.mkdir(parents=True)
    descriptor = os.open(pipeline.options.store.lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    assert sink_process(pipeline.options.store) == "unknown"
    os.close(descriptor)
    assert sink_process(pipeline.options.store) is None
