"""A run's artifacts: fetched, staged, and, where they are logged tables, taken apart into rows.

A file whose size is what it was at the last import is taken for the same unless everything is to be checked.

A table's JSON file is not kept beside its rows, unless that is asked for: the sink makes it from them.  It is kept if
it holds no table, or was written anew, so that the rows that were brought before are no longer its beginning.  A
Parquet file is always kept.
"""

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from runstream.artifacts import Staging, media_type_of
from runstream.mlflow_import.logged_tables import PARQUET, read_table, rows_digest, table_paths
from runstream.mlflow_import.model import ListedFile, NotBroughtError, RunState, Source, SourceRun, TableState
from runstream.tables import Block
from runstream_schemas.errors import InvalidInputError
from runstream_schemas.events import ArtifactLogged
from runstream_schemas.names import check_path, table_name
from runstream_schemas.values import RowEncoder

__all__ = ["FileNews", "Files", "NewRows"]


class NewRows(NamedTuple):
    """Rows that a table has got."""

    table: str
    first: int
    """The place of the first one in the table."""
    columns: list[str]
    rows: list[list[Any]]


class FileNews(msgspec.Struct):
    """What is new among a run's files."""

    artifacts: list[ArtifactLogged] = msgspec.field(default_factory=list)
    rows: list[NewRows] = msgspec.field(default_factory=list)
    files: dict[str, tuple[int | None, str]] = msgspec.field(default_factory=dict)
    """As `RunState.files`, of the files that were fetched."""
    tables: dict[str, TableState] = msgspec.field(default_factory=dict)
    problems: list[str] = msgspec.field(default_factory=list)
    """What could not be brought; it is tried again next time."""
    notes: list[str] = msgspec.field(default_factory=list)
    """What was brought in another way than one may expect."""


class Files:
    """Fetches files from a source.  Thread-safe."""

    def __init__(
        self, source: Source, staging: Staging, scratch: Path, *, keep_tables: bool = False, check: bool = False
    ) -> None:
        """``scratch`` is an existing directory for files on their way."""
        self._source = source
        self._staging = staging
        self._scratch = scratch
        self._keep_tables = keep_tables
        self._check = check
        self._encoder = RowEncoder()

    def fetch(self, run: SourceRun, before: RunState) -> FileNews:
        """What is new among the files of a run.

        Raises OSError or `EnvironmentUnavailableError` if nothing can be staged, and the latter if the source is gone.
        """
        news = FileNews()
        tables = table_paths(run.tags)
        for listed in self._listed(run, news):
            if self._check or not _is_known(listed, before):
                self._fetch_one(run, listed, before, news, is_table=listed.path in tables)
        return news

    def _listed(self, run: SourceRun, news: FileNews) -> list[ListedFile]:
        """What the source lists, as far as it does."""
        listed: list[ListedFile] = []
        try:
            listed.extend(self._source.files(run.run_id))
        except NotBroughtError as error:
            news.problems.append(f"run {run.run_id}: its artifacts cannot be listed: {error}")
        return listed

    def _fetch_one(
        self, run: SourceRun, listed: ListedFile, before: RunState, news: FileNews, *, is_table: bool
    ) -> None:
        with tempfile.TemporaryDirectory(dir=self._scratch) as directory:
            try:
                check_path(listed.path, "the artifact's path")
                local = self._source.download(run.run_id, listed.path, Path(directory))
            except (NotBroughtError, InvalidInputError) as error:
                news.problems.append(f"run {run.run_id}: artifact {listed.path}: {error}")
                return
            if is_table and self._take_rows(run, listed, local, before, news):
                return
            self._take_file(run, listed, local, before, news)

    def _take_file(self, run: SourceRun, listed: ListedFile, local: Path, before: RunState, news: FileNews) -> None:
        staged = self._staging.add_file(local)
        news.files[listed.path] = (listed.size, staged.sha256)
        known = before.files.get(listed.path)
        if known is None or known[1] != staged.sha256:
            path = check_path(listed.path, "the artifact's path")
            event = ArtifactLogged(run.run_id, path, staged.sha256, staged.size, media_type_of(path))
            news.artifacts.append(event)

    def _take_rows(self, run: SourceRun, listed: ListedFile, local: Path, before: RunState, news: FileNews) -> bool:
        """Take the rows of a table that are new; whether that is all that is to be kept of its file."""
        known = before.tables.get(listed.path) or TableState(None, 0, b"")
        block, why = self._read(local)
        if block is not None and not self._begins_with(block, known):
            block, why = None, "it was written anew; the rows that were brought before stay in its table"
        if block is None:
            news.notes.append(f"run {run.run_id}: table {listed.path} is kept as a file: {why}")
            if known.rows:
                news.tables[listed.path] = TableState(listed.size, known.rows, known.digest)
            return False
        columns, rows = block
        news.tables[listed.path] = TableState(listed.size, len(rows), rows_digest(columns, rows, self._encoder))
        if len(rows) > known.rows:
            news.rows.append(NewRows(table_name(listed.path), known.rows, columns, rows[known.rows :]))
        return not self._keep_tables and not listed.path.endswith(PARQUET)

    def _read(self, local: Path) -> tuple[Block | None, str]:
        try:
            return read_table(local), "it holds no columns and rows"
        except ModuleNotFoundError as error:
            return None, f"reading it needs {error.name}, which is not installed"

    def _begins_with(self, block: Block, known: TableState) -> bool:
        """Whether the rows that were brought before are the first ones."""
        return known.rows == 0 or (
            len(block.rows) >= known.rows
            and rows_digest(block.columns, block.rows[: known.rows], self._encoder) == known.digest
        )


def _is_known(listed: ListedFile, before: RunState) -> bool:
    if listed.size is None:
        return False
    table, file = before.tables.get(listed.path), before.files.get(listed.path)
    return listed.size in {table.size if table else None, file[0] if file else None}
