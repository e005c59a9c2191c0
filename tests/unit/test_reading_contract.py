"""What programs read back, over HTTP and straight from the store: the same functions give the same."""

import asyncio
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import runstream
from runstream.client import client
from runstream.tracking.sources import current_source
from runstream_schemas.errors import InvalidInputError, NotFoundError
from runstream_schemas.events import ExperimentTagsSet
from support.http_sink import http_sink_apart
from support.pipeline import forget_everything
from support.waiting import until

TOKEN = "a-token-that-programs-know"
LARGE = "long " * 1000


class Logged(NamedTuple):
    """What a program has logged."""

    url: str
    root: Path
    first: str
    second: str
    deleted: str


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Logged]:
    """A sink that has applied some runs."""
    root = tmp_path_factory.mktemp("reading")
    with http_sink_apart(root, token=TOKEN) as sink:
        runstream.configure(stream=f"queue:{root / 'queue'}", store=str(root / "store"), claim_size=1024)
        runstream.set_experiment("mine")
        runstream.set_experiment_tag("team", "a")
        with runstream.start_run("first", tags={"kind": "x"}) as first:
            first.log_param("model", "8b")
            for step, value in enumerate((0.5, math.inf, math.nan, 0.25)):
                first.log_metric("loss", value, step, 1000 + step)
            first.log_predictions([{"n": 1, "score": math.nan, "text": "NaN"}, {"n": 2, "score": 2.5, "text": LARGE}])
            first.log_text("hello", "notes/a.txt")
            first.log_text("world", "notes/deep/b c.txt")
            first.log_text("other", "notes.txt")
        with runstream.start_run("second") as second:
            second.log_metric("acc", 1.5)
        with runstream.start_run("third") as third:
            pass
        runstream.delete_run(third.run_id)
        _wait_until_applied()
        yield Logged(sink.url, root, first.run_id, second.run_id, third.run_id)
        forget_everything()


@pytest.fixture(params=["http", "store"])
def reading(request: pytest.FixtureRequest, logged: Logged, monkeypatch: pytest.MonkeyPatch) -> Logged:
    """The same functions, over HTTP or straight from the store."""
    if request.param == "http":
        monkeypatch.setenv("RUNSTREAM_URL", logged.url)
        monkeypatch.setenv("RUNSTREAM_TOKEN", TOKEN)
    return logged


def _wait_until_applied() -> None:
    origin = client.emit_located(ExperimentTagsSet("0", {}))
    assert origin is not None
    producer_id, seq = bytes.fromhex(origin[0]), origin[1]
    runstream.flush()
    source = current_source()
    asyncio.run(until(lambda: source.is_applied(producer_id, seq)))


def test_a_run_has_mlflows_attributes(reading: Logged) -> None:
    """Its info, params, latest metrics and tags."""
    run = runstream.get_run(reading.first)
    info = run.info
    assert (info.run_id, info.run_name, info.status, info.lifecycle_stage) == (
        reading.first,
        "first",
        "FINISHED",
        "active",
    )
    assert info.experiment_id == runstream.get_experiment_by_name("mine").experiment_id
    assert info.start_time is not None
    assert info.end_time is not None
    assert reading.first in info.artifact_uri
    assert info.user_id == run.data.tags["mlflow.user"]
    assert run.data.params == {"model": "8b"}
    assert run.data.metrics == {"loss": 0.25}
    assert (run.data.tags["kind"], run.data.tags["mlflow.runName"]) == ("x", "first")


def test_a_history_has_every_point_bit_for_bit(reading: Logged) -> None:
    """Infinities and NaN too."""
    points = runstream.get_metric_history(reading.first, "loss")
    assert [(point.key, point.step, point.timestamp) for point in points] == [
        ("loss", step, 1000 + step) for step in range(4)
    ]
    assert [repr(point.value) for point in points] == ["0.5", "inf", "nan", "0.25"]
    assert runstream.get_metric_history(reading.first, "nothing") == []


def test_runs_are_found_by_mlflows_grammar(reading: Logged) -> None:
    """Those of the current experiment, of named ones, or of all; deleted ones if asked for."""

    def found(**options: Any) -> list[str]:
        return [run.info.run_id for run in runstream.search_runs(output_format="list", **options)]

    assert set(found()) == {reading.first, reading.second}
    assert found(filter_string="metrics.loss < 1 AND params.model LIKE '8%'") == [reading.first]
    assert found(order_by=["attributes.run_name DESC"]) == [reading.second, reading.first]
    assert found(order_by=["attributes.run_name"], max_results=1) == [reading.first]
    assert found(max_results=0) == []
    assert found(run_view_type=2) == [reading.deleted]
    assert len(found(run_view_type=3, search_all_experiments=True)) == 3
    assert set(found(experiment_names=["mine", "nobody's"])) == {reading.first, reading.second}
    assert found(experiment_names=["nobody's"]) == found(experiment_ids=["7"]) == []
    assert set(found(experiment_ids=[runstream.get_experiment_by_name("mine").experiment_id])) == set(found())


