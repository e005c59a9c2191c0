"""The journal: one log call, where it goes, and what may go wrong around it."""

import errno
import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runstream.filesystem import Buffer, Filesystem
from runstream.journal import Clock, Journal
from runstream.keeper import Keeper
from runstream_schemas.reader import JournalReader, has_writer, journal_names
from runstream_schemas.segment import HEADER_SIZE, MAX_BODY, Hole, Record, unpack_header
from support.journals import Abort, FaultyFilesystem, chunks, journal_path, make_journal, read_all


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


def bodies(records: list[Record]) -> list[bytes]:
    """What was logged."""
    return [record.body for record in records]


def drops(path: Path) -> dict[tuple[int, str], int]:
    """What a reader is told of drops."""
    reader = JournalReader(path)
    told: dict[tuple[int, str], int] = {}
    for chunk in chunks(reader):
        told |= chunk.drops
    reader.close()
    return told


def test_what_is_appended_is_read_at_once(journal: Journal, tmp_path: Path) -> None:
    """Without a sync: both look at the same pages."""
    reader = JournalReader(journal_path(tmp_path, journal))
    assert read_all(reader) == ([], [])
    for number in range(3):
        assert journal.append(b"event %d" % number) is None
        (records, holes) = read_all(reader)
        assert (bodies(records), holes) == ([b"event %d" % number], [])
        assert records[0].seq == number
    reader.close()


def test_an_append_makes_no_system_call(tmp_path: Path) -> None:
    """As strace counts them: as many for one append as for three thousand."""
    program = textwrap.dedent("""
        import os, sys
        from pathlib import Path
        from support.journals import make_journal
        journal = make_journal(Path(sys.argv[1]), segment_size=4 << 20)
        journal.prepare()
        append = journal.append
        body = b"x" * 80
        append(body)
        os.write(1, b"begin")
        for _ in range(3_000):
            append(body)
        os.write(1, b"end")
        assert journal.stalls == 0 and journal._current.index == 1
    """)
    trace = tmp_path / "trace"
    if _strace() is None:
        pytest.skip("strace is not installed: this behaviour was tested through context switches only")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run(
        [_strace() or "", "-f", "-o", trace, sys.executable, "-c", program, tmp_path], check=True, env=environment
    )
    lines = trace.read_text().splitlines()
    begin = next(at for at, line in enumerate(lines) if '"begin"' in line)
    end = next(at for at, line in enumerate(lines) if '"end"' in line)
    assert lines[begin + 1 : end] == []


def _strace() -> str | None:
    return next((path for path in ("/usr/bin/strace", "/bin/strace") if Path(path).exists()), None)


def test_an_append_never_waits(tmp_path: Path) -> None:
    """While a segment is ready, there is not one voluntary context switch in thousands of calls."""
    journal = make_journal(tmp_path, segment_size=4 << 20)
    journal.prepare()
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    for _ in range(10_000):
        journal.append(b"x" * 80)
    assert journal._current.index == 1
    assert resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw == before
    assert journal.stalls == 0
    journal.close()


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
    assert ([len(record.body) for record in records], holes) == ([MAX_BODY], [])
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


def test_a_refusal_is_not_tried_again_at_every_call(journal: Journal, disk: FaultyFilesystem) -> None:
    """Without a background thread once a second, with one never."""
    disk.full = True
    assert journal.append(bytes(70_000)) == "disk"
    calls = len(disk.calls)
    assert journal.append(bytes(70_000)) == "disk"
    journal.kept = True
    journal._refused_at = 0
    assert journal.append(bytes(70_000)) == "disk"
    assert len(disk.calls) == calls
    assert journal.stalls == 1
    disk.full = False
    journal.prepare()
    assert journal.append(bytes(70_000)) is None


def test_a_full_disk_leaves_no_file_behind(journal: Journal, disk: FaultyFilesystem, tmp_path: Path) -> None:
    """And what fits in the present segment is still taken."""
    disk.fail(OSError(errno.EIO, "rename"), 1)
    journal.prepare()
    disk.full = True
    journal.prepare()
    assert [path.name for path in journal_path(tmp_path, journal).iterdir()] in (
        ["lock", "0000000000.seg"],
        ["0000000000.seg", "lock"],
    )
    assert journal.append(b"fits") is None


