"""Runs through the whole way: begun, nested, resumed, failed, deleted, in tasks and threads, in experiments."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import runstream
from runstream_schemas.errors import InvalidInputError, ParamConflictError
from runstream_schemas.names import experiment_id_of, is_run_id
from runstream_sink import query
from support.pipeline import Pipeline, run_program


def test_a_run_logs_everything_and_the_store_has_it(pipeline: Pipeline) -> None:
    """Params, metrics, tags, a note, times and the status arrive as they were logged."""
    before = time.time_ns() // 1_000_000
    runstream.set_experiment("nightly")
    with runstream.start_run("first", tags={"team": "nlp"}, description="A trial.") as run:
        assert runstream.log_param("model", "tiny") == "tiny"
        runstream.log_params({"temperature": 0.5, "tokens": 100})
        runstream.log_metric("loss", 0.25, step=3, timestamp=1234)
        runstream.log_metrics({"loss": 0.125, "accuracy": 1}, step=4)
        runstream.set_tag("owner", "me")
        runstream.set_tags({"stage": 1, "gone": "x"})
        runstream.delete_tag("gone")
    pipeline.drain()
    stored = pipeline.run(run.run_id)
    assert stored.experiment_id == experiment_id_of("nightly") == run.experiment_id
    assert (stored.name, stored.status, stored.lifecycle) == ("first", "FINISHED", "active")
    assert stored.params == {"model": "tiny", "temperature": "0.5", "tokens": "100"}
    assert (stored.metrics["loss"].value, stored.metrics["loss"].step) == (0.125, 4)
    assert stored.metrics["accuracy"].value == 1.0
    assert stored.tags.items() >= {"team": "nlp", "owner": "me", "stage": "1"}.items()
    assert "gone" not in stored.tags
    assert stored.tags["mlflow.note.content"] == "A trial."
    assert stored.user == stored.tags["mlflow.user"]
    assert before <= (stored.start_time or 0) <= (stored.end_time or 0)
    history = pipeline.ask(query.metric_history, run.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(3, 0.25), (4, 0.125)]
    assert history[0].timestamp == 1234


def test_a_run_without_a_name_gets_one(pipeline: Pipeline) -> None:
    """Random, readable, not empty."""
    with runstream.start_run() as run:
        pass
    assert run.name
    assert run.info.run_name == run.name


def test_a_run_that_raises_is_failed(pipeline: Pipeline) -> None:
    """The exception passes through, the status says so, in `with` and in `async with`."""
    with pytest.raises(RuntimeError, match="no luck"), runstream.start_run() as first:
        raise RuntimeError("no luck")

    async def fail() -> runstream.Run:
        run = runstream.start_run()
        with pytest.raises(RuntimeError):
            async with run:
                raise RuntimeError
        return run

    second = asyncio.run(fail())
    assert runstream.active_run() is None
    pipeline.drain()
    assert [pipeline.run(run.run_id).status for run in (first, second)] == ["FAILED", "FAILED"]


def test_a_status_given_inside_the_block_stays(pipeline: Pipeline) -> None:
    """The end of the block does not end a run again that was ended in it."""
    with runstream.start_run() as run:
        runstream.end_run("KILLED")
        assert runstream.active_run() is None
    assert run.info.status == "KILLED"
    pipeline.drain()
    assert pipeline.run(run.run_id).status == "KILLED"


def test_ending_a_run_object_ends_it_as_the_active_one(pipeline: Pipeline) -> None:
    """`run.end()` is `end_run()` for that run; the outer one is active again."""
    outer = runstream.start_run()
    inner = runstream.start_run(nested=True)
    inner.end("FAILED")
    assert runstream.active_run() is outer
    runstream.end_run()
    runstream.end_run()
    assert runstream.active_run() is None
    assert inner.info.status == "FAILED"


def test_an_unknown_status_is_refused_and_the_run_goes_on(pipeline: Pipeline) -> None:
    """The message names the statuses; the run is still active."""
    run = runstream.start_run()
    with pytest.raises(InvalidInputError, match="FINISHED"):
        runstream.end_run("DONE")
    assert runstream.active_run() is run


def test_nested_runs_name_their_parent(pipeline: Pipeline) -> None:
    """The tag is MLflow's; the inner run is active until it ends."""
    with runstream.start_run("outer") as outer:
        with runstream.start_run("inner", nested=True) as inner:
            runstream.log_param("where", "inside")
        runstream.log_param("where", "outside")
        assert runstream.last_active_run() is outer
    with runstream.start_run("elsewhere", parent_run_id=inner.run_id) as third:
        pass
    pipeline.drain()
    assert pipeline.run(inner.run_id).tags["mlflow.parentRunId"] == outer.run_id
    assert pipeline.run(third.run_id).tags["mlflow.parentRunId"] == inner.run_id
    assert pipeline.run(inner.run_id).params == {"where": "inside"}
    assert pipeline.run(outer.run_id).params == {"where": "outside"}
    assert runstream.last_active_run() is third


