"""What users do to the files of a store: the stream goes on, and nothing is lost silently."""

from pathlib import Path

import pytest

import runstream
from runstream_schemas.errors import InvalidInputError
from runstream_sink.config import resolve
from runstream_sink.service import link_artifacts
from runstream_sink.verify import verify
from support.pipeline import Pipeline


def _log(run: runstream.Run, *numbers: int) -> None:
    for number in numbers:
        run.log_prediction({"n": number})


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text("n\n")], ids=["removed", "cut"])
def test_a_table_whose_open_part_was_damaged_goes_on_in_a_new_part(
    pipeline: Pipeline, damage: "type[Path.unlink]"
) -> None:
    """Other tables are written as before, and verify says what is wrong."""
    with runstream.start_run() as run:
        _log(run, 1, 2)
        run.log_table({"m": [1]}, "other")
        pipeline.drain()
        folder = pipeline.options.artifacts / run.run_id
        damage(folder / "predictions.csv")
        _log(run, 3)
        run.log_table({"m": [2]}, "other")
        pipeline.drain()
        _log(run, 4)
    pipeline.drain()
    assert [row["m"] for row in pipeline.rows(run.run_id, "other")] == [1, 2]
    later = (folder / "predictions.part-0002.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in later] == ["n", "3", "4"]
    report = pipeline.ask(verify, pipeline.options.artifacts)
    assert {finding.kind for finding in report.findings} == {"part_missing" if damage is Path.unlink else "part_short"}


def test_artifacts_elsewhere_are_found_through_a_link_in_the_store(pipeline: Pipeline, tmp_path: Path) -> None:
    """So every reader finds them without being told."""
    elsewhere = tmp_path / "elsewhere"
    pipeline.options = resolve(stream=pipeline.stream, store=str(pipeline.store), artifacts=str(elsewhere))
    with runstream.start_run() as run:
        _log(run, 1)
    pipeline.drain()
    pipeline.drain()
    assert (elsewhere / run.run_id / "predictions.csv").exists()
    pipeline.options = resolve(stream=pipeline.stream, store=str(pipeline.store))
    assert [row["n"] for row in pipeline.rows(run.run_id)] == [1]
    assert (pipeline.store / "artifacts").resolve() == elsewhere


def test_a_store_does_not_scatter_its_artifacts_over_two_places(pipeline: Pipeline, tmp_path: Path) -> None:
    """Another directory than before is refused, and the message says what to do."""
    with runstream.start_run() as run:
        _log(run, 1)
    pipeline.drain()
    options = resolve(stream=pipeline.stream, store=str(pipeline.store), artifacts=str(tmp_path / "elsewhere"))
    with pytest.raises(InvalidInputError, match=r"lie in .*store/artifacts; move them to"):
        link_artifacts(options)


def test_an_empty_directory_of_artifacts_gives_way_to_a_link(pipeline: Pipeline, tmp_path: Path) -> None:
    """As one that an installer made."""
    (pipeline.store / "artifacts").mkdir(parents=True)
    elsewhere = tmp_path / "elsewhere"
    link_artifacts(resolve(stream=pipeline.stream, store=str(pipeline.store), artifacts=str(elsewhere)))
    assert (pipeline.store / "artifacts").resolve() == elsewhere
