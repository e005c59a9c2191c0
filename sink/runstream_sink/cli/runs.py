"""``runstream runs``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from runstream_schemas.errors import InvalidInputError
from runstream_schemas.events import RUN_STATUSES
from runstream_sink.cli import output
from runstream_sink.cli.exits import Exit
from runstream_sink.cli.naming import find_run
from runstream_sink.cli.options import JsonOption, StoreOption, opened, resolve, wait_for
from runstream_sink.config import Options

if TYPE_CHECKING:
    from runstream_sink.query.records import Artifact, Comparison, Run, Table

__all__ = ["compare", "list_", "show"]

_PAGE = 500
_SHORTEST = 8
_RUN = Annotated[str, typer.Argument(metavar="RUN", help="The run's id, or enough of its beginning.")]
_RUNS = Annotated[list[str], typer.Argument(metavar="RUN...", help="Ids of runs, or enough of their beginnings.")]


def list_(
    store: StoreOption = None,
    experiment: Annotated[str | None, typer.Option("--experiment", metavar="NAME", help="Name or id.")] = None,
    status: Annotated[
        str | None, typer.Option("--status", metavar="STATUS", help=f"One of {', '.join(RUN_STATUSES)}.")
    ] = None,
    filter_: Annotated[
        str, typer.Option("--filter", metavar="FILTER", help='In MLflow\'s grammar: "metrics.loss < 0.3".')
    ] = "",
    order: Annotated[
        list[str] | None,
        typer.Option("--order", metavar="KEY", help='In MLflow\'s grammar: "metrics.loss DESC".  May be given again.'),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="The most runs to list.")] = 100,
    json: JsonOption = False,
) -> int:
    """List runs that are not deleted, the newest first unless an order is given."""
    if status is not None and status.upper() not in RUN_STATUSES:
        raise InvalidInputError(f"the status {status!r:.50} is none of {', '.join(RUN_STATUSES)}")
    if status is not None:
        filter_ += f"{' AND ' if filter_ else ''}status = '{status.upper()}'"
    runs, names = wait_for(_list(resolve(store=store), experiment, filter_, order or [], limit))
    if json:
        output.print_json(runs)
    else:
        rows = [
            (r.run_id, r.name, names[r.experiment_id], r.status, output.time_of(r.start_time), _length(r)) for r in runs
        ]
        output.print_table(("run", "name", "experiment", "status", "started", "took"), rows)
    return Exit.OK


def show(run: _RUN, store: StoreOption = None, json: JsonOption = False) -> int:
    """Show one run: params, latest metrics, tags, tables and artifacts."""
    found, tables, artifacts = wait_for(_show(resolve(store=store), run))
    if json:
        held = [{"name": table.name, "rows": table.rows, "columns": list(table.columns)} for table in tables]
        output.print_json({"run": found, "tables": held, "artifacts": artifacts})
    else:
        _print_run(found, tables, artifacts)
    return Exit.OK


def compare(runs: _RUNS, store: StoreOption = None, json: JsonOption = False) -> int:
    """Show the params and latest metrics of runs side by side; what differs is marked with a star."""
    compared = wait_for(_compare(resolve(store=store), runs))
    if json:
        output.print_json(_comparison(compared))
    else:
        rows = [*_head(compared.runs), *_compared("param", compared.params), *_compared("metric", compared.metrics)]
        output.print_table(("", "", "run", *_short([run.run_id for run in compared.runs])), rows)
    return Exit.OK


async def _list(
    options: Options, experiment: str | None, filter_: str, order: list[str], limit: int
) -> tuple[list[Run], dict[str | None, str | None]]:
    """Runs, and the names of their experiments by id; the id itself where there is no name."""
    from runstream_sink.query.experiments import find_experiment
    from runstream_sink.query.runs import search_runs

    found: list[Run] = []
    async with opened(options) as reader:
        ids = None if experiment is None else [(await find_experiment(reader, experiment)).experiment_id]
        cursor = None
        while len(found) < limit:
            size = min(limit - len(found), _PAGE)
            page = await search_runs(reader, ids, filter_, order, limit=size, cursor=cursor)
            found += page.runs
            cursor = page.cursor
            if cursor is None:
                break
        named = {run.experiment_id for run in found}
        names = {key: key and ((await find_experiment(reader, key)).name or key) for key in named}
    return found, names


async def _show(options: Options, prefix: str) -> tuple[Run, list[Table], list[Artifact]]:
    from runstream_sink.query.runs import get_run, list_artifacts
    from runstream_sink.query.tables import list_tables

    async with opened(options) as reader:
        run_id = await find_run(reader, prefix)
        return (
            await get_run(reader, run_id),
            await list_tables(reader, run_id),
            await list_artifacts(reader, run_id),
        )


async def _compare(options: Options, prefixes: list[str]) -> Comparison:
    from runstream_sink.query.runs import compare_runs

    async with opened(options) as reader:
        return await compare_runs(reader, [await find_run(reader, prefix) for prefix in prefixes])


def _length(run: Run) -> str | None:
    if run.start_time is None or run.end_time is None:
        return None
    return output.duration((run.end_time - run.start_time) / 1000)


def _print_run(run: Run, tables: list[Table], artifacts: list[Artifact]) -> None:
    fields = [
        ("run", run.run_id),
        ("name", run.name),
        ("experiment", run.experiment_id),
        ("user", run.user),
        ("status", run.status),
        ("lifecycle", run.lifecycle),
        ("started", output.time_of(run.start_time)),
        ("ended", output.time_of(run.end_time)),
    ]
    output.print_table(("", ""), fields)
    metrics = [(key, output.number(p.value), p.step, output.time_of(p.timestamp)) for key, p in run.metrics.items()]
    for columns, rows in (
        (("param", "value"), list(run.params.items())),
        (("metric", "latest", "step", "at"), metrics),
        (("tag", "value"), list(run.tags.items())),
        (("table", "rows", "columns"), [(table.name, table.rows, ", ".join(table.columns)) for table in tables]),
        (
            ("artifact", "size", "type", "sha256"),
            [(a.path, output.size(a.size), a.media_type, a.sha256) for a in artifacts],
        ),
    ):
        if rows:
            output.lines([""])
            output.print_table(columns, rows)


def _short(run_ids: list[str]) -> list[str]:
    """The beginnings of ids, as long as they must be to tell them apart."""
    length = next((n for n in range(_SHORTEST, 32) if len({i[:n] for i in run_ids}) == len(set(run_ids))), 32)
    return [run_id[:length] for run_id in run_ids]


def _differ(values: list[Any]) -> bool:
    """Whether runs differ; NaN does not differ from NaN."""
    return len(set(map(repr, values))) > 1


def _comparison(compared: Comparison) -> dict[str, Any]:
    def marked(values: dict[str, Any]) -> dict[str, Any]:
        return {key: {"values": held, "differs": _differ(held)} for key, held in values.items()}

    return {"runs": compared.runs, "params": marked(compared.params), "metrics": marked(compared.metrics)}


def _head(runs: list[Run]) -> list[tuple[Any, ...]]:
    return [("", "", "name", *(run.name for run in runs)), ("", "", "status", *(run.status for run in runs))]


def _compared(kind: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [
        ("*" if _differ(held) else "", kind, key, *(output.number(v) if isinstance(v, float) else v for v in held))
        for key, held in values.items()
    ]
