"""Processes that fork, interrupt themselves, are stopped, and share themselves out among threads, while they log."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runstream_sink import query
from support import prefork
from support.crash_round import start_sink
from support.environment import unmeasured
from support.pipeline import Pipeline
from support.programs import Program, settle

pytestmark = pytest.mark.crash

PREFORK = [sys.executable, prefork.__file__]
GUNICORN = [sys.executable, "-m", "gunicorn", "--preload", "--log-level", "error", "support.wsgi_app"]


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    """A queue and a store."""
    return Pipeline(tmp_path)


def steps(pipeline: Pipeline, key: str = "m") -> list[int]:
    """The steps of a metric of the only run, in the store, sorted."""
    (run,) = pipeline.runs()
    return sorted(point.step for point in pipeline.ask(query.metric_history, run.run_id, key))


@contextmanager
def serving(command: list[str], pipeline: Pipeline, *arguments: str) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """A server and its port.  The socket is the test's, so that requests wait in it until a worker is there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.set_inheritable(True)
        server = subprocess.Popen(
            [*command, *(argument.format(listener.fileno()) for argument in arguments)],
            env={**unmeasured(), **pipeline.environment, "PYTHONPATH": os.pathsep.join(sys.path)},
            pass_fds=[listener.fileno()],
            cwd=pipeline.root,
        )
        try:
            yield server, listener.getsockname()[1]
        finally:
            server.kill()
            server.wait()


def request(port: int, step: int) -> int:
    """Make a request; the process id of the worker that answered."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", f"/?{step}")
        return int(connection.getresponse().read())
    finally:
        connection.close()


@pytest.mark.parametrize("name", ["prefork", "gunicorn"])
def test_a_server_that_forks_its_workers_loses_no_request(pipeline: Pipeline, name: str) -> None:
    """It logs before it forks; a worker is killed, another takes its place, and SIGTERM ends all of them."""
    command, arguments = (PREFORK, ("{}", "3")) if name == "prefork" else (GUNICORN, ("--bind=fd://{}", "--workers=3"))
    with serving(command, pipeline, *arguments) as (server, port):
        workers = {request(port, step) for step in range(30)}
        os.kill(min(workers), signal.SIGKILL)
        later = {request(port, step) for step in range(30, 90)}
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
    assert server.pid not in workers | later
    settle(pipeline)
    assert steps(pipeline, "request") == list(range(90))
    assert steps(pipeline, "loaded") == [0]
    (run,) = pipeline.runs()
    assert run.status == "FINISHED"
    assert sorted(row["step"] for row in pipeline.rows(run.run_id)) == list(range(90))


FORKS = """
    import multiprocessing, sys, threading, time, runstream
    sys.setswitchinterval({interval})
    def work(number, run_id):
        for step in range(50): runstream.log_metric("m", 1, step=50 * number + step, run_id=run_id)
        runstream.log_prediction({{"worker": number}}, run_id=run_id)
    if __name__ == "__main__":
        context = multiprocessing.get_context({method!r})
        with runstream.start_run() as run:
            done = threading.Event()
            logged = 0
            def beside():
                global logged
                while not done.is_set():
                    run.log_metric("beside", 1, step=logged)
                    run.log_prediction({{"beside": logged}}, "beside")
                    logged += 1
                    if logged % 50 == 0: time.sleep(0.002)
            thread = threading.Thread(target=beside)
            thread.start()
            codes = []
            for batch in range(0, 20, {at_once}):
                numbers = range(batch, batch + {at_once})
                workers = [context.Process(target=work, args=(number, run.run_id)) for number in numbers]
                for worker in workers: worker.start()
                for worker in workers: worker.join(60)
                codes += [worker.exitcode for worker in workers]
            done.set()
            thread.join()
            assert codes == [0] * 20, codes
        print(logged)
