"""A process is killed while it copies large files: each is stored whole, or reported as one that never came."""

import signal
import time
from pathlib import Path

import pytest

from runstream_schemas.retention import free
from runstream_sink import query
from support.crash_round import start_sink
from support.pipeline import Pipeline
from support.programs import Program

pytestmark = pytest.mark.crash

SIZE = 48 << 20
PROGRAM = f"""
    import os, runstream
    run = runstream.start_run("copies")
    print("run", run.run_id)
    for n in range(200):
        with open("large.bin", "wb") as file: file.write(bytes([n]) * {SIZE})
        runstream.log_artifact("large.bin", f"{{n}}")
        os.rename("large.bin", "before.bin")  # its bytes are read from what was open at the call
        print("logged", n)
"""


def half_staged(pipeline: Pipeline) -> list[Path]:
    """What is being copied, or was."""
    return list((pipeline.queue / "staging" / "tmp").glob("*"))


def kill_while_copying(program: Program, pipeline: Pipeline) -> None:
    """Kill a program at a moment when a file lies half-staged."""
    deadline = time.monotonic() + 60
    while True:
        assert time.monotonic() < deadline, "no file is ever copied"
        if half_staged(pipeline):
            program.process.send_signal(signal.SIGSTOP)
            if half_staged(pipeline):
                break
            program.process.send_signal(signal.SIGCONT)
    program.process.kill()
    assert program.end() == -signal.SIGKILL


@pytest.mark.parametrize("logged", range(4))
@pytest.mark.parametrize("with_sink", [False, True])
def test_files_that_were_copied_when_their_process_was_killed_are_whole_or_reported(
    tmp_path: Path, logged: int, with_sink: bool
) -> None:
    """After some calls that returned; a sink that is killed as well finds the same as one that comes later."""
    pipeline = Pipeline(tmp_path)
    sink = start_sink(pipeline) if with_sink else None
    try:
        assert sink is None or sink.wait_for(b"sink started")
        program = Program(PROGRAM, pipeline, RUNSTREAM_BACKGROUND_SIZE="64KiB")
        run_id = program.wait_for("run")
        for number in range(logged):
            program.wait_for(f"logged {number}")
        kill_while_copying(program, pipeline)
    finally:
        if sink is not None:
            sink.kill()
    calls = logged + sum(line.startswith("logged") for line in program.lines)
    pipeline.drain()
    letters = pipeline.ask(query.list_dead_letters)
    assert {letter.reason for letter in letters} <= {"artifact_pending"}
    details = " ".join(letter.detail for letter in letters)
    stored = {held.path for held in pipeline.ask(query.list_artifacts, run_id)}
    reported = {path for path in (f"{n}/large.bin" for n in range(calls + 1)) if f"'{path}'" in details}
    assert stored.isdisjoint(reported)
    assert stored | reported in ({f"{n}/large.bin" for n in range(count)} for count in (calls, calls + 1))
    for path in stored:
        content = pipeline.artifact(run_id, path)
        assert content == bytes([int(path.partition("/")[0])]) * SIZE
    assert pipeline.replay("replayed")[0] == pipeline.digest()
    assert half_staged(pipeline)
    free(pipeline.queue, 0, 0, time.time() + 100_000)
    assert half_staged(pipeline) == []
