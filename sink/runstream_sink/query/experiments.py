"""Experiments: listed, by id, by name."""

from collections import defaultdict

from runstream_schemas.errors import InvalidInputError
from runstream_schemas.names import experiment_id_of, is_experiment_id
from runstream_sink.query.json_text import json_text
from runstream_sink.query.records import Experiment, NotFoundError
from runstream_sink.store.protocol import Row, StoreReader

__all__ = ["find_experiment", "list_experiments"]


async def list_experiments(
    reader: StoreReader, *, lifecycle: str | None = None, after: str | None = None, limit: int = 1000
) -> list[Experiment]:
    """Experiments by ascending id, from behind the id ``after``.

    ``lifecycle`` is ``active``, ``deleted`` or None for all.  Raises `InvalidInputError` if ``after`` is no id.
    """
    if after is not None and not is_experiment_id(after):
        raise InvalidInputError(f"experiment id {after!r:.100} is not a decimal number below 2**63")
    start = -1 if after is None else int(after)
    return await _filled(reader, await reader.fetch("experiments_page", lifecycle=lifecycle, after=start, limit=limit))


async def find_experiment(reader: StoreReader, name_or_id: str) -> Experiment:
    """The experiment with this id, else with this name.

    Of several with one name it is the one whose id is computed from the name, else the one with the least id.
    Raises `NotFoundError`.
    """
    rows: list[Row] = []
    if is_experiment_id(name_or_id):
        rows = await reader.fetch("experiment_by_id", experiment_id=name_or_id)
    if not rows:
        rows = await reader.fetch("experiments_by_name", name=name_or_id)
        computed = experiment_id_of(name_or_id)
        rows.sort(key=lambda row: row[0] != computed)
    if not rows:
        raise NotFoundError(f"there is no experiment {name_or_id!r:.200}; see `runstream experiments list`")
    return (await _filled(reader, rows[:1]))[0]


async def _filled(reader: StoreReader, rows: list[Row]) -> list[Experiment]:
    """Experiments of rows, with their tags."""
    tags: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for experiment_id, key, value in await reader.fetch(
        "tags_of_experiments", experiments=json_text([row[0] for row in rows])
    ):
        tags[experiment_id][key] = value
    return [Experiment(*(*row, tags[row[0]])) for row in rows]
