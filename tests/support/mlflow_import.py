"""A tracking store in memory, as a source of imports, and an import of it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runstream.artifacts import Staging
from runstream.claims import Claims
from runstream.mlflow_import.files import Files
from runstream.mlflow_import.importer import Importer, Outcome
from runstream.mlflow_import.model import ListedFile, NotBroughtError, Source, SourceExperiment, SourceRun
from runstream.mlflow_import.publishing import Publisher, exclusive
from runstream_schemas.errors import EnvironmentUnavailableError
from runstream_schemas.values import RowEncoder
from support.pipeline import Pipeline

__all__ = ["MemoryRun", "MemorySource", "bring", "run_id"]

BEGAN = 1_790_000_000_000


def run_id(number: int) -> str:
    """A run's id."""
    return f"{number:032x}"


@dataclass
class MemoryRun:
    """A run that may change."""

    run_id: str
    name: str | None = "brave-fox"
    user: str | None = "ada"
    status: str = "FINISHED"
    started: int | None = BEGAN
    ended: int | None = BEGAN + 5000
    deleted: bool = False
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    points: dict[str, list[tuple[int, int, float]]] = field(default_factory=dict)
    """By key: step, timestamp and value."""
    files: dict[str, bytes] = field(default_factory=dict)


class MemorySource:
    """Experiments by name, and their runs.  Files named in ``broken`` cannot be downloaded."""

    address = "memory:"

    def __init__(self, **experiments: list[MemoryRun]) -> None:
        self.held = experiments
        self.deleted: set[str] = set()
        self.tags: dict[str, dict[str, str]] = {}
        self.broken: set[str] = set()
        self.renamed: dict[str, str] = {}
        self.gone = False

    def experiments(self, *, deleted: bool) -> Iterator[SourceExperiment]:
        """All of them."""
        for number, name in enumerate(self.held, 1):
            if deleted or name not in self.deleted:
                shown = self.renamed.get(name, name)
                gone = name in self.deleted
                yield SourceExperiment(str(number), shown, BEGAN, BEGAN + 1, gone, self.tags.get(name, {}))

    def runs(self, experiment_id: str, *, deleted: bool) -> Iterator[SourceRun]:
        """All runs of one."""
        for run in list(self.held.values())[int(experiment_id) - 1]:
            if deleted or not run.deleted:
                latest = {key: max((step, at, value) for step, at, value in found) for key, found in run.points.items()}
                yield SourceRun(
                    *(run.run_id, run.name, run.user, run.status, run.started, run.ended, run.deleted),
                    dict(run.params),
                    dict(run.tags),
                    {key: (value, at, step) for key, (step, at, value) in latest.items()},
                )

    def history(self, run_id: str, key: str) -> Iterable[tuple[int, int, float]]:
        """All points of a metric."""
        if self.gone:
            raise EnvironmentUnavailableError("the source is gone")
        if key in self.broken:
            raise NotBroughtError("the history is out of reach")
        return self._run(run_id).points[key]

    def files(self, run_id: str) -> Iterator[ListedFile]:
        """All files of a run."""
        for path, content in self._run(run_id).files.items():
            if path == "unlisted":
                raise NotBroughtError("the list is out of reach")
            yield ListedFile(path, len(content))

    def download(self, run_id: str, path: str, directory: Path) -> Path:
        """One of them."""
        if path in self.broken:
            raise NotBroughtError("the file is out of reach")
        target = directory / Path(path).name
        target.write_bytes(self._run(run_id).files[path])
        return target

    def _run(self, run_id: str) -> MemoryRun:
        return next(run for runs in self.held.values() for run in runs if run.run_id == run_id)


def bring(pipeline: Pipeline, source: Source, *, claim_size: int = 1 << 20, **options: Any) -> Outcome:
    """Import into a pipeline's queue.  ``options`` are those of the command."""
    staging, encoder = Staging(pipeline.queue / "staging"), RowEncoder()
    check = options.pop("check", False)
    keep_tables = options.pop("keep_tables", False)
    with exclusive(pipeline.queue):
        publisher = Publisher(pipeline.queue, staging)
        try:
            files = Files(source, staging, publisher.scratch, keep_tables=keep_tables, check=check)
            importer = Importer(
                source,
                publisher,
                files,
                claims=lambda run, emit: Claims(run, claim_size, encoder, lambda: staging, emit, _refuse),
                workers=2,
                check=check,
            )
            return importer.run(**options)
        finally:
            publisher.close()


def _refuse(reason: str) -> None:
    raise AssertionError(reason)
