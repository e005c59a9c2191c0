"""What must hold when a simulation has ended: each accepted event, by its level of durability, against each store."""

import contextlib
import csv
import hashlib
import json
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from runstream_schemas.retention import removed_journals
from runstream_sink.digest import digest
from runstream_sink.intervals import IntervalSet
from runstream_sink.service import replay
from runstream_sink.store.sqlite import open_reader
from runstream_sink.verify import verify
from support.simulation_events import Effect, Ledger
from support.simulation_kafka import KafkaWorld
from support.simulation_sink import Sink
from support.simulation_world import World

__all__ = ["check"]

_LOSSES_OF_POWER = {"hole", "seen_gap"}
"""What `verify` finds where a power cut or rot took events."""
_TRACELESS = {"tag", "start"}
"""Kinds of events that later ones overrule; `verify` and the digest look at them."""


class _Contents(NamedTuple):
    """What one store says."""

    seen: dict[str, IntervalSet]
    effects: Counter[tuple[str, int, Effect]]
    """By producer, seq and effect: how often it is there; by "" and -1 where a fact tells neither."""
    dead: dict[tuple[str, int], str]
    holes: list[tuple[str, int, int, str]]
    losses: Counter[tuple[str, str]]


def check(world: World) -> None:
    """Compare every store with what was accepted.  Raises AssertionError."""
    for sink in world.sinks:
        contents = _read(sink)
        for ledger in world.ledgers.values():
            _check_events(world, sink, ledger, contents)
            _check_drops(world, sink, ledger, contents)
        if isinstance(world, KafkaWorld):
            _check_topic(world, sink, contents)
        _check_nothing_is_made_up(world, contents)
        _check_holes(world, contents)
        _check_verification(world, sink)
        _check_replay(world, sink)


def _check_events(world: World, sink: Sink, ledger: Ledger, contents: _Contents) -> None:
    """What must be there is there once; what is not there is told."""
    assert sink.offered is not None
    producer = ledger.producer
    seen = contents.seen.get(producer, IntervalSet())
    holes = [seq for name, first, last, _ in contents.holes if name == producer for seq in range(first, last + 1)]
    for seq, (effect, _) in ledger.tried.items():
        count = _count(contents, producer, seq, effect)
        where = f"event {seq} of {producer} ({effect.kind} {effect.number}) in {sink.name}"
        assert count <= 1, f"{where}: {count} times"
        if seq in seen and seq not in holes:
            assert count == 1, f"{where}: seen and without effect"
        elif count:
            raise AssertionError(f"{where}: there, but not seen")
        elif seq in ledger.must_be_there():
            freed_before = world.freed and sink.late and (producer, seq) not in sink.offered
            assert freed_before, f"{where}: lost"
            later = any(last > seq for _, last in seen)
            assert later or producer in removed_journals(world.queue), f"{where}: freed, and nothing tells"


def _check_topic(world: KafkaWorld, sink: Sink, contents: _Contents) -> None:
    """What has come to the topic is safe, whatever happens to the machine that it came from."""
    for producer, seqs in world.topic.held.items():
        seen = contents.seen.get(producer, IntervalSet())
        lost = sorted(seq for seq in seqs if seq not in seen)
        assert not lost, f"{lost[:5]} of {producer} are on the topic, and not in {sink.name}"


def _count(contents: _Contents, producer: str, seq: int, effect: Effect) -> int:
    if effect.kind in _TRACELESS:
        return int(seq in contents.seen.get(producer, ()) and not _in_hole(contents, producer, seq))
    if effect.kind == "poison":
        return int(contents.dead.get((producer, seq)) == "undecodable")
    return contents.effects[producer, seq, effect] + contents.effects["", -1, effect]


def _in_hole(contents: _Contents, producer: str, seq: int) -> bool:
    return any(name == producer and first <= seq <= last for name, first, last, _ in contents.holes)


def _check_nothing_is_made_up(world: World, contents: _Contents) -> None:
    tried = {(p, seq, effect) for p, ledger in world.ledgers.items() for seq, (effect, _) in ledger.tried.items()}
    known = {("", -1, effect) for _, _, effect in tried} | tried
    made_up = set(contents.effects) - known
    assert not made_up, f"never logged: {sorted(made_up)[:5]}"
    for (producer, seq), reason in contents.dead.items():
        tried_by = world.ledgers[producer].tried if producer in world.ledgers else {}
        effect = tried_by.get(seq, (Effect("", 0), b""))[0]
        expected = reason == "undecodable" and effect.kind == "poison"
        assert expected or reason == "corrupt", f"event {seq} of {producer} is a dead letter: {reason}"
        assert reason != "corrupt" or world.rotted or world.power_cuts, "a dead letter of damage without damage"


def _check_drops(world: World, sink: Sink, ledger: Ledger, contents: _Contents) -> None:
    if ledger.rotted or ledger.cut or (world.freed and sink.late):
        return
    told = {reason: count for (name, reason), count in contents.losses.items() if name == ledger.producer}
    difference = sum(told.values()) - sum(ledger.dropped.values())
    assert 0 <= difference <= ledger.uncertain, f"{ledger.producer} dropped {ledger.dropped}, {sink.name} says {told}"


