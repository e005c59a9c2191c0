"""Disks that fail under a running process: strace lets its system calls fail as a broken device would."""

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["failing_calls"]


@contextmanager
def failing_calls(process_id: int, error: str, *calls: str) -> Iterator[None]:
    """Let system calls of a process, in all of its threads, fail with an error such as ``EIO``.

    Where strace is not installed or may not trace, the test is skipped, loudly.
    """
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed: a disk that fails under a running process was not tested")
    names = ",".join(calls)
    command = [strace, "-f", "-qq", "-e", f"trace={names}", "-e", f"inject={names}:error={error}"]
    tracer = subprocess.Popen([*command, "-o", "/dev/null", "-p", str(process_id)], stderr=subprocess.PIPE)
    try:
        if not _attached(tracer, process_id):
            _, reason = tracer.communicate()
            pytest.skip(f"strace cannot trace ({reason.decode().strip()}): this behaviour was not tested")
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        try:
            tracer.communicate(timeout=60)
        finally:
            tracer.kill()


def _attached(tracer: "subprocess.Popen[bytes]", process_id: int) -> bool:
    """Wait until all threads are traced; False if the tracer ended."""
    deadline = time.monotonic() + 60
    while tracer.poll() is None and time.monotonic() < deadline:
        statuses = [path.read_text() for path in Path(f"/proc/{process_id}/task").glob("*/status")]
        if all(f"TracerPid:\t{tracer.pid}\n" in status for status in statuses):
            return True
        time.sleep(0.01)
    return False
