"""Following one journal: living, dead, freed, foreign, damaged; from any position."""

import contextlib
import os
import struct
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from zlib import crc32

import pytest

from runstream.journal import Journal
from runstream_schemas import segment
from runstream_schemas.errors import UnsupportedFormatError
from runstream_schemas.reader import JournalReader, Position, has_writer, journal_names, segment_indices
from runstream_schemas.segment import (
    HEADER_SIZE,
    SEAL_OFFSET,
    STATE_OFFSET,
    Hole,
    Record,
    pack_header,
    pack_seal,
    record_seed,
    segment_name,
)
from support.journals import FaultyFilesystem, chunks, journal_path, make_journal, read_all

PRODUCER = bytes(range(16))
pack_record = partial(segment.pack_record, seed=record_seed(PRODUCER))
TIME = 1_795_496_400_000_000_000


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A living journal with small segments."""
    one = make_journal(tmp_path)
    yield one
    one.close()


@pytest.fixture
def follow() -> Iterator[Callable[..., JournalReader]]:
    """Makes readers, and closes them."""
    with contextlib.ExitStack() as stack:

        def make(path: Path, position: Position | None = None, until: int | None = None) -> JournalReader:
            reader = JournalReader(path, position, until)
            stack.callback(reader.close)
            return reader

        yield make


def bodies(records: list[Record]) -> list[bytes]:
    """What was logged."""
    return [body for _, _, body in records]


def dead_journal(tmp_path: Path, *segments: bytes) -> Path:
    """A journal that nobody writes to, of these segments' records; none is sealed."""
    path = tmp_path / PRODUCER.hex()
    path.mkdir()
    for index, records in enumerate(segments):
        header = pack_header(PRODUCER, index, HEADER_SIZE + len(records), TIME)
        (path / segment_name(index)).write_bytes(header + records)
    return path


def seal(path: Path, end: int, following: int) -> None:
    """Seal a segment's file."""
    state, check = pack_seal(end, following)
    with path.open("r+b") as file:
        file.seek(STATE_OFFSET)
        file.write(state)
        file.seek(SEAL_OFFSET)
        file.write(check)


def test_a_reader_does_not_look_like_a_writer(journal: Journal, tmp_path: Path) -> None:
    """Nor do two; only a living writer does."""
    path = journal_path(tmp_path, journal)
    one, other = JournalReader(path), JournalReader(path)
    assert one.is_living()
    assert other.is_living()
    journal.close()
    assert not one.is_living()
    assert not other.is_living()
    assert not one.is_living()
    one.close()
    other.close()


def test_what_is_no_journal_has_no_writer(tmp_path: Path) -> None:
    """A directory without a lock, and none at all."""
    assert not has_writer(tmp_path)
    assert not has_writer(tmp_path / "nowhere")
    assert not JournalReader(tmp_path / PRODUCER.hex()).is_living()
    assert journal_names(tmp_path / "nowhere") == []
    assert segment_indices(tmp_path / "nowhere") == []


def test_journals_are_named_by_their_producer(journal: Journal, tmp_path: Path) -> None:
    """Those that are being made are none yet."""
    for name in ("a" * 31, "A" * 32, "g" * 32, "a" * 32 + ".new"):
        (tmp_path / "journals" / name).mkdir()
    assert journal_names(tmp_path / "journals") == [journal.directory.name]
    assert segment_indices(journal_path(tmp_path, journal)) == [0]


@pytest.mark.parametrize("limit", [1, 1_000, 1 << 20])
def test_a_reader_resumes_exactly_where_another_stopped(
    journal: Journal, tmp_path: Path, follow: Callable[..., JournalReader], limit: int
) -> None:
    """At every position there is."""
    sent = [os.urandom(number * 37 % 3_000 + 1) for number in range(300)]
    for body in sent:
        assert journal.append(body) is None
    path = journal_path(tmp_path, journal)
    position, found = Position(), []
    while True:
        chunk = follow(path, position).read(limit)
        found += bodies(chunk.records)
        if chunk.position == position:
            break
        position = chunk.position
    assert found == sent
    assert position.next_seq == 300
    assert not position.done


def test_a_dead_journal_is_done_when_it_is_read(tmp_path: Path, follow: Callable[..., JournalReader]) -> None:
    """Whether it was closed or its process killed; what was prepared in vain holds nobody up."""
    disk = FaultyFilesystem()
    journal = make_journal(tmp_path, disk)
    for _ in range(100):
        journal.append(bytes(1_000))
    journal.prepare()
    disk.die()
    reader = follow(journal_path(tmp_path, journal))
    records, holes = read_all(reader)
    assert (len(records), holes, reader.position.done, reader.position.next_seq) == (100, [], True, 100)


