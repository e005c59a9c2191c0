"""``runstream experiments``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runstream_sink.cli import output
from runstream_sink.cli.exits import Exit
from runstream_sink.cli.options import JsonOption, StoreOption, opened, resolve, wait_for
from runstream_sink.config import Options

if TYPE_CHECKING:
    from runstream_sink.query.records import Experiment

__all__ = ["list_"]

_PAGE = 1000


def list_(store: StoreOption = None, json: JsonOption = False) -> int:
    """List all experiments, deleted ones too."""
    experiments = wait_for(_read(resolve(store=store)))
    if json:
        output.print_json(experiments)
    else:
        rows = [(e.experiment_id, e.name, e.lifecycle, output.time_of(e.creation_time)) for e in experiments]
        output.print_table(("id", "name", "lifecycle", "created"), rows)
    return Exit.OK


async def _read(options: Options) -> list[Experiment]:
    from runstream_sink.query.experiments import list_experiments

    found: list[Experiment] = []
    async with opened(options) as reader:
        while page := await list_experiments(reader, after=found[-1].experiment_id if found else None, limit=_PAGE):
            found += page
    return found
