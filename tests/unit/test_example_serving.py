"""examples/serving.py as a server process, asked by real clients; what it logged is read from a store."""

import asyncio
import contextlib
import csv
import http.client
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.waiting import until

ROOT = Path(__file__).parents[2]
RUNSTREAM = str(Path(sys.executable).with_name("runstream"))
ASKED = "What does yield do?"


class Serving:
    """A server, its directory and its port."""

    def __init__(self, directory: Path, command: list[str]) -> None:
        self.directory = directory
        environ = {key: value for key, value in os.environ.items() if not key.startswith("RUNSTREAM_")}
        self._errors = directory / "errors.txt"
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                command, cwd=directory, env=environ | {"PYTHONPATH": str(ROOT)}, stdout=errors, stderr=errors
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
        environ = {key: value for key, value in os.environ.items() if not key.startswith("RUNSTREAM_")}
        done = subprocess.run(
            [RUNSTREAM, *arguments], cwd=self.directory, env=environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


Serve = Callable[..., Serving]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Begin servers as a user does, each in a directory of its own."""
    with contextlib.ExitStack() as stack:

        def begin(*arguments: str) -> Serving:
            directory = tmp_path / f"server-{len(list(tmp_path.iterdir()))}"
            directory.mkdir()
            command = [sys.executable, str(ROOT / "examples" / "serving.py"), "--port", "0", *arguments]
            server = Serving(directory, command)
            stack.callback(server.end)
            return server

        yield begin


def _events(body: str) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in body.split("\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def _text(events: list[dict[str, Any]]) -> str:
    return "".join(event["choices"][0]["delta"].get("content", "") for event in events)


async def test_every_request_leaves_a_row_and_a_point_of_each_metric(serve: Serve) -> None:
    """Answered at once, streamed, refused: all are logged, by the one run of the server."""
    server = serve("--latency", "0.002")
    await server.started()
    messages = [{"role": "user", "content": ASKED}]
    status, whole = await server.ask(messages=messages, max_tokens=9)
    assert status == 200
    answer = json.loads(whole)["choices"][0]["message"]["content"]
    status, streamed = await server.ask(messages=messages, max_tokens=9, stream=True)
    assert (status, _text(_events(streamed))) == (200, answer)
    assert json.loads(whole)["usage"] == _events(streamed)[-1]["usage"]
    assert (await server.ask(messages="none"))[0] == 400
    assert (await server.request("POST", "/v1/chat/completions", b'{"messages": "\xff'))[0] == 400
    assert (await server.request("POST", "/v1/chat/completions", b" " * (5 << 20)))[0] == 400
    server.end()

    run, rows = server.results()
    assert [row["status"] for row in rows] == ["ok", "ok", "refused", "refused", "refused"]
    assert [row["answer"] for row in rows] == [answer, answer, "", "", ""]
    assert {row["prompt"] for row in rows[:2]} == {ASKED}
    assert all(row["error"] for row in rows[2:])
    assert len({row["request_id"] for row in rows}) == 5
    assert (run["status"], run["params"]["model"]) == ("FINISHED", "simulated")
    assert {key: (one["step"], one["value"]) for key, one in run["metrics"].items() if key != "latency_ms"} == {
        "ok": (4, 0.0),
        "prompt_tokens": (4, 0.0),
        "completion_tokens": (4, 0.0),
    }


async def test_a_request_that_its_client_gave_up_is_logged_as_cancelled(serve: Serve) -> None:
    """A stream is cut in its middle: what was answered until then is in the row."""
    server = serve("--latency", "20")
    await server.started()
    body = json.dumps({"messages": [{"role": "user", "content": ASKED}], "stream": True}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert b"data: " in await reader.readuntil(b"\n\n")
    accepted = await _accepted(server)
    writer.close()
    async with asyncio.timeout(60):
        while await _accepted(server) == accepted:  # noqa: ASYNC110 - nobody could set an event: it is another process
            await asyncio.sleep(0.01)
    server.end()

    _, (row,) = server.results()
    assert (row["status"], row["prompt"]) == ("cancelled", ASKED)
    assert 0 < int(row["completion_tokens"]) < 128
    assert len(row["answer"].split()) == int(row["completion_tokens"])


async def _accepted(server: Serving) -> int:
    status, body = await server.request("GET", "/healthz")
    assert status == 200
    return int(json.loads(body)["logging"]["accepted"])


@pytest.mark.parametrize("stream", [False, True])
async def test_answers_of_another_server_are_handed_on_and_logged(serve: Serve, stream: bool) -> None:
    """The upstream is a second server of the same kind; tokens are those that it counted."""
    upstream = serve("--latency", "0")
    await upstream.started()
    server = serve("--upstream", f"http://127.0.0.1:{upstream.port}/v1", "--model", "other")
    await server.started()
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"text": ASKED}]}]
    status, body = await server.ask(messages=messages, max_tokens=5, stream=stream)
    assert status == 200
    answer = _text(_events(body)) if stream else json.loads(body)["choices"][0]["message"]["content"]
    server.end()
    upstream.end()

    (run, (row,)), (_, (asked,)) = server.results(), upstream.results()
    assert (run["params"]["model"], row["completion_tokens"]) == ("other", "5")
    assert row["answer"] == asked["answer"] == answer
    assert row["prompt"] == asked["prompt"] == f"system: Be brief.\n\nuser: {ASKED}"
    assert row["prompt_tokens"] == asked["prompt_tokens"]


@pytest.mark.parametrize(
    ("stream", "reply", "complaint"),
    [
        (False, b"HTTP/1.0 503 Busy\r\n\r\nnot now", "answered 503 Busy: b'not now'"),
        (False, b"HTTP/1.0 200 OK\r\n\r\n{", "DecodeError"),
        (True, b"HTTP/1.0 200 OK\r\n\r\n", "the answer was cut off"),
        (True, b"HTTP/1.0 20", "IncompleteReadError"),
    ],
)
async def test_an_upstream_that_fails_gives_an_error_and_a_row_that_says_why(
    serve: Serve, stream: bool, reply: bytes, complaint: str
) -> None:
    """The client is told 502; the server goes on."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        found = re.search(rb"content-length: (\d+)", head.lower())
        assert found is not None
        await reader.readexactly(int(found[1]))
        writer.write(reply)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        server = serve("--upstream", f"http://127.0.0.1:{port}/v1")
        await server.started()
        status, body = await server.ask(messages=[{"role": "user", "content": ASKED}], stream=stream)
        assert (status, json.loads(body)["error"]["type"]) == (502, "upstream_error")
        assert (await server.request("GET", "/nowhere"))[0] == 404
    server.end()

    _, (row,) = server.results()
    assert (row["status"], row["prompt"]) == ("failed", ASKED)
    assert complaint in row["error"]


async def test_uvicorn_serves_the_application_by_its_name(tmp_path: Path) -> None:
    """From the repository's directory, or with that on the path: ``uvicorn examples.serving:app``."""
    server = Serving(tmp_path, [sys.executable, "-m", "uvicorn", "examples.serving:app", "--port", "0"])
    try:
        await server.started()
        assert (await server.ask(messages=[{"role": "user", "content": ASKED}]))[0] == 200
    finally:
        server.end()
    _, (row,) = server.results()
    assert (row["status"], row["prompt"]) == ("ok", ASKED)