def test_trimming_gives_back_what_a_dead_writer_did_not_use(
    tmp_path: Path, follow: Callable[..., JournalReader]
) -> None:
    """In the last segment and in the one that was prepared in vain; what was written is still read."""
    disk = FaultyFilesystem()
    journal = make_journal(tmp_path, disk)
    for _ in range(100):
        journal.append(bytes(1_000))
    journal.prepare()
    last, spare = journal._current, journal._spare
    assert spare is not None
    disk.die()
    path = journal_path(tmp_path, journal)
    reader = follow(path)
    read_all(reader)
    reader.trim()
    assert (path / segment_name(spare.index)).stat().st_size == HEADER_SIZE
    assert (path / segment_name(last.index)).stat().st_size == journal._position
    again = follow(path)
    assert len(read_all(again)[0]) == 100
    assert again.position == reader.position
    again.trim()
    (path / segment_name(spare.index)).unlink()
    reader.trim()


def test_trimming_a_segment_that_is_gone_is_no_error(tmp_path: Path, follow: Callable[..., JournalReader]) -> None:
    """Retention may have been faster."""
    path = dead_journal(tmp_path, pack_record(0, TIME, b"x") + bytes(4096))
    reader = follow(path)
    read_all(reader)
    (path / segment_name(0)).unlink()
    reader.trim()


def test_a_segment_that_was_freed_is_skipped(
    journal: Journal, tmp_path: Path, follow: Callable[..., JournalReader]
) -> None:
    """What comes next is not known then, so that nothing is reported as lost on the way."""
    for number in range(200):
        journal.append(b"%d" % number + bytes(1_000))
    path = journal_path(tmp_path, journal)
    first = follow(path)
    assert first.read(1).records
    (path / segment_name(0)).unlink()
    late = follow(path)
    records, holes = read_all(late)
    assert holes == []
    assert records[0][0] > 0
    assert records[-1][0] == 199
    assert not late.position.done


def test_a_journal_that_is_gone_is_done(tmp_path: Path, follow: Callable[..., JournalReader]) -> None:
    """Nothing will come."""
    assert follow(tmp_path / PRODUCER.hex()).read(1).position.done


def test_a_living_journal_without_segments_is_waited_for(
    journal: Journal, tmp_path: Path, follow: Callable[..., JournalReader]
) -> None:
    """Somebody has removed them; the writer may go on in another one."""
    path = journal_path(tmp_path, journal)
    (path / segment_name(0)).unlink()
    reader = follow(path)
    assert reader.read(1).position == Position()
    for _ in range(100):
        journal.append(bytes(1_000))
    assert read_all(reader)[0]


def test_a_newer_segment_is_refused(tmp_path: Path, follow: Callable[..., JournalReader]) -> None:
    """Its records may mean something else."""
    path = dead_journal(tmp_path, pack_record(0, TIME, b"x"))
    page = bytearray((path / segment_name(0)).read_bytes())
    struct.pack_into("<I", page, 12, 9)
    struct.pack_into("<I", page, 8, crc32(page[12:56]))
    (path / segment_name(0)).write_bytes(page)
    with pytest.raises(UnsupportedFormatError, match="segment format 9"):
        follow(path).read(1)


def test_a_segment_of_another_journal_is_not_read(tmp_path: Path, follow: Callable[..., JournalReader]) -> None:
    """Somebody has copied it here: its events have another identity."""
    path = dead_journal(
        tmp_path, pack_record(0, TIME, b"x"), pack_record(0, TIME, b"foreign"), pack_record(2, TIME, b"z")
    )
    foreign = bytearray((path / segment_name(1)).read_bytes())
    foreign[:HEADER_SIZE] = pack_header(bytes(16), 1, 8192, TIME)
    (path / segment_name(1)).write_bytes(foreign)
    records, holes = read_all(follow(path))
    assert bodies(records) == [b"x", b"z"]
    assert [hole[:3] for hole in holes] == [(1, 1, "corrupt")]
    reader = follow(path, Position(1, HEADER_SIZE, -1))
    assert read_all(reader)[1] == []


def test_a_foreign_segment_in_a_living_journal_is_waited_at(
    journal: Journal, tmp_path: Path, follow: Callable[..., JournalReader]
) -> None:
    """Until there is a later one."""
    path = journal_path(tmp_path, journal)
    with (path / segment_name(0)).open("r+b") as file:
        file.write(pack_header(bytes(16), 0, 65_536, TIME))
    reader = follow(path)
    assert reader.read(1).position == Position()
    journal.prepare()
    assert reader.read(1).position == Position(1, HEADER_SIZE, -1)


@pytest.mark.parametrize("header", [bytes(HEADER_SIZE), b"\xff" * HEADER_SIZE])
def test_records_behind_a_damaged_header_are_read(
    tmp_path: Path, follow: Callable[..., JournalReader], header: bytes
) -> None:
    """They have checksums of their own."""
    path = dead_journal(tmp_path, pack_record(0, TIME, b"x"), pack_record(1, TIME, b"y"))
    with (path / segment_name(0)).open("r+b") as file:
        file.write(header)
    reader = follow(path)
    records, holes = read_all(reader)
    assert (bodies(records), holes, reader.position.done) == ([b"x", b"y"], [], True)


