"""Following a queue directory: what ends a bounded read, who is there, what is left, what is given back."""

import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runstream.journal import Journal
from runstream_schemas.delivery import Delivery
from runstream_schemas.errors import CorruptDataError
from runstream_schemas.follower import Follower, parse_position, queue_id
from support.journals import FaultyFilesystem, journal_path, make_journal
from support.queues import LIMIT, dead_journal, events

YEAR = 365 * 86_400 * 10**9


@pytest.fixture
def follower(tmp_path: Path) -> Iterator[Follower]:
    """Follows the queue without an end."""
    (tmp_path / "journals").mkdir()
    one = Follower(tmp_path)
    yield one
    one.close()


def read_on(follower: Follower, limit: int = LIMIT) -> list[Delivery]:
    """Read until nothing comes any more."""
    return list(iter(lambda: follower.read(limit), Delivery()))


def positions(delivery: Delivery) -> dict[str, str]:
    """Where the stream stands behind a delivery."""
    return {name: after for name, (_, after) in delivery.positions.items()}


def bodies(*deliveries: Delivery) -> list[bytes]:
    """What was handed out, in this order."""
    return [record[2] for delivery in deliveries for batch in delivery.batches for record in batch.records]


def age(queue: Path) -> None:
    """Let the journals' directory be older than the grain of its time."""
    os.utime(queue / "journals", ns=(0, 0))


def test_a_dead_journal_is_read_to_its_end_although_its_clock_was_ahead(tmp_path: Path) -> None:
    """It cannot grow: nothing is gained by leaving the rest."""
    now = time.time_ns()
    path = dead_journal(tmp_path, 1, b"a", b"b", b"c", time=now + YEAR)
    follower = Follower(tmp_path, until=now)
    (delivery,) = read_on(follower)
    assert events(delivery) == {(1).to_bytes(16, "big"): [b"a", b"b", b"c"]}
    assert parse_position(delivery.positions[path.name][1]).done
    follower.close()


def test_a_living_journal_is_read_up_to_the_bound_and_to_its_end_once_it_is_dead(tmp_path: Path) -> None:
    """It dies while the read goes on."""
    disk = FaultyFilesystem()
    journal = make_journal(tmp_path, disk)
    journal.append(b"before")
    follower = Follower(tmp_path, until=time.time_ns())
    journal.append(b"after")
    (delivery,) = read_on(follower)
    assert events(delivery) == {journal.directory.producer_id: [b"before"]}
    assert not follower.backlog
    disk.die()
    (delivery,) = read_on(follower)
    assert events(delivery) == {journal.directory.producer_id: [b"after"]}
    assert parse_position(delivery.positions[journal.directory.name][1]).done
    follower.close()


