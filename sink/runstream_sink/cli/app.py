"""All commands as one typer application, and the one place where errors become a line and an exit code."""

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any, Final

import typer

from runstream_schemas.errors import RunstreamError
from runstream_sink.cli import SUMMARIES
from runstream_sink.cli.consume import digest, replay, sink
from runstream_sink.cli.dead_letters import list_ as list_letters
from runstream_sink.cli.dead_letters import retry as retry_letters
from runstream_sink.cli.dead_letters import show as show_letter
from runstream_sink.cli.demo import demo
from runstream_sink.cli.exits import Exit, exit_of
from runstream_sink.cli.experiments import list_ as list_experiments
from runstream_sink.cli.metrics import list_ as list_metrics
from runstream_sink.cli.metrics import show as show_metric
from runstream_sink.cli.runs import compare as compare_runs
from runstream_sink.cli.runs import list_ as list_runs
from runstream_sink.cli.runs import show as show_run
from runstream_sink.cli.settings import config
from runstream_sink.cli.sql import sql
from runstream_sink.cli.status import status
from runstream_sink.cli.tables import export as export_rows
from runstream_sink.cli.tables import list_ as list_tables
from runstream_sink.cli.tables import show as show_table
from runstream_sink.cli.verify import verify

__all__ = ["app", "run"]

_USAGE_ERROR: Final[Any] = typer.BadParameter.__base__
"""Typer's own, or click's: newer versions of typer bring a click of their own."""


def _group(help_text: str, **commands: Any) -> typer.Typer:
    group = typer.Typer(help=help_text, no_args_is_help=True, rich_markup_mode=None)
    for name, command in commands.items():
        group.command(name)(command)
    return group


app: Final = typer.Typer(
    name="runstream", no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
)
"""The commands of the sink's side."""

app.command("sink")(sink)
app.command("replay")(replay)
app.command("digest")(digest)
app.command("verify")(verify)
app.command("status")(status)
app.add_typer(_group(SUMMARIES["dlq"], list=list_letters, show=show_letter, retry=retry_letters), name="dlq")
app.add_typer(_group(SUMMARIES["experiments"], list=list_experiments), name="experiments")
app.add_typer(_group(SUMMARIES["runs"], list=list_runs, show=show_run, compare=compare_runs), name="runs")
app.add_typer(_group(SUMMARIES["tables"], list=list_tables, show=show_table, export=export_rows), name="tables")
app.add_typer(_group(SUMMARIES["metrics"], list=list_metrics, show=show_metric), name="metrics")
app.command("sql")(sql)
app.command("config")(config)
app.command("demo", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(demo)


def run(arguments: Sequence[str]) -> int:
    """Run a command line, the command's name first; returns the exit code.  Raises ImportError for a missing extra.

    (Typer makes a SystemExit of a broken pipe.)
    """
    try:
        code = app(list(arguments), prog_name="runstream", standalone_mode=False)
        sys.stdout.flush()
    except ImportError:
        raise
    except (KeyboardInterrupt, typer.Abort):
        return Exit.INTERRUPTED
    except (BrokenPipeError, SystemExit) as error:
        if not isinstance(error.__context__ or error, BrokenPipeError):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the flush at exit does not fail again
        return Exit.PIPE
    except _USAGE_ERROR as error:
        error.show()
        return Exit.USAGE
    except (RunstreamError, OSError) as error:
        print(f"runstream: {error}", file=sys.stderr)  # noqa: T201
        return exit_of(error)
    except Exception:  # noqa: BLE001 - the last resort: the exit code must not be one that means something else
        traceback.print_exc()
        return Exit.INTERNAL
    return code if isinstance(code, int) else Exit.OK
