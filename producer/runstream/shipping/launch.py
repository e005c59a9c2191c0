"""The client's side of shipping: one shipper is started where none leads, and looked after while the program logs.

The shipper is nobody's child: a shell starts it in a session of its own and ends at once.  It gets no descriptor of the
program's, and its settings through the environment.  A program is never made to wait for it, and may end at any moment.
"""

import contextlib
import os
import sys
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from runstream.shipping.leader import ask_to_yield, is_led, is_starting, note_start, read_status
from runstream_schemas.streams import KafkaStream

__all__ = ["Launcher"]

_INTERVAL: Final = 1.0
"""Seconds between looks whether there is a shipper."""
_LONGEST: Final = 30.0
"""Most seconds between starts of shippers that come to nothing."""
_WARN_INTERVAL: Final = 60.0
"""Least seconds between two warnings: while brokers are away, the words change with the one that is asked."""
_REAP_AT_ONCE, _REAP = 0.02, 0.5
"""Seconds that are waited for the shell: by the first log call, and at the end of a program."""
_YIELDS: Final = 1.5
"""Seconds that the end of a program waits for a shipper that was asked to make way."""
_PAUSE: Final = 0.001
_LOG: Final = "shipper.log"
_UNWANTED: Final = ("PYTHONINSPECT", "PYTHONSTARTUP", "PYTHONWARNINGS", "PYTHONPROFILEIMPORTTIME")
_SHELL, _DETACH = "/bin/sh", '"$@" &'