def test_a_second_run_needs_nested_or_the_end_of_the_first(pipeline: Pipeline) -> None:
    """As in MLflow; the message says what to do, and nothing was begun."""
    first = runstream.start_run()
    with pytest.raises(InvalidInputError, match="nested=True"):
        runstream.start_run()
    assert runstream.active_run() is first
    runstream.end_run()
    pipeline.drain()
    assert len(pipeline.runs()) == 1


@pytest.mark.parametrize("arguments", [{"run_id": "ID"}, {"run_name": "ID"}])
def test_a_run_is_resumed_by_its_id(pipeline: Pipeline, arguments: dict[str, str]) -> None:
    """By name of the parameter, or as the first argument, which is MLflow's order."""
    with runstream.start_run("before") as run:
        runstream.log_metric("m", 1.0)
    kept = dict.fromkeys(arguments, run.run_id)
    with runstream.start_run(**kept, tags={"again": "yes"}) as resumed:
        assert resumed.run_id == run.run_id
        assert (resumed.info.status, resumed.info.end_time) == ("RUNNING", None)
        runstream.log_metric("m", 2.0, step=1)
    pipeline.drain()
    stored = pipeline.run(run.run_id)
    assert (stored.status, stored.name, stored.metrics["m"].value) == ("FINISHED", "before", 2.0)
    assert stored.tags["again"] == "yes"
    assert len(pipeline.runs()) == 1


def test_a_resumed_run_may_get_a_new_name_and_a_run_may_be_renamed(pipeline: Pipeline) -> None:
    """The last name holds."""
    with runstream.start_run("one") as run:
        pass
    with runstream.start_run("two", run_id=run.run_id) as run:
        assert run.info.run_name == "two"
    pipeline.drain()
    assert pipeline.run(run.run_id).name == "two"
    run.rename("three")
    pipeline.drain()
    assert pipeline.run(run.run_id).name == "three"


def test_a_run_of_another_process_is_resumed(pipeline: Pipeline) -> None:
    """Its id is all that is needed; its params are first-wins across processes."""
    program = "import runstream\nwith runstream.start_run('there') as r: r.log_param('p', 1); print(r.run_id)"
    run_id = run_program(program, pipeline).stdout.strip()
    assert is_run_id(run_id)
    with runstream.start_run(run_id=run_id) as run:
        run.log_param("p", 2)
        assert run.info.start_time is None
    pipeline.drain()
    stored = pipeline.run(run_id)
    assert (stored.name, stored.params, stored.status) == ("there", {"p": "1"}, "FINISHED")


def test_a_log_call_without_a_run_starts_one(pipeline: Pipeline) -> None:
    """As in MLflow; it goes on being active."""
    runstream.log_param("p", 1)
    run = runstream.active_run()
    assert run is not None
    runstream.log_metric("m", 1)
    assert runstream.active_run() is run
    runstream.end_run()
    pipeline.drain()
    assert pipeline.run(run.run_id).params == {"p": "1"}


def test_log_calls_reach_a_run_by_its_id(pipeline: Pipeline) -> None:
    """`run_id=` names any run, known to this process or not, without making it active."""
    other = "0" * 31 + "a"
    with runstream.start_run() as run:
        runstream.log_params({"p": 1}, run_id=other)
        runstream.log_metric("m", 1.0, run_id=other)
        runstream.log_metrics({"n": 2.0}, run_id=other)
        runstream.log_prediction({"a": 1}, run_id=other)
        runstream.log_predictions([{"a": 2}], run_id=other)
        runstream.log_table({"b": [1]}, "t.json", run_id=other)
        runstream.log_text("text", "t.txt", run_id=other)
        runstream.log_dict({}, "d.json", run_id=other)
        runstream.log_metric("own", 1.0, run_id=run.run_id)
        assert runstream.active_run() is run
    pipeline.drain()
    stored = pipeline.run(other)
    assert (stored.params, set(stored.metrics), stored.status) == ({"p": "1"}, {"m", "n"}, None)
    assert pipeline.rows(other) == [{"a": 1}, {"a": 2}]
    assert pipeline.rows(other, "t") == [{"b": 1}]
    assert pipeline.artifact(other, "t.txt") == b"text"
    assert set(pipeline.run(run.run_id).metrics) == {"own"}


def test_runs_are_deleted_and_restored(pipeline: Pipeline) -> None:
    """Deletions are marks; experiments take their runs along."""
    runstream.set_experiment("e")
    with runstream.start_run() as run:
        pass
    runstream.delete_run(run.run_id)
    pipeline.drain()
    assert pipeline.run(run.run_id).lifecycle == "deleted"
    runstream.restore_run(run.run_id)
    runstream.delete_experiment(run.experiment_id)
    pipeline.drain()
    assert pipeline.run(run.run_id).lifecycle == "deleted"
    runstream.restore_experiment(run.experiment_id)
    pipeline.drain()
    assert pipeline.run(run.run_id).lifecycle == "active"