def test_a_file_that_is_cut_in_its_header_is_left(tmp_path: Path, follow: Callable[..., JournalReader]) -> None:
    """What it held is torn, as the next segment shows."""
    path = dead_journal(tmp_path, pack_record(0, TIME, b"x"), pack_record(1, TIME, b"y"))
    os.truncate(path / segment_name(0), 100)
    records, holes = read_all(follow(path))
    assert (bodies(records), holes) == ([b"y"], [Hole(0, 0, "torn")])


@pytest.mark.parametrize("following", [0, 1])
def test_a_seal_that_leads_back_does_not_lead_in_a_circle(
    tmp_path: Path, follow: Callable[..., JournalReader], following: int
) -> None:
    """Whatever a hostile file says, the journal ends."""
    path = dead_journal(tmp_path, pack_record(0, TIME, b"x"), pack_record(1, TIME, b"y"), pack_record(2, TIME, b"z"))
    seal(path / segment_name(1), HEADER_SIZE + 32, following)
    reader = follow(path)
    assert bodies(read_all(reader)[0]) == [b"x", b"y", b"z"][: 3 if following else 2]
    assert reader.position.done


def test_a_segment_without_a_seal_is_left_when_its_writer_is_gone(
    tmp_path: Path, follow: Callable[..., JournalReader]
) -> None:
    """A power cut may have kept the later one and not the seal: what is missing between is torn."""
    path = dead_journal(tmp_path, pack_record(0, TIME, b"x") + bytes(4096), pack_record(3, TIME, b"y"))
    records, holes = read_all(follow(path))
    assert (bodies(records), holes) == ([b"x", b"y"], [Hole(1, 2, "torn")])


def test_drops_are_told_when_they_change(
    journal: Journal, tmp_path: Path, follow: Callable[..., JournalReader]
) -> None:
    """By segment and reason, as a total so far."""
    reader = follow(journal_path(tmp_path, journal))
    assert reader.read(1).drops == {}
    journal.count_drop("quota")
    journal.count_drop("quota")
    journal.count_drop("disk")
    assert reader.read(1).drops == {(0, "quota"): 2, (0, "disk"): 1}
    assert reader.read(1).drops == {}
    journal.count_drop("quota")
    assert reader.read(1).drops == {(0, "quota"): 3}
    for _ in range(100):
        journal.append(bytes(1_000))
    journal.count_drop("unencodable")
    told: dict[tuple[int, str], int] = {}
    for chunk in chunks(reader):
        told |= chunk.drops
    assert told == {(journal._current.index, "unencodable"): 1}


def test_a_reader_stops_before_what_came_later(
    journal: Journal, tmp_path: Path, follow: Callable[..., JournalReader]
) -> None:
    """And its position is the last event before."""
    for number in range(5):
        journal.append(b"%d" % number)
    path = journal_path(tmp_path, journal)
    times = [emit_ts for _, emit_ts, _ in read_all(follow(path))[0]]
    reader = follow(path, until=times[2])
    chunk = reader.read(1 << 20)
    assert (len(chunk.records), chunk.late, chunk.position.next_seq) == (3, True, 3)
    again = follow(path, chunk.position)
    assert bodies(again.read(1 << 20).records) == [b"3", b"4"]


def test_a_reader_that_is_to_stop_goes_on_to_the_end_once_the_journal_is_dead(
    tmp_path: Path, follow: Callable[..., JournalReader]
) -> None:
    """In the segment where it stopped, and in all later ones."""
    disk = FaultyFilesystem()
    journal = make_journal(tmp_path, disk)
    for number in range(200):
        journal.append(b"%d" % number + bytes(1_000))
    assert journal._current.index > 0
    path = journal_path(tmp_path, journal)
    reader = follow(path, until=1)
    chunk = reader.read(1 << 20)
    assert (chunk.records, chunk.late, chunk.position) == ([], True, Position())
    disk.die()
    found = list(chunks(reader))
    assert sum(len(chunk.records) for chunk in found) == 200
    assert not any(chunk.late for chunk in found)
    assert reader.position.done
    assert reader.untrimmed
    reader.trim()
    assert not reader.untrimmed


def test_only_what_was_read_is_synced(
    journal: Journal, tmp_path: Path, follow: Callable[..., JournalReader], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once; a reader that finds nothing new costs the disk nothing."""
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    reader = follow(journal_path(tmp_path, journal))
    reader.read(1)
    reader.sync()
    reader.close()
    assert synced == []
    journal.append(b"x")
    reader.read(1)
    reader.sync()
    reader.sync()
    reader.close()
    assert len(synced) == 1
    for _ in range(100):
        journal.append(bytes(1_000))
    read_all(reader)
    assert len(synced) == 1 + journal._current.index
    monkeypatch.undo()


def test_a_window_grows_with_the_backlog_and_is_bounded_by_the_limit(
    journal: Journal, tmp_path: Path, follow: Callable[..., JournalReader]
) -> None:
    """A chunk is about as large as was asked for, or one window."""
    for _ in range(2_000):
        journal.append(bytes(1_000))
    reader = follow(journal_path(tmp_path, journal))
    sizes = [sum(len(record[2]) for record in chunk.records) for chunk in chunks(reader, 10_000)]
    assert sum(sizes) == 2_000_000
    assert max(sizes) <= 64 << 10
