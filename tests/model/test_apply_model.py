"""The central invariant: the same events give the same store, in any order, grouping and repetition.

Events of several producers, with clocks that tie and step back, go through apply into a real store by random
schedules, with restarts in between.  Judged by a dictionary model that shares no code with them, and by the digest.
"""

import asyncio
import math
import struct
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from runstream_schemas import events as ev
from runstream_schemas.batch import Batch
from runstream_schemas.segment import Record
from runstream_sink import query
from support.stores import digest_of, ingest, opened, reading, record

PRODUCERS = [bytes([number]) * 16 for number in (1, 2, 255)]
RUNS = ["0" * 31 + "1", "f" * 32]
EXPERIMENTS = ["0", "7"]
TEXTS = st.sampled_from(["", "a", "b"])
KEYS = st.sampled_from(["k", "ü"])
TIMES = st.integers(0, 3)
NAN = struct.unpack(">d", bytes.fromhex("7ff8000000000001"))[0]
DOUBLES = st.sampled_from([0.0, -0.0, 1.5, -1.0, math.inf, -math.inf, math.nan, NAN, 5e-324])
CELLS = st.sampled_from([None, True, 0, 1, -7, 2**70, 0.5, 1.0, "", "x", "1", "null", [1, None], {"a": "ü"}])


def _rows(run_id: str, table: str, columns: list[str], rows: list[list[Any]]) -> ev.RowsLogged:
    return ev.RowsLogged(run_id, table, columns, [row[: len(columns)] for row in rows])


def _kinds() -> list[st.SearchStrategy[Any]]:
    runs, experiments = st.sampled_from(RUNS), st.sampled_from(EXPERIMENTS)
    columns = st.lists(st.sampled_from(["x", "y", "z"]), max_size=3, unique=True)
    cells = st.lists(st.lists(CELLS, min_size=3, max_size=3), max_size=3)
    return [
        st.builds(ev.RunStarted, runs, experiments, TIMES, st.none() | TEXTS, st.none() | TEXTS),
        st.builds(ev.RunUpdated, runs, st.none() | TEXTS, st.sampled_from([None, *ev.RUN_STATUSES])),
        st.builds(ev.RunEnded, runs, st.sampled_from(ev.RUN_STATUSES), TIMES),
        st.builds(ev.ParamsLogged, runs, st.dictionaries(KEYS, TEXTS)),
        st.builds(ev.MetricLogged, runs, KEYS, DOUBLES, TIMES, TIMES),
        st.builds(ev.MetricsLogged, runs, st.dictionaries(KEYS, DOUBLES), TIMES, TIMES),
        st.builds(ev.TagsSet, runs, st.dictionaries(KEYS, TEXTS)),
        st.builds(ev.TagDeleted, runs, KEYS),
        st.builds(_rows, runs, st.sampled_from(["t", "a/t"]), columns, cells),
        st.builds(ev.ArtifactLogged, runs, KEYS, st.sampled_from(["a" * 64, "0" * 64]), TIMES, st.none() | TEXTS),
        st.builds(ev.ExperimentCreated, experiments, TEXTS, TIMES, st.dictionaries(KEYS, TEXTS)),
        st.builds(ev.ExperimentRenamed, experiments, TEXTS),
        st.builds(ev.ExperimentTagsSet, experiments, st.dictionaries(KEYS, TEXTS)),
        st.builds(ev.ExperimentTagDeleted, experiments, KEYS),
        st.builds(ev.ExperimentDeleted, experiments),
        st.builds(ev.ExperimentRestored, experiments),
        st.builds(ev.RunDeleted, runs),
        st.builds(ev.RunRestored, runs),
        st.builds(ev.LossNotice, st.just("ab" * 16), TIMES, st.just("quota"), TIMES),
        st.builds(ev.Abandoned),
        st.just(ev.RunEnded("no run id", "FINISHED", 0)),
        st.just(b"\xc1 garbage"),
    ]


KINDS = _kinds()


