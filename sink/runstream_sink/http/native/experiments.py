"""/api/v1/experiments."""

from typing import Annotated, Final

from litestar import Router
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from msgspec import UnsetType

from runstream_sink.http import actions
from runstream_sink.http.context import Context, HttpContext
from runstream_sink.http.native.models import (
    ExperimentChange,
    ExperimentPage,
    ExperimentSearch,
    Lifecycle,
    LimitQuery,
    NewExperiment,
)
from runstream_sink.http.native.routes import delete, get, patch, post
from runstream_sink.query import Experiment, get_experiment, get_experiment_by_name, search_experiments

__all__ = ["ROUTER"]

_Filter = Annotated[str, QueryParameter(name="filter", description="MLflow's search grammar.")]
_Cursor = Annotated[str | None, QueryParameter(description="That of the page before, of the same search.")]


@get("/")
async def list_experiments(
    context: Context,
    filter_: _Filter = "",
    order_by: FromQuery[list[str] | None] = None,
    lifecycle: FromQuery[Lifecycle] = "active",
    limit: LimitQuery = 100,
    cursor: _Cursor = None,
) -> ExperimentPage:
    """A page of the experiments that meet the filter, the newest first by default."""
    return await _search(context, ExperimentSearch(filter_, order_by or [], lifecycle, limit, cursor))


@post("/search", status_code=200)
async def find_experiments(context: Context, data: JSONBody[ExperimentSearch]) -> ExperimentPage:
    """The same, for filters that are too long for an address."""
    return await _search(context, data)


@post("/")
async def create_experiment(context: Context, data: JSONBody[NewExperiment]) -> Experiment:
    """Make an experiment.  409 if the name is taken."""
    return await actions.create_experiment(context, data.name, data.tags)


@get("/by-name")
async def find_experiment_by_name(context: Context, name: FromQuery[str]) -> Experiment:
    """The experiment of that name; of several the one whose id is computed from the name, else the least."""
    return await get_experiment_by_name(context.reader, name)


@get("/{experiment_id:str}")
async def show_experiment(context: Context, experiment_id: FromPath[str]) -> Experiment:
    """One experiment."""
    return await get_experiment(context.reader, experiment_id)


@patch("/{experiment_id:str}")
async def change_experiment(
    context: Context, experiment_id: FromPath[str], data: JSONBody[ExperimentChange]
) -> Experiment:
    """Rename it, set tags, or both."""
    if not isinstance(data.name, UnsetType):
        await actions.rename_experiment(context, experiment_id, data.name)
    tags = {} if isinstance(data.tags, UnsetType) else data.tags
    return await actions.set_experiment_tags(context, experiment_id, tags)


@delete("/{experiment_id:str}/tags", status_code=200)
async def delete_experiment_tag(context: Context, experiment_id: FromPath[str], key: FromQuery[str]) -> Experiment:
    """Remove a tag."""
    return await actions.delete_experiment_tag(context, experiment_id, key)


@delete("/{experiment_id:str}", status_code=200)
async def delete_experiment(context: Context, experiment_id: FromPath[str]) -> Experiment:
    """Mark it and its runs as deleted."""
    return await actions.change_experiment(context, experiment_id, deleted=True)


@post("/{experiment_id:str}/restore", status_code=200)
async def restore_experiment(context: Context, experiment_id: FromPath[str]) -> Experiment:
    """Make it and its runs active again."""
    return await actions.change_experiment(context, experiment_id, deleted=False)


async def _search(context: HttpContext, wanted: ExperimentSearch) -> ExperimentPage:
    page = await search_experiments(
        context.reader, wanted.filter, wanted.order_by, wanted.lifecycle, wanted.limit, wanted.cursor
    )
    return ExperimentPage(page.experiments, page.cursor)


ROUTER: Final = Router(
    "/experiments",
    route_handlers=[
        list_experiments,
        find_experiments,
        create_experiment,
        find_experiment_by_name,
        show_experiment,
        change_experiment,
        delete_experiment_tag,
        delete_experiment,
        restore_experiment,
    ],
    tags=["experiments"],
)
