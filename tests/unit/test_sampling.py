"""Sampling: a share of the runs or rows, decided alike by every process, and on record."""

import json
from typing import Any

import pytest

import runstream
from runstream.sampling import Sampling, Tally
from runstream_schemas.errors import InvalidInputError
from support.pipeline import Pipeline, run_program

GOLDEN = [16, 22, 33, 35]
"""Integers below 40 that are kept at a share of 0.2."""


def left_out() -> tuple[int, int]:
    """Rows and points of metrics that this process left out so far."""
    stats = runstream.stats()
    return stats["sampled_out"], stats["sampled_out_points"]


def test_a_share_of_the_rows_is_kept_and_the_rest_counted(pipeline: Pipeline) -> None:
    """About the share; the run says what it is."""
    before = left_out()[0]
    runstream.configure(sample=0.25, sample_by="row")
    with runstream.start_run() as run:
        for number in range(1_000):
            runstream.log_prediction({"n": number})
        runstream.log_table({"n": list(range(1_000))}, "t")
        runstream.log_metric("m", 1)
    pipeline.drain()
    one, other = pipeline.rows(run.run_id), pipeline.rows(run.run_id, "t")
    assert 170 < len(one) < 330
    assert one == other
    assert left_out()[0] - before == 2_000 - len(one) - len(other)
    found = pipeline.run(run.run_id)
    assert {name: value for name, value in found.tags.items() if "sample" in name} == {
        "runstream.sample.share": "0.25",
        "runstream.sample.by": "row",
    }
    assert list(found.metrics) == ["m"]


def test_rows_of_one_key_are_in_or_out_together(pipeline: Pipeline) -> None:
    """In every table, by every call; a row without the key is decided by all that it holds."""
    runstream.configure(sample=0.5, sample_by="row", sample_key="user")
    with runstream.start_run() as run:
        for number in range(400):
            runstream.log_prediction({"user": number % 40, "n": number})
        runstream.log_table([{"n": number, "user": number % 40} for number in range(400)], "t")
        runstream.log_table({"n": list(range(400))}, "keyless")
    pipeline.drain()
    users = {row["user"] for row in pipeline.rows(run.run_id)}
    assert 5 < len(users) < 35
    assert len(pipeline.rows(run.run_id)) == len(users) * 10
    assert users == {row["user"] for row in pipeline.rows(run.run_id, "t")}
    assert 150 < len(pipeline.rows(run.run_id, "keyless")) < 250
    assert pipeline.run(run.run_id).tags["runstream.sample.key"] == "user"


def test_a_run_is_in_or_out_as_a_whole(pipeline: Pipeline) -> None:
    """Rows and points; params, tags, artifacts, start and end are always there.  What is wrong still raises."""
    before = left_out()
    runstream.configure(sample=0.5)
    for _ in range(40):
        with runstream.start_run():
            runstream.log_param("p", 1)
            runstream.set_tag("t", 1)
            runstream.log_text("text", "a.txt")
            runstream.log_prediction({"n": 1})
            runstream.log_table({"n": [1, 2]}, "t")
            runstream.log_metric("m", 1)
            runstream.log_metrics({"a": 1, "b": 2})
            with pytest.raises(InvalidInputError):
                runstream.log_metric("m", "text")  # type: ignore[arg-type]
    pipeline.drain()
    runs = pipeline.runs()
    kept = [run for run in runs if run.metrics]
    assert 5 < len(kept) < 35
    for run in runs:
        assert run.params == {"p": "1"}
        assert (run.status, run.tags["t"]) == ("FINISHED", "1")
        assert run.tags["runstream.sample.kept"] == ("true" if run in kept else "false")
        assert pipeline.artifact(run.run_id, "a.txt") == b"text"
        assert set(run.metrics) == ({"m", "a", "b"} if run in kept else set())
    rows, points = (now - then for now, then in zip(left_out(), before, strict=True))
    assert (rows, points) == (3 * (40 - len(kept)),) * 2


