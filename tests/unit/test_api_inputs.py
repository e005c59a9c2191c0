"""What callers pass wrongly is refused at the call, with a clear message, and nothing else is lost."""

import math
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runstream
from runstream_schemas.errors import InvalidInputError, RunstreamError
from runstream_schemas.names import MAX_PATH
from runstream_sink import query
from support.pipeline import Pipeline


class Hostile:
    """An object of which every question raises."""

    def __str__(self) -> str:
        raise KeyError("no text")

    def __float__(self) -> float:
        raise KeyError("no number")

    def __int__(self) -> int:
        raise KeyError("no integer")


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "a metric that is text": (lambda: runstream.log_metric("m", "much"), "metric 'm' must be a number"),  # type: ignore[arg-type]
    "a metric that is None": (lambda: runstream.log_metric("m", None), "must be a number, not NoneType"),  # type: ignore[arg-type]
    "a metric beyond doubles": (lambda: runstream.log_metric("m", 10**400), "must be a number, not int"),
    "a metric that answers nothing": (lambda: runstream.log_metric("m", Hostile()), "not Hostile: <Hostile>"),  # type: ignore[arg-type]
    "an array as metric": (lambda: runstream.log_metrics({"m": np.array([1, 2])}), "must be a number, not ndarray"),
    "a step that is text": (lambda: runstream.log_metric("m", 1, step="two"), "step must be an integer, not str"),  # type: ignore[arg-type]
    "a step beyond 64 bits": (lambda: runstream.log_metric("m", 1, step=1 << 63), "does not fit into 64 bits"),
    "a step that is NaN": (lambda: runstream.log_metrics({"m": 1}, step=math.nan), "step must be an integer"),  # type: ignore[arg-type]
    "a step that answers nothing": (lambda: runstream.log_metric("m", 1, step=Hostile()), "step must be an integer"),  # type: ignore[arg-type]
    "a time beyond 64 bits": (lambda: runstream.log_metric("m", 1, timestamp=-(1 << 64)), "timestamp .* 64 bits"),
    "a key that is no text": (lambda: runstream.log_metric(1, 1.0), "metric's key must be text, not int"),  # type: ignore[arg-type]
    "a list as metric's key": (lambda: runstream.log_metric(["k"], 1.0), "metric's key must be text, not list"),  # type: ignore[arg-type]
    "a list as param's key": (lambda: runstream.log_param(["k"], 1), "param's key must be text, not list"),  # type: ignore[arg-type]
    "a list as tag's key": (lambda: runstream.set_tag(["k"], 1), "tag's key must be text, not list"),  # type: ignore[arg-type]
    "an empty key": (lambda: runstream.log_param("", 1), "1 to 250 characters"),
    "a key of 300 characters": (lambda: runstream.set_tag("k" * 300, 1), "1 to 250 characters, not 300"),
    "a key with NUL": (lambda: runstream.log_metrics({"a\0b": 1}), "control characters"),
    "a key with a lone surrogate": (lambda: runstream.delete_tag("\ud800"), "lone surrogates"),
    "params that are a list": (lambda: runstream.log_params([("a", 1)]), "params must be a dict, not list"),  # type: ignore[arg-type]
    "metrics that are a number": (lambda: runstream.log_metrics(3), "metrics must be a dict, not int"),  # type: ignore[arg-type]
    "tags that are text": (lambda: runstream.set_tags("a=1"), "tags must be a dict, not str"),  # type: ignore[arg-type]
    "a row that is a list": (lambda: runstream.log_prediction([1, 2]), "a prediction is a dict"),  # type: ignore[arg-type]
    "a row without columns": (lambda: runstream.log_prediction({}), "at least one column"),
    "two columns of one name": (lambda: runstream.log_prediction({1: "a", "1": "b"}), "two columns named '1'"),  # type: ignore[dict-item]
    "rows of text": (lambda: runstream.log_predictions("rows"), "a table cannot be made from str"),
    "columns of different length": (lambda: runstream.log_table({"a": [1], "b": [1, 2]}, "t"), "same number of values"),
    "both forms of predictions": (lambda: runstream.log_predictions([{}], inputs=["a"]), "either rows, or inputs"),
    "inputs without outputs": (lambda: runstream.log_predictions(inputs=["a"]), "outputs must be a list"),
    "a table's name that is a list": (lambda: runstream.log_prediction({"a": 1}, ["t"]), "must be text, not list"),  # type: ignore[arg-type]
    "a run id that is none": (lambda: runstream.log_metric("m", 1, run_id="mine"), "32 lower-case hexadecimal"),
    "a run id to delete": (lambda: runstream.delete_run("../x"), "32 lower-case hexadecimal"),
    "a run id to restore": (lambda: runstream.restore_run("A" * 32), "32 lower-case hexadecimal"),
    "an experiment without name or id": (runstream.set_experiment, "either experiment_name or experiment_id"),
    "an experiment with both": (lambda: runstream.set_experiment("a", "1"), "either experiment_name or experiment_id"),
    "an experiment's name that is blank": (lambda: runstream.set_experiment("  "), "text of 1 to 500 characters"),
    "an experiment's name that is a number": (lambda: runstream.create_experiment(5), "text of 1 to 500"),  # type: ignore[arg-type]
    "an experiment's name of 501 characters": (lambda: runstream.create_experiment("e" * 501), "text of 1 to 500"),
    "an experiment's place": (lambda: runstream.create_experiment("e", "s3://b"), "RUNSTREAM_ARTIFACTS"),
    "an experiment's id": (lambda: runstream.set_experiment(experiment_id="one"), "not a decimal number"),
    "an experiment's id beyond 63 bits": (lambda: runstream.delete_experiment(str(1 << 63)), "not a decimal number"),
    "text that is none": (lambda: runstream.log_text(5, "t.txt"), "log_text takes text"),  # type: ignore[arg-type]
    "an image that is none": (lambda: runstream.log_image("image", "i.png"), "PIL image or a numpy array"),
    "an image with two places": (
        lambda: runstream.log_image(np.zeros((2, 2)), "a.png", key="a"),
        "either artifact_file",
    ),
    "an image's key": (lambda: runstream.log_image(np.zeros((2, 2)), key="a*b"), "letters, digits, spaces"),
    "a figure that is none": (lambda: runstream.log_figure("figure", "f.png"), "matplotlib or plotly"),
    "a dict inside itself": (lambda: runstream.log_dict(_circle(), "d.json"), "cannot write this dict"),
    "a file that is not there": (lambda: runstream.log_artifact("/no/such/file"), "there is no file"),
    "a file's name with NUL": (lambda: runstream.log_artifact("a\0b"), "there is no file|control characters"),
    "a file that is None": (lambda: runstream.log_artifact(None), "text or a Path, not NoneType"),  # type: ignore[arg-type]
    "a directory that is not there": (lambda: runstream.log_artifacts("/no/such/place"), "is no directory"),
    "a place of an artifact": (lambda: runstream.log_artifact(__file__, 5), "artifact_path must be text"),  # type: ignore[arg-type]
}


