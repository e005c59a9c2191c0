"""Disks that are full, limited, read-only or broken under a program that logs: it goes on, and drops are exact.

Each program is told by lines on its standard input when to go on, and checks itself that no call raises.
"""

import json
import os
import resource
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import pytest

from runstream_sink import query
from support.injecting import failing_calls
from support.mounting import mounted
from support.pipeline import Pipeline
from support.programs import Program, losses, settle

pytestmark = pytest.mark.crash

PRELUDE = """
    import json, os, resource, signal, sys, time, runstream
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    calls = 0
    def log(count=1):
        global calls
        for _ in range(count):
            runstream.log_prediction({"n": calls, "text": "x" * 1000}, run_id="0" * 32)
            calls += 1
    def log_until(condition):
        end = time.monotonic() + 60
        while not condition(runstream.stats()):
            log()
            time.sleep(0.001)
            assert time.monotonic() < end, runstream.stats()
    def dropped(stats): return stats["dropped"]["disk"]
    def tell(): print("told", json.dumps({"calls": calls, **runstream.stats()}))
    def another(): accepted = runstream.stats()["accepted"]; log_until(lambda now: now["accepted"] > accepted)
"""


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    """A queue and a store."""
    return Pipeline(tmp_path)


def start(pipeline: Pipeline, code: str, **environment: str) -> Program:
    """Start a program with the helpers above."""
    return Program(
        textwrap.dedent(PRELUDE) + textwrap.dedent(code), pipeline, RUNSTREAM_SEGMENT_SIZE="256KiB", **environment
    )


def told(program: Program) -> dict[str, Any]:
    """The counts that a program prints; each call was accepted or dropped."""
    found: dict[str, Any] = json.loads(program.wait_for("told"))
    assert found["accepted"] + sum(found["dropped"].values()) == found["calls"]
    return found


def check(pipeline: Pipeline, stats: dict[str, Any]) -> None:
    """The store has what was accepted, once each, and knows how much was dropped."""
    settle(pipeline)
    assert pipeline.ask(query.counts).events == stats["accepted"]
    rows = [row["n"] for row in pipeline.rows("0" * 32)] if stats["accepted"] else []
    assert len(set(rows)) == len(rows) == stats["accepted"]
    assert losses(pipeline) == {reason: count for reason, count in stats["dropped"].items() if count}


def fill(directory: Path, *, leave: int = 0) -> Path:
    """A file that takes all room of a file system but some bytes."""
    ballast = directory / "ballast"
    room = os.statvfs(directory)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(room.f_bavail * room.f_frsize - leave, 1))
    return ballast


@pytest.mark.parametrize("end", ["", "os.kill(os.getpid(), 9)", "os._exit(0)"], ids=["returns", "killed", "exits"])
def test_a_disk_that_fills_up_and_has_room_again(pipeline: Pipeline, end: str) -> None:
    """What is dropped meanwhile is counted exactly, also if the program is killed; logging goes on by itself."""
    with mounted(pipeline.queue, "size=4m"):
        ballast = fill(pipeline.queue, leave=1 << 20)
        program = start(
            pipeline,
            f"""
    log_until(lambda now: dropped(now) > 100)
    print("full")
    sys.stdin.readline()
    another()
    log(500)
    tell()
    {end}
    """,
        )
        program.wait_for("full")
        ballast.unlink()
        program.tell()
        stats = told(program)
        assert program.end() == (-9 if "kill" in end else 0), program.errors()
        assert stats["dropped"]["disk"] > 100
        check(pipeline, stats)


@pytest.mark.parametrize("end", ["", "os.kill(os.getpid(), 9)"], ids=["returns", "killed"])
def test_a_disk_that_is_full_from_the_start(pipeline: Pipeline, end: str) -> None:
    """There is no journal that could count: what was dropped is told by the first one that can be made."""
    with mounted(pipeline.queue, "size=4m"):
        ballast = fill(pipeline.queue)
        program = start(pipeline, f"log(300); print('full'); sys.stdin.readline(); another(); tell(); {end}")
        program.wait_for("full")
        ballast.unlink()
        program.tell()
        stats = told(program)
        assert program.end() == (-9 if end else 0), program.errors()
        assert stats["dropped"]["disk"] >= 300
        check(pipeline, stats)


