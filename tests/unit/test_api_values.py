"""What is logged comes back: rows by `load_table`, metric values bit for bit, artifacts byte by byte."""

import asyncio
import datetime
import json
import math
import shutil
import struct
import tempfile
import threading
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

import runstream
from runstream_schemas.errors import EnvironmentUnavailableError, InvalidInputError
from runstream_schemas.events import RowsLogged
from runstream_sink import query
from support.pipeline import Pipeline

UTC = datetime.UTC

CELLS: dict[str, tuple[Any, Any]] = {
    "text": ('plain, "quoted"\nand\r\nbroken \u2028 \U0001f600', None),
    "empty": ("", None),
    "none": (None, None),
    "bool": (True, None),
    "int": (-5, None),
    "large": (10**30, None),
    "float": (0.1, None),
    "small": (5e-324, None),
    "bytes": (b"\x00\xff", "AP8="),
    "time": (datetime.datetime(2026, 11, 24, 5, 0, 0, 500_000, UTC), "2026-11-24T05:00:00.500000Z"),
    "list": ([1, "a", None, [2.5]], None),
    "dict": ({"a": {"b": [True]}}, None),
    "decimal": (Decimal("1.10"), "1.10"),
    "uuid": (uuid.UUID(int=5), str(uuid.UUID(int=5))),
    "numpy": (np.float64(2.5), 2.5),
    "array": (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
    "nat": (pd.NaT, None),
    "surrogate": ("\ud800", "\\ud800"),
    "tuple": ((1, 2), [1, 2]),
    "formula": ("=1+1", None),
    "nul": ("a\0b", None),
    "like a number": ("007", None),
}
"""Values, and what comes back where it is not the same."""


def test_values_of_rows_come_back_typed(pipeline: Pipeline) -> None:
    """Each in a column of its own, through CSV and back."""
    before = runstream.stats()["converted"]
    with runstream.start_run() as run:
        runstream.log_prediction({name: value for name, (value, _) in CELLS.items()})
    pipeline.drain()
    (row,) = pipeline.rows(run.run_id)
    expected = {name: value if back is None and name != "nat" else back for name, (value, back) in CELLS.items()}
    assert row == expected
    assert type(row["bool"]) is bool
    assert runstream.stats()["converted"] == before + 1


def test_odd_doubles_in_rows_come_back(pipeline: Pipeline) -> None:
    """NaN, the infinities and negative zero."""
    with runstream.start_run() as run:
        for value in (math.nan, math.inf, -math.inf, -0.0):
            runstream.log_prediction({"x": value})
    pipeline.drain()
    values = [row["x"] for row in pipeline.rows(run.run_id)]
    assert math.isnan(values[0])
    assert values[1:3] == [math.inf, -math.inf]
    assert math.copysign(1, values[3]) == -1


def test_metric_values_are_kept_bit_for_bit(pipeline: Pipeline) -> None:
    """Also NaN with a payload, negative zero, denormals and infinities."""
    patterns = [0x7FF8000000000001, 0xFFF8000000000000, 0x8000000000000000, 0x7FF0000000000000, 0xFFF0000000000000, 1]
    values = [struct.unpack("<d", struct.pack("<Q", bits))[0] for bits in patterns]
    with runstream.start_run() as run:
        for step, value in enumerate(values):
            runstream.log_metric("m", value, step=step)
            runstream.log_metrics({"n": value}, step=step)
    pipeline.drain()
    for key in ("m", "n"):
        history = pipeline.ask(query.metric_history, run.run_id, key)
        assert [struct.unpack("<Q", struct.pack("<d", point.value))[0] for point in history] == patterns


def test_equal_points_of_a_metric_are_all_kept(pipeline: Pipeline) -> None:
    """A point's identity is its event, not its value."""
    with runstream.start_run() as run:
        for _ in range(3):
            runstream.log_metric("m", 1.0, step=5, timestamp=7)
    pipeline.drain()
    assert len(pipeline.ask(query.metric_history, run.run_id, "m")) == 3


def test_a_value_is_logged_as_it_was_at_the_call(pipeline: Pipeline) -> None:
    """What the program changes afterwards stays out."""
    row: dict[str, Any] = {"list": [1], "text": "before"}
    params = {"p": 1}
    with runstream.start_run() as run:
        runstream.log_prediction(row)
        runstream.log_params(params)
        row["list"].append(2)
        row["new"] = True
        params["q"] = 2
    pipeline.drain()
    assert pipeline.rows(run.run_id) == [{"list": [1], "text": "before"}]
    assert pipeline.run(run.run_id).params == {"p": "1"}


def test_a_row_that_another_thread_changes_is_still_a_row(pipeline: Pipeline) -> None:
    """Columns and values belong together, so that the sink can apply every row."""
    row: dict[str, Any] = {"a": 1}
    done = threading.Event()

    def change() -> None:
        while not done.is_set():
            row["b"] = 2
            del row["b"]

    thread = threading.Thread(target=change)
    thread.start()
    with runstream.start_run() as run:
        for _ in range(5_000):
            runstream.log_prediction(row)
    done.set()
    thread.join()
    pipeline.drain()
    assert pipeline.ask(query.counts).dead_letters == 0
    assert len(pipeline.rows(run.run_id)) == 5_000


def test_predictions_in_all_their_forms(pipeline: Pipeline) -> None:
    """Rows, columns, a DataFrame, and MLflow's inputs, outputs and prompts."""
    with runstream.start_run() as run:
        runstream.log_predictions([{"a": 1}, {"a": 2, "b": "x"}])
        runstream.log_predictions({"a": [3, 4], "b": "same"}, table="columns.csv")
        runstream.log_predictions(pd.DataFrame({"a": [5], "b": [None]}), table="frame")
        runstream.log_predictions(inputs=["i"], outputs=[{"o": 1}], prompts=["p"], table="llm")
        run.log_predictions(inputs=["j"], outputs=["o"], table="llm")
    pipeline.drain()
    assert pipeline.rows(run.run_id) == [{"a": 1, "b": None}, {"a": 2, "b": "x"}]
    assert pipeline.rows(run.run_id, "columns") == [{"a": 3, "b": "same"}, {"a": 4, "b": "same"}]
    assert pipeline.rows(run.run_id, "frame.json") == [{"a": 5, "b": None}]
    assert pipeline.rows(run.run_id, "llm") == [
        {"inputs": "i", "outputs": {"o": 1}, "prompts": "p"},
        {"inputs": "j", "outputs": "o", "prompts": None},
    ]


def test_csv_and_json_name_the_same_table(pipeline: Pipeline) -> None:
    """Rows are appended, and the file is a CSV that pandas reads."""
    with runstream.start_run() as run:
        runstream.log_table({"a": [1]}, "t.json")
        runstream.log_table([{"a": 2}], "t.csv")
        runstream.log_prediction({"a": 3}, "t")
    pipeline.drain()
    assert [table.name for table in pipeline.ask(query.list_tables, run.run_id)] == ["t"]
    frame = pd.read_csv(pipeline.store / "artifacts" / run.run_id / "t.csv")
    assert frame["a"].tolist() == [1, 2, 3]


def test_a_large_table_is_split_into_events_and_comes_back_whole(pipeline: Pipeline) -> None:
    """No event is larger than 256 KiB; order stays."""
    rows = [{"n": number, "text": "x" * 2_000} for number in range(1_000)]
    with runstream.start_run() as run:
        runstream.log_table(rows, "t")
    assert sum(isinstance(event, RowsLogged) for event in pipeline.events()) > 7
    pipeline.drain()
    assert pipeline.rows(run.run_id, "t") == rows


def test_column_names_that_are_no_text_become_text(pipeline: Pipeline) -> None:
    """As in tables."""
    with runstream.start_run() as run:
        runstream.log_prediction({1: "one", None: "none", ("a", 2): "pair"})  # type: ignore[dict-item]
    pipeline.drain()
    assert pipeline.rows(run.run_id) == [{"1": "one", "None": "none", "('a', 2)": "pair"}]


def test_the_redact_hook_sees_every_row_before_it_is_encoded(pipeline: Pipeline) -> None:
    """It may change, add and remove cells; the caller's row stays as it was."""
    seen = []

    def redact(row: dict[str, Any]) -> dict[str, Any]:
        seen.append(dict(row))
        row.pop("secret", None)
        return {**row, "redacted": True}

    runstream.configure(redact=redact)
    row = {"a": 1, "secret": "token"}
    with runstream.start_run() as run:
        runstream.log_prediction(row)
        runstream.log_predictions([row])
        runstream.log_table({"a": [2], "secret": ["token"]}, "t")
    assert row == {"a": 1, "secret": "token"}
    assert len(seen) == 3
    pipeline.drain()
    assert pipeline.rows(run.run_id) == [{"a": 1, "redacted": True}] * 2
    assert pipeline.rows(run.run_id, "t") == [{"a": 2, "redacted": True}]
    assert not any(b"token" in file.read_bytes() for file in pipeline.queue.rglob("*.seg"))


def test_a_redact_hook_that_fails_lets_nothing_through(pipeline: Pipeline) -> None:
    """Its exception reaches the caller; what it returns must be a row; None takes it away."""
    runstream.start_run()
    before = runstream.stats()["accepted"]
    runstream.configure(redact=lambda row: row["missing"])
    with pytest.raises(KeyError):
        runstream.log_prediction({"a": 1})
    runstream.configure(redact=lambda row: None)
    for call in (lambda: runstream.log_prediction({"a": 1}), lambda: runstream.log_table([{"a": 1}], "t")):
        with pytest.raises(InvalidInputError, match="must return the row"):
            call()
    assert runstream.stats()["accepted"] == before
    with pytest.raises(InvalidInputError, match="must be callable"):
        runstream.configure(redact="***")
    runstream.configure(redact=None)
    runstream.log_prediction({"a": 1})
    assert runstream.stats()["accepted"] == before + 1


def test_a_file_may_be_deleted_or_changed_right_after(pipeline: Pipeline) -> None:
    """What is logged is what it was at the call: the habit of temporary directories."""
    with runstream.start_run() as run:
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory) / "model.bin"
            file.write_bytes(b"first")
            runstream.log_artifact(file)
            runstream.log_artifact(str(file), "copy")
            file.write_bytes(b"second, longer")
            runstream.log_artifact(file, "copy/later")
        assert not file.exists()
    pipeline.drain()
    assert pipeline.artifact(run.run_id, "model.bin") == b"first"
    assert pipeline.artifact(run.run_id, "copy/model.bin") == b"first"
    assert pipeline.artifact(run.run_id, "copy/later/model.bin") == b"second, longer"


