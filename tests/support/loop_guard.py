"""Sees calls that may block, made in the thread of an event loop."""

import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["blocking_calls"]

_BLOCKING = frozenset(
    {
        "open",
        "os.link",
        "os.listdir",
        "os.mkdir",
        "os.remove",
        "os.rename",
        "os.rmdir",
        "os.scandir",
        "os.truncate",
        "shutil.copyfile",
        "shutil.rmtree",
        "socket.getaddrinfo",
        "sqlite3.connect",
        "subprocess.Popen",
        "time.sleep",
    }
)
_state = threading.local()
_installed: list[bool] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    found: list[str] | None = getattr(_state, "found", None)
    if found is None or event not in _BLOCKING or _state.within or str(arguments[:1]).startswith("('/proc/self/"):
        return
    _state.within = True
    try:
        frames = traceback.extract_stack()
        if not any("importlib" in frame.filename or frame.name == "_find_and_load" for frame in frames):
            found.append(f"{event}{arguments!r:.200}\n{''.join(traceback.format_list(frames[-8:]))}")
    finally:
        _state.within = False


@contextmanager
def blocking_calls() -> Iterator[list[str]]:
    """While this lasts, the calls of this thread that touch the disk or wait are listed, each with where it was made.

    Imports are left out: a module is loaded once.
    """
    if not _installed:
        sys.addaudithook(_hook)
        _installed.append(True)
    _state.found, _state.within = [], False
    try:
        yield _state.found
    finally:
        _state.found = None
