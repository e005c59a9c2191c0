"""The queue directory as a source: many journals, living and dead, and what is acknowledged."""

import os
import struct
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import structlog

from runstream.journal import Journal
from runstream_schemas.acknowledgements import APPLIED_ENTIRELY
from runstream_schemas.errors import EnvironmentUnavailableError
from runstream_schemas.follower import format_position, parse_position, queue_id
from runstream_schemas.reader import Position
from runstream_schemas.segment import HEADER_SIZE, Hole, segment_name
from runstream_sink.queue_source import QueueSource
from runstream_sink.source import EVENT_WEIGHT
from support.journals import FaultyFilesystem, journal_path, make_journal
from support.queues import LIMIT, dead_journal, events, read_on


@pytest.fixture
async def source(tmp_path: Path) -> AsyncIterator[QueueSource]:
    """A registered consumer."""
    one = QueueSource(tmp_path)
    await one.open("store")
    yield one
    await one.close()


@pytest.fixture
def journals(tmp_path: Path) -> Iterator[list[Journal]]:
    """Three living journals."""
    made = [make_journal(tmp_path) for _ in range(3)]
    yield made
    for journal in made:
        journal.close()


def acknowledged(queue: Path, name: str, consumer: str = "store") -> int:
    """What a consumer has told producers and retention."""
    return int((queue / "consumers" / consumer / name).read_text())


async def test_living_journals_are_followed(source: QueueSource, journals: list[Journal], tmp_path: Path) -> None:
    """All of them, and those that come later, each in its order."""
    assert not await source.read(LIMIT)
    later: list[Journal] = []
    for number in range(5):
        for journal in (*journals, *later):
            journal.append(b"event %d" % number)
        delivery = await source.read(LIMIT)
        assert events(delivery) == {
            journal.directory.producer_id: [b"event %d" % number] for journal in (*journals, *later)
        }
        assert delivery.positions.keys() == {journal.directory.name for journal in (*journals, *later)}
        assert not source.backlog()
        await source.committed(delivery)
        later.append(make_journal(tmp_path))
    for journal in later:
        journal.close()


async def test_a_source_resumes_at_the_positions_of_the_store(
    source: QueueSource, journals: list[Journal], tmp_path: Path
) -> None:
    """Whatever was handed out and not committed comes again; nothing else does."""
    sent = {journal.directory.producer_id: [os.urandom(900) for _ in range(300)] for journal in journals}
    for journal in journals:
        for body in sent[journal.directory.producer_id]:
            journal.append(body)
    committed: dict[str, str] = {}
    found: dict[bytes, list[bytes]] = {producer: [] for producer in sent}
    for turn in range(1_000):
        delivery = await source.read(50_000)
        if not delivery:
            break
        assert delivery.size < 50_000 + (1 << 20)
        if turn % 3 == 1:  # the commit failed
            await source.seek(committed)
            continue
        for part, (before, after) in delivery.positions.items():
            assert committed.get(part) == before
            committed[part] = after
        for producer, bodies in events(delivery).items():
            found[producer] += bodies
        await source.committed(delivery)
        if turn % 5 == 2:  # the sink was restarted
            await source.close()
            source = QueueSource(tmp_path)
            await source.open("store")
            await source.seek(committed)
    assert found == sent
    await source.close()


async def test_a_read_stops_at_its_limit_and_takes_turns(source: QueueSource, journals: list[Journal]) -> None:
    """A loud journal does not starve the others."""
    for journal in journals:
        for _ in range(500):
            journal.append(bytes(1_000))
    turns = []
    for _ in range(3):
        delivery = await source.read(10_000)
        assert source.backlog()
        turns += list(events(delivery))
    assert set(turns) == {journal.directory.producer_id for journal in journals}


async def test_very_small_events_count_for_more_than_their_bytes(source: QueueSource, tmp_path: Path) -> None:
    """They take more memory than that, so that fewer of them are handed out at once."""
    journal = make_journal(tmp_path)
    for number in range(10_000):
        journal.append(b"%08d" % number)
    first = await source.read(100_000)
    assert first.size < 50_000
    assert source.backlog()
    assert first.weight == first.size + EVENT_WEIGHT * sum(len(batch.records) for batch in first.batches)
    journal.close()


