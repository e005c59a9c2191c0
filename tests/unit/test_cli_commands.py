"""`sink`, `replay`, `digest`, `verify`, `config`, `demo`: what they print, and the codes they end with."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

import runstream
import runstream_sink
from runstream_schemas.errors import EnvironmentUnavailableError
from runstream_sink.cli import demo as demo_module
from runstream_sink.cli.reference import reference
from runstream_sink.config import SINK_SETTINGS
from support.commands import invoke, invoke_json, start, start_process
from support.pipeline import Pipeline

ROOT = Path(__file__).parents[2]
Capture = pytest.CaptureFixture[str]


def _log(pipeline: Pipeline) -> None:
    with runstream.start_run("one"):
        runstream.log_metric("loss", 0.5)
        runstream.log_prediction({"text": "hello"})
        runstream.log_text("hello", "hello.txt")
    runstream.close()


def _wait(condition: object, process: subprocess.Popen[str]) -> None:
    """Wait for a condition that another process makes true."""
    assert callable(condition)
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
def test_the_way_from_events_to_equal_digests(pipeline: Pipeline, tmp_path: Path) -> None:
    """Sink, digest, verify and replay as processes of their own; data alone goes to standard output."""
    _log(pipeline)
    stream, fresh = pipeline.stream, tmp_path / "fresh"
    sink = start("sink", "--stream", stream, "--store", pipeline.store, "--once")
    assert (sink.code, sink.out) == (0, "")
    assert [json.loads(line)["event"] for line in sink.err.splitlines()] == ["sink started", "sink ended"]
    replayed = start("replay", "--stream", stream, "--store", fresh)
    assert (replayed.code, replayed.out) == (0, "")
    assert "replaying" in replayed.err
    digests = {start("digest", store).out for store in (pipeline.store, fresh)}
    assert len(digests) == 1
    assert len(digests.pop().strip()) == 64
    verified = start("verify", fresh, "--stream", stream)
    assert verified.code == 0
    assert verified.out.startswith("nothing is wrong; checked 1 artifacts")


def test_the_settings_of_the_environment_hold(pipeline: Pipeline) -> None:
    """No option need be given."""
    _log(pipeline)
    assert start("sink", "--once", cwd=pipeline.root, **pipeline.environment).code == 0
    assert start("digest", cwd=pipeline.root, **pipeline.environment).code == 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_sink_gracefully(pipeline: Pipeline, number: signal.Signals) -> None:
    """What was read is committed; a second sink is refused meanwhile, and the store says who holds it."""
    _log(pipeline)
    process = start_process("sink", "--stream", pipeline.stream, "--store", pipeline.store)
    try:
        _wait(lambda: pipeline.options.store.database.exists() and pipeline.ask(_count_runs) == 1, process)
        second = start("sink", "--stream", pipeline.stream, "--store", pipeline.store, "--once")
        assert second.code == 4
        assert f"in use by process {process.pid}" in second.err
        assert json.loads(start("status", "--json", **pipeline.environment).out)["sink"] == str(process.pid)
        assert start("verify", pipeline.store).code == 0
    finally:
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads(err.splitlines()[-1])["event"] == "sink ended"


async def _count_runs(reader: object) -> int:
    from runstream_sink import query

    return (await query.counts(reader)).runs  # type: ignore[arg-type]


def test_a_replay_needs_a_fresh_store(pipeline: Pipeline, capsys: Capture) -> None:
    """What is there is never mixed with what comes from the stream."""
    _log(pipeline)
    pipeline.drain()
    result = invoke(capsys, "replay", "--stream", pipeline.stream, "--store", pipeline.store)
    assert result.code == 3
    assert "a replay needs a fresh one" in result.err


def test_a_replay_names_what_the_stream_no_longer_holds(pipeline: Pipeline, capsys: Capture, tmp_path: Path) -> None:
    """By producer, and the exit code is not 0."""
    runstream.configure(stream=pipeline.stream, store=str(pipeline.store), segment_size=64 << 10)
    with runstream.start_run("large"):
        for _ in range(4):
            runstream.log_prediction({"text": "x" * 60_000})
    runstream.close()
    (journal,) = (pipeline.queue / "journals").iterdir()
    segments = sorted(journal.glob("*.seg"))
    assert len(segments) > 2
    segments[1].unlink()
    result = invoke(capsys, "replay", "--stream", pipeline.stream, "--store", tmp_path / "fresh")
    assert result.code == 1
    assert f"{journal.name}: events " in result.out
    assert "are gone" in result.out
    assert invoke(capsys, "verify", tmp_path / "fresh").code == 1
    document = invoke_json(capsys, "replay", "--stream", pipeline.stream, "--store", tmp_path / "other", code=1)
    assert [lost["producer_id"] for lost in document["lost"]] == [journal.name]
    assert document["events"] > 0


def test_many_missing_intervals_are_counted() -> None:
    """A line stays a line."""
    from runstream_sink.cli.consume import _listed

    text = _listed([(2 * number, 2 * number) for number in range(25)] + [(100, 200)])
    assert text.startswith("0, 2, 4")
    assert text.endswith("and 6 more intervals")
    assert _listed([(3, 9)]) == "3 to 9"


def test_verify_lists_what_is_wrong(pipeline: Pipeline, capsys: Capture) -> None:
    """The exit code is 1; the list says what, where and how many."""
    _log(pipeline)
    pipeline.drain()
    next(pipeline.options.artifacts.rglob("hello.txt")).unlink()
    with closing(sqlite3.connect(pipeline.options.store.database)) as connection, connection:
        connection.execute("INSERT INTO losses SELECT id, 0, 'quota', 5 FROM producers")
    result = invoke(capsys, "verify", pipeline.store)
    assert result.code == 1
    assert "artifact_missing" in result.out
    assert "  artifact_missing: 1" in result.out
    assert "known losses" in result.out
    assert "something is wrong" in result.out
    document = invoke_json(capsys, "verify", pipeline.store, code=1)
    assert (document["ok"], document["counts"]) == (False, {"artifact_missing": 1})
    assert document["known_counts"] == {"dropped": 5}
    assert document["findings"][0]["kind"] == "artifact_missing"


def test_verify_checks_an_empty_store(pipeline: Pipeline, capsys: Capture) -> None:
    """There is nothing but the database."""
    pipeline.drain()
    assert invoke(capsys, "verify", pipeline.store).out == "nothing is wrong; checked the database\n"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["digest", "no-such-store"], 3, "there is no store at no-such-store"),
        (["digest", "postgres:nonsense://x"], 2, "must be a directory or sqlite:///FILE"),
        (["status", "--stream", "queue:no-such-queue"], 3, "no queue directory"),
        (["status", "--stream", "carrier-pigeon:x"], 2, "use queue:DIR or kafka"),
        (["sink", "--artifacts", "s3://bucket"], 2, "not supported by this version"),
        (["sink", "--nonsense"], 2, "No such option"),
        (["nonsense"], 2, "No such command"),
        (["tables", "export"], 2, "Missing"),
    ],
)
def test_an_error_is_a_line_and_a_code(
    arguments: list[str], code: int, says: str, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No traceback, nothing on standard output."""
    monkeypatch.chdir(tmp_path)
    result = invoke(capsys, *arguments)
    assert result.code == code
    assert says in result.err + result.out
    assert "Traceback" not in result.err