def test_directories_are_logged_with_all_that_is_in_them(pipeline: Pipeline, tmp_path: Path) -> None:
    """`log_artifact` keeps the directory's name, `log_artifacts` logs what is in it."""
    source = tmp_path / "model"
    (source / "sub").mkdir(parents=True)
    (source / "a.txt").write_text("a")
    (source / "sub" / ".b").write_text("b")
    with runstream.start_run() as run:
        runstream.log_artifact(source)
        runstream.log_artifacts(source, "flat")
        runstream.log_artifacts(str(source))
    shutil.rmtree(source)
    pipeline.drain()
    paths = [held.path for held in pipeline.ask(query.list_artifacts, run.run_id)]
    assert paths == ["a.txt", "flat/a.txt", "flat/sub/.b", "model/a.txt", "model/sub/.b", "sub/.b"]
    assert pipeline.artifact(run.run_id, "model/sub/.b") == b"b"


def test_a_directory_with_an_impossible_name_logs_nothing(pipeline: Pipeline, tmp_path: Path) -> None:
    """All names are checked before the first file is logged."""
    source = tmp_path / "files"
    source.mkdir()
    (source / "a.txt").write_text("a")
    (source / "b\\c.txt").write_text("b")
    runstream.start_run()
    before = runstream.stats()["accepted"]
    with pytest.raises(InvalidInputError, match="backslashes"):
        runstream.log_artifacts(source)
    assert runstream.stats()["accepted"] == before


