"""Programs whose directories vanish or refuse, that change their configuration, or that run in a notebook."""

import json
import queue
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from runstream_schemas.events import MetricLogged
from runstream_schemas.reader import journal_names
from runstream_sink import query
from support.crash_round import start_sink
from support.mounting import mounted
from support.pipeline import Pipeline, events_of
from support.programs import Program, losses, settle, slowness

pytestmark = pytest.mark.crash


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    """A queue and a store."""
    return Pipeline(tmp_path)


def default_pipeline(directory: Path) -> Pipeline:
    """The queue and the store of a program that is told nothing and works in that directory."""
    return Pipeline(directory / "runstream-data")


WITHOUT_SETTINGS = """
    import os, json, time
    for name in ("RUNSTREAM_STREAM", "RUNSTREAM_STORE"): del os.environ[name]
    {before}
    import runstream
    run = runstream.start_run()
    for step in range(100): run.log_metric("m", 1, step=step)
    run.log_prediction({{"text": "x"}})
    assert runstream.stats()["accepted"] == 0
    {after}
    while runstream.stats()["accepted"] == 0:
        run.log_metric("m", 1, step=step)
        step += 1
        time.sleep(0.01)
    run.end()
    print("stats", json.dumps(runstream.stats()))
"""


def test_a_working_directory_that_is_gone_before_the_first_event_raises_nothing(pipeline: Pipeline) -> None:
    """What cannot be kept is counted; once the program is in another directory, the store learns of it too."""
    program = Program(
        WITHOUT_SETTINGS.format(
            before="os.mkdir('d'); os.chdir('d'); os.rmdir('../d')", after=f"os.chdir({str(pipeline.root)!r})"
        ),
        pipeline,
    )
    stats = json.loads(program.wait_for("stats"))
    program.end_well()
    made = default_pipeline(pipeline.root)
    settle(made)
    assert losses(made) == {"disk": stats["dropped"]["disk"]}
    assert stats["dropped"]["disk"] >= 102
    assert made.ask(query.counts).events == stats["accepted"] > 0


def test_a_working_directory_that_is_read_only_raises_nothing(pipeline: Pipeline) -> None:
    """And when it is writable again, logging begins by itself, and the store learns what was dropped before."""
    place = pipeline.root / "place"
    with mounted(place, "size=16m"):
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        program = Program(WITHOUT_SETTINGS.format(before="", after="print('refused')"), pipeline, cwd=place)
        program.wait_for("refused")
        subprocess.run(["mount", "-o", "remount,rw", place], check=True)
        stats = json.loads(program.wait_for("stats"))
        program.end_well()
        made = default_pipeline(place)
        settle(made)
        assert losses(made) == {"disk": stats["dropped"]["disk"]}
        assert stats["dropped"]["disk"] >= 102
        assert made.ask(query.counts).events == stats["accepted"] > 0


UNDER_WAY = """
    import json, sys, threading, time, runstream
    run = runstream.start_run()
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), ended.set()), daemon=True).start()
    step = 0
    while not ended.is_set():
        run.log_metric("m", time.time(), step=step)
        run.log_prediction({"n": step})
        step += 1
        if step == 200: print("under way", run.run_id)
        time.sleep(0.001)
    flushed = runstream.flush(60)
    print("ended", json.dumps({"logged": step, "flushed": flushed, **runstream.stats()}))
"""


def remove(directory: Path, journal: str) -> None:
    """Remove a directory that a program may be writing to, until a journal is gone with it."""
    deadline = time.monotonic() + 60
    while (directory / "journals" / journal).exists() and time.monotonic() < deadline:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.parametrize("with_sink", [False, True])
