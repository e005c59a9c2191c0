"""What is counted about requests and commits, for /metrics."""

from bisect import bisect_left
from collections import Counter
from typing import Final

from runstream_sink.http.asgi import App, Message, Receive, Scope, Send

__all__ = ["Histogram", "Measured", "Measures"]

_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds."""
_UNROUTED: Final = "unrouted"
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Histogram:
    """How many of some durations were at most so long."""

    def __init__(self, bounds: tuple[float, ...] = _BOUNDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """Not cumulative; the last is for what is longer than all bounds."""
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """One duration more."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds


class Measures:
    """Since the sink serves."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, int]] = Counter()
        """By route, method and status."""
        self.commits = Histogram()
        self.open_requests = 0

    def count(self, route: str | None, method: str, status: int) -> None:
        """A request was answered; ``route`` is None where it led nowhere."""
        self.requests[route or _UNROUTED, method if method in _METHODS else "other", status] += 1


class Measured:
    """Counts the requests of an application."""

    def __init__(self, app: App, measures: Measures) -> None:
        self._app = app
        self._measures = measures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._measures.open_requests += 1
        try:
            await self._app(scope, receive, watched)
        finally:
            self._measures.open_requests -= 1
            self._measures.count(scope.get("path_template"), scope["method"], status or 500)
