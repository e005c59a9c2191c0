"""An LLM server that logs every request: OpenAI's chat completions, as an ASGI application without a framework.

    pip install runstream uvicorn
    python examples/serving.py --port 8000                                    # or: uvicorn examples.serving:app
    curl localhost:8000/v1/chat/completions -d '{"messages": [{"role": "user", "content": "What does yield do?"}]}'
    curl localhost:8000/healthz
    runstream sink

The server is one run, with its settings as params.  A request leaves a row in the run's table ``predictions`` and a
point of each metric, whether it was answered, refused, failed or was given up by its client; logging comes last, when
the client has its answer.  Log calls neither wait nor raise for what the environment does, so they stand in the
coroutine as they are.  Where several worker processes serve, each is a run.

Answers come from an OpenAI-compatible server (``--upstream http://localhost:8080/v1``; a key is OPENAI_API_KEY), or
from a simulated model that cites Python's documentation after a latency that can be set.
"""

import argparse
import asyncio
import contextlib
import functools
import itertools
import os
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping, Sequence
from typing import Any, Final

import msgspec

import runstream

if __package__:
    from examples.chat_models import MAX_TOKENS, Chat, Exchange, Model, Simulated, Upstream, UpstreamError
else:
    from chat_models import MAX_TOKENS, Chat, Exchange, Model, Simulated, Upstream, UpstreamError

__all__ = ["Application", "RunLog", "app", "main"]

MAX_BODY: Final = 4 << 20
"""Bytes that a request may have."""
TIMEOUT: Final = 120.0
"""Seconds that an answer may take."""
_FLUSH_TIMEOUT: Final = 10.0

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class ClientGoneError(Exception):
    """The client has closed the connection."""


class RunLog:
    """The run of this server: what it logs of every request."""

    def __init__(self, model: Model) -> None:
        runstream.set_experiment("serving")
        self._run = runstream.start_run(run_name=model.name)
        self._run.log_params({"model": model.name, "max_tokens": MAX_TOKENS, **model.settings})
        self._numbers = itertools.count()

    def log(self, exchange: Exchange) -> None:
        """Log a request that is over."""
        run = self._run
        run.log_prediction(msgspec.structs.asdict(exchange))
        metrics = {
            "latency_ms": exchange.latency_ms,
            "prompt_tokens": exchange.prompt_tokens,
            "completion_tokens": exchange.completion_tokens,
            "ok": exchange.status == "ok",
        }
        run.log_metrics(metrics, step=next(self._numbers))

    async def close(self) -> None:
        """End the run, and wait until all is on the disk."""
        self._run.end()
        await runstream.aflush(timeout=_FLUSH_TIMEOUT)


class Application:
    """The ASGI application."""

    def __init__(self, model: Model, open_log: Callable[[Model], RunLog] = RunLog) -> None:
        self._model = model
        self._open_log = open_log
        self._begin = f"chatcmpl-{os.urandom(6).hex()}"
        self._numbers = itertools.count(1)

    @functools.cached_property
    def log(self) -> RunLog:
        """The log, opened in the process that serves: a server may load the application and fork then."""
        return self._open_log(self._model)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection, or the life of the server, as ASGI has it."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        route = (scope["method"], scope["path"])
        if route == ("POST", "/v1/chat/completions"):
            await self._chat(receive, send)
        elif route == ("GET", "/healthz"):
            await _send_json(send, 200, {"status": "ok", "logging": runstream.stats()})
        else:
            await _send_json(send, 404, _error("not_found", f"there is no {' '.join(route)}"))

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        log = self.log
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await log.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _chat(self, receive: Receive, send: Send) -> None:
        """Answer a request, and log it whatever became of it."""
        began = time.perf_counter()
        exchange = Exchange(f"{self._begin}-{next(self._numbers)}")
        try:
            body = await _read_body(receive)
            await _unless_gone(receive, self._answer(body, exchange, send))
        except ClientGoneError:
            exchange.status = "cancelled"
        except BaseException as error:  # a mistake in this program, or the server's end
            exchange.status, exchange.error = "failed", f"{type(error).__name__}: {error}"
            raise
        finally:
            exchange.latency_ms = (time.perf_counter() - began) * 1e3
            self.log.log(exchange)

    async def _answer(self, body: bytes | None, exchange: Exchange, send: Send) -> None:
        try:
            if body is None:
                raise msgspec.ValidationError(f"the request has more than {MAX_BODY} bytes")
            chat = _decode_chat(body)
        except msgspec.DecodeError as error:
            exchange.status, exchange.error = "refused", str(error)
            await _send_json(send, 400, _error("invalid_request_error", str(error)))
            return
        exchange.prompt = chat.prompt
        reply = Reply(send, exchange, self._model.name, chat.stream)
        try:
            async with asyncio.timeout(TIMEOUT), contextlib.aclosing(self._model.answer(chat, exchange)) as pieces:
                async for piece in pieces:
                    exchange.answer += piece
                    await reply.add(piece)
        except UpstreamError as error:
            exchange.status, exchange.error = "failed", str(error)
        except TimeoutError:
            exchange.status, exchange.error = "failed", f"no answer within {TIMEOUT:g} s"
        await reply.end()


