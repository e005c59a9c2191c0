"""The journal's writer and reader against a list, with a disk that fails, a process that dies, and damage."""

import errno
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from runstream.journal import Clock, Journal
from runstream_schemas.reader import JournalReader
from runstream_schemas.segment import DROP_REASONS, HEADER_SIZE, RECORD_HEADER_SIZE, Hole, Record, align, segment_name
from support.journals import Abort, FaultyFilesystem, Killed, copy_reader, journal_path, make_journal, read_all

DISK_FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
DISK_BROKEN = OSError(errno.EIO, os.strerror(errno.EIO))
FAULTS = st.sampled_from([DISK_FULL, DISK_BROKEN])
SIZES = st.one_of(st.integers(1, 200), st.integers(200, 20_000), st.sampled_from([70_000, 300_000]))
OPERATIONS = st.integers(0, 8)
STORES = st.integers(0, 6)
SHARES = st.sampled_from([0.0, 0.3, 0.9, 1.0])


class Told:
    """What a journal was told, and what of it was read."""

    def __init__(self, path: Path) -> None:
        self.reader = JournalReader(path)
        self.events: list[tuple[bytes, bool]] = []
        """Bodies in order, and whether they were accepted; the others may appear or not."""
        self.drops: Counter[str] = Counter()
        self.drops_read: dict[tuple[int, str], int] = {}
        self.next_event = 0
        self.next_seq = 0
        self.last_time = 0

    def compare(self, records: Iterable[Record], holes: Iterable[Hole]) -> None:
        """Every accepted event once and in order; every seq an event or a hole."""
        for found in sorted([*records, *holes]):
            assert found[0] == self.next_seq
            if isinstance(found, Hole):
                assert found.reason == "abandoned"
                self.next_seq = found.last + 1
                continue
            seq, emit_ts, body = found
            self.next_seq = seq + 1
            assert emit_ts > self.last_time
            self.last_time = emit_ts
            while self.events[self.next_event][0] != body:
                assert not self.events[self.next_event][1], "an accepted event was passed over"
                self.next_event += 1
            self.next_event += 1

    def read(self, limit: int) -> None:
        """One look."""
        chunk = self.reader.read(limit)
        self.compare(chunk.records, chunk.holes)
        for key, count in chunk.drops.items():
            assert count >= self.drops_read.get(key, 0)
            self.drops_read[key] = count

    def read_to_the_end(self) -> None:
        """Everything, of a journal whose writer is gone."""
        while not self.reader.position.done:
            self.read(1 << 20)
        assert not any(accepted for _, accepted in self.events[self.next_event :])
        total: Counter[str] = Counter()
        for (_, reason), count in self.drops_read.items():
            total[reason] += count
        assert total == self.drops


