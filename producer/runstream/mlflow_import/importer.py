"""The import itself: experiment by experiment, run by run, what is new comes to the stream.

Identity.  Points of metrics and rows of tables are facts that add up, so each must be on the stream once, under one
identity, however often it is imported.  The run's id and the kind of item (and the table) give the producer_id, and the
item's place is its seq.  What else an import brings competes by time (see `mapping`), and bringing it twice changes
nothing.

Runs are fetched by several threads, and written by one.
"""

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import sha256
from typing import Final

import msgspec
from msgspec import Struct

from runstream.claims import Claims
from runstream.mlflow_import.files import FileNews, Files, NewRows
from runstream.mlflow_import.ledger import Entry
from runstream.mlflow_import.mapping import Timed, experiment_events, run_events
from runstream.mlflow_import.model import (
    ExperimentState,
    NotBroughtError,
    RunState,
    Source,
    SourceExperiment,
    SourceRun,
)
from runstream.mlflow_import.points import PointSet, new_points, pack_history
from runstream.mlflow_import.publishing import Publisher
from runstream.tables import split
from runstream_schemas.errors import InvalidInputError
from runstream_schemas.events import ArtifactLogged, MetricLogged, encode_event
from runstream_schemas.names import check_key, is_run_id
from runstream_schemas.values import RowEncoder

__all__ = ["Importer", "Outcome", "producer_of"]

_RUNS: Final = 200
_WEIGHT: Final = 500_000
_SECONDS: Final = 30.0
"""A batch is published when it has so many runs, so many points and rows, or when so much time has passed."""
_ENDED: Final = frozenset({"FINISHED", "FAILED", "KILLED"})
_canonical = msgspec.msgpack.Encoder(order="deterministic").encode


class Outcome(Struct):
    """What an import has done."""

    experiments: int = 0
    """That were looked at."""
    runs: int = 0
    new_runs: int = 0
    changed_runs: int = 0
    points: int = 0
    rows: int = 0
    artifacts: int = 0
    problems: list[str] = msgspec.field(default_factory=list)
    """What could not be brought, a line each; the next import tries it again."""
    notes: list[str] = msgspec.field(default_factory=list)


class _Details(Struct):
    """What a search does not tell of a run."""

    histories: dict[str, bytes]
    news: FileNews
    problems: list[str]


def producer_of(run_id: str, kind: str, name: str = "") -> bytes:
    """The producer_id of a run's points (``points``) or of the rows of one of its tables (``rows``)."""
    return sha256(f"runstream import 1\n{run_id}\n{kind}\n{name}".encode()).digest()[:16]