def test_a_closed_journal_is_read_to_its_end_although_its_lock_is_held(tmp_path: Path) -> None:
    """A child that was forked a moment ago holds it; the seals say, over several segments, that nothing follows."""
    journal = make_journal(tmp_path)
    sent = [b"%d" % number + bytes(30_000) for number in range(5)]
    for body in sent:
        journal.append(body)
    journal.close()
    path = journal_path(tmp_path, journal)
    assert len(list(path.glob("*.seg"))) > 1
    lock = os.open(path / "lock", os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    follower = Follower(tmp_path, until=time.time_ns() - YEAR)  # the clock was set back meanwhile
    (delivery,) = read_on(follower)
    assert bodies(delivery) == sent
    assert parse_position(delivery.positions[path.name][1]).done
    follower.close()
    os.close(lock)


@pytest.mark.parametrize("damage", ["none", "gone", "header"])
def test_a_journal_that_goes_on_behind_sealed_segments_is_living(tmp_path: Path, damage: str) -> None:
    """Only the last seal says that it is closed; where it cannot be read, the lock decides."""
    journal = make_journal(tmp_path)
    for number in range(5):
        journal.append(b"%d" % number + bytes(30_000))
    last = max(journal_path(tmp_path, journal).glob("*.seg"))
    assert last.name > "0000000000.seg"
    if damage == "gone":
        last.unlink()
    elif damage == "header":
        with last.open("r+b") as file:
            file.write(b"damaged!")
    follower = Follower(tmp_path, until=time.time_ns() - YEAR)
    assert not follower.read(LIMIT)
    follower.close()
    journal.close()


def test_a_living_journal_of_which_everything_is_later_is_not_begun(tmp_path: Path) -> None:
    """Nothing of it is handed out, and its position is not touched."""
    now = time.time_ns()
    journal = make_journal(tmp_path)
    journal.append(b"later")
    follower = Follower(tmp_path, until=now - YEAR)
    assert not follower.read(LIMIT)
    assert follower.positions == {}
    follower.close()
    journal.close()


def test_a_bounded_read_ends_although_programs_come_and_go(tmp_path: Path) -> None:
    """Journals that came behind its first look are not its own, also after it was set back."""
    first = dead_journal(tmp_path, 1, b"x")
    follower = Follower(tmp_path, until=time.time_ns())
    (delivery,) = read_on(follower)
    dead_journal(tmp_path, 2, b"y")
    assert not follower.read(LIMIT)
    follower.seek(positions(delivery))
    assert not follower.read(LIMIT)
    follower.seek({})
    assert [set(found.positions) for found in read_on(follower)] == [{first.name}]
    follower.close()


def test_whoever_is_set_back_reads_again_from_there(follower: Follower, tmp_path: Path) -> None:
    """As after a shipment that failed."""
    journal = make_journal(tmp_path)
    sent = [b"%d" % number + bytes(1_000) for number in range(100)]
    for body in sent:
        journal.append(body)
    first = follower.read(20_000)
    assert follower.backlog
    assert follower.positions == positions(first)
    rest = bodies(*read_on(follower))
    follower.seek(positions(first))
    assert bodies(*read_on(follower)) == rest
    assert bodies(first) + rest == sent
    assert not follower.backlog
    journal.close()


def test_a_large_journal_is_read_in_one_delivery(follower: Follower, tmp_path: Path) -> None:
    """As far as the limit goes: chunk by chunk."""
    journal = make_journal(tmp_path, segment_size=8 << 20)
    sent = [b"%d" % number + bytes(100_000) for number in range(50)]
    for body in sent:
        journal.append(body)
    assert bodies(follower.read(LIMIT)) == sent
    assert not follower.backlog
    assert not follower.read(LIMIT)
    journal.close()


@pytest.mark.parametrize(
    "text", ["here", "0:4096:1", "0:4096:1:2", "0:4096:-2:0", f"0:{1 << 63}:1:0", f"{'1' * 21}:0:0:0"]
)
def test_what_is_no_position_is_refused(follower: Follower, text: str) -> None:
    """Before anything is read."""
    with pytest.raises(CorruptDataError, match="is no position in a journal"):
        follower.seek({"a" * 32: text})


def test_the_largest_position_is_one() -> None:
    """Nothing in a file lies behind it."""
    assert parse_position(f"{(1 << 64) - 1}:{(1 << 63) - 1}:-1:0").offset == (1 << 63) - 1


def test_the_identity_of_a_queue_is_on_the_disk_before_anybody_hears_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file first, then its name: stores keep their positions under it."""
    synced: list[str] = []
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
    )
    queue_id(tmp_path)
    assert [name.partition(".")[0] for name in synced] == ["id", tmp_path.name]
    queue_id(tmp_path)
    assert len(synced) == 2


def test_a_queue_is_alive_while_any_other_journal_has_a_writer(follower: Follower, tmp_path: Path) -> None:
    """Also one that is only being made; what its own shipper writes does not count."""
    assert not follower.living()
    dead_journal(tmp_path, 1, b"x")
    assert not follower.living()
    journal = make_journal(tmp_path)
    journal.append(b"x")
    assert follower.living()
    assert not follower.living({journal.directory.name})
    read_on(follower)
    assert follower.living()
    journal.close()
    assert not follower.living()
    born, disk = tmp_path / "journals" / "born.new", FaultyFilesystem()
    born.mkdir()
    assert not follower.living()
    (born / "lock").write_text("")
    disk.lock(born / "lock")
    assert follower.living()
    disk.die()
    assert not follower.living()


def test_a_queue_is_exhausted_once_all_that_the_dead_left_was_handed_out(follower: Follower, tmp_path: Path) -> None:
    """The living do not count, nor does what this version cannot read."""
    assert follower.exhausted()
    disk = FaultyFilesystem()
    journal = make_journal(tmp_path, disk)
    journal.append(b"x")
    dead_journal(tmp_path, 1, b"newer", version=2)
    assert not follower.exhausted()
    read_on(follower)
    assert follower.exhausted()
    journal.append(b"y")
    assert follower.exhausted()
    disk.die()
    assert not follower.exhausted()
    assert not follower.living()
    read_on(follower)
    assert follower.exhausted()


def test_a_journal_of_a_newer_version_is_told_once(tmp_path: Path) -> None:
    """With the reason, to whoever wants to know."""
    told: list[tuple[str, str]] = []
    path = dead_journal(tmp_path, 1, b"x", version=2)
    follower = Follower(tmp_path, unreadable=lambda name, reason: told.append((name, reason)))
    assert read_on(follower) == []
    assert read_on(follower) == []
    assert [name for name, _ in told] == [path.name]
    assert "segment format 2" in told[0][1]
    follower.close()


def test_a_journal_that_is_done_and_gone_is_forgotten(follower: Follower, tmp_path: Path) -> None:
    """Else a follower that runs for years would hold the names of all processes that ever were."""
    gone, stays = dead_journal(tmp_path, 1, b"x"), dead_journal(tmp_path, 2, b"y")
    read_on(follower)
    assert follower.positions.keys() == {gone.name, stays.name}
    (gone / "0000000000.seg").unlink()
    gone.rmdir()
    assert read_on(follower) == []
    assert follower.positions.keys() == {stays.name}


def test_a_journal_that_goes_while_it_is_read_keeps_its_position(follower: Follower, tmp_path: Path) -> None:
    """Whoever commits it compares the position with the one before."""
    path = dead_journal(tmp_path, 1, *(bytes(10_000) for _ in range(6)))
    first = follower.read(10_000)
    (path / "0000000000.seg").unlink()
    path.rmdir()
    age(tmp_path)
    (second, *_) = read_on(follower)
    assert second.positions[path.name][0] == positions(first)[path.name]


def test_the_room_of_a_dead_writer_is_given_back_on_demand(follower: Follower, tmp_path: Path) -> None:
    """Once; a disk that refuses is asked again."""
    disk = FaultyFilesystem()
    journal = make_journal(tmp_path, disk)
    journal.append(b"x")
    path, name = journal_path(tmp_path, journal), journal.directory.name

    def size() -> int:
        return sum(file.stat().st_size for file in path.iterdir())

    before = size()
    follower.trim(name)
    read_on(follower)
    follower.trim(name)
    assert size() == before, "the writer lives"
    disk.die()
    read_on(follower)
    assert size() == before
    segments = path.rename(tmp_path / "elsewhere")
    path.write_text("in the way")
    with pytest.raises(NotADirectoryError):
        follower.trim(name)
    path.unlink()
    segments.rename(path)
    follower.trim(name)
    assert size() < before
    follower.trim(name)
    follower.trim("unknown")


def test_a_directory_without_journals_is_not_followed(tmp_path: Path) -> None:
    """Who follows a queue has made it, or knows that it is there."""
    with pytest.raises(FileNotFoundError):
        Follower(tmp_path).read(LIMIT)


def living(queue: Path) -> Journal:
    """A journal with an event."""
    journal = make_journal(queue)
    journal.append(b"x")
    return journal


def test_the_names_of_new_journals_are_synced_before_their_events_are_handed_out(
    follower: Follower, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for all that are new; later events of theirs need no more."""
    synced: list[Path] = []
    monkeypatch.setattr("runstream_schemas.follower.sync_directory", synced.append)
    journals = [living(tmp_path), living(tmp_path)]
    assert follower.read(LIMIT)
    assert synced == [tmp_path / "journals"]
    journals[0].append(b"y")
    assert follower.read(LIMIT)
    assert not follower.read(LIMIT)
    assert synced == [tmp_path / "journals"]
    for journal in journals:
        journal.close()
