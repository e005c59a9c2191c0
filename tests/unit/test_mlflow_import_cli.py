"""`runstream import-mlflow` as a command: what it says, where, and with which exit code."""

import sys
from pathlib import Path

import pytest

from runstream.mlflow_import.cli import main
from runstream.mlflow_import.progress import progress
from runstream.mlflow_import.source import address_of, open_source
from runstream_schemas.errors import InvalidInputError
from runstream_schemas.reader import journal_names
from runstream_schemas.streams import parse_stream
from runstream_sink.cli.reference import reference
from support.mlflow_import import BEGAN, MemoryRun, MemorySource, run_id
from support.pipeline import Pipeline
from support.shipping import JournalDir

ONE = run_id(1)


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> MemorySource:
    """What the command finds, whatever it is told."""
    one = MemorySource(alpha=[MemoryRun(ONE, points={"m": [(0, BEGAN, 1.0)]}, files={"a.txt": b"a"})])
    monkeypatch.setattr("runstream.mlflow_import.source.open_source", lambda _: one)
    return one


def test_an_import_says_what_it_has_brought(
    source: MemorySource, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line on standard output; progress elsewhere."""
    pipe = Pipeline(tmp_path)
    assert main(["import-mlflow", "memory:", "--stream", pipe.stream]) == 0
    told = capsys.readouterr()
    assert told.out == (
        "1 experiments, 1 runs (1 new, 0 with something new, 0 as before): 1 points, 0 rows and 1 artifacts brought\n"
    )
    assert told.err == "experiment alpha: 1 runs looked at so far\n"
    assert pipe.drain().dead == 0
    assert pipe.artifact(ONE, "a.txt") == b"a"


def test_what_could_not_be_brought_makes_the_exit_code(
    source: MemorySource, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Until another import brings it."""
    pipe = Pipeline(tmp_path)
    source.broken.add("a.txt")
    source.held["alpha"].append(
        MemoryRun(run_id(2), tags={"mlflow.loggedArtifacts": '[{"path": "t", "type": "table"}]'})
    )
    source.held["alpha"][1].files["t"] = b"no table"
    assert main(["import-mlflow", "memory:", "--stream", pipe.stream]) == 1
    told = capsys.readouterr().err
    assert f"not brought: run {ONE}: artifact a.txt: the file is out of reach" in told
    assert "note: run" in told
    source.broken.clear()
    assert main(["import-mlflow", "memory:", "--stream", pipe.stream]) == 0


@pytest.mark.parametrize("arguments", [[], ["x", "--workers", "0"], ["x", "--workers", "many"], ["x", "--what"]])
def test_wrong_usage_is_told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """By the parser."""
    assert main(["import-mlflow", *arguments]) == 2
    assert "usage: runstream import-mlflow" in capsys.readouterr().err


def test_without_mlflow_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """That is what to install."""
    monkeypatch.setitem(sys.modules, "mlflow", None)
    assert main(["import-mlflow", "http://127.0.0.1:9", "--stream", f"queue:{tmp_path}/queue"]) == 3
    assert "pip install 'runstream[mlflow]'" in capfd.readouterr().err
    with pytest.raises(ModuleNotFoundError):
        open_source("http://127.0.0.1:9")


def test_errors_have_exit_codes(
    source: MemorySource, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A stream that is none, a queue that cannot be made, and an interruption."""
    (tmp_path / "file").write_text("")
    assert main(["import-mlflow", "memory:", "--stream", "nowhere"]) == 2
    assert main(["import-mlflow", "memory:", "--stream", f"queue:{tmp_path}/file"]) == 3

    def interrupt(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(source, "experiments", interrupt)
    assert main(["import-mlflow", "memory:", "--stream", f"queue:{tmp_path}/queue"]) == 130
    assert "another import goes on behind it" in capfd.readouterr().err


def test_a_cell_that_cannot_be_staged_ends_the_import(
    source: MemorySource, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is not left out."""
    (tmp_path / "queue").mkdir()
    (tmp_path / "queue" / "staging").write_text("in the way")
    monkeypatch.setenv("RUNSTREAM_CLAIM_SIZE", "1024")
    run = source.held["alpha"][0]
    run.tags["mlflow.loggedArtifacts"] = '[{"path": "t.json", "type": "table"}]'
    run.files = {"t.json": b'{"columns": ["a"], "data": [["' + b"x" * 3000 + b'"]]}'}
    assert main(["import-mlflow", "memory:", "--stream", f"queue:{tmp_path}/queue"]) == 3
    assert "cannot be staged" in capfd.readouterr().err


def test_with_a_topic_journals_wait_for_their_shipper(
    source: MemorySource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where programs of this machine journal, too."""
    monkeypatch.setenv("RUNSTREAM_SHIPPER", "external")
    stream = "kafka://127.0.0.1:9/events"
    assert main(["import-mlflow", "memory:", "--stream", stream, "--journal-dir", str(tmp_path)]) == 0
    place = JournalDir(tmp_path, stream).path
    assert len(journal_names(place / "journals")) == 2
    assert str(parse_stream(stream)) == stream


def test_a_topic_that_nobody_can_ship_to_is_told(
    source: MemorySource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The journals stay."""
    monkeypatch.setattr("runstream.shipping.launch.find_spec", lambda _: None)
    arguments = ["--stream", "kafka://127.0.0.1:9/events", "--journal-dir", str(tmp_path)]
    assert main(["import-mlflow", "memory:", *arguments]) == 0
    assert "runstream[kafka]" in capsys.readouterr().err


def test_addresses_show_no_passwords() -> None:
    """Of servers and of databases."""
    assert address_of("https://ada:secret@host:1/x/") == ("https://ada:secret@host:1/x", "https://***@host:1/x")
    assert address_of("postgresql+psycopg2://ada:secret@host/db")[1] == "postgresql+psycopg2://***@host/db"
    with pytest.raises(InvalidInputError, match=r"\*\*\*@host"):
        address_of("ftp://ada:secret@host")


def test_a_terminal_has_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With rich; without it, lines."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress() as report:
        report("experiment [x]", 1234)
    assert "1234 runs" not in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "rich.console", None)
    with progress(interval=1000) as report:
        report("experiment a", 1)
        report("experiment a", 2)
        report("experiment b", 3)
    assert capsys.readouterr().err.splitlines() == [
        "experiment a: 1 runs looked at so far",
        "experiment b: 3 runs looked at so far",
    ]


def test_the_page_about_commands_has_it() -> None:
    """With its options."""
    assert "runstream import-mlflow SOURCE [--stream STREAM]" in reference()
