"""``runstream experiments``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from runstream_sink.cli import output
from runstream_sink.cli.exits import Exit
from runstream_sink.cli.options import JsonOption, StoreOption, opened, resolve, wait_for
from runstream_sink.config import Options

if TYPE_CHECKING:
    from runstream_sink.query.records import Experiment

__all__ = ["list_"]

_PAGE = 1000


def list_(
    store: StoreOption = None,
    filter_: Annotated[
        str, typer.Option("--filter", metavar="FILTER", help="In MLflow's grammar: \"name LIKE 'night%'\".")
    ] = "",
    json: JsonOption = False,
) -> int:
    """List all experiments, deleted ones too, by id."""
    experiments = wait_for(_read(resolve(store=store), filter_))
    if json:
        output.print_json(experiments)
    else:
        rows = [(e.experiment_id, e.name, e.lifecycle, output.time_of(e.creation_time)) for e in experiments]
        output.print_table(("id", "name", "lifecycle", "created"), rows)
    return Exit.OK


async def _read(options: Options, filter_: str) -> list[Experiment]:
    from runstream_sink.query.experiments import search_experiments

    found: list[Experiment] = []
    cursor = None
    async with opened(options) as reader:
        while True:
            page = await search_experiments(reader, filter_, ["experiment_id"], "all", _PAGE, cursor)
            found += page.experiments
            cursor = page.cursor
            if cursor is None:
                return found