def test_the_last_content_of_a_path_is_the_artifact(pipeline: Pipeline) -> None:
    """Logged again, it is replaced, before and after the sink saw the first."""
    with runstream.start_run() as run:
        for text in ("one", "two"):
            runstream.log_text(text, "t.txt")
        pipeline.drain()
        assert pipeline.artifact(run.run_id, "t.txt") == b"two"
        runstream.log_text("three", "t.txt")
    pipeline.drain()
    assert pipeline.artifact(run.run_id, "t.txt") == b"three"


def test_texts_dicts_images_and_figures_become_files(pipeline: Pipeline) -> None:
    """In the format that the name says."""
    figure = Figure()
    figure.subplots().plot([1, 2])
    with runstream.start_run() as run:
        runstream.log_text("caf\u00e9\r\n", "t.txt")
        runstream.log_dict({"a": [1]}, "d.json")
        runstream.log_image(np.full((2, 3, 3), 255, np.uint8), "array.png")
        runstream.log_image(Image.new("RGB", (4, 4), "red"), "red.jpg")
        runstream.log_image(np.zeros((2, 2)), key="series", step=7, timestamp=99)
        runstream.log_figure(figure, "f.png", save_kwargs={"dpi": 50})
    pipeline.drain()
    held = {artifact.path: artifact for artifact in pipeline.ask(query.list_artifacts, run.run_id)}
    assert pipeline.artifact(run.run_id, "t.txt").decode() == "caf\u00e9\r\n"
    assert json.loads(pipeline.artifact(run.run_id, "d.json")) == {"a": [1]}
    root = pipeline.store / "artifacts" / run.run_id
    for name, expected in {
        "array.png": ("PNG", (3, 2)),
        "red.jpg": ("JPEG", (4, 4)),
        "f.png": ("PNG", (320, 240)),
    }.items():
        with Image.open(root / name) as image:
            assert (image.format, image.size) == expected
    assert held["array.png"].media_type == "image/png"
    assert held["t.txt"].size == 7
    small, series = sorted(path for path in held if path.startswith("images/"))
    assert series.startswith("images/series+step+7+timestamp+99+")
    assert (held[series].media_type, held[small].media_type) == ("image/png", "image/webp")
    assert small == f"{series.removesuffix('.png')}+compressed.webp"
    assert pipeline.run(run.run_id).tags["mlflow.loggedImages"] == "True"


