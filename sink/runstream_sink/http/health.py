"""``/healthz``: the process is alive; ``/readyz``: it can do its work; ``/metrics``: how it stands, for Prometheus.

See https://prometheus.io/docs/instrumenting/exposition_formats/ for the text format.
"""

import asyncio
import resource
import sys
from collections.abc import Iterable, Iterator
from typing import Final

from litestar import Response, get
from litestar.types import ControllerRouterHandler

from runstream_schemas.errors import RunstreamError
from runstream_sink.http.context import Context, HttpContext
from runstream_sink.http.measures import Histogram
from runstream_sink.http.state import StreamState, stream_state
from runstream_sink.query import counts

__all__ = ["ROUTES", "render"]

_TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
_PAGE: Final = resource.getpagesize()
_MAXRSS_UNIT: Final = 1024
_QUERY_PATIENCE: Final = 5.0


@get("/healthz", include_in_schema=False, media_type="text/plain", sync_to_thread=False)
def healthz() -> str:
    """The event loop answers."""
    return "ok\n"


@get("/readyz", include_in_schema=False, media_type="text/plain")
async def readyz(context: Context) -> Response[str]:
    """The store answers, and the consumer applies what comes.  Says no more than a word: it needs no token."""
    if context.progress.failure:
        return Response("the consumer fails\n", status_code=503, media_type="text/plain")
    if context.changes.closed:
        return Response("ending\n", status_code=503, media_type="text/plain")
    try:
        async with asyncio.timeout(_QUERY_PATIENCE):
            await counts(context.reader)
    except (RunstreamError, TimeoutError):
        return Response("the store does not answer\n", status_code=503, media_type="text/plain")
    return Response("ready\n", media_type="text/plain")


@get("/metrics", include_in_schema=False)
async def metrics(context: Context) -> Response[bytes]:
    """Everything that is measured."""
    text = render(context, await stream_state(context))
    return Response(text.encode(), headers={"content-type": _TEXT, "cache-control": "no-store"})


def render(context: HttpContext, state: StreamState) -> str:
    """The metrics as text."""
    return "\n".join([*_stream_lines(state), *_http_lines(context), *_process_lines(), ""])


Sample = tuple[dict[str, str], float | None]


def _stream_lines(state: StreamState) -> Iterator[str]:
    plain: tuple[tuple[str, str, str, float | None], ...] = (
        ("runstream_applied_events_total", "counter", "Events applied.", state.applied_events),
        ("runstream_duplicate_events_total", "counter", "Events that had been applied before.", state.duplicate_events),
        ("runstream_applied_bytes_total", "counter", "Bytes of events applied.", state.applied_bytes),
        ("runstream_commits_total", "counter", "Commits.", state.commits),
        ("runstream_backlog_events", "gauge", "Events in journals that nobody has taken.", state.backlog_events),
        ("runstream_backlog_bytes", "gauge", "Bytes of events in journals that nobody has taken.", state.backlog_bytes),
        ("runstream_backlog_age_seconds", "gauge", "Age of the oldest of them.", state.oldest_age_seconds or 0.0),
        ("runstream_topic_lag_records", "gauge", "Records of the topic that are not applied.", state.lag_records),
        ("runstream_missing_events", "gauge", "Events that never came.", sum(gap.events for gap in state.gaps)),
        ("runstream_consumer_failing", "gauge", "1 while nothing can be applied.", int(bool(state.failure))),
        ("runstream_stream_reachable", "gauge", "1 if the stream could be asked.", int(not state.stream_error)),
    )
    for name, kind, text, value in plain:
        yield from _family(name, kind, text, [({}, value)])
    dead: list[Sample] = [({"reason": reason}, count) for reason, count in sorted(state.dead_letters.items())]
    yield from _family("runstream_dead_letters", "gauge", "Dead letters that were not retried.", dead)
    lost: dict[str, int] = {}
    for loss in state.losses:
        lost[loss.reason] = lost.get(loss.reason, 0) + loss.count
    samples: list[Sample] = [({"reason": reason}, count) for reason, count in sorted(lost.items())]
    yield from _family("runstream_lost_events", "gauge", "Events that producers dropped.", samples)


def _http_lines(context: Context) -> Iterator[str]:
    measures = context.measures
    yield from _histogram("runstream_commit_seconds", "Duration of commits.", measures.commits)
    requests: list[Sample] = [
        ({"route": route, "method": method, "status": str(status)}, count)
        for (route, method, status), count in sorted(measures.requests.items())
    ]
    yield from _family("runstream_http_requests_total", "counter", "Requests answered.", requests)
    yield from _family("runstream_http_open_requests", "gauge", "Being answered.", [({}, measures.open_requests)])
    written = context.writer.events
    yield from _family("runstream_http_written_events_total", "counter", "Events written by HTTP.", [({}, written)])


def _process_lines() -> Iterator[str]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    yield from _family(
        "process_cpu_seconds_total", "counter", "Of the processor.", [({}, usage.ru_utime + usage.ru_stime)]
    )
    yield from _family("process_resident_memory_bytes", "gauge", "In memory now.", [({}, _resident())])
    peak = usage.ru_maxrss * _MAXRSS_UNIT
    yield from _family("process_peak_resident_memory_bytes", "gauge", "Most in memory so far.", [({}, peak)])
    version = ".".join(map(str, sys.version_info[:3]))
    yield from _family("runstream_info", "gauge", "What runs.", [({"python": version}, 1)])


def _resident() -> int | None:
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - a line in memory, no file
            return int(file.read().split()[1]) * _PAGE
    except OSError:
        return None


def _family(name: str, kind: str, text: str, samples: Iterable[Sample]) -> Iterator[str]:
    known = [(labels, value) for labels, value in samples if value is not None]
    if known:
        yield f"# HELP {name} {text}"
        yield f"# TYPE {name} {kind}"
    for labels, value in known:
        yield f"{name}{_labels(labels)} {value}"


def _histogram(name: str, text: str, histogram: Histogram) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} histogram"
    total = 0
    for bound, count in zip((*histogram.bounds, "+Inf"), histogram.counts, strict=True):
        total += count
        yield f'{name}_bucket{{le="{bound}"}} {total}'
    yield f"{name}_sum {histogram.total}"
    yield f"{name}_count {total}"


def _labels(labels: dict[str, str]) -> str:
    pairs = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{pairs}}}" if pairs else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


ROUTES: Final[tuple[ControllerRouterHandler, ...]] = (healthz, readyz, metrics)
