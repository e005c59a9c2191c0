"""Programs that stream to Kafka, with a journal directory of their own, and the shippers that they leave."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runstream.shipping.leader import Status, is_led, is_starting, read_status
from runstream.shipping.process import IDLE_VARIABLE
from runstream_schemas.streams import KafkaStream, journal_directory, parse_stream

__all__ = ["JournalDir", "journals_for"]

_DEADLINE = 60


class JournalDir:
    """The journal directory of one stream, and what runs with it."""

    def __init__(self, root: Path, stream: str, **environment: str) -> None:
        parsed = parse_stream(stream)
        assert isinstance(parsed, KafkaStream)
        self.stream = parsed
        self.root = root
        self.path = journal_directory(parsed, root)
        self.environment = {
            "RUNSTREAM_STREAM": stream,
            "RUNSTREAM_JOURNAL_DIR": str(root),
            IDLE_VARIABLE: "0.2",
            **environment,
        }
        root.mkdir(parents=True, exist_ok=True)

    def start(self, code: str, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        """Python code as a program."""
        return subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), *arguments],
            env={**os.environ, **self.environment, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
            cwd=self.root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, code: str, *arguments: str, **environment: str) -> str:
        """Run a program to its end, which must be a good one; what it printed."""
        program = self.start(code, *arguments, **environment)
        output, errors = program.communicate(timeout=_DEADLINE)
        assert program.returncode == 0, errors
        return output

    @property
    def status(self) -> Status:
        """What the shipper says."""
        status = read_status(self.path)
        assert status is not None, "no shipper has said anything"
        return status

    def has_shipper(self) -> bool:
        """Whether one leads, and has said so."""
        status = read_status(self.path)
        return is_led(self.path) and status is not None and status.state != "ended"

    def log(self) -> str:
        """The shipper's log."""
        log = self.path / "shipper.log"
        return log.read_text() if log.exists() else ""

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End the shipper that leads, if there is one."""
        if is_led(self.path):
            os.kill(self.status.pid, number)

    def close(self) -> None:
        """Leave no shipper behind."""
        deadline = time.monotonic() + _DEADLINE
        while (is_led(self.path) or is_starting(self.path)) and time.monotonic() < deadline:
            with contextlib.suppress(AssertionError, ProcessLookupError):
                self.kill(signal.SIGTERM)
            time.sleep(0.05)
        with contextlib.suppress(ProcessLookupError):
            self.kill()


@contextmanager
def journals_for(root: Path, stream: str, **environment: str) -> Iterator[JournalDir]:
    """A journal directory, of which no shipper is left at the end of the block."""
    one = JournalDir(root, stream, **environment)
    try:
        yield one
    finally:
        one.close()