def test_an_artifact_is_logged_in_a_thread_for_coroutines(pipeline: Pipeline, tmp_path: Path) -> None:
    """`alog_artifact` and `aflush` leave the event loop free and log to the task's run."""
    file = tmp_path / "f.txt"
    file.write_text("content")

    async def work() -> str:
        async with runstream.start_run() as run:
            await runstream.alog_artifact(file, "a")
            await run.alog_artifact(file, "b")
            assert await runstream.aflush(60)
            return run.run_id

    run_id = asyncio.run(work())
    pipeline.drain()
    assert pipeline.artifact(run_id, "a/f.txt") == pipeline.artifact(run_id, "b/f.txt") == b"content"


def test_made_files_travel_in_their_events_up_to_a_size(pipeline: Pipeline) -> None:
    """Logging them touches no file; larger ones are staged."""
    with runstream.start_run() as run:
        runstream.log_text("s" * (256 << 10), "small.txt")
        assert not (pipeline.queue / "staging").exists()
        runstream.log_text("l" * ((256 << 10) + 1), "large.txt")
        assert (pipeline.queue / "staging").exists()
    pipeline.drain()
    assert pipeline.artifact(run.run_id, "small.txt") == b"s" * (256 << 10)
    assert pipeline.artifact(run.run_id, "large.txt") == b"l" * ((256 << 10) + 1)


def test_a_directory_of_many_files_is_logged_whole(pipeline: Pipeline, tmp_path: Path) -> None:
    """More than are synced one by one."""
    many = tmp_path / "many"
    many.mkdir()
    for number in range(70):
        (many / f"{number}.txt").write_text(str(number))
    with runstream.start_run() as run:
        runstream.log_artifacts(many)
    pipeline.drain()
    assert len(pipeline.ask(query.list_artifacts, run.run_id)) == 70
    assert pipeline.artifact(run.run_id, "69.txt") == b"69"


def test_staging_that_fails_raises_for_files_and_is_counted_for_values(pipeline: Pipeline, tmp_path: Path) -> None:
    """A file that cannot be kept is told to the caller; what the program holds in memory never raises."""
    file = tmp_path / "f.txt"
    file.write_text("content")
    before = runstream.stats()["dropped"]["disk"]
    with runstream.start_run() as run:
        (pipeline.queue / "staging").write_text("in the way")
        with pytest.raises(EnvironmentUnavailableError, match="cannot stage"):
            runstream.log_artifact(file)
        runstream.log_text("text" * 100_000, "t.txt")
        runstream.log_dict({"long": "text" * 100_000}, "d.json")
        runstream.log_text("short", "short.txt")
    assert runstream.stats()["dropped"]["disk"] == before + 2
    pipeline.drain()
    assert pipeline.artifact(run.run_id, "short.txt") == b"short"
    assert len(pipeline.ask(query.list_artifacts, run.run_id)) == 1
    assert [(loss.reason, loss.count) for loss in pipeline.ask(query.list_losses)] == [("disk", 2)]