def _circle() -> dict[str, Any]:
    inside: dict[str, Any] = {}
    inside["me"] = inside
    return inside


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_input_is_refused_and_nothing_is_logged(pipeline: Pipeline, what: str) -> None:
    """The error is a ValueError that says what was wrong; what was logged before and after is there."""
    call, message = WRONG[what]
    with runstream.start_run() as run:
        runstream.log_metric("before", 1.0)
        accepted = runstream.stats()["accepted"]
        with pytest.raises(InvalidInputError, match=message) as caught:
            call()
        assert isinstance(caught.value, ValueError)
        assert isinstance(caught.value, RunstreamError)
        assert runstream.stats()["accepted"] == accepted
        runstream.log_metric("after", 1.0)
    pipeline.drain()
    assert set(pipeline.run(run.run_id).metrics) == {"before", "after"}
    assert pipeline.ask(query.counts).dead_letters == 0


@pytest.mark.parametrize(
    "arguments",
    [
        {"run_id": "mine"},
        {"run_id": 5},
        {"parent_run_id": "mine"},
        {"tags": ["a"]},
        {"tags": {"": 1}},
        {"experiment_id": "x"},
    ],
    ids=str,
)
def test_a_run_that_cannot_start_leaves_nothing_behind(pipeline: Pipeline, arguments: dict[str, Any]) -> None:
    """Everything is checked before the first event."""
    runstream.log_metric("m", 1)
    runstream.end_run()
    before = runstream.stats()["accepted"]
    with pytest.raises(InvalidInputError):
        runstream.start_run(**arguments)
    assert runstream.active_run() is None
    assert runstream.stats()["accepted"] == before


