"""``runstream import-mlflow``: brings what a tracking store of MLflow's holds to a stream."""

import argparse
import contextlib
import sys
from typing import Any, Final

from runstream import config
from runstream.artifacts import Staging
from runstream.claims import Claims
from runstream.command import Command, fail
from runstream.mlflow_import.files import Files
from runstream.mlflow_import.importer import Importer, Outcome
from runstream.mlflow_import.model import Source
from runstream.mlflow_import.progress import progress
from runstream.mlflow_import.publishing import Publisher, exclusive
from runstream_schemas.errors import EnvironmentUnavailableError
from runstream_schemas.settings import JOURNAL_DIR, STREAM
from runstream_schemas.streams import KafkaStream
from runstream_schemas.values import RowEncoder

__all__ = ["main"]

_INCOMPLETE, _INTERRUPTED = 1, 130
_WORKERS: Final = 8
_SUMMARY: Final = "Bring the experiments and runs of an MLflow tracking store to the stream."
_HELP: Final = """\
Bring the experiments and runs of an MLflow tracking store to the stream: params, tags, all points of metrics, artifacts
and logged tables. Ids of runs, names, dates and users stay. Run it again at any time: it goes on where it ended, and
brings what is new. It exits with 1 if something could not be brought; the next import tries that again.
"""
_SOURCE: Final = "Where from: http(s)://HOST:PORT, sqlite:///FILE, another database's URI, or a directory (mlruns)."
_CHECK: Final = (
    "Look for new points and files of runs, too, that have ended and look as before, and fetch files whose size is as "
    "before."
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("runstream import-mlflow", description=_HELP, allow_abbrev=False)
    parser.add_argument("source", metavar="SOURCE", help=_SOURCE)
    parser.add_argument("--stream", metavar="STREAM", help=STREAM.described)
    parser.add_argument("--journal-dir", metavar="DIR", help=JOURNAL_DIR.described)
    parser.add_argument(
        "--experiment",
        metavar="NAME",
        action="append",
        default=[],
        help="Only the experiment of this name; repeatable.",
    )
    parser.add_argument(
        "--deleted", action="store_true", help="Bring deleted experiments and runs, too; they stay deleted."
    )
    parser.add_argument(
        "--keep-table-files", action="store_true", help="Keep the JSON files of logged tables beside their rows."
    )
    parser.add_argument("--check", action="store_true", help=_CHECK)
    parser.add_argument(
        "--workers",
        metavar="N",
        type=_positive,
        default=_WORKERS,
        help=f"How many runs are fetched at once. Default: {_WORKERS}",
    )
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _import(given: Any) -> Outcome:
    from runstream.mlflow_import.source import open_source

    settings = config.resolve(stream=given.stream, journal_dir=given.journal_dir)
    source = open_source(given.source)
    with exclusive(settings.queue), _shipped(settings, given), progress() as report:
        return _bring(given, settings, source, report)


def _bring(given: Any, settings: config.Config, source: Source, report: Any) -> Outcome:
    staging, encoder = Staging(settings.staging), RowEncoder()
    publisher = Publisher(settings.queue, staging)
    try:
        files = Files(source, staging, publisher.scratch, keep_tables=given.keep_table_files, check=given.check)
        importer = Importer(
            source,
            publisher,
            files,
            claims=lambda run_id, emit: Claims(
                run_id,
                settings.claim_size,
                encoder,
                lambda: staging,
                emit,
                _refuse,
            ),
            workers=given.workers,
            check=given.check,
            report=report,
        )
        return importer.run(deleted=given.deleted, names=given.experiment)
    finally:
        publisher.close()


def _refuse(reason: str) -> None:
    raise EnvironmentUnavailableError(
        f"a large cell of a table cannot be staged ({reason}); free space, and run it again"
    )


@contextlib.contextmanager
def _shipped(settings: config.Config, given: Any) -> Any:
    """Have what is imported shipped where the stream is a topic; the shipper goes on when this process has ended."""
    if not isinstance(settings.stream, KafkaStream):
        yield
        return
    from runstream.shipping.launch import Launcher

    arguments = {"stream": given.stream, "journal_dir": given.journal_dir}
    launcher = Launcher(settings.queue, settings.stream, arguments, starts=settings.shipper == "auto")
    launcher.begin()
    try:
        yield
    finally:
        launcher.end()
        if launcher.error:
            print(f"runstream: {launcher.error}", file=sys.stderr)  # noqa: T201


def _tell(outcome: Outcome) -> int:
    """Say what was done, and what could not be; returns the exit code."""
    for note in outcome.notes:
        print(f"note: {note}", file=sys.stderr)  # noqa: T201
    for problem in outcome.problems:
        print(f"not brought: {problem}", file=sys.stderr)  # noqa: T201
    unchanged = outcome.runs - outcome.new_runs - outcome.changed_runs
    print(  # noqa: T201
        f"{outcome.experiments} experiments, {outcome.runs} runs ({outcome.new_runs} new, {outcome.changed_runs} with "
        f"something new, {unchanged} as before): {outcome.points} points, {outcome.rows} rows and {outcome.artifacts} "
        "artifacts brought"
    )
    return _INCOMPLETE if outcome.problems else 0


def _run(given: Any) -> int:
    try:
        return _tell(_import(given))
    except KeyboardInterrupt:
        return fail(_INTERRUPTED, "interrupted; what was brought stays, and another import goes on behind it")


main: Final = Command(_parser(), _run, summary=_SUMMARY, purpose="the import", extra="mlflow")
