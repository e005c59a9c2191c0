"""Imports from a tracking store in memory: what comes along, once, whatever happens in between."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runstream.artifacts import Staging
from runstream.mlflow_import.publishing import Publisher, exclusive
from runstream_schemas.errors import EnvironmentUnavailableError
from runstream_schemas.names import experiment_id_of
from runstream_sink import query
from support.commands import invoke, invoke_json
from support.mlflow_import import BEGAN, MemoryRun, MemorySource, bring, run_id
from support.pipeline import Pipeline

ONE, OTHER = run_id(1), run_id(2)


@pytest.fixture
def pipe(tmp_path: Path) -> Pipeline:
    """A queue and a store."""
    return Pipeline(tmp_path / "pipe")


def _table(*rows: list[object], columns: tuple[str, ...] = ("q", "n")) -> bytes:
    return json.dumps({"columns": columns, "data": rows}).encode()


def _calls_tables(*paths: str) -> dict[str, str]:
    return {"mlflow.loggedArtifacts": json.dumps([{"path": path, "type": "table"} for path in paths])}


def _whole_run() -> MemoryRun:
    return MemoryRun(
        ONE,
        params={"a": "1", "b": "zwei"},
        tags={"note": "x", "mlflow.parentRunId": OTHER, "mlflow.runName": "brave-fox", **_calls_tables("t.json")},
        points={"loss": [(0, BEGAN, 0.5), (1, BEGAN + 1, 0.25), (1, BEGAN + 1, 0.25)], "odd": [(0, BEGAN, math.nan)]},
        files={"dir/x.txt": b"hello", "t.json": _table(["a", 1], [None, 2])},
    )


def test_a_run_comes_along_whole(pipe: Pipeline) -> None:
    """Its id, name, user, dates, status, params, tags, points, artifacts and rows."""
    source = MemorySource(alpha=[_whole_run()])
    source.tags["alpha"] = {"team": "a"}
    outcome = bring(pipe, source)
    assert (outcome.new_runs, outcome.points, outcome.rows, outcome.artifacts, outcome.problems) == (1, 4, 2, 1, [])
    assert pipe.drain().dead == 0
    run = pipe.run(ONE)
    assert (run.name, run.user, run.start_time, run.end_time, run.status) == (
        *("brave-fox", "ada", BEGAN, BEGAN + 5000, "FINISHED"),
    )
    assert run.params == {"a": "1", "b": "zwei"}
    assert run.tags == {"note": "x", "mlflow.parentRunId": OTHER, **_calls_tables("t.json")}
    assert math.isnan(run.metrics["odd"].value)
    assert pipe.rows(ONE, "t") == [{"q": "a", "n": 1}, {"q": None, "n": 2}]
    assert pipe.artifact(ONE, "dir/x.txt") == b"hello"
    assert [held.path for held in pipe.ask(query.list_artifacts, ONE)] == ["dir/x.txt"]
    experiment = pipe.ask(query.get_experiment, experiment_id_of("alpha"))
    assert experiment.name == "alpha"
    assert experiment.tags == {
        "team": "a",
        "runstream.imported.experiment_id": "1",
        "runstream.imported.source": "memory:",
    }


def test_a_second_import_adds_nothing(pipe: Pipeline) -> None:
    """Neither to the stream nor to the store, not even where everything is checked."""
    source = MemorySource(alpha=[_whole_run(), MemoryRun(OTHER, status="RUNNING", ended=None)])
    bring(pipe, source)
    pipe.drain()
    before, journals = pipe.digest(), sorted((pipe.queue / "journals").iterdir())
    for check in (False, True):
        outcome = bring(pipe, source, check=check)
        assert (outcome.runs, outcome.new_runs, outcome.changed_runs, outcome.points) == (2, 0, 0, 0)
    assert sorted((pipe.queue / "journals").iterdir()) == journals
    assert pipe.drain().events == 0
    assert pipe.digest() == before


def test_what_a_run_gets_later_is_added_and_the_digest_is_that_of_one_import(pipe: Pipeline, tmp_path: Path) -> None:
    """New points, params, rows and files; changed tags, names and statuses; tags that are gone."""
    run = _whole_run()
    run.status, run.ended = "RUNNING", None
    source = MemorySource(alpha=[run])
    source.tags["alpha"] = {"team": "a", "gone": "x"}
    bring(pipe, source)
    pipe.drain()
    source.tags["alpha"] = {"team": "b"}
    run.status, run.ended, run.name = "FINISHED", BEGAN + 9000, "other"
    run.params["c"] = "3"
    run.tags = {"note": "y", **_calls_tables("t.json", "u.json")}
    run.points["loss"] += [(1, BEGAN + 1, 0.25), (2, BEGAN + 2, 0.125)]
    run.points["new"] = [(0, BEGAN + 3, 1.0)]
    run.files |= {"t.json": _table(["a", 1], [None, 2], ["c", 3]), "u.json": _table(["u", 1]), "dir/x.txt": b"hello!"}
    outcome = bring(pipe, source)
    assert (outcome.changed_runs, outcome.points, outcome.rows, outcome.artifacts) == (1, 3, 2, 1)
    assert pipe.drain().dead == 0
    assert [row["n"] for row in pipe.rows(ONE, "t")] == [1, 2, 3]
    assert pipe.run(ONE).tags == run.tags
    at_once = Pipeline(tmp_path / "at once")
    bring(at_once, source)
    at_once.drain()
    assert pipe.digest() == at_once.digest() == pipe.replay("again")[0]


def test_verify_finds_nothing_wrong_with_what_goes_on_later(pipe: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither before the sink has read it nor after."""
    run = MemoryRun(ONE, status="RUNNING", points={"m": [(0, BEGAN, 1.0)]})
    bring(pipe, MemorySource(alpha=[run]))
    pipe.drain()
    run.points["m"].append((1, BEGAN + 1, 2.0))
    bring(pipe, MemorySource(alpha=[run]))
    told = invoke_json(capsys, "status", "--stream", pipe.stream, "--store", pipe.store)
    assert told["backlog_events"] == 1
    for events in (0, 1):
        assert invoke(capsys, "verify", pipe.store, "--stream", pipe.stream).code == 0
        assert pipe.drain().events == 1 - events


