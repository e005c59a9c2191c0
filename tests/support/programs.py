"""Programs that tests watch: what they print and when, how they end, and what the sink makes of it."""

import os
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path

from runstream_sink import query
from support.environment import unmeasured
from support.pipeline import Pipeline

__all__ = ["Program", "losses", "settle", "slowness"]

_DEFAULT = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
"""What nohup, and whoever else started the tests, has made of this signal, a program would inherit."""


class Program:
    """Python code as a process of its own that logs to a pipeline; its lines are kept with the time of each."""

    def __init__(self, code: str, pipeline: Pipeline, *, cwd: Path | None = None, **environment: str) -> None:
        self.lines: list[str] = []
        self.ended = 0.0
        """When it ended, on the clock of `time.monotonic`."""
        self.last_output = time.monotonic()
        self._arrived = threading.Condition()
        descriptor, name = tempfile.mkstemp(".err", dir=pipeline.root)
        self._errors = Path(name)
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-c", _DEFAULT + textwrap.dedent(code)],
            env={**unmeasured(), **pipeline.environment, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
            cwd=cwd or pipeline.root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=descriptor,
            text=True,
        )
        os.close(descriptor)
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._read, self._watch)]
        for thread in self._threads:
            thread.start()

    def wait_for(self, text: str, timeout: float = 60) -> str:
        """Wait for a line that begins with a text, and take it; what follows the text."""
        deadline = time.monotonic() + timeout
        with self._arrived:
            over = False
            while not over:
                over = time.monotonic() > deadline or (self.ended > 0 and not self._threads[0].is_alive())
                for line in self.lines:
                    if line.startswith(text):
                        self.lines.remove(line)
                        return line.removeprefix(text).strip()
                self._arrived.wait(0.05)
        self.process.kill()
        self.end()
        raise AssertionError(f"{text!r} never came; {self.process.returncode}, {self.lines[-5:]}, {self.errors()}")

    def tell(self, text: str = "") -> None:
        """Send a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()

    def end(self, timeout: float = 60) -> int:
        """Wait for its end; the exit code."""
        try:
            code = self.process.wait(timeout)
        finally:
            self.process.kill()
            assert self.process.stdin is not None
            self.process.stdin.close()
            for thread in self._threads:
                thread.join()
        return code

    def end_well(self, timeout: float = 60) -> None:
        """Wait for an end with code 0 and nothing on standard error."""
        code = self.end(timeout)
        errors = self.errors()
        assert (code, errors) == (0, ""), f"exit code {code}; {errors}"

    def errors(self) -> str:
        """What it wrote to standard error."""
        return self._errors.read_text(errors="replace")

    @property
    def seconds_to_end(self) -> float:
        """From its last line to its end."""
        return self.ended - self.last_output

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                with self._arrived:
                    self.last_output = time.monotonic()
                    self.lines.append(line)
                    self._arrived.notify_all()

    def _watch(self) -> None:
        self.process.wait()
        self.ended = time.monotonic()


def losses(pipeline: Pipeline) -> dict[str, int]:
    """Dropped events as the store knows them, by reason."""
    told: dict[str, int] = {}
    for loss in pipeline.ask(query.list_losses):
        told[loss.reason] = told.get(loss.reason, 0) + loss.count
    return told


def settle(pipeline: Pipeline) -> None:
    """Apply what is left: nothing is dead, and an undisturbed replay says the same."""
    pipeline.drain()
    assert pipeline.ask(query.counts).dead_letters == 0
    assert pipeline.replay("replayed")[0] == pipeline.digest()


def slowness() -> float:
    """How much more time than an idle machine this one needs just now; at least 1."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import runstream"], check=True)
    return max(1.0, (time.monotonic() - began) / 0.25)
