"""The journal: one log call, where it goes, and what may go wrong around it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from runstream.journal import Clock, Journal
from runstream_schemas.reader import JournalReader, has_writer
from runstream_schemas.segment import HEADER_SIZE, MAX_BODY, Hole, unpack_header
from support.journals import Abort, FaultyFilesystem, bodies, drops, journal_path, make_journal, read_all


@pytest.fixture
def disk() -> FaultyFilesystem:
    """A disk that works until it is told to fail."""
    return FaultyFilesystem()


@pytest.fixture
def journal(tmp_path: Path, disk: FaultyFilesystem) -> Iterator[Journal]:
    """A journal with small segments."""
    one = make_journal(tmp_path, disk)
    yield one
    disk.calm()
    one.close()


def test_what_is_appended_is_read_at_once(journal: Journal, tmp_path: Path) -> None:
    """Without a sync: both look at the same pages."""
    reader = JournalReader(journal_path(tmp_path, journal))
    assert read_all(reader) == ([], [])
    for number in range(3):
        assert journal.append(b"event %d" % number) is None
        (records, holes) = read_all(reader)
        assert (bodies(records), holes) == ([b"event %d" % number], [])
        assert records[0][0] == number
    reader.close()


def test_a_segment_that_is_not_ready_is_made_on_the_spot(journal: Journal, tmp_path: Path) -> None:
    """The stall is counted; nothing is lost."""
    sent = [os.urandom(1_000) for _ in range(200)]
    assert [journal.append(body) for body in sent] == [None] * 200
    assert journal.stalls >= 3
    reader = JournalReader(journal_path(tmp_path, journal))
    assert bodies(read_all(reader)[0]) == sent
    reader.close()


@pytest.mark.parametrize("prepared", [False, True])
def test_a_body_that_no_segment_holds_gets_one_of_its_own(journal: Journal, tmp_path: Path, prepared: bool) -> None:
    """And the segment that was ready, and is too small, is removed."""
    if prepared:
        journal.prepare()
    sent = [b"small", os.urandom(500_000), b"small again"]
    assert [journal.append(body) for body in sent] == [None] * 3
    path = journal_path(tmp_path, journal)
    reader = JournalReader(path)
    assert bodies(read_all(reader)[0]) == sent
    reader.close()
    assert {name.name for name in path.iterdir()} == {
        "lock",
        "0000000000.seg",
        *(f"{index:010d}.seg" for index in range(1 + prepared, journal._current.index + 1)),
    }


def test_an_event_that_is_too_large_is_refused(tmp_path: Path) -> None:
    """Even where a segment would hold it, as a reader would not."""
    journal = make_journal(tmp_path, segment_size=MAX_BODY * 4, quota=MAX_BODY * 64)
    journal.prepare()
    journal.prepare()
    large = bytes(MAX_BODY + 1)
    assert journal.append(large) == "too_large"
    assert journal.append(large[:MAX_BODY]) is None
    journal.count_drop("too_large")
    path = journal_path(tmp_path, journal)
    journal.close()
    reader = JournalReader(path)
    records, holes = read_all(reader)
    assert ([len(record[2]) for record in records], holes) == ([MAX_BODY], [])
    reader.close()
    assert sum(drops(path).values()) == 1


def test_at_the_quota_events_are_refused_until_a_consumer_has_applied_some(tmp_path: Path) -> None:
    """What was counted is what was refused, per segment and reason."""
    journal = make_journal(tmp_path, quota=300_000)
    refused = 0
    for _ in range(500):
        if journal.append(bytes(1_000)) is not None:
            journal.count_drop("quota")
            refused += 1
    assert refused > 0
    assert journal.dropped["quota"] == refused
    assert drops(journal_path(tmp_path, journal)) == {(journal._current.index, "quota"): refused}
    consumer = tmp_path / "consumers" / "store"
    consumer.mkdir(parents=True)
    journal._refused_at = 0  # as if a second had passed
    assert journal.append(bytes(70_000)) == "quota"
    (consumer / journal.directory.name).write_text(str(journal._current.index))
    journal._refused_at = 0
    assert journal.append(bytes(70_000)) is None
    journal.close()


@pytest.mark.parametrize("text", [b"", b"garbage", b"-5", b"\xff", "٣".encode()])
def test_an_acknowledgement_that_cannot_be_read_frees_nothing_and_raises_nothing(tmp_path: Path, text: bytes) -> None:
    """It may be half written."""
    journal = make_journal(tmp_path, quota=100_000)
    consumer = tmp_path / "consumers" / "store"
    consumer.mkdir(parents=True)
    (tmp_path / "consumers" / "no directory").write_text("")
    (consumer / journal.directory.name).write_bytes(text)
    assert journal.append(bytes(70_000)) == "quota"
    journal.close()


def test_every_consumer_must_have_applied_what_is_freed(tmp_path: Path) -> None:
    """The slowest counts."""
    journal = make_journal(tmp_path, quota=200_000)
    assert journal.append(bytes(70_000)) is None
    for name, index in (("fast", 9), ("slow", 0)):
        consumer = tmp_path / "consumers" / name
        consumer.mkdir(parents=True)
        (consumer / journal.directory.name).write_text(str(index))
    assert journal.append(bytes(120_000)) == "quota"
    journal.close()


def test_a_large_event_that_was_refused_is_taken_once_there_is_room(tmp_path: Path) -> None:
    """Although a segment was ready all the time, so that none had to be prepared."""
    journal = make_journal(tmp_path, quota=400_000)
    journal.kept = True
    journal.prepare()
    assert journal.append(bytes(350_000)) == "quota"
    consumer = tmp_path / "consumers" / "store"
    consumer.mkdir(parents=True)
    (consumer / journal.directory.name).write_text("5")
    assert journal.append(bytes(350_000)) == "quota"
    journal.prepare()
    assert journal.append(bytes(350_000)) is None
    journal.close()


def test_the_clock_never_stands_still_or_goes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For all journals of a process together."""
    times = iter([100, 100, 50, 50, 200])
    monkeypatch.setattr("runstream.journal._time_ns", lambda: next(times))
    clock = Clock()
    one, other = make_journal(tmp_path, clock=clock), make_journal(tmp_path, clock=clock)
    for journal in (one, other, one, other, one):
        journal.append(b"x")
    monkeypatch.undo()
    found = []
    for journal in (one, other):
        reader = JournalReader(journal_path(tmp_path, journal))
        found.append([emit_ts for _, emit_ts, _ in read_all(reader)[0]])
        reader.close()
        journal.close()
    assert found == [[100, 102, 200], [101, 103]]


