"""A server as gunicorn with ``--preload`` is one: it loads the application, forks workers, and replaces dead ones.

Arguments: the descriptor of a listening socket, the number of workers.  SIGTERM ends workers and master gracefully.
"""

import os
import signal
import socket
import sys
from types import FrameType
from typing import Never
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

__all__ = ["main"]


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
    server.server_name, server.server_port = "localhost", 0
    server.setup_environ()
    server.set_app(application)
    while True:
        server.handle_request()


def end(number: int, frame: FrameType | None) -> Never:
    """End by the way that runs exit handlers."""
    sys.exit(0)


def main(descriptor: str, workers: str) -> None:
    """Be the master, or, in a fork, a worker."""
    import support.wsgi_app  # noqa: F401 - what --preload means

    listener = socket.socket(fileno=int(descriptor))
    signal.signal(signal.SIGTERM, end)
    children: set[int] = set()
    while True:
        if len(children) < int(workers):
            child = os.fork()
            if child == 0:
                work(listener)
            children.add(child)
            continue
        try:
            children.discard(os.wait()[0])
        except SystemExit:
            for child in children:
                os.kill(child, signal.SIGTERM)
            for child in children:
                os.waitpid(child, 0)
            raise


if __name__ == "__main__":
    main(*sys.argv[1:])
