"""The shipper against a topic in memory: everything arrives, in order, whatever fails; nothing is freed too early."""

import asyncio
import os
from pathlib import Path

import pytest

from runstream.artifacts import Staging
from runstream.journal import Journal
from runstream.shipping.progress import shipped_position
from runstream.shipping.shipper import CONSUMER, News, Shipper
from runstream.shipping.transport import TransportError
from runstream_schemas.events import ArtifactCompleted, ArtifactLogged, LossNotice, decode_event, encode_event
from runstream_schemas.reader import journal_names
from support.journals import make_journal
from support.memory_topic import MemoryTopic, payloads
from support.queues import dead_journal
from support.waiting import until

RUN = "0" * 32


def _key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def _logged(staging: Staging, data: bytes) -> bytes:
    staged = staging.add_bytes(data)
    return encode_event(ArtifactLogged(RUN, "a.bin", staged.sha256, staged.size))


def _name(journal: Journal) -> str:
    return journal.directory.name


async def _ship_once(directory: Path, topic: MemoryTopic, **options: float) -> None:
    await asyncio.wait_for(Shipper(directory, topic, once=True, **options).run(), 60)


async def test_what_dead_journals_hold_arrives_and_is_freed(tmp_path: Path) -> None:
    """Each event once, by journal, and nothing of the journals is left."""
    for number in range(3):
        dead_journal(tmp_path, number, *(b"%d-%d" % (number, seq) for seq in range(100)))
    topic = MemoryTopic()
    await _ship_once(tmp_path, topic)
    for number in range(3):
        assert topic.events(_key(number)) == {seq: b"%d-%d" % (number, seq) for seq in range(100)}
    assert journal_names(tmp_path / "journals") == []
    assert list((tmp_path / "shipped").iterdir()) == []
    assert list((tmp_path / "consumers" / CONSUMER).iterdir()) == []
    assert not (tmp_path / "removed").exists()


async def test_a_living_journal_is_shipped_up_to_now_and_stays(tmp_path: Path) -> None:
    """Its position says how far; a second time nothing comes again."""
    journal = make_journal(tmp_path)
    for seq in range(10):
        journal.append(b"%d" % seq)
    topic = MemoryTopic()
    await _ship_once(tmp_path, topic)
    position = shipped_position(tmp_path, _name(journal))
    assert position is not None
    assert (position.next_seq, position.done) == (10, False)
    journal.append(b"10")
    await _ship_once(tmp_path, topic)
    key = journal.directory.producer_id
    assert [len(batch.records) for batch in topic.batches(key)] == [10, 1]
    journal.close()


