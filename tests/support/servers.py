"""Server processes that do not outlive the tests."""

import contextlib
import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from support.components import real_component

__all__ = ["Server"]

# A server is killed when the thread that started it ends, as all threads do when this process is killed.  So one thread
# starts them all and lives as long as the process.
_STARTER = ThreadPoolExecutor(1, "server-starter")


class Server:
    """One program, started any number of times; its output is appended to a file."""

    def __init__(self, command: list[str], log: Path) -> None:
        self.command = command
        self.log = log
        self.paused = False
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the process that was started last."""
        assert self._process is not None, "it was never started"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether there is a process, be it paused or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def crashed(self) -> bool:
        """Whether it has ended otherwise than by a signal."""
        return self._process is not None and (self._process.poll() or 0) > 0

    def launch(self, *extra: str) -> None:
        """Start it, with further arguments, and do not wait until it serves."""
        assert not self.running, "it runs already"
        guarded = [real_component("setpriv"), "--pdeathsig", "KILL", "--", *self.command, *extra]
        with self.log.open("ab") as output:
            starting = _STARTER.submit(
                subprocess.Popen,
                guarded,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the tests, which then stop it
            )
            self._process = starting.result()
        self._wait_until_bound(guarded[0])

    def kill(self) -> None:
        """As by `kill -9`; also where it is paused or gone."""
        self._end(signal.SIGKILL)

    def terminate(self, timeout: float = 60) -> None:
        """Ask it to stop; kill it when it has not stopped in time."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._end(signal.SIGTERM, timeout)
        self.kill()

    def wait(self) -> None:
        """Until it has ended by itself."""
        assert self._process is not None, "it was never started"
        self._process.wait()

    def pause(self) -> None:
        """Stop it where it is (SIGSTOP), all of its threads: its connections stay, and nobody answers."""
        self.paused = True
        os.kill(self.pid, signal.SIGSTOP)
        while not all(_is_stopped(task) for task in Path(f"/proc/{self.pid}/task").iterdir()):
            time.sleep(0.001)

    def resume(self) -> None:
        """Let it go on (SIGCONT); also where it was not paused."""
        os.kill(self.pid, signal.SIGCONT)
        self.paused = False

    def tail(self, size: int = 3_000) -> str:
        """The end of its output."""
        return self.log.read_bytes()[-size:].decode(errors="replace") if self.log.exists() else ""

    def _wait_until_bound(self, guard: str) -> None:
        """Wait until the guard has become the program; before that it might survive this process."""
        program = Path(f"/proc/{self.pid}/exe")
        with contextlib.suppress(OSError):  # it has ended
            while program.samefile(guard):
                time.sleep(0.001)

    def _end(self, number: int, timeout: float | None = None) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(timeout)
            self.paused = False


def _is_stopped(task: Path) -> bool:
    """Whether a thread runs no more."""
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[0] in "TXZ"
    except (FileNotFoundError, ProcessLookupError):
        return True