@pytest.mark.parametrize("after", range(8))
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_an_exception_anywhere_in_a_roll_loses_nothing(
    journal: Journal, disk: FaultyFilesystem, tmp_path: Path, after: int, share: float
) -> None:
    """The journal goes on in one of the two segments, and a reader finds out in which."""
    journal.prepare()
    while journal._position + 1_024 <= journal._capacity:
        journal.append(bytes(1_000))
    accepted = journal.accepted
    disk.fail_store(Abort(), after, share)
    with_exception = False
    try:
        journal.append(bytes(1_000))
    except Abort:
        with_exception = True
    disk.calm()
    assert with_exception == (after < 5)
    later = [os.urandom(10) for _ in range(10)]
    assert [journal.append(body) for body in later] == [None] * 10
    journal.sync()
    path = journal_path(tmp_path, journal)
    reader = JournalReader(path)
    records, holes = read_all(reader)
    reader.close()
    assert bodies(records)[:accepted] == [bytes(1_000)] * accepted
    assert bodies(records)[-10:] == later
    assert all(hole.reason == "abandoned" for hole in holes)


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
        found.append([record.emit_ts for record in read_all(reader)[0]])
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
    journal.count_drop("disk")
    journal.prepare()
    journal.sync()
    assert journal.dropped["disk"] == 1
    assert drops(path) == {}


def test_a_close_that_fails_releases_the_journal_all_the_same(tmp_path: Path, disk: FaultyFilesystem) -> None:
    """And its nested journal, too: what was accepted is read."""
    journal = make_journal(tmp_path, disk)
    journal.append(b"outer")
    with journal._lock:
        journal._busy = True
        assert journal.append(b"inner") is None
        journal._busy = False
    disk.fail(OSError(errno.EIO, "sync"), 0)
    with pytest.raises(OSError, match="sync"):
        journal.close()
    assert not disk._open
    found = []
    for name in journal_names(tmp_path / "journals"):
        reader = JournalReader(tmp_path / "journals" / name)
        found += bodies(read_all(reader)[0])
        assert reader.position.done
        reader.close()
    assert sorted(found) == [b"inner", b"outer"]


def test_synced_says_what_survives_the_machine(journal: Journal, disk: FaultyFilesystem) -> None:
    """Only what the disk has said yes to: records, and new files."""
    journal.append(b"a")
    assert (journal.accepted, journal.synced) == (1, 0)
    disk.fail(OSError(errno.EIO, "broken"), 0)
    with pytest.raises(OSError, match="broken"):
        journal.sync()
    assert journal.synced == 0
    disk.calls.clear()
    journal.sync()
    assert journal.synced == 1
    assert sorted(disk.calls) == ["sync", "sync_directory", "sync_directory"]
    disk.calls.clear()
    journal.sync()
    assert disk.calls == []


def test_a_new_segment_is_entered_in_the_directory_before_its_events_count_as_synced(
    journal: Journal, disk: FaultyFilesystem
) -> None:
    """Although there was a sync between its making and its first event."""
    journal.append(b"a")
    journal.sync()
    journal.prepare()
    journal.sync()
    disk.calls.clear()
    while journal._current.index == 0:
        journal.append(bytes(1_000))
    journal.sync()
    assert disk.calls.count("sync_directory") == 2
    assert journal.synced == journal.accepted


def test_segments_that_are_full_are_let_go_of_once_they_are_synced(journal: Journal, disk: FaultyFilesystem) -> None:
    """Those whose sync failed stay."""
    for _ in range(300):
        journal.append(bytes(1_000))
    held = len(disk._open)
    disk.fail(OSError(errno.EIO, "broken"), 2)
    with pytest.raises(OSError, match="broken"):
        journal.sync()
    assert len(disk._open) == held - 1
    journal.sync()
    assert len(disk._open) == 2
    assert journal.synced == 300


def test_a_sync_does_not_count_the_event_that_it_interrupts(journal: Journal, tmp_path: Path) -> None:
    """A signal handler that syncs in the middle of a log call cannot know whether its bytes are there."""
    journal.append(b"a")
    with journal._lock:
        journal._busy = True
        journal._next_seq = 2
        assert journal.interrupted
        journal.sync()
        journal._busy = False
        journal._next_seq = 1
    assert journal.synced == 1
    assert not journal.interrupted


def test_a_segment_that_was_prepared_too_late_is_thrown_away(tmp_path: Path) -> None:
    """A log call has made a later one itself meanwhile: indices rise."""

    class Slow(Filesystem):
        """Lets a log call come in between."""

        def allocate(self, path: Path, size: int) -> tuple[int, Buffer]:
            made = super().allocate(path, size)
            if path.name == "0000000001.new":
                assert journal.append(bytes(70_000)) is None
            return made

    journal = make_journal(tmp_path, Slow())
    journal.prepare()
    assert journal._spare is None
    journal.append(b"next")
    path = journal_path(tmp_path, journal)
    assert {name.name for name in path.iterdir()} == {"lock", "0000000000.seg", "0000000002.seg", "0000000003.seg"}
    journal.close()
    reader = JournalReader(path)
    assert [len(body) for body in bodies(read_all(reader)[0])] == [70_000, 4]
    reader.close()


