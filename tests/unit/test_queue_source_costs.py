"""What reading a queue asks of the disk: listings, open files, syncs."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from runstream.journal import Journal
from runstream_schemas.acknowledgements import APPLIED_ENTIRELY
from runstream_schemas.follower import parse_position
from runstream_sink.queue_source import QueueSource
from support.journals import FaultyFilesystem, make_journal
from support.queues import LIMIT, dead_journal, events, read_on

pytestmark = pytest.mark.slow


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


async def test_a_journal_that_comes_right_after_the_last_look_is_found(source: QueueSource, tmp_path: Path) -> None:
    """Although the directory's time, which is coarse, stays the same."""
    first = dead_journal(tmp_path, 1, b"x")
    status = (tmp_path / "journals").stat()
    await read_on(source)
    second = dead_journal(tmp_path, 2, b"y")
    os.utime(tmp_path / "journals", ns=(status.st_atime_ns, status.st_mtime_ns))
    (delivery,) = await read_on(source)
    assert delivery.positions.keys() == {second.name}
    assert first.name != second.name


async def test_directories_that_did_not_change_are_not_listed(
    source: QueueSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once they are older than the grain of their times."""
    dead_journal(tmp_path, 1, b"x")
    os.utime(tmp_path / "journals", ns=(0, 0))
    await read_on(source)
    listed: list[object] = []
    monkeypatch.setattr("runstream_schemas.follower.journal_names", lambda path: listed.append(path) or [])
    await source.read(LIMIT)
    assert listed == []
    dead_journal(tmp_path, 2, b"y")
    await source.read(LIMIT)
    assert len(listed) == 1


async def test_ten_thousand_finished_journals_cost_a_look_at_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file of theirs is opened, at the start or later."""
    names = [f"{number:032x}" for number in range(10_000)]
    (tmp_path / "consumers" / "store").mkdir(parents=True)
    for name in names:
        (tmp_path / "journals" / name).mkdir(parents=True)
        (tmp_path / "consumers" / "store" / name).write_text(str(APPLIED_ENTIRELY))
    living = make_journal(tmp_path)
    living.append(b"x")
    opened: list[object] = []
    real_open = os.open
    monkeypatch.setattr(os, "open", lambda path, *rest, **more: opened.append(path) or real_open(path, *rest, **more))
    source = QueueSource(tmp_path)
    await source.open("store")
    await source.seek(dict.fromkeys(names, "0:4096:1:1"))
    assert events(await source.read(LIMIT)) == {living.directory.producer_id: [b"x"]}
    assert len(opened) <= 10, "the queue's own directories, and the living journal"
    assert len(source._follower._readers) == 1
    monkeypatch.undo()
    await source.close()
    living.close()


def descriptors() -> int:
    """How many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_hundreds_of_living_journals_need_few_descriptors(
    source: QueueSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that has nothing new costs no sync."""
    disk = FaultyFilesystem()
    journals = [make_journal(tmp_path, disk) for _ in range(600)]
    before = descriptors()
    for number in range(3):
        for journal in journals:
            journal.append(b"%d" % number)
        found = {}
        while len(found) < 600:
            found |= events(await source.read(LIMIT))
        assert set(map(tuple, found.values())) == {(b"%d" % number,)}
        assert descriptors() - before < 20
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    assert not await source.read(LIMIT)
    assert synced == []
    monkeypatch.undo()
    disk.die()
    done = await source.read(LIMIT)
    assert all(parse_position(after).done for _, after in done.positions.values())
    assert len(done.positions) == 600


async def test_what_is_handed_out_is_on_the_disk(
    source: QueueSource, journals: list[Journal], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store never knows more than its stream; a disk that fails hands out nothing."""
    synced: list[int] = []
    real = os.fdatasync

    def sync(descriptor: int) -> None:
        synced.append(descriptor)
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", sync)
    journals[0].append(b"x")
    assert await source.read(LIMIT)
    assert len(synced) == 1

    def fail(_: int) -> None:
        raise OSError(5, "broken")

    monkeypatch.setattr(os, "fdatasync", fail)
    journals[0].append(b"y")
    with pytest.raises(OSError, match="broken"):
        await source.read(LIMIT)
    monkeypatch.undo()
    await source.seek({})
    assert events(await source.read(LIMIT)) == {journals[0].directory.producer_id: [b"x", b"y"]}
