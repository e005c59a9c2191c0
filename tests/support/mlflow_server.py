"""MLflow's own tracking server on SQLite, to compare with."""

import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from support.mlflow import mlflow_python
from support.ports import Ports
from support.servers import Server

__all__ = ["mlflow_server"]

_PATIENCE = 180.0


@contextmanager
def mlflow_server(directory: Path) -> Iterator[str]:
    """A server that keeps everything below an empty directory; its address."""
    python, ports = mlflow_python(), Ports()
    try:
        port = ports.take()
        settings = {
            "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{directory / 'mlflow.db'}",
            "_MLFLOW_SERVER_REGISTRY_STORE": f"sqlite:///{directory / 'mlflow.db'}",
            "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
            "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(directory / "artifacts"),
            "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        command = ["env", *(f"{name}={value}" for name, value in settings.items())]
        command += [str(python), "-m", "uvicorn", "--port", str(port), "--no-access-log"]
        server = Server([*command, "mlflow.server.fastapi_app:app"], directory / "server.log")
        server.launch()
        try:
            _wait_for(server, f"http://127.0.0.1:{port}")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.kill()
    finally:
        ports.close()


def _wait_for(server: Server, url: str) -> None:
    """Until it answers; AssertionError if it ends or never does."""
    until = time.monotonic() + _PATIENCE
    with httpx.Client(timeout=_PATIENCE) as client:
        while server.running and time.monotonic() < until:
            with contextlib.suppress(httpx.TransportError):
                if client.get(f"{url}/api/2.0/mlflow/experiments/search?max_results=1").is_success:
                    return
            time.sleep(0.05)  # nobody tells when another program listens
    raise AssertionError(f"MLflow's server does not answer: {server.tail()}")
