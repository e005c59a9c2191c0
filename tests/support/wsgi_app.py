"""A web application that logs: once when it is loaded, which is before a server forks, and at each request."""

import os
from collections.abc import Callable, Iterable
from typing import Any

import runstream

__all__ = ["application"]

run = runstream.start_run("served")
run.log_metric("loaded", 1)


def application(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Log the number in the query string; answer with the worker's process id."""
    step = int(environ["QUERY_STRING"])
    run.log_metric("request", 1, step=step)
    run.log_prediction({"step": step, "worker": os.getpid(), "text": "x" * 500})
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