class JournalMachine(RuleBasedStateMachine):
    """One process after the other that logs, on one queue, and a reader for each journal."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = Path(tempfile.mkdtemp())
        self.clock = Clock()
        self.number = 0
        self.told: list[Told] = []
        self.journal: Journal | None = None

    @initialize(quota=st.sampled_from([500_000, 1 << 30]))
    def begin(self, quota: int) -> None:
        """A quota that is reached, or not."""
        self.quota = quota

    def teardown(self) -> None:
        """What is there in the end is all there ever was."""
        if self.journal is not None:
            self.kill()
        for told in self.told:
            told.read_to_the_end()
            told.reader.close()
        shutil.rmtree(self.queue)

    @precondition(lambda self: self.journal is None)
    @rule(kept=st.booleans())
    def start(self, kept: bool) -> None:
        """A process begins to log."""
        self.disk = FaultyFilesystem()
        self.journal = make_journal(self.queue, self.disk, self.clock, quota=self.quota)
        self.journal.kept = kept
        self.told.append(Told(journal_path(self.queue, self.journal)))

    @precondition(lambda self: self.journal is None)
    @rule(after=st.integers(0, 6), fault=FAULTS)
    def fail_to_start(self, after: int, fault: OSError) -> None:
        """Making a journal fails at any operation, and leaves nothing behind."""
        disk = FaultyFilesystem()
        disk.fail(fault, after)
        before = set(self.queue.glob("journals/*/*"))
        try:
            journal = make_journal(self.queue, disk, self.clock, quota=self.quota)
        except OSError:
            assert not disk._open
            assert set(self.queue.glob("journals/*/*")) == before
        else:
            disk.calm()
            journal.close()
            assert not disk._open

    @precondition(lambda self: self.journal is None)
    @rule(after=st.integers(0, 6))
    def die_while_starting(self, after: int) -> None:
        """The process dies while it makes its journal: nobody sees an event, or a broken journal."""
        disk = FaultyFilesystem()
        disk.fail(Killed(), after)
        try:
            journal = make_journal(self.queue, disk, self.clock, quota=self.quota)
            self.told.append(Told(journal_path(self.queue, journal)))
        except Killed:
            pass
        disk.die()

    def body(self, size: int) -> bytes:
        """A body like no other, with zeros in it."""
        self.number += 1
        return self.number.to_bytes(6, "big") + b"\0" * (size // 3) + b"x" * (size - size // 3)

    def append(self, size: int) -> None:
        """One log call, whatever becomes of it."""
        assert self.journal is not None
        body, told = self.body(size), self.told[-1]
        try:
            refusal = self.journal.append(body)
        except (Abort, Killed) as error:
            told.events.append((body, False))
            if isinstance(error, Killed):
                self.bury()
            return
        if refusal is None:
            told.events.append((body, True))
        else:
            assert refusal in DROP_REASONS
            self.disk.calm()
            self.journal.count_drop(refusal)
            told.drops[refusal] += 1

    def bury(self) -> None:
        """The process is gone."""
        self.disk.die()
        self.journal = None

    @precondition(lambda self: self.journal is not None)
    @rule(sizes=st.lists(SIZES, min_size=1, max_size=30))
    def log(self, sizes: list[int]) -> None:
        """Events, small and large."""
        for size in sizes:
            self.append(size)

    @precondition(lambda self: self.journal is not None)
    @rule(size=SIZES, fault=FAULTS, after=OPERATIONS)
    def log_on_a_failing_disk(self, size: int, fault: OSError, after: int) -> None:
        """If the log call must make a segment, that fails."""
        self.disk.fail(fault, after)
        self.append(size)
        self.disk.calm()

    @precondition(lambda self: self.journal is not None)
    @rule(sizes=st.lists(SIZES, min_size=1, max_size=10))
    def log_on_a_full_disk(self, sizes: list[int]) -> None:
        """There is no room for another segment."""
        self.disk.full = True
        for size in sizes:
            self.append(size)
            self.disk.full = True
        self.disk.calm()

    @precondition(lambda self: self.journal is not None)
    @rule(size=SIZES, after=STORES, share=SHARES, killed=st.booleans())
    def be_cut_off_in_a_log_call(self, size: int, after: int, share: float, killed: bool) -> None:
        """An exception or the end comes between two steps of a log call, or within one."""
        self.disk.fail_store(Killed() if killed else Abort(), after, share)
        self.append(size)
        self.disk.calm()

    @precondition(lambda self: self.journal is not None)
    @rule(size=SIZES, after=OPERATIONS)
    def die_in_a_log_call(self, size: int, after: int) -> None:
        """The end comes while a log call makes a segment."""
        self.disk.fail(Killed(), after)
        self.append(size)
        self.disk.calm()

    @precondition(lambda self: self.journal is not None)
    @rule(after=st.integers(-1, 12), fault=st.one_of(FAULTS, st.just(Killed())), what=st.sampled_from("psc"))
    def tend(self, after: int, fault: BaseException, what: str) -> None:
        """Prepare, sync or close; any operation of it may fail, or be the last."""
        assert self.journal is not None
        if after >= 0:
            self.disk.fail(fault, after)
        accepted = self.journal.accepted
        try:
            {"p": self.journal.prepare, "s": self.journal.sync, "c": self.journal.close}[what]()
        except OSError:
            assert what != "p"
        except Killed:
            self.bury()
            return
        else:
            assert what != "s" or self.journal.synced == accepted
        self.disk.calm()
        if what == "c":
            assert self.journal.append(b"late") == "closed"
            self.disk.die()
            self.journal = None

    @precondition(lambda self: self.journal is not None)
    @rule()
    def kill(self) -> None:
        """The process is killed between two calls."""
        self.bury()

    @precondition(lambda self: self.journal is not None)
    @rule()
    def acknowledge(self) -> None:
        """A consumer has applied everything before the present segment."""
        assert self.journal is not None
        consumer = self.queue / "consumers" / "c"
        consumer.mkdir(parents=True, exist_ok=True)
        (consumer / self.journal.directory.name).write_text(str(self.journal._current.index))

    @precondition(lambda self: self.told)
    @rule(which=st.integers(0, 1 << 30), limit=st.sampled_from([1, 1_000, 100_000, 1 << 20]))
    def read(self, which: int, limit: int) -> None:
        """A reader looks once."""
        self.told[which % len(self.told)].read(limit)

    @precondition(lambda self: self.told)
    @rule(which=st.integers(0, 1 << 30))
    def resume(self, which: int) -> None:
        """A reader begins again at its position."""
        told = self.told[which % len(self.told)]
        told.reader = copy_reader(told.reader)

    @invariant()
    def a_living_journal_is_read_up_to_the_last_finished_event(self) -> None:
        """Whoever reads on and on comes to the last event whose call returned, unless the seal was cut off."""
        if self.journal is None or not self.told:
            return
        told = self.told[-1]
        assert told.reader.is_living()
        reader = JournalReader(told.reader.path, told.reader.position)
        records, _ = read_all(reader)
        reader.close()
        there = {body for _, _, body in records}
        missing = [body for body, accepted in told.events[told.next_event :] if accepted and body not in there]
        assert not missing or any(not accepted for _, accepted in told.events)


TestJournal = JournalMachine.TestCase
TestJournal.settings = settings(stateful_step_count=25)


class Written:
    """A journal whose writer is gone: where each event lies."""

    def __init__(self, queue: Path, sizes: list[int], cut_off: set[int], *, prepared: bool, closed: bool) -> None:
        disk = FaultyFilesystem()
        journal = make_journal(queue, disk)
        self.path = journal_path(queue, journal)
        self.places: list[tuple[bytes, int, int, int]] = []
        """Body, segment, offset and end of what was accepted."""
        self.seqs: dict[int, bytes] = {}
        for number, size in enumerate(sizes):
            body = number.to_bytes(6, "big") + bytes(size // 2) + os.urandom(size - size // 2)
            if prepared:
                journal.prepare()
            if number in cut_off:
                disk.fail_store(Abort(), 1 + number % 2, 0.5)
            try:
                seq = journal.accepted
                assert journal.append(body) is None
            except Abort:
                continue
            finally:
                disk.calm()
            end = journal._position
            start = end - align(RECORD_HEADER_SIZE + len(body))
            self.places.append((body, journal._current.index, start, start + RECORD_HEADER_SIZE + len(body)))
            self.seqs[seq] = body
        if closed:
            journal.close()
        disk.die()


def damage(path: Path, index: int, kind: str, where: float, bit: int) -> tuple[int, int]:
    """Flip a bit, zero a page, or cut a segment's file; the offsets of the damage."""
    file = path / segment_name(index)
    data = bytearray(file.read_bytes())
    at = min(int(where * len(data)), len(data) - 1)
    if kind == "flip":
        data[at] ^= 1 << bit
        file.write_bytes(data)
        return at, at + 1
    page = at & -HEADER_SIZE
    if kind == "zero":
        data[page : page + HEADER_SIZE] = bytes(len(data[page : page + HEADER_SIZE]))
        file.write_bytes(data)
        return page, page + HEADER_SIZE
    file.write_bytes(data[:at])
    return at, 1 << 40