class Reply:
    """What the client gets: one JSON object, or server-sent events."""

    def __init__(self, send: Send, exchange: Exchange, model: str, stream: bool) -> None:
        self._send, self._exchange, self._model, self._stream = send, exchange, model, stream
        self._began = False

    async def add(self, piece: str) -> None:
        """Take a piece of the answer."""
        if self._stream:
            await self._send_event(self._completion({"delta": {"content": piece}, "finish_reason": None}))

    async def end(self) -> None:
        """The answer is complete, or there will be none."""
        exchange = self._exchange
        failed = _error("upstream_error", exchange.error) if exchange.error else None
        if self._stream and (self._began or not failed):
            await self._send_event(failed or self._completion({"delta": {}, "finish_reason": "stop"}))
            await self._send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})
        elif failed:
            await _send_json(self._send, 502, failed)
        else:
            message = {"role": "assistant", "content": exchange.answer}
            await _send_json(self._send, 200, self._completion({"message": message, "finish_reason": "stop"}))

    async def _send_event(self, event: dict[str, Any]) -> None:
        if not self._began:
            self._began = True
            headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        body = b"data: %s\n\n" % _encode_json(event)
        await self._send({"type": "http.response.body", "body": body, "more_body": True})

    def _completion(self, choice: dict[str, Any]) -> dict[str, Any]:
        prompt, answer = self._exchange.prompt_tokens, self._exchange.completion_tokens
        return {
            "id": self._exchange.request_id,
            "object": "chat.completion.chunk" if self._stream else "chat.completion",
            "created": int(time.time()),
            "model": self._model,
            "choices": [{"index": 0, **choice}],
            "usage": {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer},
        }


_decode_chat: Final = msgspec.json.Decoder(Chat).decode
_encode_json: Final = msgspec.json.Encoder().encode


def _error(kind: str, message: str) -> dict[str, Any]:
    return {"error": {"type": kind, "message": message}}


async def _send_json(send: Send, status: int, content: dict[str, Any]) -> None:
    body = _encode_json(content)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _read_body(receive: Receive) -> bytes | None:
    """A request's body; None if it is too large."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        body += message.get("body", b"")
        more = message.get("more_body", False) and len(body) <= MAX_BODY
    return body if len(body) <= MAX_BODY else None


async def _unless_gone(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Do the work; if the client goes away, cancel it and raise `ClientGoneError`."""
    working, waiting = asyncio.ensure_future(work), asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait((working, waiting), return_when=asyncio.FIRST_COMPLETED)
    finally:
        working.cancel()
        waiting.cancel()
        await asyncio.wait((working, waiting))
    if working.cancelled():
        raise ClientGoneError
    working.result()


async def _gone(receive: Receive) -> None:
    """Wait until the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0: any that is free")
    given = os.environ.get
    parser.add_argument("--upstream", default=given("SERVING_UPSTREAM", ""), help="an OpenAI-compatible server")
    parser.add_argument("--model", default=given("SERVING_MODEL", "default"), help="what the upstream is asked for")
    parser.add_argument("--latency", type=float, default=given("SERVING_LATENCY", "0.05"), help="seconds, simulated")
    return parser.parse_args(arguments)


def _application(options: argparse.Namespace) -> Application:
    upstream = options.upstream
    return Application(Upstream(upstream, options.model) if upstream else Simulated(options.latency))


def main() -> None:
    """Serve until SIGTERM."""
    import uvicorn

    options = _options(sys.argv[1:])
    uvicorn.run(_application(options), host=options.host, port=options.port)


app: Final = _application(_options(()))
"""For servers that are given a name; settings come from the environment."""

if __name__ == "__main__":
    main()
