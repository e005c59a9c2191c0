"""The journal among threads, processes, signals and forks, and what a log call asks of the kernel."""

import errno
import itertools
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runstream.journal import Journal
from runstream.keeper import Keeper
from runstream_schemas.reader import JournalReader, has_writer, journal_names
from support.environment import unmeasured
from support.journals import FaultyFilesystem, bodies, drops, journal_path, make_journal, read_all

pytestmark = pytest.mark.slow


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


STRICT = """
import ctypes, os, platform, struct, sys
from pathlib import Path
from support.journals import make_journal

def forbid_system_calls():
    '''Have the kernel kill this process at any but write and exit_group (seccomp(2)).'''
    write, leave = {"x86_64": (1, 231), "aarch64": (64, 94)}[platform.machine()]
    load, jump_if_equal, answer = 0x20, 0x15, 0x06
    kill, allow = 0x80000000, 0x7FFF0000
    steps = [(load, 0, 0, 0), (jump_if_equal, 2, 0, write), (jump_if_equal, 1, 0, leave), (answer, 0, 0, kill)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in [*steps, (answer, 0, 0, allow)]))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 5, ctypes.addressof(code)))
    libc = ctypes.CDLL(None)
    assert libc.prctl(38, 1, 0, 0, 0) == 0  # no new privileges
    assert libc.prctl(22, 2, program, 0, 0) == 0

journal = make_journal(Path(sys.argv[1]), segment_size=4 << 20)
journal.prepare()
append, body, large = journal.append, b"x" * 80, b"y" * 20_000
append(body)
append(large)
os.write(1, b"begin ")
forbid_system_calls()
for _ in range(3_000):
    append(body)
for _ in range(20):
    append(large)
if sys.argv[2] == "yield":
    os.sched_yield()
assert journal.stalls == 0 and journal._current.index == 1
os.write(1, b"end")
os._exit(0)
"""


@pytest.mark.parametrize(
    ("extra", "output", "status"), [("nothing", b"begin end", 0), ("yield", b"begin ", -signal.SIGSYS)]
)
def test_an_append_makes_no_system_call(tmp_path: Path, extra: str, output: bytes, status: int) -> None:
    """The kernel would kill the process at its first one, as it does where there is one more."""
    ended = subprocess.run(
        [sys.executable, "-c", STRICT, tmp_path, extra],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert (ended.stdout, ended.returncode) == (output, status), ended.stderr.decode()


def test_an_append_never_waits(tmp_path: Path) -> None:
    """While a segment is ready, there is not one voluntary context switch in thousands of calls.

    The kernel may hold a store into a page that it is writing out just then, on a busy machine: hence several tries.
    """
    waits = []
    while len(waits) < 10 and 0 not in waits:
        journal = make_journal(tmp_path, segment_size=4 << 20)
        journal.prepare()
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
        for _ in range(10_000):
            journal.append(b"x" * 80)
        waits.append(resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - before)
        assert journal._current.index == 1
        assert journal.stalls == 0
        journal.close()
    assert 0 in waits, waits


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
        env={**unmeasured(), "PYTHONPATH": os.pathsep.join(sys.path)},
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
        assert [seq for seq, _, _ in records] == list(range(len(records)))
        assert all(one[1] < other[1] for one, other in itertools.pairwise(records))
        times |= {emit_ts for _, emit_ts, _ in records}
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
        sys.stdout.write(f"{record[0]} {record[2].split(b' ')[0].decode()}\\n")
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