async def test_a_dead_journal_is_taken_over(source: QueueSource, tmp_path: Path) -> None:
    """To its last event; its room is given back once that is committed, and not before."""
    disk = FaultyFilesystem()
    journal = make_journal(tmp_path, disk)
    for number in range(100):
        journal.append(b"%d" % number + bytes(1_000))
    journal.prepare()
    name, path = journal.directory.name, journal_path(tmp_path, journal)
    first = await source.read(LIMIT)
    await source.committed(first)
    journal.append(b"last")
    disk.die()
    size = sum(file.stat().st_size for file in path.iterdir())
    second = await source.read(LIMIT)
    assert events(second) == {journal.directory.producer_id: [b"last"]}
    assert parse_position(second.positions[name][1]).done
    assert sum(file.stat().st_size for file in path.iterdir()) == size
    await source.committed(second)
    assert sum(file.stat().st_size for file in path.iterdir()) < size - 65_536
    assert acknowledged(tmp_path, name) == APPLIED_ENTIRELY
    assert not await source.read(LIMIT)


async def test_a_finished_journal_is_not_opened_again(source: QueueSource, tmp_path: Path) -> None:
    """Its position says that it is done."""
    path = dead_journal(tmp_path, 1, b"x")
    (delivery,) = await read_on(source)
    (path / segment_name(0)).write_bytes(b"")
    await source.seek({path.name: delivery.positions[path.name][1]})
    assert not await source.read(LIMIT)


async def test_what_is_acknowledged_is_the_first_segment_not_yet_applied(
    source: QueueSource, journals: list[Journal], tmp_path: Path
) -> None:
    """As a number that nobody ever reads half of."""
    journal = journals[0]
    for _ in range(200):
        journal.append(bytes(1_000))
    await read_on(source)
    assert acknowledged(tmp_path, journal.directory.name) == journal._current.index > 1
    assert not list((tmp_path / "consumers" / "store").glob("*.new"))


async def test_an_acknowledgement_that_a_crash_swallowed_is_made_up_for(
    source: QueueSource, journals: list[Journal], tmp_path: Path
) -> None:
    """The next start tells, although nothing new comes: else a quota would stay used up for ever."""
    journal, finished = journals[0], dead_journal(tmp_path, 1, b"x")
    for _ in range(200):
        journal.append(bytes(1_000))
    delivery = await source.read(LIMIT)
    positions = {part: after for part, (_, after) in delivery.positions.items()} | {"f" * 32: "0:4096:0:1"}
    await source.close()
    again = QueueSource(tmp_path)
    await again.open("store")
    await again.seek(positions)
    assert acknowledged(tmp_path, journal.directory.name) == journal._current.index
    assert acknowledged(tmp_path, finished.name) == APPLIED_ENTIRELY
    assert not (tmp_path / "consumers" / "store" / ("f" * 32)).exists()
    (tmp_path / "consumers" / "store" / journal.directory.name).write_text("1")
    (tmp_path / "consumers" / "store" / finished.name).write_text("0")
    await again.seek(positions)
    assert acknowledged(tmp_path, journal.directory.name) == journal._current.index
    assert acknowledged(tmp_path, finished.name) == APPLIED_ENTIRELY
    await again.close()


async def test_a_consumer_that_was_removed_registers_again(
    source: QueueSource, journals: list[Journal], tmp_path: Path
) -> None:
    """Somebody took a living one for stale."""
    journals[0].append(b"x")
    (tmp_path / "consumers" / "store").rmdir()
    await read_on(source)
    assert acknowledged(tmp_path, journals[0].directory.name) == 0


async def test_holes_and_losses_are_handed_out(source: QueueSource, tmp_path: Path) -> None:
    """For the store's records of what is missing; a count that cannot be is cut to what a store can hold."""
    path = dead_journal(tmp_path, 1, b"a", b"b", b"c")
    with (path / segment_name(0)).open("r+b") as file:
        file.seek(80)
        file.write(struct.pack("<QQ", 5, (1 << 64) - 1))
        file.seek(HEADER_SIZE + 32 + 24)
        file.write(b"X")
    (delivery, *_) = await read_on(source)
    producer = (1).to_bytes(16, "big")
    holes = [hole for batch in delivery.batches for hole in batch.holes]
    assert [hole[:3] for hole in holes] == [Hole(1, 1, "corrupt")[:3]]
    assert holes[0].raw[24:25] == b"X"
    assert delivery.losses == {(producer, 0, "quota"): 5, (producer, 0, "disk"): (1 << 63) - 1}


async def test_drops_alone_are_a_delivery(source: QueueSource, journals: list[Journal]) -> None:
    """Although no position moves."""
    journals[0].count_drop("quota")
    delivery = await source.read(LIMIT)
    assert delivery
    assert not delivery.positions
    assert delivery.losses == {(journals[0].directory.producer_id, 0, "quota"): 1}
    assert not await source.read(LIMIT)


