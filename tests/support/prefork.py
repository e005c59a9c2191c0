"""A server as gunicorn with ``--preload`` is one: it loads the application, forks workers, and replaces dead ones.

Arguments: the descriptor of a listening socket, the number of workers.  SIGTERM ends workers and master gracefully: it
is noted, and looked at between requests, for wsgiref swallows what a signal handler raises within one.
"""

import os
import signal
import socket
import sys
import time
from types import FrameType
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

__all__ = ["main"]

_LOOK = 0.02
"""Seconds between two looks."""
_ending: list[int] = []
"""The signals that asked for the end."""


class Quiet(WSGIRequestHandler):
    """Writes no access log."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that it has there
        """Say nothing."""


def work(listener: socket.socket) -> None:
    """Answer requests until SIGTERM."""
    from support.wsgi_app import application

    server = WSGIServer(("127.0.0.1", 0), Quiet, bind_and_activate=False)
    server.socket.close()
    server.socket = listener
    server.timeout = _LOOK
    server.server_name, server.server_port = "localhost", 0
    server.setup_environ()
    server.set_app(application)
    while not _ending:
        server.handle_request()


def note(number: int, frame: FrameType | None) -> None:
    """Remember the signal."""
    _ending.append(number)


def main(descriptor: str, workers: str) -> None:
    """Be the master, or, in a fork, a worker."""
    import support.wsgi_app  # noqa: F401 - what --preload means

    listener = socket.socket(fileno=int(descriptor))
    listener.setblocking(False)  # another worker may have taken the connection that woke this one
    signal.signal(signal.SIGTERM, note)
    children: set[int] = set()
    while not _ending:
        if len(children) < int(workers):
            child = os.fork()
            if child == 0:
                work(listener)
                return
            children.add(child)
        ended, _ = os.waitpid(-1, os.WNOHANG)
        children.discard(ended)
        if not ended and len(children) == int(workers):
            time.sleep(_LOOK)
    for child in children:
        os.kill(child, signal.SIGTERM)
    for child in children:
        os.waitpid(child, 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