@pytest.mark.slow
async def test_segments_are_freed_while_the_journal_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Soon after they are acknowledged, so that a program that comes to its quota goes on."""
    monkeypatch.setattr("runstream.shipping.shipper._FREE", 0.01)
    journal = make_journal(tmp_path, quota=512 << 10)
    shipper = Shipper(tmp_path, MemoryTopic())
    running = asyncio.create_task(shipper.run())
    for _ in range(3_000):
        await until(lambda: journal.append(bytes(1000)) is None, 60)
    shipper.stop()
    await running
    journal.close()


async def test_it_ends_when_nobody_is_left_who_could_log(tmp_path: Path) -> None:
    """It stays with a living journal, and goes when that is closed and shipped."""
    journal = make_journal(tmp_path)
    topic = MemoryTopic()
    running = asyncio.create_task(Shipper(tmp_path, topic, idle=0.05).run())
    journal.append(b"first")
    await until(lambda: topic.values, 60)
    journal.append(b"second")
    assert not running.done()
    journal.close()
    await asyncio.wait_for(running, 60)
    assert list(topic.events(journal.directory.producer_id).values()) == [b"first", b"second"]
    assert journal_names(tmp_path / "journals") == []


async def test_nothing_is_noted_or_freed_before_it_is_acknowledged(tmp_path: Path) -> None:
    """Neither the position nor the acknowledgement of a segment, however long the brokers take."""
    dead_journal(tmp_path, 1, b"event")
    topic = MemoryTopic()
    topic.acknowledges.clear()
    running = asyncio.create_task(_ship_once(tmp_path, topic))
    await asyncio.wait_for(topic.waiting.wait(), 60)
    assert shipped_position(tmp_path, _key(1).hex()) is None
    assert not (tmp_path / "consumers" / CONSUMER / _key(1).hex()).exists()
    topic.acknowledges.set()
    await running
    assert journal_names(tmp_path / "journals") == []


@pytest.mark.parametrize("fail_after", [0, 1, 3, 7])
async def test_what_was_on_its_way_when_the_brokers_went_is_sent_again(tmp_path: Path, fail_after: int) -> None:
    """Nothing is missing, and what came twice is the same twice."""
    for number in range(3):
        dead_journal(tmp_path, number, *(bytes([number]) * 20_000 for _ in range(3)))
    topic = MemoryTopic(limit=30_000)
    topic.fail_after = fail_after
    await _ship_once(tmp_path, topic)
    assert topic.opened == 2
    for number in range(3):
        assert topic.events(_key(number)) == dict.fromkeys(range(3), bytes([number]) * 20_000)


async def test_it_goes_on_where_one_that_was_killed_had_come_to(tmp_path: Path) -> None:
    """Without its last positions events come again; with them they do not."""
    journal = make_journal(tmp_path)
    journal.append(b"one")
    topic = MemoryTopic()
    await _ship_once(tmp_path, topic)
    (tmp_path / "shipped" / _name(journal)).unlink()
    await _ship_once(tmp_path, topic)
    assert len(topic.batches(journal.directory.producer_id)) == 2
    (tmp_path / "shipped" / _name(journal)).write_text("nonsense")
    await _ship_once(tmp_path, topic)
    assert len(topic.batches(journal.directory.producer_id)) == 3
    journal.close()


@pytest.mark.slow
async def test_brokers_that_come_back_get_everything(tmp_path: Path) -> None:
    """It tells why it waits, and that all is well again."""
    journal = make_journal(tmp_path)
    journal.append(b"event")
    topic, told = MemoryTopic(), list[News]()
    topic.refusals = [TransportError("no broker is there", may_retry=True) for _ in range(3)]
    shipper = Shipper(tmp_path, topic, told.append)
    running = asyncio.create_task(shipper.run())
    await until(lambda: told and told[-1].shipped, 60)
    shipper.stop()
    await running
    assert News("waiting", "no broker is there", 0) in told
    assert told[-1] == News("shipping", "", 1)
    journal.close()


async def test_it_gives_up_at_once_what_waiting_cannot_help(tmp_path: Path) -> None:
    """With a wrong password `once` ends with the reason; without `once` it would go on trying."""
    dead_journal(tmp_path, 1, b"event")
    topic = MemoryTopic()
    topic.refusals = [TransportError("wrong password", may_retry=False)]
    with pytest.raises(TransportError, match="wrong password"):
        await _ship_once(tmp_path, topic)
    shipper = Shipper(tmp_path, topic)
    topic.refusals = [TransportError("wrong password", may_retry=False)]
    running = asyncio.create_task(shipper.run())
    await until(lambda: topic.opened == 2, 60)
    shipper.stop()
    await asyncio.wait_for(running, 60)
    assert journal_names(tmp_path / "journals") != []


async def test_it_gives_up_after_its_patience(tmp_path: Path) -> None:
    """`once` tries again for so long."""
    topic = MemoryTopic()
    topic.refusals = [TransportError("no broker is there", may_retry=True)] * 3
    dead_journal(tmp_path, 1, b"event")
    with pytest.raises(TransportError, match="no broker"):
        await _ship_once(tmp_path, topic, patience=0)


async def test_it_does_not_wait_for_brokers_with_nothing_to_ship(tmp_path: Path) -> None:
    """Nobody is left who could log, and nothing is unshipped: then it does not matter that they are away."""
    topic = MemoryTopic()
    topic.refusals = [TransportError("no broker is there", may_retry=True)]
    await asyncio.wait_for(Shipper(tmp_path, topic).run(), 60)
    assert topic.opened == 1


async def test_staged_bytes_go_before_the_events_that_name_them(tmp_path: Path) -> None:
    """In chunks, once for all events of a delivery; what is empty is one chunk."""
    staging = Staging(tmp_path / "staging")
    large, empty = os.urandom(300_000), b""
    completed = staging.add_bytes(large)
    origin = ("0" * 32, 0, 0)
    bodies = [
        _logged(staging, large),
        _logged(staging, empty),
        encode_event(ArtifactCompleted(RUN, "b", completed.sha256, completed.size, None, *origin)),
    ]
    dead_journal(tmp_path, 1, *bodies)
    topic = MemoryTopic(limit=100_000)
    await _ship_once(tmp_path, topic)
    *chunks, batch = topic.values[_key(1)]
    assert set(payloads(chunks).values()) == {large, empty}
    assert len(chunks) == 5
    assert batch[:4] == b"RSB1"
    assert list(topic.events(_key(1)).values()) == bodies


async def test_an_event_is_shipped_without_bytes_that_are_not_there(tmp_path: Path) -> None:
    """They lie elsewhere, are cut, or are lost: the sink tells; what names bytes wrongly stops nothing either."""
    staging = Staging(tmp_path / "staging")
    cut = _logged(staging, b"to be cut")
    path = next(path for path in (tmp_path / "staging").glob("*/*") if path.is_file())
    path.chmod(0o644)
    path.write_bytes(b"cut")
    bodies = [cut, encode_event(ArtifactLogged(RUN, "a", "\0", 3)), b"\x9a\x0a\xc1", b"\x90"]
    dead_journal(tmp_path, 1, *bodies)
    topic = MemoryTopic()
    await _ship_once(tmp_path, topic)
    assert list(topic.events(_key(1)).values()) == bodies
    assert payloads(topic.values[_key(1)]) == {}


async def test_an_event_larger_than_a_value_travels_in_chunks(tmp_path: Path) -> None:
    """A reference stands in its batch; its neighbours are as ever."""
    bodies = [b"small", os.urandom(50_000), b"small again"]
    dead_journal(tmp_path, 1, *bodies)
    topic = MemoryTopic(limit=16_000)
    await _ship_once(tmp_path, topic)
    assert topic.events(_key(1)) == dict(enumerate(bodies))


async def test_a_limit_that_was_lowered_is_kept_to_from_then_on(tmp_path: Path) -> None:
    """What was on its way is cut anew; batches of other boundaries hold the same events."""
    bodies = [bytes([seq]) * 9_000 for seq in range(6)]
    dead_journal(tmp_path, 1, *bodies)
    topic = MemoryTopic(limit=30_000)

    async def refuse(*_: object) -> None:
        topic.limit, topic.send = 10_000, MemoryTopic.send.__get__(topic)  # type: ignore[method-assign]
        raise TransportError("a record is larger than the topic takes", may_retry=True)

    topic.send = refuse  # type: ignore[method-assign,assignment]
    await _ship_once(tmp_path, topic)
    assert topic.events(_key(1)) == dict(enumerate(bodies))


async def test_dropped_events_arrive_as_notices(tmp_path: Path) -> None:
    """Once for each count, however often it is read, and in a journal that is shipped to its end."""
    journal = make_journal(tmp_path)
    journal.append(b"event")
    journal.count_drop("quota", 3)
    topic = MemoryTopic()
    await _ship_once(tmp_path, topic)
    assert _notices(topic) == [LossNotice(_name(journal), 0, "quota", 3)]
    assert journal_names(tmp_path / "journals") == [_name(journal)]
    shipper = Shipper(tmp_path, topic, idle=0.05)
    running = asyncio.create_task(shipper.run())
    await until(lambda: len(_notices(topic)) == 2, 60)  # another process: it does not know what was told
    journal.count_drop("quota", 2)
    await until(lambda: len(_notices(topic)) == 3, 60)
    assert _notices(topic)[-1] == LossNotice(_name(journal), 0, "quota", 5)
    journal.close()
    await asyncio.wait_for(running, 60)
    assert journal_names(tmp_path / "journals") == []


def _notices(topic: MemoryTopic) -> list[LossNotice]:
    events = [decode_event(body) for key in topic.values for body in topic.events(key).values() if body[:1] == b"\x95"]
    return [event for event in events if isinstance(event, LossNotice)]


async def test_one_that_drops_all_the_time_does_not_keep_it_from_ending(tmp_path: Path) -> None:
    """`once` follows its own notices a few times."""
    journal = make_journal(tmp_path)
    topic = MemoryTopic()
    send = topic.send

    async def dropping(*arguments: object) -> None:
        journal.count_drop("quota")
        journal.append(b"event")
        await send(*arguments)  # type: ignore[arg-type]

    topic.send = dropping  # type: ignore[method-assign,assignment]
    journal.count_drop("quota")
    await _ship_once(tmp_path, topic)
    assert _notices(topic)
    journal.close()


async def test_holes_travel_with_their_reasons(tmp_path: Path) -> None:
    """A record that was damaged is a hole with its bytes, and what lies behind it is there."""
    path = dead_journal(tmp_path, 1, b"first", b"second", b"third") / "0000000000.seg"
    data = bytearray(path.read_bytes())
    data[data.index(b"second")] ^= 1
    path.write_bytes(data)
    topic = MemoryTopic()
    await _ship_once(tmp_path, topic)
    holes = [hole for batch in topic.batches(_key(1)) for hole in batch.holes]
    assert [(hole.first, hole.last, hole.reason) for hole in holes] == [(1, 1, "corrupt")]
    assert topic.events(_key(1)) == {0: b"first", 2: b"third"}


async def test_it_stops_with_what_is_on_its_way(tmp_path: Path) -> None:
    """Told to end, it waits for acknowledgements that come, and notes them."""
    journal = make_journal(tmp_path)
    journal.append(b"event")
    topic = MemoryTopic()
    topic.acknowledges.clear()
    shipper = Shipper(tmp_path, topic)
    running = asyncio.create_task(shipper.run())
    await asyncio.wait_for(topic.waiting.wait(), 60)
    shipper.stop()
    topic.acknowledges.set()
    await asyncio.wait_for(running, 60)
    position = shipped_position(tmp_path, _name(journal))
    assert position is not None
    assert position.next_seq == 1
    journal.close()


async def test_it_stops_without_what_never_arrives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a few seconds it ends, and notes nothing that was not acknowledged."""
    monkeypatch.setattr("runstream.shipping.shipper._GRACE", 0.01)
    journal = make_journal(tmp_path)
    journal.append(b"event")
    topic = MemoryTopic()
    topic.acknowledges.clear()
    shipper = Shipper(tmp_path, topic)
    running = asyncio.create_task(shipper.run())
    await asyncio.wait_for(topic.waiting.wait(), 60)
    shipper.stop()
    await asyncio.wait_for(running, 60)
    assert shipper.stopped
    assert shipped_position(tmp_path, _name(journal)) is None
    assert topic.opened == topic.closed
    journal.close()


