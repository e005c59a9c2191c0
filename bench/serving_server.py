"""The server of the benchmark ``serving``: the example of serving, whose logging can be switched while it runs.

``GET /switch/NAME`` first settles what was logged so far, then logs in another way, and answers with the CPU time of
this process in seconds.  So two ways of logging are compared in one process: two processes that do the same differ by
some per cent.

* nothing: the request is not logged.
* runstream: the example's own `RunLog`.
* mlflow-metrics: MLflow's client logs the metrics by an asynchronous ``log_batch``, and no row.  (The fluent
  ``log_metrics`` with a run id asks the server for the run first, and waits.)
* mlflow-trace: besides, a trace with prompt and answer, which MLflow exports in the background.
* mlflow-table: besides, a row by ``log_table``, which has no asynchronous form: in a thread that does nothing else.
"""

import argparse
import json
import logging
import os
import resource
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import uvicorn
from examples.chat_models import Exchange, Model, Simulated
from examples.serving import Application, Receive, RunLog, Scope, Send

import runstream

__all__ = ["main"]


class Nothing:
    """Logs nothing."""

    def log(self, exchange: Exchange) -> None:
        """Do nothing."""


class MlflowLog:
    """What a user of MLflow would write; see the module."""

    def __init__(self, model: Model, kind: str) -> None:
        import mlflow

        logging.getLogger("mlflow").setLevel(logging.CRITICAL)
        mlflow.config.enable_async_logging()
        mlflow.set_experiment("serving")
        self._client, self._point = mlflow.MlflowClient(), mlflow.entities.Metric
        self._mlflow, self._kind = mlflow, kind
        self._run = mlflow.start_run(run_name=model.name).info.run_id
        mlflow.log_params({"model": model.name, **model.settings})
        self._table = ThreadPoolExecutor(1)
        self._requests = 0

    def log(self, exchange: Exchange) -> None:
        """Log a request that is over."""
        self._requests += 1
        metrics = {
            "latency_ms": exchange.latency_ms,
            "prompt_tokens": exchange.prompt_tokens,
            "completion_tokens": exchange.completion_tokens,
            "ok": exchange.status == "ok",
        }
        now = time.time_ns() // 1_000_000
        points = [self._point(key, float(value), now, self._requests) for key, value in metrics.items()]
        self._client.log_batch(self._run, points, synchronous=False)
        if self._kind == "mlflow-trace":
            span = self._mlflow.start_span_no_context("chat", inputs=exchange.prompt)
            span.end(outputs=exchange.answer, status="OK" if exchange.status == "ok" else "ERROR")
        if self._kind == "mlflow-table":
            row = {name: [getattr(exchange, name)] for name in exchange.__struct_fields__}
            self._table.submit(self._mlflow.log_table, row, "predictions.json", run_id=self._run)


class Switching:
    """The example's application with one route more."""

    def __init__(self, model: Model) -> None:
        self._logs: dict[str, Any] = {"nothing": Nothing()}
        self._application = Application(model, lambda _: self._logs["nothing"])
        self._model = model

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        path = scope.get("path", "")
        if not path.startswith("/switch/"):
            await self._application(scope, receive, send)
            return
        await runstream.aflush()
        used = resource.getrusage(resource.RUSAGE_SELF)
        name = path.removeprefix("/switch/")
        if name not in self._logs:
            self._logs[name] = RunLog(self._model) if name == "runstream" else MlflowLog(self._model, name)
        self._application.log = self._logs[name]
        body = json.dumps({"cpu": used.ru_utime + used.ru_stime, "stats": runstream.stats()}).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})


def main() -> None:
    """Serve on a socket that was handed down, until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", type=int, required=True)
    parser.add_argument("--latency", type=float, required=True)
    parser.add_argument("--loop", default="asyncio")
    parser.add_argument("--http", default="h11")
    options = parser.parse_args()
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    config = uvicorn.Config(
        Switching(Simulated(options.latency)),
        loop=options.loop,
        http=options.http,
        lifespan="off",
        access_log=False,
        log_level="warning",
    )
    # Not by uvicorn's own option fd, which takes it for a Unix socket and leaves Nagle's algorithm on.
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=options.socket)])


if __name__ == "__main__":
    main()
