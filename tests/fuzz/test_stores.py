"""Stores that somebody damaged: readers refuse or answer, `verify` finds it, and the sink goes on where it can."""

import random
import shutil
from pathlib import Path
from typing import Any

import pytest

import runstream
from runstream.client import client
from runstream_schemas.errors import RunstreamError
from runstream_sink import query
from support.commands import invoke
from support.hostile import limited, mutate
from support.pipeline import Pipeline, forget_everything

pytestmark = pytest.mark.slow

Capture = pytest.CaptureFixture[str]
INTERNAL = 70


def _fill(pipeline: Pipeline) -> str:
    """A store with a bit of everything."""
    runstream.configure(stream=pipeline.stream)
    with runstream.start_run("run") as run:
        runstream.log_params({"k": "v"})
        runstream.log_text("text", "a.txt")
        for number in range(30):
            runstream.log_metric("m", number)
            runstream.log_prediction(
                {"n": number, "text": 'a "quoted" text,\nof lines', "nested": [number, {"k": None}]}
            )
        client.emit_body(b"\xc1")
    forget_everything()
    pipeline.drain()
    return run.run_id


def _ask(pipeline: Pipeline, capsys: Capture, run_id: str, export: Path) -> dict[str, int]:
    """Ask every reader; what they say, by command.  None of them meets an error that nobody thought of."""
    store = ("--store", pipeline.store)
    commands: dict[str, tuple[Any, ...]] = {
        "digest": ("digest", pipeline.store),
        "verify": ("verify", pipeline.store),
        "status": ("status", "--stream", pipeline.stream, *store),
        "letters": ("dlq", "list", *store),
        "letter": ("dlq", "show", "1", *store),
        "runs": ("runs", "list", *store),
        "run": ("runs", "show", run_id, *store),
    }
    for form in ("csv", "jsonl", "parquet"):
        commands[form] = ("tables", "export", run_id, "predictions", "--format", form, "-o", export, *store)
    codes: dict[str, int] = {}
    for name, command in commands.items():
        export.unlink(missing_ok=True)
        with limited(60):
            result = invoke(capsys, *command)
        assert result.code != INTERNAL, f"{name}: {result.err[-3000:]}"
        codes[name] = result.code
    try:
        pipeline.rows(run_id)
    except RunstreamError:
        codes["rows"] = 1
    return codes


def _log_more(pipeline: Pipeline, run_id: str) -> None:
    runstream.configure(stream=pipeline.stream)
    with runstream.start_run(run_id=run_id):
        runstream.log_prediction({"n": -1})
    forget_everything()


def _damage_parts(root: Path, capsys: Capture, seed: int, rounds: int) -> None:
    """Damage the table's file again and again."""
    rng = random.Random(seed)
    pipeline = Pipeline(root)
    run_id = _fill(pipeline)
    (part,) = pipeline.ask(query.get_table, run_id, "predictions").parts
    path = pipeline.store / "artifacts" / part.file
    good = path.read_bytes()
    for number in range(rounds):
        data = mutate(rng, [good])
        path.write_bytes(data)
        try:
            codes = _ask(pipeline, capsys, run_id, root / "export")
            if data[: len(good)] != good:
                assert codes["verify"] in {0, 1}
                assert codes["verify"] == 1 or _same_shape(data, good), data
        except BaseException as error:
            error.add_note(f"again: seed={seed}, rounds={number + 1}")
            raise
    path.write_bytes(good[:-5])
    _log_more(pipeline, run_id)
    assert pipeline.drain().events > 0  # in another part
    path.write_bytes(good)
    assert [row["n"] for row in pipeline.rows(run_id)] == [*range(30), -1]


def _same_shape(data: bytes, good: bytes) -> bool:
    """Whether only values differ: such a file reads well, and no checksum says otherwise."""
    return len(data) >= len(good) and data[:20] == good[:20]


def _damage_database(root: Path, capsys: Capture, seed: int, rounds: int) -> None:
    """Damage the database file: pages, its header, its length."""
    rng = random.Random(seed)
    pipeline = Pipeline(root / "good")
    run_id = _fill(pipeline)
    for number in range(rounds):
        bad = Pipeline(root / f"bad{number}")
        shutil.copytree(pipeline.root, bad.root, dirs_exist_ok=True)
        path = bad.options.store.database
        data = bytearray(path.read_bytes())
        for _ in range(rng.choice((1, 1, 3, 20))):
            at = rng.choice((rng.randrange(100), rng.randrange(len(data))))
            data[at : at + 8] = rng.choice((rng.randbytes(8), bytes(8), b"\xff" * 8, data[100:108]))
        del data[rng.choice((len(data), len(data), len(data), rng.randrange(len(data)))) :]
        path.write_bytes(data)
        try:
            _ask(bad, capsys, run_id, root / "export")
            _log_more(bad, run_id)
            code = invoke(capsys, "sink", "--once", "--stream", bad.stream, "--store", bad.store).code
            assert code != INTERNAL
        except BaseException as error:
            error.add_note(f"again: seed={seed}, rounds={number + 1}")
            raise
        shutil.rmtree(bad.root)


def test_a_damaged_table_is_refused_and_found(tmp_path: Path, capsys: Capture) -> None:
    """Bytes of a CSV file changed from outside."""
    _damage_parts(tmp_path, capsys, seed=0, rounds=5)


def test_a_damaged_database_is_refused_or_read(tmp_path: Path, capsys: Capture) -> None:
    """Bytes of the SQLite file changed from outside."""
    _damage_database(tmp_path, capsys, seed=0, rounds=5)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 5))
def test_hundreds_of_damaged_stores_are_refused_or_read(tmp_path: Path, capsys: Capture, seed: int) -> None:
    """Tables and databases."""
    _damage_parts(tmp_path / "parts", capsys, seed, rounds=40)
    _damage_database(tmp_path / "databases", capsys, seed, rounds=40)