def test_touching_pages_ends_when_the_segment_is_taken(journal: Journal) -> None:
    """What was logged there is not overwritten."""
    journal.prepare()
    spare = journal._spare
    assert spare is not None
    while journal._current is not spare:
        journal.append(b"\xff" * 1_000)
    before = bytes(spare.buffer[0 : spare.capacity])
    journal._touch_pages(spare)
    assert bytes(spare.buffer[0 : spare.capacity]) == before


def test_drops_are_exact_when_a_signal_handler_counts_in_between(tmp_path: Path, disk: FaultyFilesystem) -> None:
    """Neither is lost."""
    journal = make_journal(tmp_path, disk)
    segment = journal._current
    store = segment.buffer.__setitem__
    nested = iter([True])

    class Interrupting:
        """Counts another one while the first is being stored."""

        def __setitem__(self, key: slice, value: bytes) -> None:
            if next(nested, False):
                segment.count_drop("disk")
            store(key, value)

        def __getattr__(self, name: str) -> object:
            return getattr(journal._buffer, name)

    segment.buffer = Interrupting()  # type: ignore[assignment]
    journal.count_drop("disk")
    segment.buffer = journal._buffer
    assert drops(journal_path(tmp_path, journal)) == {(0, "disk"): 2}
    journal.close()


def test_a_call_that_interrupts_a_call_goes_to_a_nested_journal(tmp_path: Path, disk: FaultyFilesystem) -> None:
    """And so on, as often as calls interrupt each other; where that cannot be made, the event is refused."""
    journal = make_journal(tmp_path, disk)
    disk.full = True
    with journal._lock:
        journal._busy = True
        assert journal.append(b"refused") == "disk"
        disk.full = False
        assert journal.append(b"nested") is None
        assert journal.nested is not None
        journal.nested._busy = True
        assert journal.append(b"nested twice") is None
        journal.nested._busy = False
        journal.close()  # in the middle of a log call: that one writes on
        journal._busy = False
    assert journal.append(b"outer") is None
    journal.close()
    assert not disk._open
    assert len(journal_names(tmp_path / "journals")) == 3


def test_two_signals_that_make_a_nested_journal_at_once_lose_nothing(tmp_path: Path) -> None:
    """The first one that is ready stays."""
    journal = make_journal(tmp_path)
    make = journal._make_directory
    interrupted = iter([True])

    def interrupting() -> object:
        if next(interrupted, False):
            assert journal.append(b"second signal") is None
        return make()

    journal._make_directory = interrupting  # type: ignore[assignment]
    with journal._lock:
        journal._busy = True
        assert journal.append(b"first signal") is None
        journal._busy = False
    journal.close()
    found = []
    for name in journal_names(tmp_path / "journals"):
        reader = JournalReader(tmp_path / "journals" / name)
        found += bodies(read_all(reader)[0])
        reader.close()
    assert sorted(found) == [b"first signal", b"second signal"]


SIGNALS = """
import json, os, signal, sys
from pathlib import Path
from support.journals import make_journal
from runstream.keeper import Keeper

def with_nested():
    one = journal
    while one is not None:
        yield one
        one = one.nested

journal = make_journal(Path(sys.argv[1]), segment_size=256 << 10)
keeper = Keeper(with_nested, 0.01)
accepted = {"main": 0, "handler": 0}
depth = 0

def handler(number, frame):
    global depth
    if depth > 2:  # handlers that interrupt handlers for ever would overflow the stack
        return
    depth += 1
    log()
    depth -= 1

def log():
    number, accepted["handler"] = accepted["handler"], accepted["handler"] + 1
    assert journal.append(b"handler %d" % number) is None

if sys.argv[2] == "kept":
    keeper.start()
    journal.kept = True
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)
while accepted["handler"] < 3_000:
    assert journal.append(b"main %d %s" % (accepted["main"], b"x" * (accepted["main"] % 9_000))) is None
    accepted["main"] += 1
signal.setitimer(signal.ITIMER_REAL, 0)
assert journal.nested is not None
print(json.dumps(accepted), flush=True)
if sys.argv[3] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
keeper.stop(5)
journal.close()
"""


@pytest.mark.parametrize("kept", ["kept", "alone"])
@pytest.mark.parametrize("end", ["closed", "killed"])
def test_signal_handlers_that_log_lose_nothing(tmp_path: Path, kept: str, end: str) -> None:
    """Thousands of them, in the middle of log calls: each event once, each journal's seqs without a gap."""
    ended = subprocess.run(
        [sys.executable, "-c", SIGNALS, tmp_path, kept, end],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
        timeout=120,
    )
    assert ended.returncode == (-signal.SIGKILL if end == "killed" else 0), ended.stderr.decode()
    accepted = json.loads(ended.stdout)
    found: list[list[bytes]] = []
    times = set()
    for name in journal_names(tmp_path / "journals"):
        reader = JournalReader(tmp_path / "journals" / name)
        records, holes = read_all(reader)
        reader.close()
        assert holes == []
        assert [record.seq for record in records] == list(range(len(records)))
        assert all(one.emit_ts < other.emit_ts for one, other in itertools.pairwise(records))
        times |= {record.emit_ts for record in records}
        found.append(bodies(records))
    everything = [body for some in found for body in some]
    assert len(times) == len(everything)
    handled = sorted(int(body.split()[1]) for body in everything if body.startswith(b"handler"))
    assert handled == list(range(accepted["handler"]))
    (outer,) = [some for some in found if any(body.startswith(b"main") for body in some)]
    logged = [int(body.split()[1]) for body in outer if body.startswith(b"main")]
    assert logged == list(range(accepted["main"]))


