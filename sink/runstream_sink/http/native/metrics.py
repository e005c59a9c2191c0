"""Histories of metrics: listed, page by page, as buckets."""

from typing import Annotated, Final

from litestar import Router
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from runstream_sink.http.context import Context
from runstream_sink.http.native.models import (
    Bucket,
    BucketQuery,
    Buckets,
    LimitQuery,
    Metric,
    Metrics,
    PointPage,
    StepQuery,
    point,
)
from runstream_sink.http.native.routes import get, post
from runstream_sink.query import get_run, list_metrics, metric_buckets, metric_page

__all__ = ["ROUTER"]


@get("/runs/{run_id:str}/metrics")
async def list_metrics_of_run(context: Context, run_id: FromPath[str]) -> Metrics:
    """The metrics of a run."""
    await get_run(context.reader, run_id)
    return Metrics([Metric.of(held) for held in await list_metrics(context.reader, run_id)])


@get("/runs/{run_id:str}/metrics/points")
async def list_points(
    context: Context,
    run_id: FromPath[str],
    key: FromQuery[str],
    limit: LimitQuery = 1000,
    cursor: FromQuery[str | None] = None,
) -> PointPage:
    """All points of a metric, page by page."""
    await get_run(context.reader, run_id)
    page = await metric_page(context.reader, run_id, key, limit, cursor)
    return PointPage([point(held) for held in page.points], page.cursor)


@get("/runs/{run_id:str}/metrics/buckets")
async def bucket_points_of_run(
    context: Context,
    run_id: FromPath[str],
    key: FromQuery[str],
    buckets: Annotated[int, QueryParameter(ge=1, le=10_000)] = 1000,
    start_step: StepQuery = None,
    end_step: StepQuery = None,
) -> Buckets:
    """A metric's points as at most so many buckets of steps, for a chart."""
    await get_run(context.reader, run_id)
    found = await metric_buckets(context.reader, [run_id], key, buckets, start_step, end_step)
    return Buckets({held: [Bucket.of(bucket) for bucket in made] for held, made in found.items()})


@post("/metrics/buckets", status_code=200)
async def bucket_points_of_runs(context: Context, data: JSONBody[BucketQuery]) -> Buckets:
    """The same of several runs, in buckets that begin at the same steps."""
    found = await metric_buckets(context.reader, data.run_ids, data.key, data.buckets, data.start_step, data.end_step)
    return Buckets({held: [Bucket.of(bucket) for bucket in made] for held, made in found.items()})


ROUTER: Final = Router(
    "/",
    route_handlers=[list_metrics_of_run, list_points, bucket_points_of_run, bucket_points_of_runs],
    tags=["metrics"],
)