class Importer:
    """One import."""

    def __init__(
        self,
        source: Source,
        publisher: Publisher,
        files: Files,
        *,
        claims: Callable[[str, Callable[[ArtifactLogged], None]], Claims],
        workers: int = 8,
        check: bool = False,
        report: Callable[[str, int], None] = lambda *_: None,
    ) -> None:
        """``claims`` gives what takes large cells out of the rows of a run; ``check`` looks at unchanged runs, too."""
        self.outcome = Outcome()
        self._source = source
        self._publisher = publisher
        self._ledger = publisher.ledger
        self._files = files
        self._claims = claims
        self._workers = workers
        self._check = check
        self._report = report
        self._encoder = RowEncoder()
        self._looked_at: set[str] = set()
        self._weight = 0
        self._published = time.monotonic()

    def run(self, *, deleted: bool = False, names: Collection[str] = ()) -> Outcome:
        """Bring everything that is new; of the experiments with ``names``, if there are any.

        Raises `EnvironmentUnavailableError` where the source ends to answer, OSError where the disk refuses; what is
        published by then stays so, and another import goes on behind it.
        """
        missing = set(names)
        with ThreadPoolExecutor(self._workers, "runstream-import") as pool:
            try:
                for found in self._source.experiments(deleted=deleted):
                    missing.discard(found.name)
                    if not names or found.name in names:
                        self._take_experiment(found, pool, deleted=deleted)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        self._publish()
        self.outcome.problems += [
            f"there is no experiment {name!r} in {self._source.address}" for name in sorted(missing)
        ]
        return self.outcome

    def _take_experiment(self, found: SourceExperiment, pool: ThreadPoolExecutor, *, deleted: bool) -> None:
        key = f"experiment {self._source.address} {found.experiment_id}"
        _, before = self._ledger.find(key, ExperimentState)
        timed, state = experiment_events(found, before, self._source.address)
        if timed:
            self._publisher.add(key, Entry(b"", state), timed)
        self.outcome.experiments += 1
        runs = self._source.runs(found.experiment_id, deleted=deleted)
        for run, fingerprint, known, details in self._detailed(runs, pool):
            self._take_run(run, fingerprint, known, details, state.experiment_id)
            self._publish_if_due()
            self._report(f"experiment {found.name}", self.outcome.runs)

    def _detailed(
        self, runs: Iterable[SourceRun], pool: ThreadPoolExecutor
    ) -> Iterator[tuple[SourceRun, bytes, RunState | None, _Details]]:
        """The runs that may have anything new, with all that there is of them; some are fetched ahead."""
        ahead: deque[tuple[SourceRun, bytes, RunState | None, Future[_Details]]] = deque()
        for run in runs:
            if run.run_id in self._looked_at:  # the pages of a source that changes may overlap
                continue
            self._looked_at.add(run.run_id)
            self.outcome.runs += 1
            if not is_run_id(run.run_id):
                self.outcome.problems.append(f"run {run.run_id!r:.100}: its id is not 32 lower-case hexadecimal digits")
                continue
            fingerprint, known = self._ledger.find(run.run_id, RunState)
            if known is not None and fingerprint == _fingerprint(run) and run.status in _ENDED and not self._check:
                continue
            ahead.append((run, fingerprint, known, pool.submit(self._fetch, run, known)))
            if len(ahead) > self._workers:
                yield _with_result(*ahead.popleft())
        while ahead:
            yield _with_result(*ahead.popleft())

    def _fetch(self, run: SourceRun, known: RunState | None) -> _Details:
        histories: dict[str, bytes] = {}
        problems: list[str] = []
        for key in sorted(run.latest):
            try:
                check_key(key, "metric")
                histories[key] = pack_history(self._source.history(run.run_id, key))
            except (InvalidInputError, NotBroughtError) as error:
                problems.append(f"run {run.run_id}: metric {key!r:.300}: {error}")
        return _Details(histories, self._files.fetch(run, known or RunState(0, 0)), problems)

    def _take_run(
        self, run: SourceRun, fingerprint: bytes, known: RunState | None, details: _Details, experiment_id: str
    ) -> None:
        news = details.news
        problems = [*details.problems, *news.problems]
        timed, state = run_events(_checked(run, problems), known, experiment_id)
        first = state.points
        points = new_points(PointSet.of_histories(details.histories), self._ledger.points(run.run_id) if first else ())
        self._write_points(run.run_id, state, points)
        claimed = [event for rows in news.rows for event in self._write_rows(run.run_id, state, rows)]
        for event in (*claimed, *news.artifacts):
            state.clock += 1
            timed.append(Timed(state.clock, event))
            self._publisher.stage(event.sha256)
        state.files = {**state.files, **news.files}
        state.tables = {**state.tables, **news.tables}
        now = b"" if problems else _fingerprint(run)
        if timed or points or news.rows or now != fingerprint or state != known:
            self._publisher.add(run.run_id, Entry(now, state, (first, points) if points else None), timed)
        self._count(known is None, bool(timed or points or news.rows), len(points), news)
        self.outcome.problems += problems

    def _count(self, new: bool, changed: bool, points: int, news: FileNews) -> None:
        outcome = self.outcome
        rows = sum(len(one.rows) for one in news.rows)
        outcome.new_runs += new
        outcome.changed_runs += changed and not new
        outcome.points += points
        outcome.rows += rows
        outcome.artifacts += len(news.artifacts)
        outcome.notes += news.notes
        self._weight += points + rows

    def _write_points(self, run_id: str, state: RunState, points: PointSet) -> None:
        if not points:
            return
        with self._publisher.journal(producer_of(run_id, "points"), state.points) as journal:
            for key, step, timestamp, value in points:
                body = encode_event(MetricLogged(run_id, key, value, step, timestamp))
                journal.add(state.base + journal.next_seq, body)
        state.points += len(points)

    def _write_rows(self, run_id: str, state: RunState, new: NewRows) -> list[ArtifactLogged]:
        """Write rows, an event each, so that its place in the table is a row's seq; returns what large cells became."""
        claimed: list[ArtifactLogged] = []
        claims = self._claims(run_id, claimed.append)
        with self._publisher.journal(producer_of(run_id, "rows", new.table), new.first) as journal:
            for row in new.rows:
                for body in split(run_id, new.table, new.columns, [row], self._encoder, claims=claims):
                    journal.add(state.base + journal.next_seq, body)
        return claimed

    def _publish_if_due(self) -> None:
        late = time.monotonic() - self._published > _SECONDS
        if self._publisher.size >= _RUNS or self._weight >= _WEIGHT or late:
            self._publish()

    def _publish(self) -> None:
        self._publisher.publish()
        self._weight, self._published = 0, time.monotonic()


def _with_result(
    run: SourceRun, fingerprint: bytes, known: RunState | None, future: "Future[_Details]"
) -> tuple[SourceRun, bytes, RunState | None, _Details]:
    return run, fingerprint, known, future.result()


def _fingerprint(run: SourceRun) -> bytes:
    """Of all that a search tells of a run."""
    return sha256(_canonical(run)).digest()


def _checked(run: SourceRun, problems: list[str]) -> SourceRun:
    """The run without what cannot be brought, of which the problems tell."""
    kept: dict[str, dict[str, str]] = {}
    for kind, pairs in (("param", run.params), ("tag", run.tags)):
        kept[f"{kind}s"] = {}
        for key, value in pairs.items():
            try:
                kept[f"{kind}s"][check_key(key, kind)] = value
            except InvalidInputError as error:
                problems.append(f"run {run.run_id}: {error}")
    return msgspec.structs.replace(run, **kept)