def test_a_queue_that_is_removed_while_a_program_logs_is_begun_anew(pipeline: Pipeline, with_sink: bool) -> None:
    """Within about a second events land in a new journal, which a running sink finds by itself."""
    slow = slowness()
    program = Program(UNDER_WAY, pipeline)
    run_id = program.wait_for("under way")
    sink = start_sink(pipeline) if with_sink else None
    try:
        assert sink is None or sink.wait_for(b"sink started")
        (before,) = journal_names(pipeline.queue / "journals")
        remove(pipeline.queue, before)
        removed = time.time()
        first, begun = _wait_for_another_journal(pipeline, before)
        program.tell()
        told: dict[str, Any] = json.loads(program.wait_for("ended"))
        program.end_well()
        if sink is not None:
            _wait_for_step(pipeline, run_id, told["logged"] - 1)
            sink.signal(signal.SIGTERM)
            assert sink.wait() == 0
    finally:
        if sink is not None:
            sink.kill()
    assert begun - removed < 1.5 * slow or begun - removed < 1.5 * slowness()
    assert "was removed while it was in use" in told["error"]
    assert told["flushed"]
    pipeline.drain()
    points = pipeline.ask(query.metric_history, run_id, "m")
    assert pipeline.ask(query.counts).dead_letters == 0
    assert [point.step for point in points if point.step >= first] == list(range(first, told["logged"]))
    assert told["accepted"] + told["dropped"]["disk"] >= 2 * told["logged"]


def _wait_for_another_journal(pipeline: Pipeline, before: str) -> tuple[int, float]:
    """Step and time of the first point in another journal."""
    deadline = time.monotonic() + 60
    while True:
        for name in set(journal_names(pipeline.queue / "journals")) - {before}:
            points = [
                event for event in events_of(pipeline.queue / "journals" / name) if isinstance(event, MetricLogged)
            ]
            if points:
                return points[0].step, points[0].value
        assert time.monotonic() < deadline, "no new journal was made"
        time.sleep(0.005)


def _wait_for_step(pipeline: Pipeline, run_id: str, step: int) -> None:
    deadline = time.monotonic() + 60
    while step not in {point.step for point in pipeline.ask(query.metric_history, run_id, "m")}:
        assert time.monotonic() < deadline, "the sink does not go on"
        time.sleep(0.02)


def test_a_queue_that_is_removed_again_and_again_leaks_no_files(pipeline: Pipeline) -> None:
    """Each journal that is left closes what it held; calls never raise."""
    program = Program(
        f"""
        import os, shutil, time, runstream
        queue = {str(pipeline.queue)!r}
        runstream.configure(segment_size="64KiB")
        run = runstream.start_run()
        held = []
        for turn in range(10):
            for step in range(400): run.log_prediction({{"n": step, "text": "x" * 1000}})
            assert runstream.flush(60)  # which closes the segments that are full
            held.append(len(os.listdir("/proc/self/fd")))
            old = set(os.listdir(f"{{queue}}/journals"))
            while os.path.exists(queue): shutil.rmtree(queue, ignore_errors=True)
            end = time.monotonic() + 60
            while not (os.path.exists(f"{{queue}}/journals") and set(os.listdir(f"{{queue}}/journals")) - old):
                run.log_metric("m", 1)
                time.sleep(0.002)
                assert time.monotonic() < end
        assert max(held[5:]) <= max(held[:5]) + 3, held
        """,
        pipeline,
    )
    program.end_well()
    settle(pipeline)


def test_two_configurations_one_after_the_other_keep_apart(pipeline: Pipeline) -> None:
    """Each queue has what was logged while it was the configured one, and each store tells it whole."""
    other = Pipeline(pipeline.root / "other")
    program = Program(
        f"""
        import runstream
        streams = [{pipeline.stream!r}, {other.stream!r}]
        for turn in range(6):
            runstream.configure(stream=streams[turn % 2], segment_size="64KiB" if turn % 3 else "1MiB")
            runstream.set_experiment("the experiment")
            with runstream.start_run(f"turn {{turn}}") as run:
                for step in range(300): run.log_prediction({{"n": step, "text": "x" * 500}})
                runstream.log_text("y" * 300_000, "large.txt")
        assert sum(runstream.stats()["dropped"].values()) == 0
        assert runstream.flush(60)
        """,
        pipeline,
    )
    program.end_well()
    for number, one in enumerate((pipeline, other)):
        settle(one)
        assert sorted(run.name or "" for run in one.runs()) == [f"turn {turn}" for turn in range(number, 6, 2)]
        assert {len(one.rows(run.run_id)) for run in one.runs()} == {300}
        assert {run.status for run in one.runs()} == {"FINISHED"}
        names = [held.name for held in one.ask(query.list_experiments)]
        assert "the experiment" in names