def test_redaction_comes_before_the_decision_by_row_and_not_at_all_for_runs_left_out(pipeline: Pipeline) -> None:
    """What decides is what is logged, so that the table itself shows that its share is right."""
    seen: list[Any] = []

    def redact(row: dict[str, Any]) -> dict[str, Any]:
        seen.append(row)
        return {"user": "all the same"}

    runstream.configure(sample=0.5, sample_by="row", sample_key="user", redact=redact)
    with runstream.start_run() as run:
        for number in range(20):
            runstream.log_prediction({"user": number})
        runstream.log_table({"user": list(range(20))}, "t")
    pipeline.drain()
    kept = Sampling(0.5, "row", "user").keeps_row(["user"], ["all the same"])
    tables = [row for table in ("predictions", "t") if kept for row in pipeline.rows(run.run_id, table)]
    assert len(tables) == (40 if kept else 0)
    assert len(seen) == 40
    runstream.configure(sample=0, sample_by="run")
    with runstream.start_run():
        runstream.log_prediction({"user": 1})
    assert len(seen) == 40


def test_every_process_decides_alike(pipeline: Pipeline) -> None:
    """By environment variables as by arguments; forked children and their parents too."""
    program = """
        import runstream, json
        with runstream.start_run() as run:
            for number in range(100):
                runstream.log_prediction({"key": f"k{number}"})
        print(run.run_id, runstream.stats()["sampled_out"])
    """
    settings = {"RUNSTREAM_SAMPLE": "0.3", "RUNSTREAM_SAMPLE_BY": "row", "RUNSTREAM_SAMPLE_KEY": "key"}
    printed = [run_program(program, pipeline, **settings).stdout.split() for _ in range(2)]
    pipeline.drain()
    tables = [json.dumps(pipeline.rows(run_id)) for run_id, _ in printed]
    assert tables[0] == tables[1]
    assert [int(count) + len(json.loads(tables[0])) for _, count in printed] == [100, 100]


def test_the_decision_never_changes() -> None:
    """Golden: another version must keep what this one keeps; a greater share keeps more, never less."""
    kept = [key for key in range(40) if Sampling(0.2, "row", "k").keeps_row(["k"], [key])]
    assert kept == GOLDEN
    more = [key for key in range(40) if Sampling(0.6, "row", "k").keeps_row(["k"], [key])]
    assert set(kept) < set(more)
    runs = [f"{number:032x}" for number in range(20)]
    assert [run for run in runs if Sampling(0.0, "run", "").keeps_run(run)] == []


def test_tags_are_set_once_a_run_and_again_for_another_share(pipeline: Pipeline) -> None:
    """Also where there are very many runs."""
    runstream.configure(sample=0.5, sample_by="row")
    with runstream.start_run() as run:
        runstream.log_prediction({"n": 1})
        runstream.log_prediction({"n": 2})
        runstream.configure(sample=0.75)
        runstream.log_prediction({"n": 3})
    runstream.close()
    shares = [event.tags["runstream.sample.share"] for event in pipeline.events() if "sample" in repr(event)]  # type: ignore[union-attr]
    assert sorted(shares) == ["0.5", "0.75"]  # journal by journal
    pipeline.drain()
    assert pipeline.run(run.run_id).tags["runstream.sample.share"] == "0.75"
    sampling = Sampling(0.5, "row", "")
    assert all(sampling.is_new(str(number)) for number in range(10_001))
    assert not sampling.is_new("10000")


def test_without_a_sample_nothing_is_left_out_or_said(pipeline: Pipeline) -> None:
    """A share of one is none."""
    runstream.configure(sample=1.0, sample_by="row")
    with runstream.start_run() as run:
        runstream.log_prediction({"n": 1})
    pipeline.drain()
    assert len(pipeline.rows(run.run_id)) == 1
    assert "runstream.sample.share" not in pipeline.run(run.run_id).tags


@pytest.mark.parametrize("share", [-0.1, 1.1, "much", float("nan")])
def test_what_is_no_share_is_refused(share: Any) -> None:
    """When it is set."""
    with pytest.raises(InvalidInputError, match="sample"):
        runstream.configure(sample=share)


def test_a_tally_adds_up() -> None:
    """Over all threads."""
    tally = Tally()
    tally.add()
    tally.add(4)
    assert tally.total == 5