"""


@pytest.mark.parametrize(
    ("method", "at_once", "interval"), [("fork", 1, 0.005), ("fork", 4, 1e-6), ("spawn", 4, 0.005)]
)
def test_twenty_children_that_start_while_a_thread_logs_all_finish(
    pipeline: Pipeline, method: str, at_once: int, interval: float
) -> None:
    """Whatever lock that thread holds at the moment of the fork."""
    program = pipeline.root / "program.py"
    program.write_text("\n".join(line[4:] for line in FORKS.format_map(locals()).splitlines()))
    environment = {**unmeasured(), **pipeline.environment}
    done = subprocess.run(
        [sys.executable, program], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    settle(pipeline)
    assert steps(pipeline) == list(range(1000))
    assert steps(pipeline, "beside") == list(range(int(done.stdout)))
    (run,) = pipeline.runs()
    assert sorted(row["worker"] for row in pipeline.rows(run.run_id)) == list(range(20))


def test_a_child_that_was_forked_from_c_and_never_logs_keeps_nothing_from_the_sink(pipeline: Pipeline) -> None:
    """It holds its dead parent's lock without knowing; what the parent logged is applied all the same."""
    program = Program(
        """
        import ctypes, os, runstream
        from runstream.client import client
        libc = ctypes.PyDLL(None)
        client._ending = True  # no background thread: a fork behind the interpreter's back would hang beside one
        with runstream.start_run() as run:
            for step in range(1000): run.log_metric("m", 1, step=step)
            child = libc.fork()
            if child == 0:
                libc.pause()
            print("child", child)
            os.kill(os.getpid(), 9)
        """,
        pipeline,
    )
    child = int(program.wait_for("child"))
    try:
        assert program.process.wait(60) == -9
        pipeline.drain()
        assert steps(pipeline) == list(range(1000))
    finally:
        os.kill(child, signal.SIGKILL)
    program.end()
    settle(pipeline)


def test_threads_may_outlive_the_main_thread(pipeline: Pipeline) -> None:
    """The interpreter waits for them before it ends the run: nothing of theirs is lost or comes too late."""
    program = Program(
        """
        import threading, runstream
        from concurrent.futures import ThreadPoolExecutor
        run = runstream.start_run()
        def work(number):
            threading.main_thread().join()
            for step in range(500): run.log_metric("m", 1, step=500 * number + step)
        for number in range(4): threading.Thread(target=work, args=(number,)).start()
        pool = ThreadPoolExecutor(2)
        for number in range(4, 8): pool.submit(lambda n=number: [
            run.log_metric("m", 1, step=500 * n + step) for step in range(500)])
        """,
        pipeline,
    )
    program.end_well()
    settle(pipeline)
    assert steps(pipeline) == list(range(4000))
    assert pipeline.runs()[0].status == "FINISHED"


PACED = """
    import time, runstream
    run = runstream.start_run({name!r})
    print("run", run.run_id)
    end = time.monotonic() + 60
    step = 0
    while time.monotonic() < end:
        run.log_metric("m", 1, step=step)
        run.log_prediction({{"n": step, "text": "x" * {size}}})
        step += 1
        time.sleep({pause})
"""


def test_a_stopped_producer_holds_up_nobody(pipeline: Pipeline) -> None:
    """It may have been stopped in the middle of a log call; the sink goes on with the others, and later with it."""
    stopped = Program(PACED.format(name="stopped", pause=0, size=2000), pipeline)
    other = Program(PACED.format(name="other", pause=0.001, size=10), pipeline)
    stopped_run, other_run = stopped.wait_for("run"), other.wait_for("run")
    sink = start_sink(pipeline)
    try:
        assert sink.wait_for(b"sink started")
        for _ in range(5):
            _wait_for_growth(pipeline, stopped_run)
            stopped.process.send_signal(signal.SIGSTOP)
            _wait_for_growth(pipeline, other_run)
            _wait_for_growth(pipeline, other_run)
            stopped.process.send_signal(signal.SIGCONT)
        _wait_for_growth(pipeline, stopped_run)
        stopped.process.send_signal(signal.SIGSTOP)  # and it is killed while it is stopped
        for program in (stopped, other):
            program.process.kill()
            assert program.end() == -9
        sink.signal(signal.SIGTERM)
        assert sink.wait() == 0
    finally:
        sink.kill()
        for program in (stopped, other):
            program.process.kill()
    settle(pipeline)
    for run_id in (stopped_run, other_run):
        points = [point.step for point in pipeline.ask(query.metric_history, run_id, "m")]
        rows = [row["n"] for row in pipeline.rows(run_id)]
        assert points == list(range(len(points)))
        assert rows == list(range(len(rows)))
        assert len(points) - len(rows) in {0, 1}


