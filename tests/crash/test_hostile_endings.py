"""A program that ends, in whatever way, is gone soon: with a sink that is stopped, or with none at all.

"Soon" is 3 seconds from its last output on a machine that is idle, and longer in proportion where the machine is slow,
before or after.
"""

import signal
from pathlib import Path

import pytest

from runstream_sink import query
from support.crash_round import start_sink
from support.pipeline import Pipeline
from support.programs import Program, settle, slowness

pytestmark = pytest.mark.crash

LIMIT = 3.0
PROGRAM = """
    import ctypes, faulthandler, os, runstream, signal, sys, threading, time
    run = runstream.start_run({name!r})
    for step in range(500):
        run.log_metric("m", 1, step=step)
        run.log_prediction({{"n": step, "text": "x" * 2000}})
    def beside():
        while True: time.sleep(1)
    threading.Thread(target=beside, daemon=True).start()
    print("logged", run.run_id)
    {end}
"""
ENDS = {
    "return": ("", 0),
    "exception": ("raise ValueError", 1),
    "sys.exit": ("sys.exit(3)", 3),
    "exit in a thread": ("threading.Thread(target=lambda: (time.sleep(0.1), sys.exit(3))).start()", 0),
    "os._exit": ("os._exit(4)", 4),
    "exec": ("os.execv('/bin/true', ['true'])", 0),
    "SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
    "SIGTERM, handled": (
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(5)); os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)",
        5,
    ),
    "SIGINT": ("signal.raise_signal(signal.SIGINT)", -signal.SIGINT),
    "SIGHUP": ("os.kill(os.getpid(), signal.SIGHUP)", -signal.SIGHUP),
    "SIGKILL": ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    "abort": ("os.abort()", -signal.SIGABRT),
    "segmentation fault": ("faulthandler._sigsegv()", -signal.SIGSEGV),
}
OWN_WILL = {"return", "exception", "sys.exit", "exit in a thread", "SIGTERM, handled", "SIGINT"}
"""Ends at which the interpreter runs its exit handlers, so that the run is ended, too."""


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    """A queue and a store."""
    return Pipeline(tmp_path)


def end_all(pipeline: Pipeline) -> dict[str, str]:
    """Let a program end in each way, three at a time; the runs by the name of the end."""
    before = slowness()
    names, runs = list(ENDS), {}
    for some in (names[at : at + 3] for at in range(0, len(names), 3)):
        programs = {name: Program(PROGRAM.format(name=name, end=ENDS[name][0]), pipeline) for name in some}
        for name, program in programs.items():
            runs[name] = program.wait_for("logged")
        for name, program in programs.items():
            assert program.end() == ENDS[name][1], (name, program.errors())
            assert is_soon(program, before), name
    return runs


def is_soon(program: Program, slow_before: float) -> bool:
    """Whether it ended soon after its last output."""
    took = program.seconds_to_end
    return took < LIMIT * slow_before or took < LIMIT * slowness()


def check(pipeline: Pipeline, runs: dict[str, str]) -> None:
    """All that was logged is there, whoever applied it."""
    settle(pipeline)
    for name, run_id in runs.items():
        points = pipeline.ask(query.metric_history, run_id, "m")
        assert [point.step for point in points] == list(range(500)), name
        assert [row["n"] for row in pipeline.rows(run_id)] == list(range(500)), name
        assert (pipeline.run(run_id).status != "RUNNING") == (name in OWN_WILL), name


def test_programs_end_soon_without_a_sink(pipeline: Pipeline) -> None:
    """A sink that comes later takes over what they left."""
    check(pipeline, end_all(pipeline))


def test_programs_end_soon_with_a_sink_that_is_stopped(pipeline: Pipeline) -> None:
    """It is even killed in that state: the next one takes over."""
    first = Program(PROGRAM.format(name="first", end=""), pipeline)
    assert first.end() == 0
    sink = start_sink(pipeline)
    try:
        assert sink.wait_for(b"sink started")
        sink.signal(signal.SIGSTOP)
        runs = end_all(pipeline)
    finally:
        sink.kill()
    check(pipeline, runs)


@pytest.mark.parametrize("end", ["return", "SIGKILL"])
def test_a_program_whose_calls_wait_for_room_ends_soon(pipeline: Pipeline, end: str) -> None:
    """Under the policy ``block`` a log call waits 2 s for a sink; the calls that end its three runs together do not."""
    program = Program(
        f"""
        import os, signal, runstream
        runstream.configure(policy="block", block_timeout=2, journal_quota="256KiB", segment_size="64KiB")
        runs = [runstream.start_run(f"run {{n}}", nested=n > 0) for n in range(3)]
        step = 0
        while not runstream.stats()["dropped"]["quota"]:
            runs[step % 3].log_prediction({{"n": step, "text": "x" * 1000}})
            step += 1
        print("logged", step)
        {ENDS[end][0]}
        """,
        pipeline,
    )
    before = slowness()
    logged = int(program.wait_for("logged"))
    assert program.end() == ENDS[end][1], program.errors()
    assert is_soon(program, before)
    settle(pipeline)
    rows = sorted(row["n"] for run in pipeline.runs() for row in pipeline.rows(run.run_id))
    assert rows == list(range(logged - 1))
    assert pipeline.ask(query.counts).lost_events >= 1