@pytest.mark.parametrize("end", ["", "os.kill(os.getpid(), 9)"], ids=["returns", "killed"])
def test_a_limit_of_the_size_of_files(pipeline: Pipeline, end: str) -> None:
    """No segment may be as large as it should: events are dropped until the limit is raised, and raised again."""
    program = start(
        pipeline,
        f"""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    def limit(size): resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    limit(100_000)
    log(100)
    assert dropped(runstream.stats()) == 100
    for turn in range(3):
        limit(hard)
        another()
        limit(100_000)
        before = dropped(runstream.stats())
        log_until(lambda now: dropped(now) > before + 50)
    tell()
    {end}
    """,
    )
    stats = told(program)
    assert program.end() == (-9 if end else 0), program.errors()
    check(pipeline, stats)


def test_a_file_system_that_is_read_only_for_a_time(pipeline: Pipeline) -> None:
    """Events are dropped; once it is writable again logging begins by itself, and the store knows of the drops."""
    with mounted(pipeline.queue, "size=8m"):
        program = start(
            pipeline,
            """
    for turn in range(2):
        another()
        runstream.close()  # no file is open: now it can be made read-only
        print("closed")
        sys.stdin.readline()
        before = dropped(runstream.stats())
        log(100)
        assert dropped(runstream.stats()) == before + 100
        print("refused")
        sys.stdin.readline()
    another()
    tell()
    """,
        )
        for _ in range(2):
            for line, mode in (("closed", "ro"), ("refused", "rw")):
                program.wait_for(line)
                subprocess.run(["mount", "-o", f"remount,{mode}", pipeline.queue], check=True)
                program.tell()
        stats = told(program)
        program.end_well()
        assert stats["dropped"]["disk"] >= 200
        check(pipeline, stats)


@pytest.mark.parametrize("error", ["EIO", "EROFS", "EDQUOT"])
def test_a_disk_that_refuses_new_files(pipeline: Pipeline, error: str) -> None:
    """What fits in the files that are there is accepted, the rest is counted, and later all goes on."""
    program = start(
        pipeline,
        """
    log(10)
    print("logged")
    sys.stdin.readline()
    log_until(lambda now: dropped(now) > 100)
    print("refused")
    sys.stdin.readline()
    another()
    tell()
    os.kill(os.getpid(), 9)
    """,
    )
    program.wait_for("logged")
    with failing_calls(program.process.pid, error, "fallocate"):
        program.tell()
        program.wait_for("refused")
    program.tell()
    stats = told(program)
    assert program.end() == -9, program.errors()
    check(pipeline, stats)


def test_a_disk_that_does_not_sync(pipeline: Pipeline) -> None:
    """Nothing is dropped; `flush` says no, `stats` says why, and both recover."""
    program = start(
        pipeline,
        """
    log(10)
    print("logged")
    sys.stdin.readline()
    log(100)
    assert runstream.flush(30) is False
    print("error", runstream.stats()["error"])
    sys.stdin.readline()
    log(100)
    assert runstream.flush(60) is True
    assert runstream.stats()["error"] == ""
    tell()
    """,
    )
    program.wait_for("logged")
    with failing_calls(program.process.pid, "EIO", "fdatasync", "fsync"):
        program.tell()
        assert "Input/output error" in program.wait_for("error")
    program.tell()
    stats = told(program)
    program.end_well()
    assert stats["accepted"] == 210
    check(pipeline, stats)


def test_a_program_ends_though_no_call_to_its_disk_succeeds(pipeline: Pipeline) -> None:
    """What was accepted is in the kernel's memory, and the sink finds it."""
    program = start(pipeline, "log(1000); print('logged'); sys.stdin.readline(); log(10); tell()")
    program.wait_for("logged")
    with failing_calls(program.process.pid, "EIO", "fdatasync", "fsync", "fallocate", "ftruncate", "unlink", "rename"):
        program.tell()
        stats = told(program)
        program.end_well()
    check(pipeline, stats)


def test_limits_are_as_they_were() -> None:
    """The tests above limit their programs, never themselves."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