def test_numbers_of_other_libraries_are_numbers(pipeline: Pipeline) -> None:
    """What `float()` and `int()` take is a value and a step."""
    with runstream.start_run() as run:
        runstream.log_metric("numpy", np.float32(0.5), step=np.int64(3))
        runstream.log_metric("bool", True)
        runstream.log_metric("decimal", Decimal("1.25"), step=2.0)  # type: ignore[arg-type]
        runstream.log_metric("text", "0.5")  # type: ignore[arg-type]
        runstream.log_metrics({"array": np.array(7)}, timestamp=np.int32(5))
    pipeline.drain()
    metrics = pipeline.run(run.run_id).metrics
    assert {key: (point.value, point.step) for key, point in metrics.items()} == {
        "numpy": (0.5, 3),
        "bool": (1.0, 0),
        "decimal": (1.25, 2),
        "text": (0.5, 0),
        "array": (7.0, 0),
    }
    assert metrics["array"].timestamp == 5


def test_params_and_tags_are_text_whatever_they_were(pipeline: Pipeline) -> None:
    """`str()` of anything; what has no text is named by its type; lone surrogates are escaped."""
    before = runstream.stats()["converted"]
    with runstream.start_run() as run:
        runstream.log_params({"none": None, "list": [1, "a"], "hostile": Hostile(), "surrogate": "\ud800!"})
        runstream.set_tags({"none": None, "number": 1.5, "name": np.str_("n"), "surrogate": "\udfff"})
        runstream.log_param(np.str_("key"), "long " * 10_000)
    pipeline.drain()
    stored = pipeline.run(run.run_id)
    long = stored.params.pop("key")
    assert stored.params == {"none": "None", "list": "[1, 'a']", "hostile": "<Hostile>", "surrogate": "\\ud800!"}
    assert long == "long " * 10_000
    assert stored.tags.items() >= {"none": "None", "number": "1.5", "name": "n", "surrogate": "\\udfff"}.items()
    assert runstream.stats()["converted"] == before + 2


def test_empty_dicts_log_nothing(pipeline: Pipeline) -> None:
    """No params, metrics, tags or rows are no events."""
    runstream.start_run()
    before = runstream.stats()["accepted"]
    runstream.log_params({})
    runstream.log_metrics({})
    runstream.set_tags({})
    runstream.log_predictions([])
    runstream.log_table({"a": []}, "t")
    assert runstream.stats()["accepted"] == before


