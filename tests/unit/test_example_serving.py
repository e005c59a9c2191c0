"""examples/serving.py as a server process, asked by real clients; what it logged is read from a store."""

import asyncio
import contextlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.serving import EXAMPLE, Serving, completion, events_of, text_of

pytestmark = pytest.mark.slow

ASKED = "What does yield do?"


Serve = Callable[..., Serving]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Begin servers as a user does, each in a directory of its own."""
    with contextlib.ExitStack() as stack:

        def begin(*arguments: str) -> Serving:
            directory = tmp_path / f"server-{len(list(tmp_path.iterdir()))}"
            directory.mkdir()
            server = Serving(directory, [*EXAMPLE, *arguments])
            stack.callback(server.end)
            return server

        yield begin


async def test_every_request_leaves_a_row_and_a_point_of_each_metric(serve: Serve) -> None:
    """Answered at once, streamed, refused: all are logged, by the one run of the server."""
    server = serve("--latency", "0.002")
    await server.started()
    messages = [{"role": "user", "content": ASKED}]
    status, whole = await server.ask(messages=messages, max_tokens=9)
    assert status == 200
    answer = completion(whole)
    status, streamed = await server.ask(messages=messages, max_tokens=9, stream=True)
    assert (status, text_of(events_of(streamed))) == (200, answer)
    assert json.loads(whole)["usage"] == events_of(streamed)[-1]["usage"]
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
    accepted = (await server.stats())["accepted"]
    writer.close()
    async with asyncio.timeout(60):
        while (await server.stats())["accepted"] == accepted:  # noqa: ASYNC110 - nobody could set an event: it is another process
            await asyncio.sleep(0.01)
    server.end()

    _, (row,) = server.results()
    assert (row["status"], row["prompt"]) == ("cancelled", ASKED)
    assert 0 < int(row["completion_tokens"]) < 128
    assert len(row["answer"].split()) == int(row["completion_tokens"])


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
    answer = text_of(events_of(body)) if stream else completion(body)
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