Entry = tuple[bytes, int, int, Any]
"""(producer_id, seq, emit_ts, event)"""


@st.composite
def histories(draw: st.DrawFn) -> list[Entry]:
    """Events of several producers, in the order of each one's seqs; often of few kinds, so that they compete."""
    history: list[Entry] = []
    events = st.one_of(draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=4) | st.just(KINDS)))
    for producer_id in draw(st.sampled_from([PRODUCERS[:1], PRODUCERS[:2], PRODUCERS])):
        emitted = draw(st.lists(st.tuples(st.integers(100, 106), events), max_size=12))
        history += [(producer_id, seq, emit_ts, event) for seq, (emit_ts, event) in enumerate(emitted)]
    return history


@dataclass
class Schedule:
    """Groups of entries, one commit each, and before which of them the store is opened anew."""

    groups: list[list[Entry]]
    restarts: set[int]


@st.composite
def schedules(draw: st.DrawFn, history: list[Entry]) -> Schedule:
    """A schedule in which each entry comes at least once."""
    again = draw(st.lists(st.sampled_from(history), max_size=6)) if history else []
    order = draw(st.permutations(history + again))
    cuts = sorted(draw(st.sets(st.integers(0, len(order)), max_size=4)))
    groups = [order[start:end] for start, end in zip([0, *cuts], [*cuts, len(order)], strict=True)]
    return Schedule(groups, draw(st.sets(st.integers(0, len(groups)), max_size=2)))


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Entry], list[Schedule]]:
    """A history and some schedules of it."""
    history = draw(histories())
    return history, [draw(schedules(history)), draw(schedules(history))]


def _batches(entries: list[Entry]) -> list[Batch]:
    """Batches as they travel: neighbours of one producer with ascending seqs in one, so that some hold gaps."""
    batches: list[Batch] = []
    for producer_id, seq, emit_ts, event in entries:
        item: Record = record(seq, event, emit_ts)
        last = batches[-1] if batches else None
        if last is not None and last.producer_id == producer_id and last.records[-1][0] < seq:
            last.records.append(item)
        else:
            batches.append(Batch(producer_id, [item], []))
    return batches


async def _run(directory: Path, schedule: Schedule) -> None:
    async with opened(directory) as store:
        for number, group in enumerate(schedule.groups):
            if number in schedule.restarts:
                await store.close()
                await store.open()
            await ingest(store, _batches(group), part_limit=300)


