"""Processes that log: forks, signals, destructors, the interpreter's end, and environments that fail."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from typing import Any

import pytest

from runstream_schemas.events import MetricLogged, RunEnded
from runstream_schemas.reader import journal_names, segment_indices
from runstream_schemas.segment import DROP_REASONS, HEADER_SIZE, segment_name, unpack_header
from runstream_sink import query
from support.mounting import mounted
from support.pipeline import Pipeline, run_program
from support.programs import slowness

pytestmark = pytest.mark.slow


def steps(pipeline: Pipeline, key: str = "m") -> list[int]:
    """The steps of all points of a metric in the queue, sorted."""
    return sorted(event.step for event in pipeline.events() if isinstance(event, MetricLogged) and event.key == key)


def succeeded(pipeline: Pipeline, code: str, **environment: str) -> str:
    """Run a program that must end well and say nothing on standard error; its output."""
    done = run_program(code, pipeline, **environment)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_forked_child_has_a_journal_of_its_own(pipeline: Pipeline) -> None:
    """It logs to the parent's run, ends neither the run nor the journal of the parent, and loses nothing."""
    code = """
        import os, runstream; run = runstream.start_run("r")
        for step in range(100): run.log_metric("m", 1, step=step)
        with runstream.start_run("inner", nested=True):
            for child in range(3):
                if os.fork() == 0:
                    for step in range(100): run.log_metric("m", 1, step=100 + 100 * child + step)
                    raise SystemExit(runstream.stats()["accepted"] != 100)
        for child in range(3): assert os.wait()[1] == 0
        for step in range(100): run.log_metric("m", 1, step=400 + step)
        print(runstream.stats()["accepted"])
    """
    assert int(succeeded(pipeline, code)) == 2 + 2 + 1 + 200
    assert steps(pipeline) == list(range(500))
    assert len(journal_names(pipeline.queue / "journals")) == 4
    pipeline.drain()
    assert {(run.name, run.status) for run in pipeline.runs()} == {("r", "FINISHED"), ("inner", "FINISHED")}
    assert sum(isinstance(event, RunEnded) for event in pipeline.events()) == 2
    assert pipeline.ask(query.counts).dead_letters == 0


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_workers_log(pipeline: Pipeline, method: str) -> None:
    """Whatever way they are started, while a thread of the parent logs."""
    program = pipeline.root / "program.py"
    program.write_text(
        textwrap.dedent(
            f"""
            import multiprocessing, threading, runstream
            def work(number, run_id):
                for step in range(200): runstream.log_metric("m", 1, step=200 * number + step, run_id=run_id)
            if __name__ == "__main__":
                with runstream.start_run() as run:
                    done = threading.Event()
                    def beside():
                        while not done.is_set(): run.log_metric("beside", 1)
                    thread = threading.Thread(target=beside)
                    thread.start()
                    context = multiprocessing.get_context("{method}")
                    workers = [context.Process(target=work, args=(n, run.run_id)) for n in range(4)]
                    for worker in workers: worker.start()
                    for worker in workers: worker.join()
                    done.set()
                    thread.join()
                    assert all(worker.exitcode == 0 for worker in workers)
            """
        )
    )
    environment = {**os.environ, **pipeline.environment}
    done = subprocess.run(
        [sys.executable, program], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert steps(pipeline) == list(range(800))
    assert steps(pipeline, "beside")
    pipeline.drain()
    assert [run.status for run in pipeline.runs()] == ["FINISHED"]


def test_a_fork_made_from_c_is_noticed(pipeline: Pipeline) -> None:
    """Python's hooks do not run then; the child still writes to a journal of its own, whatever it calls first."""
    code = """
        import ctypes, os, runstream
        from runstream.client import client
        # A fork behind the interpreter's back hangs where another thread asks for its lock just then: keep that lock
        # during the call, and have no other thread.
        libc = ctypes.PyDLL(None)
        client._ending = True
        run = runstream.start_run()
        for step in range(100): run.log_metric("m", 1, step=step)
        first = [
            lambda: run.log_metric("m", 1, step=100),
            lambda: runstream.stats(),
            lambda: runstream.flush(5),
            lambda: runstream.close(),
            lambda: run.log_prediction({"text": "x" * (65 << 20)}),
            lambda: None,
        ]
        for call in first:
            child = libc.fork()
            if child == 0:
                call()
                assert runstream.stats()["accepted"] <= 2
                raise SystemExit(0)
            assert os.waitpid(child, 0)[1] == 0
        for step in range(101, 200): run.log_metric("m", 1, step=step)
    """
    succeeded(pipeline, code)
    assert steps(pipeline) == list(range(200))
    ended = [event for event in pipeline.events() if isinstance(event, RunEnded)]
    assert len(ended) == 1
    pipeline.drain()
    assert pipeline.ask(query.counts).dead_letters == 0


def test_signal_handlers_may_log_at_a_high_rate(pipeline: Pipeline) -> None:
    """They interrupt log calls of the main thread in the middle; nothing is lost, nothing deadlocks."""
    code = """
        import signal, time, runstream
        run = runstream.start_run()
        handled = depth = 0
        def handle(number, frame):
            global handled, depth
            if depth > 10: return  # on a busy machine handlers interrupt each other
            step, handled, depth = handled, handled + 1, depth + 1
            run.log_metric("handler", 1, step=step)
            run.log_prediction({"text": "x" * 500, "n": step}, "handler")
            depth -= 1
        signal.signal(signal.SIGALRM, handle)
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        begin = time.monotonic()
        logged = 0
        while time.monotonic() < begin + 0.5 or (min(logged / 2, handled) <= 100 and time.monotonic() < begin + 60):
            run.log_metric("m", 1, step=logged)
            run.log_prediction({"text": "y" * 2000, "n": logged}, "main")
            logged += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert sum(runstream.stats()["dropped"].values()) == 0
        print(logged, handled)
    """
    logged, handled = map(int, succeeded(pipeline, code).split())
    assert logged > 200
    assert handled > 100
    assert steps(pipeline) == list(range(logged))
    assert steps(pipeline, "handler") == list(range(handled))
    pipeline.drain()
    (run,) = pipeline.runs()
    tables = {table.name: table.rows for table in pipeline.ask(query.list_tables, run.run_id)}
    assert tables == {"main": logged, "handler": handled}


def test_a_signal_handler_may_open_flush_and_close(pipeline: Pipeline) -> None:
    """Also where it interrupts the very calls that do the same."""
    code = """
        import signal, time, runstream
        run = runstream.start_run()
        handled = logged = depth = 0
        calls = [runstream.close, runstream.stats, lambda: runstream.flush(1)]
        def handle(number, frame):
            global handled, depth
            step, handled, depth = handled, handled + 1, depth + 1
            run.log_metric("handler", 1, step=step)
            calls[step % 3]()
            depth -= 1
            signal.setitimer(signal.ITIMER_REAL, 0.003)
        signal.signal(signal.SIGALRM, handle)
        signal.setitimer(signal.ITIMER_REAL, 0.003)
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            for _ in range(20):
                run.log_metric("m", 1, step=logged)
                logged += 1
            calls[logged % 3]()
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(logged, handled)
    """
    logged, handled = map(int, succeeded(pipeline, code).split())
    assert steps(pipeline) == list(range(logged))
    assert steps(pipeline, "handler") == list(range(handled))


def test_destructors_may_log(pipeline: Pipeline) -> None:
    """They run at any moment, also inside a log call, by the garbage collector, and when the interpreter ends."""
    code = """
        import gc, itertools, runstream
        run = runstream.start_run()
        dead = itertools.count()  # the collector may run in the background thread too
        class Noisy:
            def __init__(self): self.me = self
            def __del__(self):
                run.log_metric("gone", 1, step=next(dead))
        gc.set_threshold(5)
        for step in range(3000):
            Noisy()
            run.log_metrics({"m": 1.0, f"k{step % 7}": 2.0}, step=step)
        gc.collect()
        print(next(dead))
        class Last:
            def __del__(self, run=run): run.log_metric("last", 1)
        last = Last()
    """
    assert int(succeeded(pipeline, code)) == 3000
    assert steps(pipeline, "gone") == list(range(3000))
    assert steps(pipeline, "last") == [0]


def test_exit_handlers_may_log_before_and_after_ours(pipeline: Pipeline) -> None:
    """Those that were registered before the import run after the journal was closed."""
    code = """
        import atexit
        atexit.register(lambda: run.log_metric("m", 1, step=2))
        import runstream
        atexit.register(lambda: run.log_metric("m", 1, step=1))
        run = runstream.start_run()
        run.log_metric("m", 1, step=0)
    """
    succeeded(pipeline, code)
    assert steps(pipeline) == [0, 1, 2]
    pipeline.drain()
    assert pipeline.runs()[0].status == "FINISHED"


def test_daemon_threads_may_log_while_the_interpreter_ends(pipeline: Pipeline) -> None:
    """What they were told was accepted is there; the program ends."""
    code = """
        import threading, time, runstream
        run = runstream.start_run()
        enough = threading.Event()
        def work(number):
            step = 0
            while True:
                run.log_metric(f"m{number}", 1, step=step)
                step += 1
                if step == 1000: enough.set()
        for number in range(4): threading.Thread(target=work, args=(number,), daemon=True).start()
        enough.wait()
    """
    succeeded(pipeline, code)
    for number in range(4):
        found = steps(pipeline, f"m{number}")
        assert found == list(range(len(found)))
    pipeline.drain()
    assert pipeline.ask(query.counts).dead_letters == 0


@pytest.mark.parametrize(
    ("last", "code"), [("os._exit(3)", 3), ("os.kill(os.getpid(), 15)", -15), ("os.kill(os.getpid(), 9)", -9)]
)
def test_a_program_that_ends_at_once_loses_nothing(pipeline: Pipeline, last: str, code: int) -> None:
    """No flush, no exit handlers: what was logged is in the journal."""
    program = f"""
        import os, runstream
        with runstream.start_run() as run:
            for step in range(1000): run.log_metric("m", 1, step=step)
            run.log_prediction({{"text": "x" * 100_000}})
            {last}
    """
    assert run_program(program, pipeline).returncode == code
    pipeline.drain()
    (run,) = pipeline.runs()
    assert [point.step for point in pipeline.ask(query.metric_history, run.run_id, "m")] == list(range(1000))
    assert pipeline.rows(run.run_id) == [{"text": "x" * 100_000}]
    assert run.status == "RUNNING"


def test_a_killed_process_tells_how_much_it_dropped(pipeline: Pipeline) -> None:
    """In the header of the segment that it was writing; the sink counts it as a loss."""
    program = """
        import os, runstream
        runstream.configure(journal_quota="256KiB", segment_size="64KiB")
        run = runstream.start_run()
        for step in range(10_000): run.log_metric("m", 1, step=step)
        stats = runstream.stats()
        print(stats["dropped"]["quota"], stats["accepted"], flush=True)
        os.kill(os.getpid(), 9)
    """
    done = run_program(program, pipeline)
    assert done.returncode == -9
    dropped, accepted = map(int, done.stdout.split())
    assert dropped > 0
    (name,) = journal_names(pipeline.queue / "journals")
    pages = [
        (pipeline.queue / "journals" / name / segment_name(index)).read_bytes()[:HEADER_SIZE]
        for index in segment_indices(pipeline.queue / "journals" / name)
    ]
    assert sum(unpack_header(page).drops[DROP_REASONS.index("quota")] for page in pages) == dropped
    pipeline.drain()
    assert sum(loss.count for loss in pipeline.ask(query.list_losses)) == dropped
    assert pipeline.ask(query.counts).events == accepted


ENDS = """
    import os, json, pathlib, shutil, time, runstream
    {before}
    run = runstream.start_run()
    for step in range(1000): run.log_metric("m", 1, step=step)
    {between}
    for step in range(1000, 40_000): run.log_metric("m", 1, step=step)
    runstream.log_text("text", "t.txt")
    print(json.dumps(runstream.stats()), time.time())
"""


def ends_in_time(pipeline: Pipeline, before: str = "", between: str = "", **environment: str) -> dict[str, Any]:
    """Run a program whose queue fails; it must end well, within 3 seconds of its last statement.  Its counts."""
    output = succeeded(pipeline, textwrap.dedent(ENDS).format(before=before, between=between), **environment)
    ended = time.time()
    stats, last = output.rsplit(" ", 1)
    assert ended - float(last) < 3 * slowness()
    found: dict[str, Any] = json.loads(stats)
    return found


def test_a_program_ends_though_its_queue_has_vanished(pipeline: Pipeline) -> None:
    """Every event is accepted or counted."""
    removal = 'while os.path.exists("queue"): shutil.rmtree("queue", ignore_errors=True)'
    stats = ends_in_time(pipeline, between=removal, RUNSTREAM_SEGMENT_SIZE="64KiB")
    assert stats["accepted"] + stats["dropped"]["disk"] >= 40_000


def test_a_program_ends_though_its_queue_cannot_be_made(pipeline: Pipeline) -> None:
    """A file lies where the directory should be: everything is counted, nothing raises."""
    pipeline.queue.write_text("in the way")
    stats = ends_in_time(pipeline)
    assert stats["accepted"] == 0
    assert stats["dropped"]["disk"] == 40_003


def test_a_program_ends_though_its_queue_is_read_only(pipeline: Pipeline) -> None:
    """From the start: counted.  In the middle: files that are open are still written."""
    with mounted(pipeline.queue, "size=16m"):
        remount = ["mount", "-o", "remount,ro", str(pipeline.queue)]
        subprocess.run(remount, check=True)
        stats = ends_in_time(pipeline)
        assert (stats["accepted"], stats["dropped"]["disk"]) == (0, 40_003)


def test_a_program_ends_though_its_disk_is_full(pipeline: Pipeline) -> None:
    """No SIGBUS; what was accepted is there, the rest is counted, and every event is one of both."""
    with mounted(pipeline.queue, "size=1m"):
        stats = ends_in_time(pipeline, RUNSTREAM_SEGMENT_SIZE="128KiB")
        assert stats["dropped"]["disk"] > 0
        assert stats["accepted"] > 5_000
        found = steps(pipeline)
        events = stats["accepted"] + stats["dropped"]["disk"]
        assert events == 40_003
        assert len(set(found)) == len(found) == stats["accepted"] - 2


def test_standard_streams_that_are_closed_do_not_matter(pipeline: Pipeline) -> None:
    """A daemon's: file descriptors 0 to 2 may be anything."""
    code = "import os, runstream\nfor fd in range(3): os.close(fd)\nrunstream.log_metric('m', 1)"
    assert run_program(code, pipeline).returncode == 0
    assert steps(pipeline) == [0]


def test_sigterm_with_a_handler_that_raises_fails_the_run(pipeline: Pipeline) -> None:
    """The usual `sys.exit` in a handler unwinds the block; the call it interrupted is whole or abandoned."""
    code = """
        import signal, sys, runstream
        def stop(number, frame): sys.exit(7)
        signal.signal(signal.SIGTERM, stop)
        with runstream.start_run() as run:
            step = 0
            while True:
                run.log_metric("m", 1, step=step)
                step += 1
                if step == 2000: print("ready", flush=True)
    """
    program = [sys.executable, "-c", textwrap.dedent(code)]
    process = subprocess.Popen(program, env={**os.environ, **pipeline.environment}, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 7
    pipeline.drain()
    (run,) = pipeline.runs()
    assert run.status == "FAILED"
    found = [point.step for point in pipeline.ask(query.metric_history, run.run_id, "m")]
    assert found == list(range(len(found)))
    assert pipeline.ask(query.counts).dead_letters == 0
