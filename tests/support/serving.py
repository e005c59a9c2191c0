"""examples/serving.py as a server process, asked by real clients; what it logged is read from a store."""

import asyncio
import contextlib
import csv
import http.client
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.environment import unmeasured
from support.waiting import until

__all__ = ["EXAMPLE", "Serving", "completion", "events_of", "text_of"]

ROOT = Path(__file__).parents[2]
EXAMPLE = [sys.executable, str(ROOT / "examples" / "serving.py"), "--port", "0"]
"""The command by which it is started, at any free port."""
RUNSTREAM = str(Path(sys.executable).with_name("runstream"))


class Serving:
    """A server, its directory and its port; nothing of this process's settings holds for it."""

    def __init__(self, directory: Path, command: list[str], **environment: str) -> None:
        self.directory = directory
        inherited = {key: value for key, value in unmeasured().items() if not key.startswith("RUNSTREAM_")}
        self._environment = inherited | environment
        self._errors = directory / "errors.txt"
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                command,
                cwd=directory,
                env=self._environment | {"PYTHONPATH": str(ROOT)},
                stdout=errors,
                stderr=errors,
            )
        self.port = 0

    async def started(self) -> None:
        """Wait until it takes connections."""
        await until(lambda: "running on" in self._told() or self._process.poll() is not None, 60)
        found = re.search(r"running on http://127\.0\.0\.1:(\d+)", self._told())
        assert found is not None, self._told()
        self.port = int(found[1])

    async def ask(self, **body: Any) -> tuple[int, str]:
        """Status and body of an answer."""
        return await self.request("POST", "/v1/chat/completions", json.dumps(body).encode())

    async def stats(self) -> dict[str, Any]:
        """What `runstream.stats` says in the server."""
        status, body = await self.request("GET", "/healthz")
        assert status == 200
        logging: dict[str, Any] = json.loads(body)["logging"]
        return logging

    async def request(self, method: str, path: str, body: bytes = b"") -> tuple[int, str]:
        """Status and body of any request's answer."""
        return await asyncio.to_thread(self._request, method, path, body)

    def _request(self, method: str, path: str, body: bytes) -> tuple[int, str]:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.request(method, path, body)
            reply = connection.getresponse()
            return reply.status, reply.read().decode()

    def end(self) -> None:
        """End it as an operator does."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)
        assert "Traceback" not in self._told(), self._told()

    def _told(self) -> str:
        return self._errors.read_text()

    def results(self) -> tuple[dict[str, Any], list[dict[str, str]]]:
        """The run, and the rows of its table, of a server that has ended."""
        self._command("sink", "--once")
        (run,) = json.loads(self._command("runs", "list", "--json"))
        table = self.directory / "runstream-data" / "store" / "artifacts" / run["run_id"] / "predictions.csv"
        with table.open(newline="", encoding="utf-8") as file:
            return run, list(csv.DictReader(file))

    def _command(self, *arguments: str) -> str:
        command = [RUNSTREAM, *arguments]
        done = subprocess.run(
            command, cwd=self.directory, env=self._environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def completion(body: str) -> str:
    """The text of an answer that was sent at once."""
    text: str = json.loads(body)["choices"][0]["message"]["content"]
    return text


def events_of(body: str) -> list[dict[str, Any]]:
    """The events of an answer that was streamed to its end."""
    lines = [line.removeprefix("data: ") for line in body.split("\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def text_of(events: list[dict[str, Any]]) -> str:
    """The text that events bring."""
    return "".join(event["choices"][0]["delta"].get("content", "") for event in events)