FOLLOWER = """
import sys
from pathlib import Path
from runstream_schemas.reader import JournalReader
reader = JournalReader(Path(sys.argv[1]))
print("ready", flush=True)
while not reader.position.done:
    chunk = reader.read(1 << 20)
    assert not chunk.holes, chunk.holes
    for record in chunk.records:
        sys.stdout.write(f"{record.seq} {record.body.split(b' ')[0].decode()}\\n")
"""


@pytest.mark.parametrize("kept", [False, True])
def test_threads_that_log_and_processes_that_follow_lose_nothing(tmp_path: Path, kept: bool) -> None:
    """Each thread's events in its order, for each of two readers, while segments roll."""
    journal = make_journal(tmp_path, segment_size=1 << 20)
    keeper = Keeper(lambda: [journal], 0.02)
    journal.kept = kept and keeper.start()
    followers = [_follow(journal_path(tmp_path, journal)) for _ in range(2)]

    def work(thread: int) -> None:
        for number in range(4_000):
            assert journal.append(b"%d:%d " % (thread, number) + b"x" * (number * 7 % 3_000)) is None

    with ThreadPoolExecutor(6) as pool:
        outputs = [pool.submit(follower.communicate, timeout=100) for follower in followers]
        for done in [pool.submit(work, thread) for thread in range(4)]:
            done.result()
        keeper.stop(5)
        journal.close()
    for follower, output in zip(followers, outputs, strict=True):
        assert follower.returncode == 0
        lines = [line.split() for line in output.result()[0].splitlines()]
        assert [int(seq) for seq, _ in lines] == list(range(16_000))
        events = [event.split(":") for _, event in lines]
        for thread in range(4):
            assert [int(number) for owner, number in events if int(owner) == thread] == list(range(4_000))


def _follow(path: Path) -> "subprocess.Popen[str]":
    follower = subprocess.Popen(
        [sys.executable, "-c", FOLLOWER, path],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert follower.stdout is not None
    assert follower.stdout.readline() == "ready\n"
    return follower


def test_a_forked_child_lets_go_of_its_parents_journal(tmp_path: Path) -> None:
    """The lock then shows the parent's life, not the child's."""
    disk = FaultyFilesystem()
    journal = make_journal(tmp_path, disk)
    with journal._lock:
        journal._busy = True
        journal.append(b"nested")
        journal._busy = False
    for _ in range(100):
        journal.append(bytes(1_000))
    journal.prepare()
    path = journal_path(tmp_path, journal)
    to_child, from_parent = os.pipe()
    to_parent, from_child = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(from_parent)
        journal.abandon()
        os.write(from_child, b"abandoned" if not disk._open else b"held")
        os.read(to_child, 1)
        os._exit(0)
    try:
        assert os.read(to_parent, 100) == b"abandoned"
        assert has_writer(path)
        journal.append(b"the parent goes on")
        journal.sync()
        journal.close()
        assert not any(has_writer(tmp_path / "journals" / name) for name in journal_names(tmp_path / "journals"))
    finally:
        for descriptor in (from_parent, to_child, to_parent, from_child):
            os.close(descriptor)
        assert os.waitpid(child, 0)[1] == 0


def test_abandoning_lets_go_of_as_much_as_it_can(tmp_path: Path, disk: FaultyFilesystem) -> None:
    """Also where the parent was just closing it."""
    journal = make_journal(tmp_path, disk)
    disk.fail(OSError(errno.EBADF, "closed"), 0)
    journal.abandon()
    assert not disk._open
    journal.directory.release()


def test_a_journal_that_nobody_can_lock_is_not_made(tmp_path: Path) -> None:
    """The lock is exclusive."""
    path = tmp_path / "lock"
    first = Filesystem().lock(path)
    with pytest.raises(BlockingIOError):
        Filesystem().lock(path)
    os.close(first)


def test_allocating_leaves_nothing_behind_on_failure(tmp_path: Path) -> None:
    """A file larger than the file system, say."""
    with pytest.raises(OSError, match=r".+"):
        Filesystem().allocate(tmp_path / "huge", 1 << 62)
    assert list(tmp_path.iterdir()) == []


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
