"""HEAD requests (RFC 9110, 9.3.2): handled as GET is, and answered without the content."""

from runstream_sink.http.asgi import App, Message, Receive, Scope, Send

__all__ = ["HEAD", "Headed"]

HEAD = "runstream.head"
"""In the scope of a request whose content nobody wants: it need not be read."""


class Headed:
    """Lets an application that knows GET answer HEAD."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        ended = False

        async def without_content(message: Message) -> None:
            nonlocal ended
            if message["type"] == "http.response.body":
                if ended:
                    return
                ended = True
                message = {"type": "http.response.body", "body": b"", "more_body": False}
            await send(message)

        scope = {**scope, "method": "GET", HEAD: True}
        await self._app(scope, receive, without_content)
