"""Histories of metrics: whole, in pages, of many runs at once, and sampled for charts.

MLflow orders points by time, then step, then value.  So it is here for metrics of up to 25,000 points; those of more
come page by page in the order of their steps, so that no page costs more than another.
"""

import math
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any, Final

from runstream_sink.http.mlflow.call import Call, Endpoint
from runstream_sink.http.mlflow.documents import history_document, listed
from runstream_sink.http.mlflow.errors import invalid
from runstream_sink.http.mlflow.fields import integer, text, texts
from runstream_sink.query.metrics import metric_buckets, metric_page
from runstream_sink.query.points import metric_points
from runstream_sink.query.records import Point
from runstream_sink.store.protocol import StoreReader

__all__ = ["ENDPOINTS"]

_MOST: Final = 25_000
"""Points that are sorted in memory, and most points of an answer about many runs."""
_MOST_RUNS: Final = 100
_MOST_SAMPLED: Final = 2500
_TOKEN: Final = "Invalid page token; take it from the page before"  # noqa: S105 - a message
_DOCS: Final = " See the API docs for more information about request parameters."


async def _history(call: Call) -> dict[str, Any]:
    run_id, key, limit = call.values["run_id"], call.values["metric_key"], call.values["max_results"]
    if limit is not None and limit <= 0:
        raise invalid(f"Invalid value {limit} for parameter 'max_results' supplied. It must be a positive integer.")
    kind, place = _read_token(call.values["page_token"])
    reader = call.context.reader
    points = None if kind == "by step" else await metric_points(reader, run_id, key, None, None, _MOST)
    if points is not None:
        return _part(key, sorted(points, key=_by_time), int(place), limit)
    if limit is None:
        return listed(metrics=[history_document(key, point) for point in await _all(reader, run_id, key)])
    page = await metric_page(reader, run_id, key, limit, place if kind == "by step" else None)
    following = None if page.cursor is None else _token("by step", page.cursor)
    return listed(metrics=[history_document(key, point) for point in page.points], next_page_token=following)


def _part(key: str, points: list[Point], start: int, limit: int | None) -> dict[str, Any]:
    end = len(points) if limit is None else start + limit
    following = _token("by time", str(end)) if end < len(points) else None
    return listed(metrics=[history_document(key, point) for point in points[start:end]], next_page_token=following)


async def _all(reader: StoreReader, run_id: str, key: str) -> list[Point]:
    points = await metric_points(reader, run_id, key, None, None, 1 << 62)
    return sorted(points or [], key=_by_time)


async def _bulk(call: Call) -> dict[str, Any]:
    run_ids, key = call.values["run_id"] or [], call.values["metric_key"]
    if not run_ids:
        raise invalid("GetMetricHistoryBulk request must specify at least one run_id.")
    if len(run_ids) > _MOST_RUNS:
        raise invalid(
            f"GetMetricHistoryBulk request cannot specify more than {_MOST_RUNS} run_ids. Received {len(run_ids)} "
            "run_ids."
        )
    if key is None:
        raise invalid("GetMetricHistoryBulk request must specify a metric_key.")
    wanted = _MOST if call.values["max_results"] is None else min(max(call.values["max_results"], 0), _MOST)
    found: list[dict[str, Any]] = []
    for run_id in sorted(set(run_ids)):
        if len(found) >= wanted:
            break
        points = await _all(call.context.reader, run_id, key)
        found += [{**history_document(key, point), "run_id": run_id} for point in points[: wanted - len(found)]]
    return {"metrics": found}


async def _interval(call: Call) -> dict[str, Any]:
    values = call.values
    run_ids, limit = values["run_ids"], values["max_results"]
    limit = _MOST_SAMPLED if limit is None else limit
    if len(run_ids) > _MOST_RUNS:
        raise invalid(
            f"GetMetricHistoryBulkInterval request must specify at most {_MOST_RUNS} run_ids. Received {len(run_ids)} "
            f"run_ids.{_DOCS}"
        )
    if not 1 <= limit <= _MOST_SAMPLED:
        raise invalid(f"max_results must be between 1 and {_MOST_SAMPLED}.{_DOCS}")
    start, end = values["start_step"], values["end_step"]
    if (start is None) != (end is None):
        raise invalid("If either start step or end step are specified, both must be specified.")
    if start is not None and start > end:
        raise invalid(f"end_step must be greater than start_step. Found start_step={start} and end_step={end}.")
    key, found = values["metric_key"], []
    for run_id in run_ids:
        points = await _sample(call.context.reader, run_id, key, limit, start, end)
        found += [{**history_document(key, point), "run_id": run_id} for point in points]
    return listed(metrics=found)


async def _sample(
    reader: StoreReader, run_id: str, key: str, limit: int, start: int | None, end: int | None
) -> list[Point]:
    """All points, or the first of each bucket of steps and the last one of all."""
    points = await metric_points(reader, run_id, key, start, end, limit)
    if points is not None:
        return sorted(points, key=lambda point: (point.step, point.timestamp, _value(point)))
    buckets = (await metric_buckets(reader, [run_id], key, limit, start, end)).get(run_id, [])
    sampled = [bucket.first for bucket in buckets][:limit]
    if buckets and buckets[-1].count > 1:
        sampled = [*sampled[: limit - 1], buckets[-1].last]
    return sampled


def _by_time(point: Point) -> tuple[int, int, float]:
    return point.timestamp, point.step, _value(point)


def _value(point: Point) -> float:
    """NaN is among the values where MLflow's database has it."""
    return 0.0 if math.isnan(point.value) else point.value


def _token(kind: str, place: str) -> str:
    return urlsafe_b64encode(f"{kind} {place}".encode()).decode()


def _read_token(token: str | None) -> tuple[str, str]:
    """Which order the page before had, and where it ended."""
    if not token:
        return "", "0"
    try:
        kind, _, place = urlsafe_b64decode(token.encode()).decode().rpartition(" ")
    except ValueError:
        raise invalid(_TOKEN) from None
    if kind == "by step" or (kind == "by time" and place.isascii() and place.isdecimal() and len(place) < 19):
        return kind, place
    raise invalid(_TOKEN)


_INTERVAL: Final = (
    texts("run_ids", required=True),
    text("metric_key", required=True),
    integer("start_step"),
    integer("end_step"),
    integer("max_results"),
)
ENDPOINTS: Final = (
    Endpoint(
        "GET",
        "metrics/get-history",
        _history,
        (
            text("run_id", required=True),
            text("metric_key", required=True),
            text("page_token"),
            integer("max_results"),
        ),
    ),
    Endpoint("GET", "metrics/get-history-bulk", _bulk, (texts("run_id"), text("metric_key"), integer("max_results"))),
    Endpoint("GET", "metrics/get-history-bulk-interval", _interval, _INTERVAL),
)
