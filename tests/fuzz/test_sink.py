"""Hostile journals, consumer files and positions never stop the sink, and every reader then answers."""

import json
import random
import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from runstream_schemas.errors import CorruptDataError
from runstream_schemas.segment import segment_name
from runstream_sink import query
from support.commands import invoke
from support.hostile import hostile_segment, limited, mutate
from support.hostile_events import BODIES
from support.pipeline import Pipeline
from support.queues import dead_journal

Capture = pytest.CaptureFixture[str]
INTERNAL = 70


def write_journals(rng: random.Random, queue: Path, count: int) -> None:
    """Dead journals of one to three hostile segments each; some lie among foreign files."""
    for _ in range(count):
        producer_id = rng.randbytes(16)
        journal = queue / "journals" / producer_id.hex()
        journal.mkdir(parents=True)
        for index in range(rng.choice((1, 1, 2, 3))):
            owner = producer_id if rng.random() < 0.9 else rng.randbytes(16)
            data = hostile_segment(rng, BODIES, owner, index)
            (journal / segment_name(index)).write_bytes(data)
        if rng.random() < 0.5:
            (journal / "lock").touch()
        if rng.random() < 0.2:
            (journal / rng.choice(("x.seg", "00000000-1.seg", "README"))).write_bytes(b"?")


def spoil_consumers(rng: random.Random, queue: Path) -> None:
    """Change what consumers say that they have applied, and put foreign files beside it."""
    for path in [path for path in (queue / "consumers").rglob("*") if path.is_file()]:
        if rng.random() < 0.5:
            path.write_bytes(mutate(rng, [path.read_bytes(), b"-1", b"99999999999999999999", b"\xff"]))
    (queue / "consumers" / "nobody").mkdir(exist_ok=True)
    (queue / "consumers" / "nobody" / ("0" * 32)).write_bytes(rng.randbytes(4))
    (queue / "consumers" / "file").touch()


def _pipeline(root: Path, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """A pipeline that is also what commands take where they are told nothing."""
    monkeypatch.setenv("RUNSTREAM_LOG_LEVEL", "error")
    pipeline = Pipeline(root)
    for name, value in pipeline.environment.items():
        monkeypatch.setenv(name, value)
    return pipeline


def check_readers(capsys: Capture, commands: Sequence[Sequence[Any]]) -> None:
    """Every command answers or refuses."""
    for command in commands:
        result = invoke(capsys, *command)
        assert result.code != INTERNAL, f"{command}: {result.err}"
        assert "Traceback" not in result.err, f"{command}: {result.err}"


def check_findings(findings: Sequence[dict[str, Any]], pipeline: Pipeline) -> None:
    """Gaps, as the journals have them; and a seq that comes again after it was lost, which has no effect."""
    with closing(sqlite3.connect(pipeline.options.store.database)) as connection:
        holes = connection.execute(
            "SELECT lower(hex(p.producer_id)), h.first, h.last FROM holes AS h JOIN producers AS p ON p.id = h.producer"
        ).fetchall()
    for finding in findings:
        if finding["kind"] in {"effect_missing", "effect_differs"}:
            found = re.search(r"\(event ([0-9a-f]{32}):(\d+)\)$", finding["detail"])
            assert found is not None, finding
            assert any(found[1] == name and first <= int(found[2]) <= last for name, first, last in holes), finding
        else:
            assert finding["kind"] in {"hole", "seen_gap"}, finding


def _commands(pipeline: Pipeline) -> list[list[Any]]:
    found: list[list[Any]] = [["digest"], ["verify"], ["status"], ["dlq", "list"], ["runs", "list"]]
    found += [["experiments", "list"], ["dlq", "retry", "--all"]]
    for run in pipeline.runs():
        found.append(["runs", "show", run.run_id])
    return found


def _attack(pipeline: Pipeline, capsys: Capture, seed: int, rounds: int, journals: int) -> None:
    rng = random.Random(seed)
    try:
        dead_journal(pipeline.queue, 1, b"\x91\x63")  # a type that nobody knows, which chance brings seldom
        for _ in range(rounds):
            write_journals(rng, pipeline.queue, journals)
            if (pipeline.queue / "consumers").exists():
                spoil_consumers(rng, pipeline.queue)
            with limited(120):
                progress = pipeline.drain()
            assert progress.failure == ""
        again = pipeline.drain()
        assert (again.events, again.dead) == (0, 0)
        result = invoke(capsys, "verify", pipeline.store, "--stream", pipeline.stream, "--json")
        check_findings(json.loads(result.out)["findings"], pipeline)
        check_readers(capsys, _commands(pipeline))
        reasons = {letter.reason for letter in pipeline.ask(query.list_dead_letters, limit=100_000)}
        assert reasons >= {"corrupt", "invalid", "undecodable", "unknown_type", "artifact_missing"} or rounds < 5
        assert pipeline.replay("replayed")[0] == pipeline.digest()
    except BaseException as error:
        error.add_note(f"again: seed={seed}, rounds={rounds}, journals={journals}")
        raise


def test_the_sink_takes_hostile_journals(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever lies there, it is applied or dead, the store verifies, and a replay makes the same one."""
    _attack(_pipeline(tmp_path, monkeypatch), capsys, seed=0, rounds=3, journals=40)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 11))
def test_the_sink_takes_thousands_of_hostile_journals(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Ten stores with 500 each."""
    _attack(_pipeline(tmp_path, monkeypatch), capsys, seed, rounds=10, journals=50)


@pytest.mark.parametrize("seed", range(4))
def test_hostile_positions_are_refused_or_followed(tmp_path: Path, seed: int) -> None:
    """A store's positions that somebody changed: the sink says so, or goes on; it never turns in a circle."""
    rng = random.Random(seed)
    pipeline = Pipeline(tmp_path)
    write_journals(rng, pipeline.queue, 10)
    pipeline.drain()
    with closing(sqlite3.connect(pipeline.options.store.database)) as connection, connection:
        rows = connection.execute("SELECT part, position FROM positions").fetchall()
        for part, position in rows:
            changed = mutate(rng, [position.encode()]).decode("utf-8", "replace")
            connection.execute("UPDATE positions SET position = ? WHERE part = ?", (changed, part))
            if rng.random() < 0.5 and not re.fullmatch(r"\d+:\d+:(-1|\d+):[01]", changed):
                break
    with limited(60), suppress(CorruptDataError):
        pipeline.drain()