def test_experiments_are_made_tagged_and_chosen(pipeline: Pipeline) -> None:
    """By name or id, set for all runs or for one, with tags of their own."""
    made = runstream.create_experiment("made", tags={"k": 1})
    chosen = runstream.set_experiment("chosen")
    runstream.set_experiment_tag("a", 1)
    runstream.set_experiment_tags({"b": 2, "c": 3})
    runstream.delete_experiment_tag("c")
    with runstream.start_run() as first:
        pass
    with runstream.start_run(experiment_id=made) as second:
        pass
    assert runstream.set_experiment(experiment_id=made).experiment_id == made
    with runstream.start_run() as third:
        pass
    pipeline.drain()
    assert [run.experiment_id for run in (first, second, third)] == [chosen.experiment_id, made, made]
    stored = {experiment.name: experiment.tags for experiment in pipeline.ask(query.list_experiments)}
    assert stored == {"Default": {}, "made": {"k": "1"}, "chosen": {"a": "1", "b": "2"}}


def test_the_settings_name_the_experiment_where_the_program_does_not(pipeline: Pipeline) -> None:
    """Default only where neither does; one announcement a process and stream is enough."""
    with runstream.start_run() as default:
        pass
    runstream.configure(experiment="from the settings")
    for _ in range(2):
        with runstream.start_run() as run:
            pass
    pipeline.drain()
    assert default.experiment_id == "0"
    assert pipeline.ask(query.find_experiment, "from the settings").experiment_id == run.experiment_id
    names = [type(event).__name__ for event in pipeline.events()]
    assert names.count("ExperimentCreated") == 1


def test_names_in_other_normal_forms_are_the_same_experiment(pipeline: Pipeline) -> None:
    """The id comes from normal form C."""
    assert runstream.create_experiment("caf\u00e9") == runstream.create_experiment("cafe\u0301")


def test_a_param_of_this_process_cannot_be_changed(pipeline: Pipeline) -> None:
    """The second, different value raises; the same one does not; of several params none is logged then."""
    with runstream.start_run() as run:
        runstream.log_param("p", 1)
        runstream.log_param("p", "1")
        with pytest.raises(ParamConflictError, match=r"'p'.*'1'.*'2'"):
            runstream.log_params({"q": 1, "p": 2})
    pipeline.drain()
    assert pipeline.run(run.run_id).params == {"p": "1"}


def test_a_thousand_tasks_see_only_their_own_runs(pipeline: Pipeline) -> None:
    """Each logs to its own run while the others do; the active run outside is untouched."""

    async def one(number: int) -> str:
        async with runstream.start_run(f"run {number}") as run:
            await asyncio.sleep(0)
            runstream.log_param("number", number)
            await asyncio.sleep(0)
            runstream.log_metric("number", number)
            assert runstream.active_run() is run
            return run.run_id

    async def all_of_them() -> list[str]:
        return await asyncio.gather(*map(one, range(1000)))

    run_ids = asyncio.run(all_of_them())
    assert runstream.active_run() is None
    pipeline.drain()
    stored = {run.run_id: run for run in pipeline.runs()}
    assert [stored[run_id].params["number"] for run_id in run_ids] == [str(number) for number in range(1000)]
    assert all(stored[run_id].metrics["number"].value == at for at, run_id in enumerate(run_ids))
    assert {run.status for run in stored.values()} == {"FINISHED"}


def test_threads_have_active_runs_of_their_own(pipeline: Pipeline) -> None:
    """A thread does not see the run of the one that started it."""
    barrier = threading.Barrier(4)

    def work(number: int) -> str:
        assert runstream.active_run() is None
        with runstream.start_run() as run:
            barrier.wait(60)
            runstream.log_param("number", number)
            barrier.wait(60)
            assert runstream.active_run() is run
            return run.run_id

    with runstream.start_run() as outside, ThreadPoolExecutor(4) as pool:
        run_ids = list(pool.map(work, range(4)))
        assert runstream.active_run() is outside
    pipeline.drain()
    assert [pipeline.run(run_id).params["number"] for run_id in run_ids] == list("0123")


def test_a_program_that_ends_ends_its_runs(pipeline: Pipeline) -> None:
    """FINISHED, as in MLflow, though nobody called `end_run`; also where the last statement raised."""
    for last in ("", "raise RuntimeError"):
        done = run_program(f"import runstream\nprint(runstream.start_run().run_id, flush=True)\n{last}", pipeline)
        pipeline.drain()
        assert pipeline.run(done.stdout.strip()).status == "FINISHED"


def test_what_a_process_knows_of_a_run(pipeline: Pipeline) -> None:
    """`run.info` has MLflow's names."""
    with runstream.start_run("me") as run:
        info = run.info
        assert (info.run_id, info.run_name, info.status, info.end_time) == (run.run_id, "me", "RUNNING", None)
        assert info.artifact_uri == runstream.get_artifact_uri() == f"{pipeline.store}/artifacts/{run.run_id}"
        assert runstream.get_artifact_uri("a/b") == f"{info.artifact_uri}/a/b"
        assert info.start_time is not None
        assert run.run_id in repr(run)
        assert run.flush(60)
    assert run.info.status == "FINISHED"
    assert (run.info.end_time or 0) >= info.start_time