async def test_a_journal_of_a_newer_version_is_left_unread_and_stops_nothing(
    source: QueueSource, journals: list[Journal], tmp_path: Path
) -> None:
    """It is named once, and is not acknowledged: a newer sink will read it."""
    newer = dead_journal(tmp_path, 1, b"x", version=2)
    journals[0].append(b"y")
    with structlog.testing.capture_logs() as logs:
        (delivery,) = await read_on(source)
        assert not await source.read(LIMIT)
    assert events(delivery) == {journals[0].directory.producer_id: [b"y"]}
    assert [(entry["event"], entry["journal"]) for entry in logs] == [("a journal is left unread", newer.name)]
    assert newer.name not in delivery.positions
    assert not (tmp_path / "consumers" / "store" / newer.name).exists()


async def test_until_ends_each_living_journal_before_its_first_later_event(
    journals: list[Journal], tmp_path: Path
) -> None:
    """And the next sink goes on there."""
    for number in range(3):
        for journal in journals:
            journal.append(b"%d" % number)
    everything = QueueSource(tmp_path, register=False)
    await everything.open("")
    times = sorted(record[1] for batch in (await everything.read(LIMIT)).batches for record in batch.records)
    await everything.close()
    source = QueueSource(tmp_path, until=times[4])
    await source.open("store")
    delivery = await source.read(LIMIT)
    assert sum(len(bodies) for bodies in events(delivery).values()) == 5
    await source.committed(delivery)
    assert not await source.read(LIMIT)
    for journal in journals:
        journal.append(b"later")
    assert not await source.read(LIMIT)
    await source.close()
    after = QueueSource(tmp_path)
    await after.open("store")
    await after.seek({part: text for part, (_, text) in delivery.positions.items()})
    rest = events(await after.read(LIMIT))
    assert sum(len(bodies) for bodies in rest.values()) == 4 + 3
    assert all(bodies[-1] == b"later" for bodies in rest.values())
    await after.close()


async def test_until_reads_dead_journals_to_their_end(journals: list[Journal], tmp_path: Path) -> None:
    """Whatever their clocks said: they cannot grow."""
    now = time.time_ns()
    path = dead_journal(tmp_path, 1, b"x", b"y", time=now + 365 * 86_400 * 10**9)
    bounded = QueueSource(tmp_path, register=False, until=now)
    await bounded.open("")
    journals[0].append(b"later")
    (delivery,) = await read_on(bounded)
    assert events(delivery) == {(1).to_bytes(16, "big"): [b"x", b"y"]}
    assert delivery.positions.keys() == {path.name}
    await bounded.close()


def tree(directory: Path) -> dict[Path, tuple[int, int]]:
    """Everything below a directory, with size and modification time."""
    return {
        path: (path.stat().st_size if path.is_file() else 0, path.stat().st_mtime_ns) for path in directory.rglob("*")
    }


async def test_a_reader_that_does_not_register_writes_nothing(tmp_path: Path) -> None:
    """So that a replay works on what is read-only, and holds back nobody's retention."""
    dead_journal(tmp_path, 1, b"x")
    before = tree(tmp_path)
    source = QueueSource(tmp_path, register=False)
    await source.open("fresh")
    (delivery,) = await read_on(source)
    assert events(delivery) == {(1).to_bytes(16, "big"): [b"x"]}
    await source.close()
    assert tree(tmp_path) == before
    assert source.name == f"queue:{tmp_path}"


async def test_what_is_no_queue_is_not_read(tmp_path: Path) -> None:
    """A mistyped directory, above all."""
    with pytest.raises(EnvironmentUnavailableError, match="is no queue directory"):
        await QueueSource(tmp_path / "nowhere", register=False).open("")
    assert tree(tmp_path) == {}


def test_a_queue_has_one_identity(tmp_path: Path) -> None:
    """Whoever asks first makes it; it moves with the directory."""
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(queue_id, [tmp_path] * 8))
    assert len(set(ids)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["id"]
    moved = tmp_path.parent / "moved"
    tmp_path.rename(moved)
    assert queue_id(moved) == ids[0]
    assert queue_id(moved, make=False) == ids[0]


@pytest.mark.parametrize("position", [Position(), Position(3, 70_000, 12, done=True), Position(1, 4096, -1)])
def test_a_position_is_a_text_and_back(position: Position) -> None:
    """The store keeps it and does not look into it."""
    assert parse_position(format_position(position)) == position
    assert parse_position("") == Position()
