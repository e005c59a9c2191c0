"""What the example of serving asks: a simulated model, or a server with OpenAI's API; and what it is asked."""

import asyncio
import contextlib
import functools
import os
import re
import urllib.parse
import zlib
from collections.abc import AsyncGenerator, AsyncIterator
from pydoc_data.topics import topics
from typing import Any, Final, Protocol

import msgspec

__all__ = ["MAX_TOKENS", "Chat", "Exchange", "Model", "Simulated", "Upstream", "UpstreamError"]

MAX_TOKENS: Final = 128
"""What an answer has at most where the request does not say."""
_TOKEN: Final = re.compile(r"\S+\s*|\s+")
_LONGEST_LINE: Final = 4 << 20


class Message(msgspec.Struct):
    """What one side said."""

    role: str
    content: str | list[dict[str, Any]] | None = None

    @property
    def text(self) -> str:
        """The content as text; parts that are not text are passed over."""
        content = self.content
        return content if isinstance(content, str) else "".join(str(part.get("text", "")) for part in content or [])


class Chat(msgspec.Struct):
    """The body of a request, as far as it is used here; what else it holds is passed over."""

    messages: list[Message]
    max_tokens: int = MAX_TOKENS
    temperature: float = 1.0
    stream: bool = False

    @property
    def prompt(self) -> str:
        """The whole conversation as text; a single message as it is."""
        if len(self.messages) == 1:
            return self.messages[0].text
        return "\n\n".join(f"{message.role}: {message.text}" for message in self.messages)


class Exchange(msgspec.Struct):
    """What becomes of one request."""

    request_id: str
    prompt: str = ""
    answer: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    latency_ms: float = 0.0
    status: str = "ok"
    """ok, refused (a bad request), failed (the upstream) or cancelled (the client went away)."""
    error: str = ""


class Model(Protocol):
    """Something that answers."""

    name: str
    settings: dict[str, Any]
    """What is worth a param."""

    def answer(self, chat: Chat, exchange: Exchange) -> AsyncGenerator[str]:
        """The answer's text: piece by piece if the chat streams, else at once.  Counts the tokens of prompt and answer.

        Raises `UpstreamError`.
        """


class UpstreamError(Exception):
    """The model did not answer; the text says why."""


class Simulated:
    """Cites the topic of Python's documentation that the prompt names, or any; a token is a word.

    The same prompt gets the same answer after the same time: between half of ``latency`` and one and a half.
    """

    name = "simulated"

    def __init__(self, latency: float) -> None:
        self.settings = {"latency_s": latency}
        self._latency = latency

    async def answer(self, chat: Chat, exchange: Exchange) -> AsyncGenerator[str]:
        """See `Model.answer`."""
        words = re.findall(r"\w+", chat.prompt.lower())
        number = zlib.crc32(chat.prompt.encode("utf-8", "replace"))
        topic = max(filter(topics.__contains__, words), key=len, default=_TOPICS[number % len(_TOPICS)])
        tokens = _tokens_of(topic)[: chat.max_tokens]
        exchange.prompt_tokens = len(words)
        seconds = self._latency * (0.5 + number % 1000 / 1000)
        if not chat.stream:
            await asyncio.sleep(seconds)
            exchange.completion_tokens = len(tokens)
            yield "".join(tokens)
            return
        for token in tokens:
            await asyncio.sleep(seconds / len(tokens))
            exchange.completion_tokens += 1
            yield token


_TOPICS: Final = sorted(topics)


@functools.cache
def _tokens_of(topic: str) -> list[str]:
    return _TOKEN.findall(topics[topic])


class Upstream:
    """A server with OpenAI's API.

    It is asked by HTTP/1.0, whose answers end where the connection does: that is all that a client has to know.
    """

    def __init__(self, url: str, name: str) -> None:
        self.name = name
        self.settings = {"upstream": url}
        self._url = urllib.parse.urlsplit(url.rstrip("/") + "/chat/completions")

    async def answer(self, chat: Chat, exchange: Exchange) -> AsyncGenerator[str]:
        """See `Model.answer`."""
        try:
            async with self._ask(chat) as lines:
                async for reply in _replies(lines, chat.stream):
                    if usage := reply.get("usage"):
                        exchange.prompt_tokens = usage["prompt_tokens"]
                        exchange.completion_tokens = usage["completion_tokens"]
                    for choice in reply["choices"][:1]:
                        yield choice["delta" if chat.stream else "message"].get("content") or ""
        except (OSError, ValueError, LookupError, TypeError, asyncio.IncompleteReadError) as error:
            raise UpstreamError(f"{self._url.netloc}: {type(error).__name__}: {error}") from error

    @contextlib.asynccontextmanager
    async def _ask(self, chat: Chat) -> AsyncIterator[asyncio.StreamReader]:
        """Send the request; the answer's body."""
        secure = self._url.scheme == "https"
        port = self._url.port or (443 if secure else 80)
        reader, writer = await asyncio.open_connection(
            self._url.hostname, port, ssl=secure or None, limit=_LONGEST_LINE
        )
        try:
            writer.write(self._request(chat))
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            status = head.partition("\r\n")[0].split(" ", 2)
            if status[1] != "200":
                raise UpstreamError(f"{self._url.netloc} answered {' '.join(status[1:])}: {(await reader.read(500))!r}")
            yield reader
        finally:
            writer.close()

    def _request(self, chat: Chat) -> bytes:
        asked = msgspec.to_builtins(chat) | {"model": self.name}
        if chat.stream:
            asked["stream_options"] = {"include_usage": True}
        body = msgspec.json.encode(asked)
        head = [f"POST {self._url.path} HTTP/1.0", f"Host: {self._url.netloc}", "Content-Type: application/json"]
        if key := os.environ.get("OPENAI_API_KEY"):
            head.append(f"Authorization: Bearer {key}")
        return "\r\n".join((*head, f"Content-Length: {len(body)}", "", "")).encode() + body


async def _replies(lines: asyncio.StreamReader, stream: bool) -> AsyncIterator[dict[str, Any]]:
    """What a server says: one object, or, as server-sent events, several."""
    if not stream:
        yield msgspec.json.decode(await lines.read())
        return
    async for line in lines:
        name, _, event = line.partition(b":")
        if event.strip() == b"[DONE]":
            return
        if name == b"data":
            yield msgspec.json.decode(event)
    raise UpstreamError("the answer was cut off")