def test_two_clients_in_one_process_keep_apart(pipeline: Pipeline) -> None:
    """Threads and forked children use both at once; each queue has its own events, all of them."""
    other = Pipeline(pipeline.root / "other")
    program = Program(
        f"""
        import os, threading
        from runstream.client import Client
        from runstream_schemas.events import MetricLogged
        clients = [Client(), Client()]
        for client, stream in zip(clients, [{pipeline.stream!r}, {other.stream!r}]): client.configure(stream=stream)
        def work(number, first):
            for step in range(first, first + 500):
                clients[number].emit(MetricLogged("0" * 32, f"m{{number}}", 1.0, step, step))
        threads = [threading.Thread(target=work, args=(n % 2, 500 * (n // 2))) for n in range(4)]
        for thread in threads: thread.start()
        if os.fork() == 0:
            work(0, 1000)
            work(1, 1000)
            raise SystemExit(0)
        for thread in threads: thread.join()
        assert os.wait()[1] == 0
        assert [client.stats()["accepted"] for client in clients] == [1000, 1000]
        """,
        pipeline,
    )
    program.end_well()
    for number, one in enumerate((pipeline, other)):
        settle(one)
        points = one.ask(query.metric_history, "0" * 32, f"m{number}")
        assert sorted(point.step for point in points) == list(range(1500))
        assert one.ask(query.counts).events == 1500


CELLS = (
    "import runstream, time; run = runstream.start_run('notebook')",
    "for step in range(100): runstream.log_metric('m', 1, step=step)",
    "runstream.log_prediction({'n': 1}); raise ValueError",
    "assert runstream.active_run() is run; runstream.log_metric('m', 1, step=100)",
    "runstream.end_run(); runstream.start_run('endless'); n = 0",
    "while True: runstream.log_metric('m', 1, step=n); n += 1",
    "runstream.log_metric('interrupted', n)",
)


def test_a_notebook_logs_across_its_cells(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells fail, one is interrupted, and the kernel is killed by a restart; nothing that was logged is lost."""
    from jupyter_client.manager import start_new_kernel

    for name, value in pipeline.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("JPY_SESSION_NAME", "/somewhere/analysis.ipynb")
    manager, client = start_new_kernel(startup_timeout=120)
    try:
        for cell in CELLS:
            asked = client.execute(cell, stop_on_error=False)  # else the kernel may refuse the cell after a failure
            if cell.startswith("while"):
                _wait_for_busy(client, asked)
                manager.interrupt_kernel()
            status = _status(client, asked)
            assert (status == "ok") == (not cell.startswith("while") and "raise" not in cell), cell
        manager.restart_kernel(now=True)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    settle(pipeline)
    runs = {run.name: run for run in pipeline.runs()}
    first, second = runs.pop("notebook"), runs.pop("endless")
    assert not runs
    assert (first.status, second.status) == ("FINISHED", "RUNNING")
    assert first.tags["mlflow.source.type"] == "NOTEBOOK"
    assert first.tags["mlflow.source.name"] == "analysis.ipynb"
    assert len(pipeline.ask(query.metric_history, first.run_id, "m")) == 101
    (last,) = pipeline.ask(query.metric_history, second.run_id, "interrupted")
    logged = [point.step for point in pipeline.ask(query.metric_history, second.run_id, "m")]
    assert logged == list(range(len(logged)))
    assert len(logged) - last.value in {0, 1}


def _status(client: Any, asked: str) -> str:
    """How a cell ended."""
    while (reply := client.get_shell_msg(timeout=120))["parent_header"].get("msg_id") != asked:
        pass
    status: str = reply["content"]["status"]
    return status


def _wait_for_busy(client: Any, asked: str) -> None:
    """Wait until the kernel says that it is at a cell."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            message = client.get_iopub_msg(timeout=1)
        except queue.Empty:
            continue
        if message["parent_header"].get("msg_id") == asked and message["msg_type"] == "execute_input":
            return
    raise AssertionError("the kernel never began the cell")
