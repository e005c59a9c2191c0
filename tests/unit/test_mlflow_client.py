"""`runstream.MlflowClient`: what it refuses, what it remembers, and that it is loaded late."""

import io
import subprocess
import sys
from typing import Any

import pytest
from matplotlib.figure import Figure
from PIL import Image

import runstream
from runstream.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from runstream_schemas.errors import InvalidInputError, NotFoundError, ParamConflictError
from support.pipeline import Pipeline

RUN = "0194fdc2fa2f7fcc841d6e9e2f1e0a3b"


def test_importing_runstream_does_not_load_it() -> None:
    """The names are there, and their modules are loaded when they are asked for."""
    program = """
import sys, runstream
before = [name for name in sys.modules if name.startswith("runstream.tracking")]
print(before, runstream.tracking.MlflowClient is runstream.MlflowClient, runstream.entities.Metric.__name__)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "True", "Metric"]


def test_a_name_that_is_not_there_is_refused_with_a_sentence() -> None:
    """Of the package, of its modules, of the client."""
    with pytest.raises(AttributeError, match="no attribute 'autolog'"):
        _ = runstream.autolog
    with pytest.raises(AttributeError, match="nothing"):
        _ = runstream.tracking.nothing
    assert not hasattr(runstream.MlflowClient(), "create_registered_model")


def test_a_tracking_uri_is_the_address_of_a_sink() -> None:
    """What else MLflow takes is refused, and the registry's address means nothing."""
    assert runstream.MlflowClient("http://127.0.0.1:5600", "sqlite:///x").tracking_uri == "http://127.0.0.1:5600"
    assert runstream.MlflowClient().tracking_uri is None
    with pytest.raises(InvalidInputError, match="configure"):
        runstream.MlflowClient("sqlite:///mlflow.db")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda one: one.create_experiment("x", artifact_location="/elsewhere"), "artifact_location"),
        (lambda one: one.create_experiment(" "), "name"),
        (lambda one: one.create_run("no id"), "experiment id"),
        (lambda one: one.create_run("0", start_time="soon"), "start_time"),
        (lambda one: one.log_metric("no id", "m", 1), "run id"),
        (lambda one: one.set_terminated(RUN, "GONE"), "GONE"),
        (lambda one: one.update_run(RUN, "GONE"), "GONE"),
        (lambda one: one.log_inputs(RUN, models=[object()]), "models"),
        (lambda one: one.log_inputs(RUN, [object()]), "DatasetInput"),
        (lambda one: one.log_stream(RUN, io.BytesIO(), "../x"), "path"),
        (lambda one: one.search_runs(["0"], max_results=-1), "negative"),
        (lambda one: one.search_runs(["0"], run_view_type=4), "view type"),
    ],
)
def test_what_cannot_be_is_refused(pipeline: Pipeline, call: Any, words: str) -> None:
    """At the call, as by the log functions."""
    pipeline.drain()
    with pytest.raises(InvalidInputError, match=words):
        call(runstream.MlflowClient())


def test_a_second_value_of_a_param_raises(pipeline: Pipeline) -> None:
    """As long as the run is remembered, of which there is a limit."""
    one = runstream.MlflowClient()
    first = one.create_run("0").info.run_id
    assert one.log_param(first, "p", 1) == 1
    with pytest.raises(ParamConflictError):
        one.log_param(first, "p", 2)
    for number in range(1000):
        one.set_tag(f"{number:032x}", "t", "x")
    one.log_param(first, "p", 2)
    pipeline.drain()
    assert pipeline.run(first).params == {"p": "1"}


def test_a_run_is_logged_to_and_read_back(pipeline: Pipeline) -> None:
    """By ids alone; what is not there is not found."""
    one = runstream.MlflowClient()
    run_id = one.create_run("0", tags={"mlflow.runName": "named"}).info.run_id
    one.log_batch(
        run_id, [Metric("m", 2.0, 5, 1)], [Param("p", "x")], [RunTag("t", "y"), RunTag("mlflow.runName", "n")]
    )
    one.log_stream(run_id, io.StringIO("text"), "s.txt")
    one.log_figure(run_id, Figure(), "f.png")
    one.log_image(run_id, Image.new("L", (2, 2)), key="image")
    one.set_terminated(run_id, end_time=9)
    pipeline.drain()
    run = one.get_run(run_id)
    assert (run.info.run_name, run.info.end_time, run.info.user_id) == ("n", 9, "unknown")
    assert (run.data.metrics, run.data.params, run.data.tags["t"]) == ({"m": 2.0}, {"p": "x"}, "y")
    assert [held.path for held in one.list_artifacts(run_id)] == ["f.png", "images", "s.txt"]
    assert one.get_experiment_by_name("nobody's") is None
    assert [found.info.run_id for found in one.search_runs("0")] == [run_id]
    with pytest.raises(NotFoundError):
        one.get_experiment("7")


def test_inputs_are_kept_as_tags_and_shown_apart(pipeline: Pipeline) -> None:
    """Of a dataset that is logged again the first entry holds; a tag that is no input is left out."""
    one = runstream.MlflowClient()
    run_id = one.create_run("0").info.run_id
    dataset = Dataset("rows", "d1", "local", "{}", profile="{}")
    one.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "train")]), DatasetInput(dataset)])
    one.log_inputs(run_id, [DatasetInput(dataset)])
    one.log_inputs(run_id, [DatasetInput(Dataset("rows", "d2", "local", "{}"))])
    one.set_tag(run_id, "runstream.input.x", "no JSON")
    many = one.create_run("0").info.run_id
    one.log_inputs(many, [DatasetInput(Dataset("rows", str(number), "local", "{}")) for number in range(1001)])
    pipeline.drain()
    run = one.get_run(run_id)
    assert sorted((held.dataset.digest, len(held.tags)) for held in run.inputs.dataset_inputs) == [("d1", 1), ("d2", 0)]
    assert dataset in [held.dataset for held in run.inputs.dataset_inputs]
    assert set(run.data.tags) == {"mlflow.runName"}