def _wait_for_growth(pipeline: Pipeline, run_id: str) -> None:
    """Wait until the store knows more rows of a run than now."""

    def rows() -> int:
        if not (pipeline.store / "runstream.db").exists():
            return 0
        return sum(table.rows for table in pipeline.ask(query.list_tables, run_id))

    before, deadline = rows(), time.monotonic() + 60
    while rows() == before:
        assert time.monotonic() < deadline, "the sink does not go on"
        time.sleep(0.005)


def test_everything_at_once_loses_nothing(pipeline: Pipeline) -> None:
    """Threads that change places at every chance, signal handlers and destructors that log, a watching faulthandler."""
    program = Program(
        """
        import faulthandler, itertools, gc, os, signal, sys, tempfile, threading, time, runstream
        sys.setswitchinterval(1e-6)
        gc.set_threshold(50)
        trace = tempfile.TemporaryFile()
        faulthandler.enable(trace)
        faulthandler.register(signal.SIGUSR1, trace, all_threads=False)  # of others it would read while they run
        run = runstream.start_run()
        gone, handled = itertools.count(), itertools.count()
        depth = 0
        class Noisy:
            def __init__(self): self.me = self
            def __del__(self): run.log_metric("gone", 1, step=next(gone))
        def handle(number, frame):
            global depth
            if depth > 5: return
            depth += 1
            run.log_metric("handled", 1, step=next(handled))
            run.log_prediction({"text": "x" * 3000}, "handled")
            depth -= 1
        signal.signal(signal.SIGALRM, handle)
        logged = [0, 0, 0]
        def work(number):
            while time.monotonic() < begin + 1 or (logged[number] <= 50 and time.monotonic() < begin + 60):
                run.log_metric(f"m{number}", 1, step=logged[number])
                run.log_prediction({"n": logged[number], "text": "y" * 1000}, f"t{number}")
                logged[number] += 1
                Noisy()
                if logged[number] % 20 == 0: os.kill(os.getpid(), signal.SIGUSR1)
        begin = time.monotonic()
        threads = [threading.Thread(target=work, args=(number,)) for number in (1, 2)]
        for thread in threads: thread.start()
        signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
        work(0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for thread in threads: thread.join()
        gc.collect()
        assert sum(runstream.stats()["dropped"].values()) == 0, runstream.stats()
        print("counts", *logged, next(gone), next(handled))
        faulthandler.disable()
        """,
        pipeline,
    )
    counts = [int(text) for text in program.wait_for("counts").split()]
    program.end_well()
    assert min(counts) > 20
    settle(pipeline)
    for key, count in zip(["m0", "m1", "m2", "gone", "handled"], counts, strict=True):
        assert steps(pipeline, key) == list(range(count)), key
    (run,) = pipeline.runs()
    tables = {table.name: table.rows for table in pipeline.ask(query.list_tables, run.run_id)}
    assert tables == {"t0": counts[0], "t1": counts[1], "t2": counts[2], "handled": counts[4]}


@pytest.mark.parametrize("crash", ["faulthandler._sigsegv()", "faulthandler._fatal_error_c_thread()", "os.abort()"])
def test_a_crash_of_the_interpreter_loses_nothing(pipeline: Pipeline, crash: str) -> None:
    """With faulthandler, which tells where it happened; our mappings survive it."""
    program = Program(
        f"""
        import faulthandler, os, runstream
        faulthandler.enable()
        with runstream.start_run() as run:
            for step in range(1000): run.log_metric("m", 1, step=step)
            {crash}
        """,
        pipeline,
    )
    assert program.end() < 0
    assert "Fatal Python error" in program.errors()
    settle(pipeline)
    assert steps(pipeline) == list(range(1000))
    assert pipeline.runs()[0].status == "RUNNING"