def _check_holes(world: World, contents: _Contents) -> None:
    """A hole stands for events that never returned, or for what power cuts and rot took."""
    for producer, first, last, reason in contents.holes:
        ledger = world.ledgers.get(producer) or Ledger(producer, cut=bool(world.power_cuts), rotted=world.rotted)
        harmed = ledger.cut or ledger.rotted
        assert harmed or (reason == "abandoned" and first == last), f"{producer}: hole {first} to {last}, {reason}"
        if reason == "abandoned" and not harmed:
            assert first not in ledger.accepted, f"{producer}: event {first} was accepted and is said to be abandoned"


def _check_verification(world: World, sink: Sink) -> None:
    queue = world.queue if world.stream_is_queue else None

    async def ask() -> Any:
        reader = await open_reader(sink.options.store)
        try:
            return await verify(reader, sink.options.artifacts, queue=queue)
        finally:
            await reader.close()

    allowed = set(_LOSSES_OF_POWER) if world.power_cuts or world.rotted else set()
    if world.freed and sink.late:
        allowed.add("seen_gap")
    if not _applied_anything(sink):
        return  # there is nothing to compare the stream with
    report = world.runtime.run(ask())
    findings = [finding for finding in report.findings if finding.kind not in allowed]
    assert not findings, f"{sink.name}: {findings[:5]}"


def _applied_anything(sink: Sink) -> bool:
    with contextlib.closing(sqlite3.connect(sink.options.store.database)) as connection:
        return bool(connection.execute("SELECT count(*) FROM positions").fetchone()[0])


def _check_replay(world: World, sink: Sink) -> None:
    """The stream still says what the store says, unless somebody took something away."""
    if world.freed or world.rotted or (isinstance(world, KafkaWorld) and world.retained):
        return

    async def digest_of(options: Any) -> str:
        reader = await open_reader(options.store)
        try:
            return await digest(reader)
        finally:
            await reader.close()

    fresh = world.sink(f"replay-of-{sink.name}")
    world.runtime.run(replay(fresh.options, lambda _: None))
    assert world.runtime.run(digest_of(fresh.options)) == world.runtime.run(digest_of(sink.options)), (
        f"{sink.name} and a replay of the stream differ"
    )


def _read(sink: Sink) -> _Contents:
    with contextlib.closing(sqlite3.connect(sink.options.store.database)) as connection:

        def rows(sql: str) -> list[tuple[Any, ...]]:
            return connection.execute(sql).fetchall()

        seen: dict[str, IntervalSet] = {}
        for producer, first, last in rows(
            "SELECT lower(hex(producer_id)), first, last FROM seen JOIN producers ON id = producer"
        ):
            seen.setdefault(producer, IntervalSet()).add(first, last)
        effects = Counter[tuple[str, int, Effect]]()
        for producer, seq, value in rows(
            "SELECT lower(hex(producer_id)), seq, value FROM metrics JOIN producers p ON p.id = producer"
        ):
            effects[producer, seq, Effect("metric", int(value))] += 1
        for (name,) in rows("SELECT name FROM params JOIN keys ON id = key WHERE name <> 'shared'"):
            effects["", -1, Effect("param", int(name[1:]))] += 1
        for run, path, file, sha in rows(
            "SELECT run_id, path, file, lower(hex(sha256)) FROM artifacts JOIN runs ON id = run"
        ):
            _check_artifact(sink.options.artifacts / run / file, sha)
            kind = "inline" if path.startswith("made/") else "staged"
            effects["", -1, Effect(kind, int(Path(path).stem))] += 1
        for file, columns, length in rows("SELECT file, columns, length FROM parts"):
            _count_rows(sink.options.artifacts / file, json.loads(columns), length, effects)
        holes = rows("SELECT lower(hex(producer_id)), first, last, reason FROM holes JOIN producers ON id = producer")
        losses = Counter[tuple[str, str]]()
        for producer, reason, count in rows(
            "SELECT lower(hex(producer_id)), reason, count FROM losses JOIN producers ON id = producer"
        ):
            losses[producer, reason] += count
        dead = rows(
            "SELECT lower(hex(producer_id)), seq, reason FROM dead_letters d JOIN producers p ON p.id = producer"
        )
    return _Contents(seen, effects, {(producer, seq): reason for producer, seq, reason in dead}, holes, losses)


def _check_artifact(path: Path, sha256: str) -> None:
    assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256, f"{path.name} holds other bytes"


def _count_rows(path: Path, columns: list[str], length: int, effects: Counter[tuple[str, int, Effect]]) -> None:
    content = path.read_bytes()[:length].decode()
    header, *lines = csv.reader(content.splitlines(keepends=True))
    assert header[: len(columns)] == columns, f"{path.name}: its header is {header}"
    for line in lines:
        producer, seq, _ = line[-1].split(":")
        effects[producer, int(seq), Effect("row", int(line[header.index("n")]))] += 1