@dataclass
class Model:
    """What a history says, by going through it once in the order of its events."""

    experiments: dict[str, dict[str, Any]] = field(default_factory=lambda: {"0": {"name": "Default"}})
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    points: dict[tuple[str, str], list[tuple[Any, ...]]] = field(default_factory=dict)
    rows: dict[tuple[str, str], dict[str, dict[str, Any]]] = field(default_factory=dict)
    columns: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    losses: dict[int, int] = field(default_factory=dict)
    dead: set[tuple[str, int]] = field(default_factory=set)

    def experiment(self, experiment_id: str) -> dict[str, Any]:
        """What is known of an experiment."""
        return self.experiments.setdefault(experiment_id, {})

    def run(self, run_id: str) -> dict[str, Any]:
        """What is known of a run."""
        return self.runs.setdefault(run_id, {"params": {}, "tags": {}, "artifacts": {}})

    def feed(self, at: int, producer_id: bytes, seq: int, event: Any) -> None:
        """One event; ``at`` is its place in the order."""
        match event:
            case bytes() | ev.RunEnded("no run id"):
                self.dead.add((producer_id.hex(), seq))
            case ev.RunStarted() | ev.RunUpdated() | ev.RunEnded() | ev.RunDeleted() | ev.RunRestored():
                self._feed_run(at, event)
            case ev.ParamsLogged() | ev.TagsSet() | ev.TagDeleted() | ev.ArtifactLogged():
                self._feed_values(event)
            case ev.MetricLogged() | ev.MetricsLogged() | ev.RowsLogged():
                self._feed_many(producer_id, seq, event)
            case ev.LossNotice(_, segment, _, count):
                self.losses[segment] = max(count, self.losses.get(segment, 0))
            case ev.ExperimentTagsSet(_, tags) if not tags:
                pass
            case _ if not isinstance(event, ev.Abandoned):
                self._feed_experiment(at, event)

    def _feed_run(self, at: int, event: Any) -> None:
        run = self.run(event.run_id)
        match event:
            case ev.RunStarted(_, experiment_id, start_time, name, user):
                run.setdefault("start", (experiment_id, start_time, user))
                run |= {"status": ("RUNNING", None)} | ({} if name is None else {"name": name})
            case ev.RunUpdated(_, name, status):
                run |= {} if name is None else {"name": name}
                run |= {} if status is None else {"status": (status, None)}
            case ev.RunEnded(_, status, end_time):
                run["status"] = (status, end_time)
            case _:
                run["lifecycle"] = (at, "deleted" if isinstance(event, ev.RunDeleted) else "active")

    def _feed_values(self, event: Any) -> None:
        run = self.run(event.run_id)
        match event:
            case ev.ParamsLogged(_, params):
                run["params"] = params | run["params"]
            case ev.TagsSet(_, tags):
                run["tags"].update(tags)
            case ev.TagDeleted(_, key):
                run["tags"].pop(key, None)
            case ev.ArtifactLogged(_, path, sha256, size, media_type):
                run["artifacts"][path] = (sha256, size, media_type)

    def _feed_many(self, producer_id: bytes, seq: int, event: Any) -> None:
        self.run(event.run_id)
        if isinstance(event, ev.RowsLogged):
            identity = f"{producer_id.hex()}:{seq}"
            rows = self.rows.setdefault((event.run_id, event.table), {})
            self.columns.setdefault((event.run_id, event.table), set()).update(event.columns)
            for index, row in enumerate(event.rows):
                rows[f"{identity}:{index}"] = dict(zip(event.columns, row, strict=True))
            return
        values = event.metrics if isinstance(event, ev.MetricsLogged) else {event.key: event.value}
        for index, (key, value) in enumerate(values.items()):
            points = self.points.setdefault((event.run_id, key), [])
            comparable = (0, 0.0) if math.isnan(value) else (1, value)
            points.append((event.step, event.timestamp, comparable, producer_id, seq, index, _bits(value)))

    def _feed_experiment(self, at: int, event: Any) -> None:
        experiment = self.experiment(event.experiment_id)
        tags = experiment.setdefault("tags", {})
        match event:
            case ev.ExperimentCreated(_, name, creation_time, new):
                if "created" not in experiment:
                    experiment["created"] = creation_time
                    experiment["name"] = name
                tags.update(new)
            case ev.ExperimentRenamed(_, name):
                experiment["renamed"] = name
            case ev.ExperimentTagsSet(_, new):
                tags.update(new)
            case ev.ExperimentTagDeleted(_, key):
                tags.pop(key, None)
            case ev.ExperimentDeleted():
                experiment["lifecycle"] = (at, "deleted")
            case ev.ExperimentRestored():
                experiment["lifecycle"] = (at, "active")

    def lifecycle(self, run: dict[str, Any]) -> str:
        """The later of two."""
        stages = [run.get("lifecycle", (-1, "active"))]
        if "start" in run and run["start"][0] in self.experiments:
            stages.append(self.experiments[run["start"][0]].get("lifecycle", (-1, "active")))
        return max(stages)[1]


def _bits(value: float) -> str:
    return struct.pack(">d", value).hex()


async def _compare(directory: Path, model: Model) -> None:
    async with reading(directory) as reader:
        page = await query.list_runs(reader, lifecycle=None)
        assert {run.run_id for run in page.runs} == set(model.runs)
        for run in page.runs:
            await _compare_run(reader, run, model)
        for experiment_id in model.experiments.keys() - {"0"}:
            await _compare_experiment(reader, experiment_id, model)
        assert {loss.segment: loss.count for loss in await query.list_losses(reader)} == model.losses
        letters = await query.list_dead_letters(reader)
        assert {(letter.producer_id, letter.seq) for letter in letters} == model.dead