def test_names_beyond_those_that_are_remembered_still_work(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory of good names is bounded; what it forgot is checked again."""
    monkeypatch.setattr("runstream.inputs._NAMES_REMEMBERED", 3)
    with runstream.start_run() as run:
        for number in range(10):
            runstream.log_metric(f"m{number}", number)
            runstream.log_prediction({"n": number}, f"t{number}.csv")
        runstream.log_metric("m0", 100, step=1)
    pipeline.drain()
    stored = pipeline.run(run.run_id)
    assert len(stored.metrics) == 10
    assert stored.metrics["m0"].value == 100
    assert [pipeline.rows(run.run_id, f"t{number}") for number in range(10)] == [[{"n": n}] for n in range(10)]


HOSTILE_PATHS = [
    "../escape",
    "a/../../escape",
    "/etc/passwd",
    "a//b",
    "./a",
    "a/.",
    "..",
    ".",
    "",
    "a\0b",
    "a\nb",
    "a\\b",
    "..\\escape",
    "C:\\windows",
    "\ud800",
    "x" * (MAX_PATH + 1),
]


@pytest.mark.parametrize("path", HOSTILE_PATHS, ids=ascii)
def test_a_hostile_path_is_refused_everywhere(pipeline: Pipeline, path: str, tmp_path: Path) -> None:
    """As an artifact's path, a table's name, a directory for artifacts or a place to look at."""
    file = tmp_path / "file.txt"
    file.write_text("content")
    before = {held for held in tmp_path.rglob("*") if held.name.startswith("escape")}
    runstream.start_run()
    accepted = runstream.stats()["accepted"]
    calls: list[Callable[[], Any]] = [
        lambda: runstream.log_text("t", path),
        lambda: runstream.log_dict({}, path),
        lambda: runstream.log_image(np.zeros((2, 2)), path),
        lambda: runstream.log_prediction({"a": 1}, path),
        lambda: runstream.log_table({"a": [1]}, path),
        lambda: runstream.get_artifact_uri(path),
    ]
    if path:  # as a directory it means the run's own
        calls += [lambda: runstream.log_artifact(file, path), lambda: runstream.log_artifacts(tmp_path, path)]
    for call in calls:
        with pytest.raises(InvalidInputError):
            call()
    assert runstream.stats()["accepted"] == accepted
    assert {held for held in tmp_path.rglob("*") if held.name.startswith("escape")} == before


ODD_PATHS = [
    "CON",
    "nul.txt",
    "com1.csv/aux",
    "trailing.",
    "trailing ",
    "~",
    "-rf",
    "%2e%2e/x",
    "%2F",
    'a<b>c:d"e|f?g*h',
    "x" * 300,
    "/".join(["d" * 90] * 10),
    "caf\u00e9.txt",
    "cafe\u0301.csv",
    "\u202efdp.exe",
    "\U0001f600/\u00e9",
    "runstream.db",
    ".hidden",
    "a.csv",
    "A.csv",
    "a/b.csv",
    "a",
]


def test_odd_names_arrive_whole_and_stay_inside_their_run(pipeline: Pipeline) -> None:
    """Device names, long ones, other scripts: each is a file below its run's directory, for artifacts and tables."""
    with runstream.start_run() as run:
        for path in ODD_PATHS:
            runstream.log_text(f"text of {path}", path)
            runstream.log_prediction({"path": path}, f"table/{path}")
    pipeline.drain()
    assert pipeline.ask(query.counts).dead_letters == 0
    found = {held.path: held for held in pipeline.ask(query.list_artifacts, run.run_id)}
    normal = {"caf\u00e9.csv" if path == "cafe\u0301.csv" else path: path for path in ODD_PATHS}
    assert found.keys() == normal.keys()
    root = (pipeline.store / "artifacts" / run.run_id).resolve()
    for name, path in normal.items():
        assert pipeline.artifact(run.run_id, name).decode() == f"text of {path}"
        assert (root / found[name].file).resolve().is_relative_to(root)
        assert {"path": path} in pipeline.rows(run.run_id, f"table/{path}")
    inside = set((pipeline.store / "artifacts").iterdir())
    assert inside == {pipeline.store / "artifacts" / run.run_id}
    assert all(len(part.encode()) <= 255 for file in root.rglob("*") for part in file.parts)
