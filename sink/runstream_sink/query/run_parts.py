"""A run without what was logged into it, and its params or tags alone: for questions that are asked very often."""

from runstream_sink.query.json_text import json_text
from runstream_sink.query.records import NotFoundError, Run
from runstream_sink.store.protocol import StoreReader

__all__ = ["run_head", "run_params", "run_tags"]


async def run_head(reader: StoreReader, run_id: str) -> Run:
    """The run, with no params, metrics and tags.  Raises `NotFoundError`."""
    rows = await reader.fetch("runs_by_id", runs=json_text([run_id]))
    if not rows:
        raise NotFoundError(f"there is no run {run_id:.100}; see `runstream runs list`")
    return Run(*(*rows[0][2:], {}, {}, {}))


async def run_params(reader: StoreReader, run_id: str) -> dict[str, str]:
    """The params of a run; none where there is no such run."""
    return {key: value for _, key, value in await reader.fetch("params_of_runs", runs=json_text([run_id]))}


async def run_tags(reader: StoreReader, run_id: str) -> dict[str, str]:
    """The tags of a run, its name not among them; none where there is no such run."""
    return {key: value for _, key, value in await reader.fetch("tags_of_runs", runs=json_text([run_id]))}