def test_points_that_come_late_are_added_once(pipe: Pipeline) -> None:
    """Though they lie before points that were brought, and one equals one of them."""
    run = MemoryRun(ONE, status="RUNNING", points={"m": [(5, BEGAN + 5, 5.0), (7, BEGAN + 7, 7.0)]})
    source = MemorySource(alpha=[run])
    bring(pipe, source)
    run.points["m"] = [(1, BEGAN, 1.0), (5, BEGAN + 5, 5.0), (5, BEGAN + 5, 5.0), (7, BEGAN + 7, 7.0)]
    run.points["a"] = [(0, BEGAN, 0.0)]
    assert bring(pipe, source).points == 3
    assert bring(pipe, source).points == 0
    pipe.drain()
    history = pipe.ask(query.metric_page, ONE, "m")
    assert sorted(point.value for point in history.points) == [1.0, 5.0, 5.0, 7.0]


def test_deleted_things_come_along_where_asked_for(pipe: Pipeline) -> None:
    """They are deleted here, too, until they are restored there."""
    run = MemoryRun(ONE, deleted=True)
    source = MemorySource(alpha=[run], beta=[MemoryRun(OTHER)])
    source.deleted.add("beta")
    assert bring(pipe, source).runs == 0
    assert bring(pipe, source, deleted=True).new_runs == 2
    pipe.drain()
    assert pipe.run(ONE).lifecycle == "deleted"
    assert pipe.ask(query.get_experiment, experiment_id_of("beta")).lifecycle == "deleted"
    run.deleted = False
    source.deleted.clear()
    bring(pipe, source, deleted=True)
    pipe.drain()
    assert pipe.run(ONE).lifecycle == "active"
    assert pipe.ask(query.get_experiment, experiment_id_of("beta")).lifecycle == "active"


def test_an_experiment_that_is_renamed_keeps_its_runs(pipe: Pipeline) -> None:
    """Its id here stays the one that it got from its first name."""
    source = MemorySource(alpha=[MemoryRun(ONE)])
    bring(pipe, source)
    source.renamed["alpha"] = "omega"
    source.held["alpha"].append(MemoryRun(OTHER))
    bring(pipe, source)
    pipe.drain()
    assert {run.experiment_id for run in pipe.runs()} == {experiment_id_of("alpha")}
    assert pipe.ask(query.get_experiment, experiment_id_of("alpha")).name == "omega"