def test_a_closed_journal_is_sealed_and_has_no_room_left_over(tmp_path: Path) -> None:
    """Nothing follows; a second close does nothing."""
    journal = make_journal(tmp_path)
    journal.prepare()
    journal.append(b"body")
    path = journal_path(tmp_path, journal)
    assert has_writer(path)
    journal.close()
    journal.close()
    assert not has_writer(path)
    assert {name.name for name in path.iterdir()} == {"lock", "0000000000.seg"}
    segment = (path / "0000000000.seg").read_bytes()
    header = unpack_header(segment[:HEADER_SIZE])
    assert (header.end, header.following, len(segment)) == (HEADER_SIZE + 32, 0, HEADER_SIZE + 32)
    assert journal.append(b"late") == "closed"
    assert not journal.count_drop("disk")
    journal.prepare()
    journal.sync()
    assert journal.dropped["disk"] == 0
    assert drops(path) == {}


def test_an_abandoned_event_is_a_hole_and_what_comes_after_it_is_read(
    journal: Journal, disk: FaultyFilesystem, tmp_path: Path
) -> None:
    """At once, while the journal lives."""
    reader = JournalReader(journal_path(tmp_path, journal))
    disk.fail_store(Abort(), 1, 0.5)
    with pytest.raises(Abort):
        journal.append(b"cut off in its body")
    disk.calm()
    assert read_all(reader) == ([], [])
    journal.append(b"next")
    records, holes = read_all(reader)
    assert (bodies(records), holes) == ([b"next"], [Hole(0, 0, "abandoned")])
    reader.close()


def test_a_mapping_that_is_closed_raises(tmp_path: Path) -> None:
    """Which would be a mistake of the journal's own, and is not hidden."""
    journal = make_journal(tmp_path)
    journal._buffer.close()
    with pytest.raises(ValueError, match="mmap closed"):
        journal.append(b"x")
    journal.abandon()
