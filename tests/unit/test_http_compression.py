"""Compressed answers: what the client takes, of what is worth it, whole or piece by piece."""

import gzip
from typing import Any

import cramjam
import pytest

from runstream_sink.http.asgi import Message, Receive, Scope, Send
from runstream_sink.http.compression import Compressed, accepted


@pytest.mark.parametrize(
    ("header", "encoding"),
    [
        ("gzip", "gzip"),
        ("gzip, zstd", "zstd"),
        ("GZIP;q=0.5, zstd;q=0.1", "gzip"),
        ("*", "zstd"),
        ("*;q=0", ""),
        ("gzip;q=0", ""),
        ("gzip;q=0, *", "zstd"),
        ("identity", ""),
        ("br, deflate", ""),
        ("gzip;q=nonsense", ""),
        ("gzip;x=1", "gzip"),
        ("", ""),
    ],
)
def test_the_best_of_what_the_client_takes_is_chosen(header: str, encoding: str) -> None:
    """RFC 9110, 12.5.3; zstd before gzip."""
    assert accepted(header, zstd=True) == encoding


def test_without_zstd_there_is_gzip() -> None:
    """The library that has it may be missing."""
    assert accepted("zstd, gzip", zstd=False) == "gzip"
    assert accepted("zstd", zstd=False) == ""


async def _answer(
    pieces: list[bytes],
    *,
    accept: str = "gzip",
    method: str = "GET",
    status: int = 200,
    kind: str = "application/json",
    **headers: str,
) -> tuple[dict[str, str], bytes]:
    """Headers and content of an answer that goes through."""
    sent: list[Message] = []
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send(
            {"type": "http.response.start", "status": status, "headers": [(b"content-type", kind.encode()), *named]}
        )
        for number, piece in enumerate(pieces):
            await send({"type": "http.response.body", "body": piece, "more_body": number + 1 < len(pieces)})

    async def receive() -> Any:
        raise AssertionError("nothing is read")

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {
        "type": "http",
        "method": method,
        "headers": [(b"accept-encoding", accept.encode())] if accept else [],
    }
    await Compressed(app)(scope, receive, send)
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return found, b"".join(message["body"] for message in sent[1:])


@pytest.mark.parametrize("pieces", [[b"x" * 5000], [b"x" * 2000, b"x" * 3000, b""], [b"x" * 100_000, b"y"]])
async def test_content_is_the_same_once_it_is_unpacked(pieces: list[bytes]) -> None:
    """In one piece or several, small or large."""
    headers, content = await _answer(pieces, content_length="5000")
    assert "content-length" not in headers
    assert gzip.decompress(content) == b"".join(pieces)
    assert (headers["content-encoding"], headers["vary"], "content-length" in headers) == (
        "gzip",
        "Accept-Encoding",
        False,
    )
    headers, content = await _answer(pieces, accept="zstd")
    assert bytes(cramjam.zstd.decompress(content)) == b"".join(pieces)
    assert headers["content-encoding"] == "zstd"


@pytest.mark.parametrize(
    "case",
    [
        {"accept": ""},
        {"accept": "br"},
        {"method": "HEAD"},
        {"kind": "image/png"},
        {"kind": "text/event-stream; charset=utf-8"},
        {"status": 206, "content_range": "bytes 0-1/5"},
        {"status": 304},
        {"accept_ranges": "bytes"},
        {"content_encoding": "br"},
    ],
)
async def test_what_is_not_to_be_compressed_goes_through_as_it_is(case: dict[str, Any]) -> None:
    """Because nobody wants it, or it would be wrong, or would gain nothing."""
    headers, content = await _answer([b"x" * 5000], **case)
    assert content == b"x" * 5000
    assert headers.get("content-encoding") in {None, "br"}


async def test_small_answers_are_left_alone() -> None:
    """They fit into one packet."""
    assert (await _answer([b"{}"]))[1] == b"{}"


async def test_other_connections_go_through() -> None:
    """They are none of ours."""
    seen = []

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append(scope["type"])

    await Compressed(app)({"type": "lifespan", "headers": []}, None, None)  # type: ignore[arg-type]
    assert seen == ["lifespan"]