async def _compare_run(reader: Any, run: query.Run, model: Model) -> None:
    known = model.runs[run.run_id]
    assert (run.experiment_id, run.start_time, run.user) == known.get("start", (None, None, None))
    assert (run.status, run.end_time) == known.get("status", (None, None))
    assert (run.name, run.lifecycle) == (known.get("name"), model.lifecycle(known))
    assert (run.params, run.tags) == (known["params"], known["tags"])
    artifacts = await query.list_artifacts(reader, run.run_id)
    assert {item.path: (item.sha256, item.size, item.media_type) for item in artifacts} == known["artifacts"]
    metrics = {key: points for (of, key), points in model.points.items() if of == run.run_id}
    assert run.metrics.keys() == metrics.keys()
    for key, points in metrics.items():
        step, timestamp, *_, bits = max(points)
        latest = run.metrics[key]
        assert (latest.step, latest.timestamp, _bits(latest.value)) == (step, timestamp, bits)
        history = await query.metric_history(reader, run.run_id, key)
        found = sorted((point.step, point.timestamp, _bits(point.value)) for point in history)
        assert found == sorted((step, timestamp, bits) for step, timestamp, *_, bits in points)
    for table in await query.list_tables(reader, run.run_id):
        assert set(table.columns) == model.columns[run.run_id, table.name]
        rows = await query.load_table(reader, run.run_id, table.name, provenance=True)
        expected = model.rows[run.run_id, table.name]
        assert len(rows) == table.rows == len(expected)
        found = {row["_event"]: {name: row[name] for name in table.columns if row[name] is not None} for row in rows}
        assert found == {
            event: {name: value for name, value in row.items() if value is not None} for event, row in expected.items()
        }


async def _compare_experiment(reader: Any, experiment_id: str, model: Model) -> None:
    known = model.experiments[experiment_id]
    found = await query.find_experiment(reader, experiment_id)
    assert found.name == known.get("renamed", known.get("name"))
    assert found.creation_time == known.get("created")
    assert found.tags == known.get("tags", {})
    assert found.lifecycle == known.get("lifecycle", (0, "active"))[1]


def _model(history: list[Entry]) -> Model:
    model = Model()
    ordered = sorted(history, key=lambda entry: (entry[2], entry[0], entry[1]))
    for at, (producer_id, seq, _, event) in enumerate(ordered):
        model.feed(at, producer_id, seq, event)
    return model


@given(cases())
def test_any_schedule_of_the_same_events_gives_the_store_that_the_model_predicts(
    case: tuple[list[Entry], list[Schedule]],
) -> None:
    """The store equals the model, and all schedules have one digest."""
    history, schedules_ = case
    plain = Schedule([history], set())
    with tempfile.TemporaryDirectory() as name:

        async def check() -> None:
            digests = set()
            for number, schedule in enumerate([plain, *schedules_]):
                directory = Path(name, str(number))
                await _run(directory, schedule)
                await _compare(directory, _model(history))
                digests.add(await digest_of(directory))
            assert len(digests) == 1

        asyncio.run(check())


@given(histories(), st.data())
def test_a_store_that_misses_an_event_has_another_digest_unless_it_says_nothing_new(
    history: list[Entry], data: st.DataObject
) -> None:
    """The digest is no constant: without a metric point or a row it is another one."""
    telling = [at for at, entry in enumerate(history) if isinstance(entry[3], ev.MetricLogged)]
    if not telling:
        return
    gone = data.draw(st.sampled_from(telling))
    with tempfile.TemporaryDirectory() as name:

        async def check() -> None:
            await _run(Path(name, "all"), Schedule([history], set()))
            await _run(Path(name, "less"), Schedule([history[:gone] + history[gone + 1 :]], set()))
            assert await digest_of(Path(name, "all")) != await digest_of(Path(name, "less"))

        asyncio.run(check())