class Launcher:
    """What one process does so that a journal directory is shipped.  Nothing raises."""

    def __init__(
        self, directory: Path, stream: KafkaStream, arguments: Mapping[str, Any], *, starts: bool = True
    ) -> None:
        """``arguments``: settings that the program has given.  Without ``starts`` somebody else runs the shipper."""
        self._directory = directory
        self._stream = stream
        self._arguments = dict(arguments)
        self._starts = starts
        self._began = time.time()
        self._due = 0.0
        self._wait = _INTERVAL
        self._shells: list[int] = []
        self._told, self._told_at = "", -_WARN_INTERVAL
        self._asked = 0
        """The process that is to make way."""
        self.error = ""
        """Why nothing is shipped now, empty while all is well."""

    def begin(self) -> None:
        """A journal was opened: have it shipped.  What waits in vain, with settings of its own, makes way."""
        if not self._starts:
            return
        with contextlib.suppress(OSError):
            status = read_status(self._directory)
            if status is not None and status.state == "waiting" and is_led(self._directory):
                ask_to_yield(self._directory)
                self._asked = status.pid
        self._due = 0.0
        self._ensure()
        self._wait_for_shells(_REAP_AT_ONCE)

    def look(self) -> None:
        """Called again and again by a thread: start one where none leads, and tell of what it says."""
        self._reap()
        if time.monotonic() >= self._due:
            self._ensure()
            self._tell()

    def end(self) -> None:
        """The program ends: what it has logged must be shipped without it."""
        deadline = time.monotonic() + _YIELDS
        while self._asked and self._leads() and time.monotonic() < deadline:
            status = read_status(self._directory)
            if status is None or status.pid != self._asked:
                break
            time.sleep(_PAUSE)
        self._due = 0.0
        self._ensure()
        self._wait_for_shells(_REAP)

    def _wait_for_shells(self, timeout: float) -> None:
        """Let the program see no child that is not its own."""
        deadline = time.monotonic() + timeout
        while self._shells and time.monotonic() < deadline:
            time.sleep(_PAUSE)
            self._reap()

    def _ensure(self) -> None:
        """Start a shipper if none leads."""
        self._due = time.monotonic() + _INTERVAL
        if self._leads():
            self._wait = _INTERVAL
            return
        if not self._starts or is_starting(self._directory):
            return
        self._due = time.monotonic() + self._wait
        self._wait = min(self._wait * 2, _LONGEST)
        try:
            self._start()
        except Exception as error:  # noqa: BLE001 - whatever keeps one from being started, the program goes on
            self.error = f"no shipper can be started: {error}; run `runstream ship`"

    def _leads(self) -> bool:
        try:
            return is_led(self._directory)
        except OSError:
            return False

    def _start(self) -> None:
        missing = [name for name in ("aiokafka", "structlog") if find_spec(name) is None]
        if missing:
            self.error = (
                f"{self._stream} needs {' and '.join(missing)}, which is not installed: run pip install "
                "'runstream[kafka]'; until then events stay in the journal"
            )
            return
        note_start(self._directory)
        command = [_python(), "-P", "-m", "runstream.shipping.process"]
        if os.access(_SHELL, os.X_OK):
            command = [_SHELL, "-c", _DETACH, "sh", *command]
        environment, files = self._environment(), self._files()
        try:
            shell_id = os.posix_spawn(command[0], command, environment, file_actions=files, setsid=True)
        except NotImplementedError:  # an old C library; the process does it by itself
            shell_id = os.posix_spawn(command[0], command, environment, file_actions=files)
        self._shells.append(shell_id)

    def _environment(self) -> dict[str, str]:
        given = {
            f"RUNSTREAM_{name.upper()}": str(value) for name, value in self._arguments.items() if value is not None
        }
        own = {
            "RUNSTREAM_STREAM": str(self._stream),
            "RUNSTREAM_JOURNAL_DIR": str(self._directory.parent),
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if os.path.isabs(path)),  # noqa: PTH117 - text
        }
        inherited = {name: value for name, value in os.environ.items() if name not in _UNWANTED}
        return inherited | given | own

    def _files(self) -> list[tuple[Any, ...]]:
        """Standard input and output elsewhere, and nothing that the program has open."""
        log = (os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        return [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(self._directory / _LOG), *log),
            (os.POSIX_SPAWN_DUP2, 1, 2),
            *((os.POSIX_SPAWN_CLOSE, descriptor) for descriptor in _inherited()),
        ]

    def _reap(self) -> None:
        """Let go of the shells that have ended."""
        for shell in list(self._shells):
            try:
                ended = os.waitpid(shell, os.WNOHANG)[0] == shell
            except ChildProcessError:  # the program waits for whatever child it has
                ended = True
            if ended:
                self._shells.remove(shell)

    def _tell(self) -> None:
        """Say once what is wrong, and what the shipper says is wrong."""
        status = read_status(self._directory)
        if status is not None and (self._leads() or status.since >= self._began):
            self.error = status.error
        now = time.monotonic()
        if self.error and self.error != self._told and now - self._told_at >= _WARN_INTERVAL:
            _warn(self.error, self._stream)
            self._told, self._told_at = self.error, now


def _python() -> str:
    """This interpreter, also where another program has it inside.  Raises OSError if there is none."""
    name = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    candidates = [sys.executable, *(str(Path(sys.prefix) / "bin" / one) for one in (name, "python3"))]
    for candidate in candidates:
        if candidate and Path(candidate).name.startswith("python") and os.access(candidate, os.X_OK):
            return candidate
    raise OSError(f"there is no interpreter at {sys.executable!r} or in {sys.prefix}")


def _inherited() -> list[int]:
    """Descriptors that a program started by this one would get, besides the standard ones."""
    found = []
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names are all that is needed
        with contextlib.suppress(OSError):
            if int(name) > 2 and os.get_inheritable(int(name)):
                found.append(int(name))
    return found


def _warn(error: str, stream: KafkaStream) -> None:
    import structlog  # here: it loads asyncio

    configured = structlog.is_configured()
    log = structlog.get_logger() if configured else structlog.wrap_logger(structlog.PrintLogger(sys.stderr))
    with contextlib.suppress(Exception):  # what the program has made of its logging may raise anything
        log.warning("events are not shipped now", stream=str(stream), reason=error)
