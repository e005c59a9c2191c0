"""`dlq`: what could not be applied is listed, shown, and applied again when it can be."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import runstream
from runstream.client import client
from runstream_schemas.events import MetricLogged, ParamsLogged, RowsLogged, encode_event
from runstream_sink import dead_letters
from runstream_sink.artifacts import LocalArtifacts
from runstream_sink.store.lock import StoreLock
from runstream_sink.store.sqlite import SqliteStore, open_reader
from runstream_sink.verify import verify
from support.commands import invoke, invoke_json
from support.pipeline import Pipeline

Capture = pytest.CaptureFixture[str]
UNKNOWN = b"\x92\xcd\xff\xff\xa5hello"


def _stage(pipeline: Pipeline, text: str) -> Path:
    (found,) = [path for path in (pipeline.queue / "staging").glob("*/*") if path.read_text() == text]
    return found


@pytest.fixture
def moved(pipeline: Pipeline, tmp_path: Path) -> Path:
    """A store with a letter of an unknown type, one that is no MessagePack, and one whose artifact was moved here."""
    moved = tmp_path / "moved"
    with runstream.start_run("letters"):
        client.emit_body(UNKNOWN)
        client.emit_body(b"\xc1\xc1")
        (tmp_path / "artifact.txt").write_text("artifact")
        runstream.log_artifact(tmp_path / "artifact.txt")
    runstream.close()
    _stage(pipeline, "artifact").rename(moved)
    pipeline.drain()
    return moved


def _back(pipeline: Pipeline, moved: Path, capsys: Capture) -> None:
    (letter,) = invoke_json(capsys, "dlq", "list", "--reason", "artifact_missing", "--store", pipeline.store)
    document = invoke_json(capsys, "dlq", "show", letter["id"], "--store", pipeline.store)
    sha256 = document["event"].partition("sha256='")[2][:64]
    moved.rename(pipeline.queue / "staging" / sha256[:2] / sha256)


def _sql(pipeline: Pipeline, statement: str, *parameters: Any) -> None:
    with closing(sqlite3.connect(pipeline.options.store.database)) as connection, connection:
        assert connection.execute(statement, parameters).rowcount > 0


def test_dead_letters_are_listed_with_their_reasons(pipeline: Pipeline, moved: Path, capsys: Capture) -> None:
    """All of them, those with a reason, or as many as asked for."""
    store = ("--store", pipeline.store)
    letters = invoke_json(capsys, "dlq", "list", *store)
    assert [letter["reason"] for letter in letters] == ["unknown_type", "undecodable", "artifact_missing"]
    assert len(invoke_json(capsys, "dlq", "list", "--limit", 2, *store)) == 2
    assert [letter["id"] for letter in invoke_json(capsys, "dlq", "list", "--reason", "undecodable", *store)] == [2]
    text = invoke(capsys, "dlq", "list", *store).out
    assert "unknown_type" in text
    assert "upgrade the reader" in text


def test_a_dead_letter_is_shown_with_its_bytes(pipeline: Pipeline, moved: Path, capsys: Capture) -> None:
    """And with what they say, as far as they say something."""
    store = ("--store", pipeline.store)
    shown = invoke_json(capsys, "dlq", "show", 1, *store)
    assert (shown["event"], shown["size"]) == ("[65535, 'hello']", len(UNKNOWN))
    assert invoke_json(capsys, "dlq", "show", 2, *store)["event"] is None
    assert invoke_json(capsys, "dlq", "show", 3, *store)["event"].startswith("ArtifactLogged(")
    assert UNKNOWN.hex(" ") in invoke(capsys, "dlq", "show", 1, *store).out
    assert invoke(capsys, "dlq", "show", 99, *store).code == 7


def test_a_large_letter_is_shown_in_part(pipeline: Pipeline, moved: Path, capsys: Capture) -> None:
    """JSON has all of it."""
    _sql(pipeline, "UPDATE dead_letters SET raw = zeroblob(5000) WHERE id = 1")
    assert invoke(capsys, "dlq", "show", 1, "--store", pipeline.store).out.rstrip().endswith("00 ...")
    assert len(invoke_json(capsys, "dlq", "show", 1, "--store", pipeline.store)["raw"]) > 5000


def test_a_letter_whose_artifact_is_back_is_applied(pipeline: Pipeline, moved: Path, capsys: Capture) -> None:
    """The others stay dead, and the exit code says that some do; a second try of the same letter changes nothing."""
    _back(pipeline, moved, capsys)
    options = ("--stream", pipeline.stream, "--store", pipeline.store)
    outcomes = invoke_json(capsys, "dlq", "retry", "--all", *options, code=1)
    assert [(outcome["id"], outcome["applied"]) for outcome in outcomes] == [(1, False), (2, False), (3, True)]
    assert outcomes[0]["detail"].startswith("unknown_type: ")
    (run,) = pipeline.runs()
    assert pipeline.artifact(run.run_id, "artifact.txt") == b"artifact"
    again = invoke_json(capsys, "dlq", "retry", 3, *options, code=1)
    assert again == [{"id": 3, "applied": False, "detail": "it was retried before"}]
    assert [letter["id"] for letter in invoke_json(capsys, "dlq", "list", "--store", pipeline.store)] == [1, 2]
    listed = invoke_json(capsys, "dlq", "list", "--retried", "--store", pipeline.store)
    assert listed[2]["retried"] > 0
    assert pipeline.ask(verify, pipeline.options.artifacts, queue=pipeline.queue).ok


def test_a_retried_store_is_equal_to_one_that_lost_nothing(pipeline: Pipeline, moved: Path, capsys: Capture) -> None:
    """Under its old identity, the event has the effect that it should have had."""
    _back(pipeline, moved, capsys)
    replayed, _ = pipeline.replay("fresh")
    assert pipeline.digest() != replayed
    text = invoke(capsys, "dlq", "retry", 3, "--stream", pipeline.stream, "--store", pipeline.store)
    assert text.code == 0
    assert "applied" in text.out
    assert pipeline.digest() == replayed


def test_letters_of_every_kind_are_applied_as_their_events(pipeline: Pipeline, moved: Path, capsys: Capture) -> None:
    """Rows, metrics and params, as after an upgrade that knows their type; in several transactions."""
    run_id = pipeline.runs()[0].run_id
    for number, event in enumerate(
        (
            RowsLogged(run_id, "late", ["a"], [[1], [2]]),
            MetricLogged(run_id, "late", 0.5, 1, 2),
            ParamsLogged(run_id, {"late": "yes"}),
        ),
        1,
    ):
        _sql(pipeline, "UPDATE dead_letters SET raw = ? WHERE id = ?", encode_event(event), number)
    outcomes = invoke_json(capsys, "dlq", "retry", 3, 1, 2, 1, "--stream", pipeline.stream, "--store", pipeline.store)
    assert [(outcome["id"], outcome["applied"]) for outcome in outcomes] == [(1, True), (2, True), (3, True)]
    run = pipeline.run(run_id)
    assert (run.params["late"], run.metrics["late"].value) == ("yes", 0.5)
    assert pipeline.rows(run_id, "late") == [{"a": 1}, {"a": 2}]
    assert pipeline.ask(verify, pipeline.options.artifacts).ok


async def test_letters_are_retried_in_transactions_of_bounded_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pipeline: Pipeline
) -> None:
    """However many there are."""
    monkeypatch.setattr(dead_letters, "_COMMIT", 10)
    monkeypatch.setattr(dead_letters, "_PAGE", 2)
    for _ in range(5):
        client.emit_body(UNKNOWN)
    runstream.close()
    await _drain(pipeline)
    store = SqliteStore(pipeline.options.store)
    await store.open()
    reader = await open_reader(pipeline.options.store)
    try:
        artifacts = LocalArtifacts(pipeline.options.artifacts, tmp_path)
        outcomes = await dead_letters.retry(store, reader, artifacts, pipeline.options.artifacts, None)
    finally:
        await reader.close()
        await store.close()
    assert [outcome.id for outcome in outcomes] == [1, 2, 3, 4, 5]


async def _drain(pipeline: Pipeline) -> None:
    from runstream_sink.service import run_sink

    await run_sink(pipeline.options, once=True)


def test_damaged_bytes_of_a_journal_are_never_applied(pipeline: Pipeline, moved: Path, capsys: Capture) -> None:
    """They are no event."""
    _sql(pipeline, "UPDATE dead_letters SET reason = 'corrupt' WHERE id = 1")
    (outcome,) = invoke_json(capsys, "dlq", "retry", 1, "--stream", pipeline.stream, "--store", pipeline.store, code=1)
    assert outcome["detail"] == "damaged bytes of a journal, which are no event"


def test_a_retry_needs_the_store_for_itself(pipeline: Pipeline, moved: Path, capsys: Capture) -> None:
    """While a sink runs it is refused, and nothing changes."""
    lock = StoreLock(pipeline.options.store.lock, "the test's")
    lock.acquire()
    try:
        assert invoke(capsys, "dlq", "retry", "--all", "--store", pipeline.store).code == 4
    finally:
        lock.release()


@pytest.mark.parametrize("arguments", [[], ["1", "--all"]])
def test_a_retry_says_which_letters(pipeline: Pipeline, moved: Path, capsys: Capture, arguments: list[str]) -> None:
    """Neither none nor two ways at once."""
    result = invoke(capsys, "dlq", "retry", *arguments, "--store", pipeline.store)
    assert (result.code, result.err) == (2, "runstream: name the letters to retry, or say --all\n")


def test_an_unknown_letter_stops_a_retry_before_it_begins(pipeline: Pipeline, moved: Path, capsys: Capture) -> None:
    """The others are not applied either."""
    _back(pipeline, moved, capsys)
    result = invoke(capsys, "dlq", "retry", 3, 99, "--stream", pipeline.stream, "--store", pipeline.store)
    assert result.code == 7
    assert len(invoke_json(capsys, "dlq", "list", "--store", pipeline.store)) == 3


async def test_the_letters_as_a_source_hand_nothing_out() -> None:
    """The consumer asks a source for its positions only."""
    source = dead_letters._Letters()
    await source.open("x")
    assert not await source.read(1)
    await source.committed(await source.read(1))
    assert not source.backlog()
    await source.close()
