"""What the handlers of all APIs share."""

from typing import TypeAlias

from litestar.di import NamedDependency

from runstream_sink.applied import Applied
from runstream_sink.config import HttpOptions, Options
from runstream_sink.consumer import Progress
from runstream_sink.http.feed import ChangeFeed
from runstream_sink.http.measures import Measures
from runstream_sink.http.writer import Writer
from runstream_sink.store.protocol import StoreReader

__all__ = ["Context", "HttpContext"]


class HttpContext:
    """One sink's, as long as it serves.  Handlers get it by naming it: ``context: Context``."""

    def __init__(
        self,
        reader: StoreReader,
        options: Options,
        http: HttpOptions,
        writer: Writer,
        changes: ChangeFeed,
        applied: Applied,
        progress: Progress,
        measures: Measures,
    ) -> None:
        self.reader = reader
        """May be used by any number of tasks at once; sees what was applied when a query begins."""
        self.options = options
        self.http = http
        self.writer = writer
        self.changes = changes
        self.applied = applied
        self.progress = progress
        """What the consumer has done, and why it fails if it does."""
        self.measures = measures

    @property
    def token(self) -> str:
        """What clients must know; empty if nothing."""
        return self.http.token

    @property
    def allow_open(self) -> bool:
        """Whether other machines are served without a token."""
        return self.http.allow_open


Context: TypeAlias = NamedDependency[HttpContext]
"""The annotation by which a handler gets it."""