async def test_a_journal_of_a_newer_format_stops_nothing(tmp_path: Path) -> None:
    """It is left unread; the others are shipped."""
    dead_journal(tmp_path, 1, b"new", version=2)
    dead_journal(tmp_path, 2, b"known")
    topic = MemoryTopic()
    await asyncio.wait_for(Shipper(tmp_path, topic, idle=0.05).run(), 60)
    assert list(topic.values) == [_key(2)]
    assert journal_names(tmp_path / "journals") == [_key(1).hex()]


async def test_a_disk_that_refuses_positions_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shipping goes on, so that room can be freed; the positions are written when they can be."""
    journal = make_journal(tmp_path)
    topic, refused = MemoryTopic(), list[Path]()
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if self.parent.name == "shipped" and len(refused) < 3:
            refused.append(self)
            raise OSError(28, "no space")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    shipper = Shipper(tmp_path, topic)
    running = asyncio.create_task(shipper.run())
    journal.append(b"event")
    await until(lambda: shipped_position(tmp_path, _name(journal)), 60)
    assert len(refused) == 3
    shipper.stop()
    await running
    journal.close()


async def test_a_disk_that_fails_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be read is read from its beginning."""
    dead_journal(tmp_path, 1, b"event")
    topic, failures = MemoryTopic(), [OSError(5, "input/output error")]
    fdatasync = os.fdatasync

    def fail(descriptor: int) -> None:
        if failures:
            raise failures.pop()
        fdatasync(descriptor)

    monkeypatch.setattr(os, "fdatasync", fail)
    await _ship_once(tmp_path, topic)
    assert topic.events(_key(1)) == {0: b"event"}