def test_what_cannot_be_brought_is_told_and_tried_again(pipe: Pipeline) -> None:
    """A file, a list of files, a history, keys and ids that are none here; all else comes along."""
    run = MemoryRun(ONE, points={"m": [(0, BEGAN, 1.0)], "n": [(0, BEGAN, 2.0)]}, files={"a": b"a", "b": b"b"})
    run.params = {"x" * 300: "1", "y": "2"}
    run.points["z" * 300] = [(0, BEGAN, 1.0)]
    hostile = MemoryRun(OTHER, files={"../up": b"", "a": b"a", "unlisted": b""})
    source = MemorySource(alpha=[run, hostile, MemoryRun("not-hex")])
    source.broken = {"m", "a"}
    outcome = bring(pipe, source, names=["alpha", "beta"])
    assert [
        sum(word in line for line in outcome.problems) for word in ("out of reach", "x" * 50, "z" * 50, "../up")
    ] == [
        *(4, 1, 1, 1),
    ]
    assert any("not-hex" in line for line in outcome.problems)
    assert any("'beta'" in line for line in outcome.problems)
    source.broken.clear()
    del hostile.files["unlisted"], hostile.files["../up"]
    source.held["alpha"].pop()
    run.params.pop("x" * 300)
    del run.points["z" * 300]
    again = bring(pipe, source)
    assert (again.problems, again.points, again.artifacts) == ([], 1, 2)
    pipe.drain()
    assert set(pipe.run(ONE).metrics) == {"m", "n"}


def test_a_source_that_goes_away_ends_the_import(pipe: Pipeline, tmp_path: Path) -> None:
    """Rather than be asked again for each of its runs; another import goes on."""
    source = MemorySource(alpha=[_whole_run(), MemoryRun(OTHER)])
    source.gone = True
    with pytest.raises(EnvironmentUnavailableError, match="the source is gone"):
        bring(pipe, source)
    source.gone = False
    assert bring(pipe, source).problems == []
    pipe.drain()
    assert len(pipe.runs()) == 2


def test_tables_are_kept_as_files_where_that_loses_less(pipe: Pipeline) -> None:
    """One that is none, one that was written anew, and all of them where asked for; the rows stay what they were."""
    run = MemoryRun(ONE, status="RUNNING", tags=_calls_tables("t.json", "bad.json", "p.parquet"))
    run.files = {"t.json": _table(["a", 1], ["b", 2]), "bad.json": b"{}", "p.parquet": b"no parquet"}
    source = MemorySource(alpha=[run])
    assert [line.split()[3] for line in bring(pipe, source).notes] == ["bad.json", "p.parquet"]
    run.files["t.json"] = _table(["x", 9])
    assert "written anew" in bring(pipe, source).notes[0]
    assert bring(pipe, source).notes == []
    run.files["t.json"] = _table(["x", 9], ["y", 10])
    assert "written anew" in bring(pipe, source).notes[0]
    other = MemoryRun(OTHER, tags=_calls_tables("k.json"), files={"k.json": _table(["k", 1])})
    source.held["alpha"].append(other)
    assert bring(pipe, source, keep_tables=True).artifacts == 1
    pipe.drain()
    assert pipe.rows(ONE, "t") == [{"q": "a", "n": 1}, {"q": "b", "n": 2}]
    assert pipe.artifact(ONE, "t.json") == _table(["x", 9], ["y", 10])
    assert pipe.artifact(OTHER, "k.json") == _table(["k", 1])
    assert pipe.rows(OTHER, "k") == [{"q": "k", "n": 1}]


def test_large_cells_lie_beside_their_table(pipe: Pipeline) -> None:
    """As in tables that are logged."""
    run = MemoryRun(ONE, tags=_calls_tables("t.json"), files={"t.json": _table(["x" * 5000, 1])})
    bring(pipe, MemorySource(alpha=[run]), claim_size=1024)
    assert pipe.drain().dead == 0
    (row,) = pipe.rows(ONE, "t")
    assert pipe.artifact(ONE, row["q"].removeprefix("artifact:")) == b"x" * 5000


def test_many_tags_make_no_large_events(pipe: Pipeline) -> None:
    """They are divided among several."""
    run = MemoryRun(ONE, tags={f"k{number}": "v" * 8000 for number in range(100)})
    bring(pipe, MemorySource(alpha=[run]))
    pipe.drain()
    assert pipe.run(ONE).tags == run.tags


class _DiedError(Exception):
    """Stands for kill -9."""


