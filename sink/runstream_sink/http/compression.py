"""Answers are compressed where the client takes it: by zstd where that is installed, else by gzip.

Only text is, from some size on, and no answer that is a range, is compressed already or is an endless stream.  Pieces
are compressed as they come, large ones outside the event loop.
"""

import asyncio
import zlib
from importlib.util import find_spec
from typing import Any, Final, Protocol

from runstream_sink.http.asgi import App, Message, Receive, Scope, Send

__all__ = ["Compressed", "accepted"]

_LEAST: Final = 860
"""Bytes below which an answer fits into one packet anyway."""
_LARGE: Final = 32 << 10
"""Bytes that take about a millisecond."""
_ENDS: Final = ("json", "jsonl", "javascript", "xml")
_STREAM: Final = "text/event-stream"
_LEVEL: Final = 4


class _Compressor(Protocol):
    def compress(self, data: bytes) -> bytes: ...

    def end(self, data: bytes) -> bytes: ...


class _Gzip:
    def __init__(self) -> None:
        self._made = zlib.compressobj(_LEVEL, wbits=31)

    def compress(self, data: bytes) -> bytes:
        return self._made.compress(data) + self._made.flush(zlib.Z_SYNC_FLUSH)

    def end(self, data: bytes) -> bytes:
        return self._made.compress(data) + self._made.flush()


class _Zstd:
    def __init__(self) -> None:
        import cramjam

        self._made = cramjam.zstd.Compressor(level=3)

    def compress(self, data: bytes) -> bytes:
        self._made.compress(data)
        return bytes(self._made.flush())

    def end(self, data: bytes) -> bytes:
        self._made.compress(data)
        return bytes(self._made.finish())


_HAS_ZSTD: Final = find_spec("cramjam") is not None


def accepted(header: str, *, zstd: bool = _HAS_ZSTD) -> str:
    """The encoding to use for an Accept-Encoding header (RFC 9110, 12.5.3); empty for none."""
    weights: dict[str, float] = {}
    for item in header.lower().split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        weights[name] = next((_weight(one[2:]) for one in parameters if one.startswith("q=")), 1.0)
    anything = weights.get("*", 0.0)
    known = ("zstd", "gzip") if zstd else ("gzip",)
    best = max(known, key=lambda name: weights.get(name, anything))
    return best if weights.get(best, anything) > 0 else ""


def _weight(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


class Compressed:
    """Compresses the answers of an application."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        header = b",".join(value for name, value in scope["headers"] if name.lower() == b"accept-encoding")
        encoding = accepted(header.decode("latin-1")) if header else ""
        if scope["type"] != "http" or not encoding or scope["method"] == "HEAD":
            await self._app(scope, receive, send)
        else:
            await self._app(scope, receive, _Answer(send, encoding))


class _Answer:
    """One answer, on its way through."""

    def __init__(self, send: Send, encoding: str) -> None:
        self._send = send
        self._encoding = encoding
        self._start: Any = None
        self._compressor: _Compressor | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
        elif message["type"] == "http.response.body":
            await self._body(message.get("body", b""), more=message.get("more_body", False))
        else:
            await self._send(message)

    async def _body(self, data: bytes, *, more: bool) -> None:
        start, self._start = self._start, None
        if start is not None:
            if _fits(start, data, more=more):
                self._compressor = _Zstd() if self._encoding == "zstd" else _Gzip()
                start = {**start, "headers": _changed(start["headers"], self._encoding)}
            await self._send(start)
        if self._compressor is not None:
            step = self._compressor.compress if more else self._compressor.end
            data = await asyncio.to_thread(step, data) if len(data) > _LARGE else step(data)
        await self._send({"type": "http.response.body", "body": data, "more_body": more})


def _fits(start: Any, data: bytes, *, more: bool) -> bool:
    """Whether an answer is to be compressed."""
    headers = {name.lower(): value for name, value in start["headers"]}
    kind = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
    if start["status"] != 200 and start["status"] < 400:
        return False
    if b"content-encoding" in headers or b"content-range" in headers or b"accept-ranges" in headers:
        return False
    is_text = kind != _STREAM and (kind.startswith("text/") or kind.endswith(_ENDS))
    return is_text and (more or len(data) >= _LEAST)


def _changed(headers: Any, encoding: str) -> list[tuple[bytes, bytes]]:
    kept = [(name, value) for name, value in headers if name.lower() not in {b"content-length", b"vary"}]
    return [*kept, (b"content-encoding", encoding.encode()), (b"vary", b"Accept-Encoding")]