def test_runs_come_as_a_data_frame_with_mlflows_columns(reading: Logged) -> None:
    """A row for each; what a run lacks is NaN or None."""
    frame = runstream.search_runs(order_by=["attributes.run_name"])
    assert list(frame.columns[:6]) == ["run_id", "experiment_id", "status", "artifact_uri", "start_time", "end_time"]
    assert frame["run_id"].tolist() == [reading.first, reading.second]
    assert frame["metrics.loss"].tolist()[0] == 0.25
    assert math.isnan(frame["metrics.loss"].tolist()[1])
    assert frame["params.model"].isna().tolist() == [False, True]
    assert frame["tags.kind"].tolist()[0] == "x"
    assert str(frame["start_time"].dtype).endswith("UTC]")
    assert runstream.search_runs(filter_string="metrics.loss > 5").empty


def test_experiments_are_found(reading: Logged) -> None:
    """By id, by name, by a filter."""
    mine = runstream.get_experiment_by_name("mine")
    assert mine == runstream.get_experiment(mine.experiment_id)
    assert (mine.name, mine.lifecycle_stage, mine.tags) == ("mine", "active", {"team": "a"})
    assert mine.creation_time is not None
    assert runstream.search_experiments(filter_string="tags.team = 'a'") == [mine]
    assert {one.name for one in runstream.search_experiments(view_type=3, max_results=5)} >= {"mine"}
    assert runstream.get_experiment_by_name("nobody's") is None


def test_rows_are_typed_and_large_values_are_in_place(reading: Logged) -> None:
    """A text that reads NaN stays text; references stay if asked for."""
    frame = runstream.load_table("predictions", [reading.first], extra_columns=["run_id"])
    assert frame["n"].tolist() == [1, 2]
    assert [repr(float(value)) for value in frame["score"]] == ["nan", "2.5"]
    assert frame["text"].tolist() == ["NaN", LARGE]
    assert frame["run_id"].tolist() == [reading.first] * 2
    assert runstream.load_table("predictions.json")["n"].tolist() == [1, 2]
    held = runstream.load_table("predictions", [reading.first], references=True)["text"].tolist()
    assert held[1].startswith("artifact:claims/")


def test_artifacts_are_downloaded(reading: Logged, tmp_path: Path) -> None:
    """A file, a directory, or all; to a directory of the caller's or to a new one."""
    file = Path(runstream.download_artifacts(run_id=reading.first, artifact_path="notes/a.txt"))
    assert file.read_text() == "hello"
    folder = Path(runstream.download_artifacts(f"runs:/{reading.first}/notes", dst_path=str(tmp_path / "made")))
    assert folder == tmp_path / "made" / "notes"
    assert {path.name for path in folder.rglob("*.txt")} == {"a.txt", "b c.txt"}
    everything = Path(runstream.download_artifacts(run_id=reading.first, dst_path=str(tmp_path / "all")))
    assert (everything / "notes.txt").read_text() == "other"
    assert runstream.download_artifacts(run_id=reading.second, dst_path=str(tmp_path)) == str(tmp_path)


def test_what_is_not_there_is_not_found(reading: Logged) -> None:
    """Runs, experiments, tables, files."""
    for ask in (
        lambda: runstream.get_run("f" * 32),
        lambda: runstream.get_experiment("7"),
        lambda: runstream.get_metric_history("f" * 32, "loss"),
        lambda: runstream.load_table("nothing", [reading.first]),
        lambda: runstream.load_table("nothing"),
        lambda: runstream.download_artifacts(run_id=reading.first, artifact_path="note"),
        lambda: runstream.download_artifacts(run_id="f" * 32),
        lambda: current_source().download(reading.first, "nothing", Path("never-made")),
    ):
        with pytest.raises(NotFoundError):
            ask()


def test_what_makes_no_sense_is_refused(reading: Logged) -> None:
    """Filters, orders, numbers, formats, addresses of artifacts."""
    del reading
    for ask, words in (
        (lambda: runstream.search_runs(filter_string="nonsense"), "nonsense"),
        (lambda: runstream.search_runs(run_view_type=9), "view type"),
        (lambda: runstream.search_runs(max_results=-1), "negative"),
        (lambda: runstream.search_runs(output_format="tuple"), "output_format"),
        (lambda: runstream.search_runs(["0"], experiment_names=["mine"]), "either"),
        (lambda: runstream.search_experiments(filter_string="name ="), "name"),
        (lambda: runstream.load_table("predictions", extra_columns=["colour"]), "no field"),
        (runstream.download_artifacts, "either"),
        (lambda: runstream.download_artifacts("s3://elsewhere"), "runs:/"),
    ):
        with pytest.raises(InvalidInputError, match=words):
            ask()


def test_a_source_knows_which_events_are_applied(reading: Logged) -> None:
    """Those of producers that it has seen."""
    del reading
    assert not current_source().is_applied(bytes(16), 0)