@pytest.mark.parametrize(
    "at", ["before the batch", "after the batch", "after the lead", "after some", "before settling"]
)
def test_an_import_that_died_is_taken_up_wherever_it_died(
    pipe: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """Nothing is missing and nothing is there twice, though the source has grown in between."""
    source = MemorySource(alpha=[_whole_run(), MemoryRun(OTHER, points={"m": [(0, BEGAN, 1.0)]})])
    with monkeypatch.context() as patch:
        _die(patch, at)
        with pytest.raises(_DiedError):
            bring(pipe, source)
    source.held["alpha"][0].points["loss"].append((9, BEGAN + 9, 0.0))
    source.held["alpha"][0].ended = BEGAN + 9000
    bring(pipe, source)
    assert pipe.drain().dead == 0
    at_once = Pipeline(tmp_path / "at once")
    bring(at_once, source)
    at_once.drain()
    assert pipe.digest() == at_once.digest()
    assert list((pipe.queue / "imports" / "pending").iterdir()) == []


def _die(patch: pytest.MonkeyPatch, at: str) -> None:
    """Have the next import end as if it were killed at that place."""
    renamed = Path.rename
    left = {"after the lead": 1, "after some": 2}.get(at, 0)
    count = iter(range(100))

    def rename(path: Path, target: Path) -> Path:
        if path.parent.name == "pending" and next(count) >= left:
            raise _DiedError
        return renamed(path, target)

    def die(*_: object) -> None:
        raise _DiedError

    if at == "before the batch":
        patch.setattr("runstream.mlflow_import.ledger.Ledger.begin", die)
    elif at == "before settling":
        patch.setattr("runstream.mlflow_import.ledger.Ledger.settle", die)
    else:
        patch.setattr(Path, "rename", rename)


def test_a_ledger_that_is_lost_is_noticed(pipe: Pipeline) -> None:
    """Before anything is there twice."""
    source = MemorySource(alpha=[_whole_run()])
    bring(pipe, source)
    (pipe.queue / "imports" / "ledger.db").unlink()
    with pytest.raises(EnvironmentUnavailableError, match=r"ledger\.db does not know of it"):
        bring(pipe, source)


def test_a_ledger_that_cannot_be_read_is_told(pipe: Pipeline) -> None:
    """Damage, and one of a newer version."""
    bring(pipe, MemorySource())
    ledger = pipe.queue / "imports" / "ledger.db"
    ledger.write_bytes(b"no database at all, but long enough to be looked at" * 100)
    with pytest.raises(EnvironmentUnavailableError, match="cannot be used"):
        bring(pipe, MemorySource())


def test_imports_into_one_queue_take_turns(pipe: Pipeline) -> None:
    """The second one says so."""
    with exclusive(pipe.queue), pytest.raises(EnvironmentUnavailableError, match="another import"):
        bring(pipe, MemorySource())


def test_staged_bytes_that_are_gone_are_noticed(pipe: Pipeline) -> None:
    """Before an event refers to them."""
    staging = Staging(pipe.queue / "staging")
    with exclusive(pipe.queue):
        publisher = Publisher(pipe.queue, staging)
        staged = staging.add_bytes(b"hello")
        _stage(publisher, staged.sha256)
        staging.path_of(staged.sha256).unlink()
        with pytest.raises(EnvironmentUnavailableError, match="run the import again"):
            _stage(publisher, staged.sha256)
        publisher.close()


def _stage(publisher: Publisher, sha256: str) -> None:
    """So often that somebody looks."""
    for _ in range(300):
        publisher.stage(sha256)


_POINTS = st.lists(
    st.tuples(st.integers(-2, 3), st.integers(BEGAN, BEGAN + 3), st.sampled_from([0.0, -0.0, 1.5, math.inf, math.nan])),
    max_size=6,
)


@pytest.mark.slow
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stages=st.lists(st.dictionaries(st.sampled_from("abc"), _POINTS, max_size=3), min_size=1, max_size=4))
def test_each_point_is_there_once_however_it_came(
    tmp_path_factory: pytest.TempPathFactory, stages: list[dict[str, list[tuple[int, int, float]]]]
) -> None:
    """Points of any steps and times, in several imports: in the end the store holds those of the source."""
    pipe = Pipeline(tmp_path_factory.mktemp("growth"))
    run = MemoryRun(ONE, status="RUNNING", ended=None)
    for stage in stages:
        for key, points in stage.items():
            if points:
                run.points.setdefault(key, []).extend(points)
        bring(pipe, MemorySource(alpha=[run]))
    pipe.drain()
    for key, points in run.points.items():
        assert _stored(pipe, key) == sorted(map(repr, points))


def _stored(pipe: Pipeline, key: str) -> list[str]:
    def points() -> Iterator[str]:
        for point in pipe.ask(query.metric_page, ONE, key).points:
            yield repr((point.step, point.timestamp, point.value))

    return sorted(points())
