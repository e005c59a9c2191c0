"""MLflow's fluent client: on a database of its own, in this thread or asynchronously, and over REST."""

import logging
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from typing import Any

from loggers.base import METRIC, ROW, Logger, Setting

__all__ = ["MlflowAsynchronous", "MlflowRest", "MlflowSynchronous"]

_START_TIMEOUT = 180.0


class MlflowSynchronous(Logger):
    """``log_metric`` and ``log_table``, on SQLite and files."""

    durability = "committed: in SQLite"
    overload = "waits"
    share = 0.005
    needs = "mlflow"

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        os.environ |= {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        import mlflow

        logging.getLogger("mlflow").setLevel(logging.ERROR)
        logging.getLogger("alembic").setLevel(logging.ERROR)
        self.mlflow = mlflow
        mlflow.set_tracking_uri(self.address())
        mlflow.set_experiment("peers")
        mlflow.start_run()

    def address(self) -> str:
        """The tracking URI."""
        os.chdir(self.setting.directory)  # files of runs lie in ./mlruns
        return f"sqlite:///{self.setting.directory}/mlflow.db"

    def metric(self, step: int) -> Any:
        """Log a metric."""
        self.mlflow.log_metric(*METRIC, step=step)

    def row(self, _: int) -> Any:
        """Log a row: reads and writes all the rows before."""
        self.mlflow.log_table({name: [value] for name, value in ROW.items()}, "predictions.json")


class MlflowAsynchronous(MlflowSynchronous):
    """``log_metric(..., synchronous=False)``; there is no such call for rows."""

    durability = "in memory: lost with the process"
    overload = "grows"
    share = 0.02

    def metric(self, step: int) -> Any:
        """Log a metric."""
        self.mlflow.log_metric(*METRIC, step=step, synchronous=False)

    def subjects(self) -> dict[str, Callable[[int], Any]]:
        """What it can log."""
        return {"metric": self.metric}

    def settle(self) -> None:
        """Have it committed."""
        self.mlflow.flush_async_logging()


class MlflowRest(MlflowSynchronous):
    """The same as synchronous, against ``mlflow server`` with one worker on the same machine."""

    durability = "committed: in the server's SQLite"
    share = 0.002

    def address(self) -> str:
        """The address of a server that is started here, and ends with the group of this process."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        directory = self.setting.directory
        command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{directory}/mlflow.db"]
        command += ["--artifacts-destination", f"{directory}/files"]
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + _START_TIMEOUT
        while not _answers(f"{url}/health"):
            if time.monotonic() > deadline:
                raise SystemExit("mlflow server does not answer")
            time.sleep(0.1)
        return url


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False