def test_a_group_of_commands_alone_says_what_is_in_it(capsys: Capture) -> None:
    """The code is that of a wrong command line, but for old versions of click."""
    result = invoke(capsys, "runs")
    assert result.code in {0, 2}
    assert "compare" in result.out + result.err


def test_a_store_of_a_newer_version_is_refused(pipeline: Pipeline, capsys: Capture) -> None:
    """The message says to upgrade, and the code is its own."""
    pipeline.drain()
    with closing(sqlite3.connect(pipeline.options.store.database)) as connection:
        connection.execute("PRAGMA user_version = 1000")
    for arguments in (["digest", pipeline.store], ["sink", "--once", "--store", pipeline.store]):
        result = invoke(capsys, *arguments, *(["--stream", pipeline.stream] if arguments[0] == "sink" else []))
        assert result.code == 5
        assert "upgrade" in result.err


def test_a_file_that_is_no_store_is_refused(pipeline: Pipeline, capsys: Capture) -> None:
    """Damage has a code of its own."""
    pipeline.store.mkdir()
    pipeline.options.store.database.write_bytes(b"nothing of the kind" * 1000)
    assert invoke(capsys, "digest", pipeline.store).code == 6


def test_an_error_of_ours_shows_where_it_was(
    pipeline: Pipeline, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody foresaw is no exit code that means something else."""
    monkeypatch.setattr("runstream_sink.cli.app._USAGE_ERROR", ZeroDivisionError)
    monkeypatch.setattr("runstream_sink.config.STORE", None)
    result = invoke(capsys, "digest", pipeline.store)
    assert result.code == 70
    assert "Traceback" in result.err


def test_an_interrupt_ends_a_command_quietly(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a shell expects it."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("runstream_sink.config.StoreLocation.parse", interrupted)
    from runstream_sink.cli.app import run

    assert run(["digest", str(pipeline.store)]) == 130


def test_a_reader_who_leaves_ends_the_command_quietly(pipeline: Pipeline) -> None:
    """`runstream runs list | head -1` does not complain."""
    _log(pipeline)
    pipeline.drain()
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run(
        [sys.executable, "-m", "runstream.cli", "runs", "list", "--store", str(pipeline.store)],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert (process.returncode, process.stderr) == (141, "")


def test_config_shows_each_setting_and_where_it_comes_from(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Defaults and the environment; a name, a value, an origin."""
    monkeypatch.setenv("RUNSTREAM_RETENTION_SIZE", "5MiB")
    monkeypatch.delenv("RUNSTREAM_LOG_LEVEL", raising=False)
    shown = {item["name"]: item for item in invoke_json(capsys, "config")}
    assert {setting.name for setting in SINK_SETTINGS} <= set(shown)
    size, level = shown["retention_size"], shown["log_level"]
    assert (size["value"], size["origin"], size["variable"]) == (5 << 20, "environment", "RUNSTREAM_RETENTION_SIZE")
    assert (level["value"], level["origin"]) == ("info", "default")
    text = invoke(capsys, "config").out
    assert "RUNSTREAM_RETENTION_SIZE" in text
    assert "5242880 bytes" in text
    assert "(empty)" in text


def test_config_shows_the_settings_that_other_packages_declare(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are found by entry points."""
    information = tmp_path / "plugin-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1\n")
    (information / "entry_points.txt").write_text(
        "[runstream.settings]\nproducer = runstream.config:PRODUCER_SETTINGS\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    names = [item["name"] for item in invoke_json(capsys, "config")]
    assert {"journal_quota", "log_level", "stream"} <= set(names)
    assert names == sorted(set(names))


def test_config_shows_a_bad_value_and_ends_with_the_code_of_one(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest is shown all the same."""
    monkeypatch.setenv("RUNSTREAM_LOG_LEVEL", "loud")
    result = invoke(capsys, "config")
    assert result.code == 2
    assert "RUNSTREAM_LOG_LEVEL is 'loud'" in result.err
    assert "(not a value)" in result.out


def test_demo_runs_the_example_with_its_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its exit code is the command's."""
    from runstream_sink.cli.app import run

    example = tmp_path / "batch_inference.py"
    example.write_text("import pathlib, sys\npathlib.Path(sys.argv[1]).write_text(str(sys.argv[2:]))\nsys.exit(9)\n")
    monkeypatch.setattr(demo_module, "find_example", lambda _: example)
    assert run(["demo", str(tmp_path / "told"), "--model", "m"]) == 9
    assert (tmp_path / "told").read_text() == "['--model', 'm']"


def test_the_example_is_found_in_a_checkout_and_in_an_installed_package(tmp_path: Path) -> None:
    """Beside the packages' folders, or within the package."""
    package = tmp_path / "sink" / "runstream_sink"
    for place in (tmp_path / "examples", package / "examples"):
        place.mkdir(parents=True)
        (place / "batch_inference.py").touch()
        assert demo_module.find_example(package) == place / "batch_inference.py"


def test_a_missing_example_is_named(tmp_path: Path) -> None:
    """With the places where it was looked for."""
    with pytest.raises(EnvironmentUnavailableError, match="install runstream again"):
        demo_module.find_example(tmp_path / "a" / "b")


def test_the_documentation_is_that_of_the_commands() -> None:
    """docs/cli.md is fresh; make it with `python -m runstream_sink.cli.reference > docs/cli.md`."""
    assert (ROOT / "docs" / "cli.md").read_text("utf-8") == reference()


def test_the_documentation_names_every_command() -> None:
    """And the program that makes the page prints it."""
    page = reference()
    assert all(f"## runstream {name}" in page for name in runstream_sink.cli.SUMMARIES)
    assert start(module="runstream_sink.cli.reference").out == page
