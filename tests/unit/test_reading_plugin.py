"""What the plugin for MLflow's client remembers, and how long it waits."""

import math

import pytest

from runstream.mlflow_plugin.memory import Memory
from runstream.mlflow_plugin.session import Session, session_of
from runstream.tracking.records import ExperimentRecord, Point, RunRecord
from runstream_schemas.errors import EnvironmentUnavailableError, InvalidInputError
from runstream_schemas.events import RunStarted
from support.pipeline import Pipeline

RUN = "0194fdc2fa2f7fcc841d6e9e2f1e0a3b"


def _record(run_id: str = RUN) -> RunRecord:
    return RunRecord(run_id, "0", "name", None, "RUNNING", 1, None, "active", {}, {}, {})


def test_the_latest_point_is_the_one_with_the_greatest_step_then_time_then_value() -> None:
    """NaN is less than every number; the first value of a param holds."""
    memory = Memory()
    memory.add_run(_record())
    points = [Point(1.0, 2, 5), Point(9.0, 1, 9), Point(math.nan, 2, 5), Point(0.5, 2, 5)]
    memory.log(RUN, {"p": "1"}, {"t": "x"}, [("m", point) for point in points])
    memory.log(RUN, {"p": "2"}, {}, [])
    held = memory.run(RUN)
    assert held is not None
    assert (held.metrics["m"].value, held.params, held.tags) == (1.0, {"p": "1"}, {"t": "x"})
    memory.delete_tag(RUN, "t")
    assert held.tags == {"t": "x"}
    assert memory.run(RUN) == _with(held, {})


def _with(held: RunRecord, tags: dict[str, str]) -> RunRecord:
    return RunRecord(*(*(getattr(held, name) for name in held.__struct_fields__[:-1]), tags))


def test_what_was_not_made_here_is_not_remembered_and_the_oldest_is_forgotten() -> None:
    """A process that begins very many runs does not grow with them."""
    memory = Memory()
    memory.log(RUN, {}, {}, [])
    memory.delete_tag(RUN, "t")
    memory.change_run(RUN, status="FAILED")
    memory.change_experiment("7", name="x")
    assert (memory.run(RUN), memory.param(RUN, "p"), memory.experiment("7")) == (None, None, None)
    memory.add_experiment(ExperimentRecord("7", "seven", 1, "active", {}))
    memory.change_experiment("7", name="eight")
    assert memory.experiment("7") == ExperimentRecord("7", "eight", 1, "active", {})
    for number in range(1001):
        memory.add_run(_record(f"{number:032x}"))
    assert memory.run("0" * 32) is None
    assert memory.run(f"{1000:032x}") is not None


def test_a_session_reads_what_it_wrote_once_a_sink_has_applied_it(pipeline: Pipeline) -> None:
    """Where no sink runs it does not wait."""
    session = Session(f"runstream+{pipeline.stream}")
    assert session.settle()
    session.emit(RunStarted(RUN, "0", 1))
    with pytest.raises(EnvironmentUnavailableError, match="no store"):
        session.read(lambda source: source.get_run(RUN))
    session.client.flush()
    pipeline.drain()
    assert session.read(lambda source: source.get_run(RUN)).run_id == RUN
    session.client.close()
    pipeline.drain()


def test_a_uri_has_one_session(pipeline: Pipeline) -> None:
    """Which the store and the artifact repository share; an address that is none is refused."""
    uri = f"runstream+{pipeline.stream}"
    assert session_of(uri) is session_of(uri)
    with pytest.raises(InvalidInputError):
        Session("runstream+nonsense:x")