def _seqs(holes: list[Hole]) -> Iterator[tuple[int, str]]:
    for hole in holes:
        yield from ((seq, hole.reason) for seq in range(hole.first, hole.last + 1))


DAMAGE = st.tuples(
    st.integers(0, 10), st.sampled_from(["flip", "flip", "zero", "cut"]), st.floats(0, 1), st.integers(0, 7)
)


@given(
    sizes=st.lists(st.one_of(st.integers(1, 300), st.integers(300, 30_000)), min_size=1, max_size=40),
    cut_off=st.sets(st.integers(0, 40), max_size=6),
    damages=st.lists(DAMAGE, min_size=1, max_size=4),
    prepared=st.booleans(),
    closed=st.booleans(),
    limit=st.sampled_from([1, 10_000, 1 << 20]),
)
@example(sizes=[30_000] * 5, cut_off=set(), damages=[(0, "flip", 0.0, 0)], prepared=True, closed=True, limit=1)
@example(sizes=[30_000] * 5, cut_off=set(), damages=[(0, "flip", 0.001, 0)], prepared=True, closed=True, limit=1)
@example(sizes=[100] * 40, cut_off={5}, damages=[(0, "zero", 0.07, 0)], prepared=False, closed=False, limit=1 << 20)
def test_damage_costs_only_the_events_that_it_hits(
    sizes: list[int],
    cut_off: set[int],
    damages: list[tuple[int, str, float, int]],
    prepared: bool,
    closed: bool,
    limit: int,
) -> None:
    """All others are read once and in order; what is lost is a hole, and never passes for abandoned."""
    with tempfile.TemporaryDirectory() as directory:
        written = Written(Path(directory), sizes, cut_off, prepared=prepared, closed=closed)
        segments = sorted({segment for _, segment, _, _ in written.places} | {0})
        hit: list[tuple[int, int, int]] = []
        for which, kind, where, bit in damages:
            index = segments[which % len(segments)]
            if (written.path / segment_name(index)).stat().st_size:
                hit.append((index, *damage(written.path, index, kind, where, bit)))
        whole = [
            body
            for body, segment, start, end in written.places
            if not any(segment == index and first < end and start < last for index, first, last in hit)
        ]
        reader = JournalReader(written.path)
        records: list[Record] = []
        holes: list[Hole] = []
        while not reader.position.done:
            chunk = reader.read(limit)
            records += chunk.records
            holes += chunk.holes
            reader = copy_reader(reader)
        reader.close()
    assert [body for _, _, body in records if body in set(whole)] == whole
    assert all(written.seqs[seq] == body for seq, _, body in records)
    lost = dict(_seqs(holes))
    assert sorted([*lost, *(seq for seq, _, _ in records)]) == list(range(len(lost) + len(records)))
    assert not [seq for seq, reason in lost.items() if reason == "abandoned" and seq in written.seqs]
