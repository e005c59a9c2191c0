"""Events that no program would log: each is applied or a dead letter in the end, and those behind it are applied."""

import asyncio
import random
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runstream_schemas import events as ev
from runstream_schemas.segment import MAX_SEQ, pack_header, pack_record, record_seed
from runstream_schemas.values import RowEncoder
from runstream_sink import query
from runstream_sink.consumer import Progress
from runstream_sink.queue_source import QueueSource
from runstream_sink.rules import MAX_ROWS
from runstream_sink.service import open_consumer
from runstream_sink.tables import parts
from support.commands import invoke, invoke_json
from support.environment import unmeasured
from support.hostile import limited
from support.hostile_events import RUN, nested
from support.pipeline import Pipeline

pytestmark = pytest.mark.slow

Capture = pytest.CaptureFixture[str]
PRODUCER = bytes(range(16))
LAST_TIME = (1 << 63) - 1
TIME = 1_790_000_000_000_000_000
BYSTANDER = ev.ParamsLogged("f" * 32, {"behind": "it"})
WIDE = [f"c{number}" for number in range(100_000)]
_encode = RowEncoder().encode


def write_journal(queue: Path, records: list[tuple[int, int, Any]], producer_id: bytes = PRODUCER) -> None:
    """A dead journal of one segment with these (seq, emit_ts, event or bytes)."""
    seed = record_seed(producer_id)
    packed = [
        pack_record(seq, emit_ts, event if isinstance(event, bytes) else _encode(event), seed)
        for seq, emit_ts, event in records
    ]
    data = b"".join(packed)
    journal = queue / "journals" / producer_id.hex()
    journal.mkdir(parents=True)
    header = pack_header(producer_id, 0, 4096 + len(data), TIME)
    (journal / "0000000000.seg").write_bytes(header + data + bytes(64))


def _many(event: Any, count: int = 40) -> list[Any]:
    return [event] * count


HOSTILE: dict[str, tuple[list[Any], int]] = {
    "100,000 columns": ([ev.RowsLogged(RUN, "t", WIDE, [list(range(100_000))])], 0),
    "20,000 columns": ([ev.RowsLogged(RUN, "t", WIDE[:20_000], [list(range(20_000))])], 0),
    "columns that come and go": (
        [ev.RowsLogged(RUN, "t", WIDE[at : at + 4_000], [[1] * 4_000]) for at in range(0, 24_000, 4_000)],
        0,
    ),
    "many narrow rows for a wide table": (
        [
            ev.RowsLogged(RUN, "t", WIDE[:2_000], [[0] * 2_000]),
            *_many(ev.RowsLogged(RUN, "t", ["c0"], [[1], [2], [3], [4]])),
        ],
        0,
    ),
    "too many narrow rows for a wide table": (
        [
            ev.RowsLogged(RUN, "t", WIDE[:2_000], [[0] * 2_000]),
            ev.RowsLogged(RUN, "t", ["c0"], [[number] for number in range(1_000)]),
        ],
        0,
    ),
    "a column's name of 10 MB": ([ev.RowsLogged(RUN, "t", ["x" * 10_000_000], [[1]])], 0),
    "two columns' names of 10 MB": (
        _many(ev.RowsLogged(RUN, "t", ["x" * 10_000_000, "y" * 10_000_000], [[1, 2]]), 1),
        1,
    ),
    "columns' names of all kinds": (
        [ev.RowsLogged(RUN, "t", ["", "\0", "\n", '"', "_event", "\ufeff", "A", "a"], [[1] * 8])],
        0,
    ),
    "a cell of 10 MB": ([ev.RowsLogged(RUN, "t", ["a"], [["\0" * 10_000_000]])], 0),
    "60 levels": ([ev.RowsLogged(RUN, "t", ["a"], [[nested(60)]])], 0),
    "700 levels": ([b"\x95\x09\xd9\x20" + RUN.encode() + b"\xa1t\x91\xa1a\x91\x91" + b"\x91" * 700 + b"\xc0"], 0),
    "100,000 levels": (
        [b"\x95\x09\xd9\x20" + RUN.encode() + b"\xa1t\x91\xa1a\x91\x91" + b"\x91" * 100_000 + b"\xc0"],
        1,
    ),
    "rows without columns": ([ev.RowsLogged(RUN, "t", [], [[]] * 100_000)], 0),
    "a table's name of 1,000 characters": ([ev.RowsLogged(RUN, "\u00fc" * 1_000, ["a"], [[1]])], 0),
    "a table in 500 directories": ([ev.RowsLogged(RUN, "a/" * 499 + "a", ["a"], [[1]])], 0),
    "artifacts that differ by case and form": (
        [
            ev.ArtifactInlined(RUN, path, path.encode())
            for path in ("A.txt", "a.txt", "\u00e9", "e\u0301", "a.txt/b", "A")
        ],
        0,
    ),
    "devices and odd names": (
        [
            ev.ArtifactInlined(RUN, path, b"x")
            for path in ("con", "nul.txt", "a. ", "~", "%41", ".new/x", "~root/x", "-rf")
        ],
        0,
    ),
    "an artifact where the table lies": (
        [
            ev.ArtifactInlined(RUN, "t.csv", b"x"),
            ev.RowsLogged(RUN, "t", ["a"], [[1]]),
            ev.ArtifactInlined(RUN, "t.csv/x", b"x"),
        ],
        0,
    ),
    "an artifact whose bytes are nowhere": ([ev.ArtifactLogged(RUN, "a", "ab" * 32, 1)], 1),
    "NUL in texts": (
        [
            ev.ParamsLogged(RUN, {"k": "a\0b"}),
            ev.TagsSet(RUN, {"k": "\0"}),
            ev.RunStarted(RUN, "7", 0, "a\0b", "\0"),
            ev.ExperimentCreated("7", "a\0b", 0, {"k": "\0"}),
            ev.ArtifactInlined(RUN, "a", b"\0", "\0"),
            ev.LossNotice("ab" * 16, 0, "\0", 1),
        ],
        0,
    ),
    "NUL in a key": ([ev.ParamsLogged(RUN, {"a\0b": "v"})], 1),
    "a param of 20 MB": ([ev.ParamsLogged(RUN, {"k": "v" * 20_000_000})], 0),
    "20,000 params": ([ev.ParamsLogged(RUN, {f"k{number}": "v" for number in range(20_000)})], 0),
    "the largest numbers": (
        [
            ev.MetricLogged(RUN, "m", 1e308, LAST_TIME, LAST_TIME),
            ev.MetricLogged(RUN, "m", -1e308, -LAST_TIME - 1, -LAST_TIME - 1),
            ev.RunStarted(RUN, str(LAST_TIME), LAST_TIME),
            ev.RunEnded(RUN, "FINISHED", -LAST_TIME - 1),
            ev.LossNotice("ab" * 16, LAST_TIME, "quota", LAST_TIME),
            ev.RowsLogged(RUN, "t", ["a"], [[(1 << 64) - 1], [-(1 << 63)], [2**14_283], [1e308]]),
        ],
        0,
    ),
    "larger numbers": (
        [ev.MetricLogged(RUN, "m", 1.0, 1 << 63, 0), ev.RunEnded(RUN, "FINISHED", (1 << 64) - 1)],
        2,
    ),
    "a loss of a journal that is none": ([ev.LossNotice("", 0, "x", 1), ev.LossNotice("ab", 0, "y" * 100_000, 1)], 0),
    "dates at the ends": (
        [
            b"\x95\x09\xd9\x20"
            + RUN.encode()
            + b"\xa1t\x91\xa1a\x91\x91\xc7\x0c\xff"
            + struct.pack(">Iq", nanoseconds, second)
            for nanoseconds, second in ((0, -62_135_596_800), (999_999_000, 253_402_300_799))
        ],
        0,
    ),
    "dates beyond the ends": (
        [
            b"\x95\x09\xd9\x20" + RUN.encode() + b"\xa1t\x91\xa1a\x91\x91\xc7\x0c\xff" + struct.pack(">Iq", 0, second)
            for second in (-62_135_596_801, 253_402_300_800, LAST_TIME)
        ],
        3,
    ),
}


def _readers(pipeline: Pipeline, capsys: Capture, *, export: bool) -> Iterator[tuple[Any, int]]:
    store = ("--store", pipeline.store)
    yield "digest", invoke(capsys, "digest", pipeline.store).code
    yield "verify", invoke(capsys, "verify", pipeline.store, "--stream", pipeline.stream).code
    yield "status", invoke(capsys, "status", "--stream", pipeline.stream, *store).code
    yield "letters", invoke(capsys, "dlq", "list", *store).code
    for command in (("runs", "list"), ("runs", "list", "--json"), ("experiments", "list")):
        yield command, invoke(capsys, *command, *store).code
    for run in pipeline.runs():
        yield "run", invoke(capsys, "runs", "show", run.run_id, *store).code
        for table in pipeline.ask(query.list_tables, run.run_id) if export else ():
            for form in ("csv", "jsonl", "parquet"):
                arguments = ("tables", "export", run.run_id, table.name, "--format", form, "-o", pipeline.root / "out")
                (pipeline.root / "out").unlink(missing_ok=True)
                yield form, invoke(capsys, *arguments, *store).code


async def _drain(pipeline: Pipeline) -> Progress:
    """Apply all that is there, also what says that it comes from the future."""
    async with open_consumer(pipeline.options, QueueSource(pipeline.queue)) as (consumer, _):
        await consumer.run(once=True, stop=asyncio.Event())
    return consumer.progress


def _check(pipeline: Pipeline, capsys: Capture, dead: int, *, export: bool = True) -> None:
    """Everything is applied, or dead, and every reader answers; a replay makes the same store."""
    with limited(120):
        progress = asyncio.run(_drain(pipeline))
    assert (progress.dead, progress.failure) == (dead, "")
    assert pipeline.run("f" * 32).params == {"behind": "it"}
    codes = list(_readers(pipeline, capsys, export=export))
    assert [(command, code) for command, code in codes if code] == []
    if dead:
        outcomes = invoke_json(
            capsys, "dlq", "retry", "--all", "--stream", pipeline.stream, "--store", pipeline.store, code=1
        )
        assert not any(outcome["applied"] for outcome in outcomes)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_event_is_applied_or_dead(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """And the event behind it is applied."""
    monkeypatch.setattr(parts, "MAX_CELLS", 200_000)
    events, dead = HOSTILE[name]
    pipeline = Pipeline(tmp_path)
    records = [(seq, TIME + seq, event) for seq, event in enumerate([*events, BYSTANDER])]
    write_journal(pipeline.queue, records)
    _check(pipeline, capsys, dead)


@pytest.mark.parametrize("emit_ts", [LAST_TIME, -LAST_TIME - 1, 0, -1])
def test_any_time_of_a_log_call_is_taken(tmp_path: Path, capsys: Capture, emit_ts: int) -> None:
    """Also those before 1970 and in 2262."""
    pipeline = Pipeline(tmp_path)
    events = [ev.RunStarted(RUN, "7", 0), ev.RowsLogged(RUN, "t", ["a"], [[1]]), b"\xc1", BYSTANDER]
    write_journal(pipeline.queue, [(seq, emit_ts, event) for seq, event in enumerate(events)])
    _check(pipeline, capsys, dead=1)


def test_any_seq_is_taken(tmp_path: Path, capsys: Capture) -> None:
    """The last one that there can be, with a hole of nearly all others before it."""
    pipeline = Pipeline(tmp_path)
    write_journal(pipeline.queue, [(0, TIME, BYSTANDER), (MAX_SEQ, TIME, ev.RowsLogged(RUN, "t", ["a"], [[1]]))])
    with limited(60):
        assert pipeline.drain().events == 2
    assert len(pipeline.rows(RUN, "t")) == 1
    codes = dict(_readers(pipeline, capsys, export=True))
    assert codes.pop("verify") == 1  # it names the hole
    assert set(codes.values()) == {0}


@pytest.mark.parametrize("event", [ev.RowsLogged(RUN, "t", ["a"], [[1]]), ev.ArtifactInlined(RUN, "a", b"x")])
def test_a_file_in_place_of_a_runs_directory_stops_nobody(tmp_path: Path, capsys: Capture, event: Any) -> None:
    """Somebody else's: the events that need it are dead, and applied again when it is gone."""
    pipeline = Pipeline(tmp_path)
    blocker = pipeline.store / "artifacts" / RUN
    blocker.parent.mkdir(parents=True)
    blocker.write_text("somebody else's")
    write_journal(pipeline.queue, [(0, TIME, event), (1, TIME, BYSTANDER)])
    with limited(60):
        progress = pipeline.drain()
    assert (progress.dead, progress.failure) == (1, "")
    blocker.unlink()
    where = ("--stream", pipeline.stream, "--store", pipeline.store)
    assert [outcome["applied"] for outcome in invoke_json(capsys, "dlq", "retry", "--all", *where)] == [True]
    assert invoke(capsys, "verify", pipeline.store).code == 0


@pytest.mark.long
def test_hostile_events_need_bounded_memory(tmp_path: Path) -> None:
    """Events that unfold into very many values, within 3 GiB of address space, stacks included."""
    pipeline = Pipeline(tmp_path)
    rng = random.Random(0)
    prefix = b"\x95\x09\xd9\x20" + RUN.encode() + b"\xa1t"
    size = 4 << 20
    bodies = [
        prefix + b"\x90\xdd" + struct.pack(">I", size) + b"\x90" * size,  # rows without cells
        prefix + b"\x91\xa1a\x91\x91\xdd" + struct.pack(">I", size) + b"\x90" * size,  # one cell of empty lists
        prefix + b"\x91\xa1a\xdd" + struct.pack(">I", size) + b"\x91\xc0" * size,  # rows of one cell
        prefix + b"\x91\xa1a\x91\x91\xdd" + struct.pack(">I", 60 << 20) + b"\x90" * (60 << 20),  # as large as can be
        prefix + b"\x91\xa1a\xdd" + struct.pack(">I", MAX_ROWS) + b"\x91\xc0" * MAX_ROWS,  # as many rows as can be
        prefix + b"\x91\xa1a\x91\x91\xdd" + struct.pack(">I", 60 << 20) + b"\x01" * (60 << 20),  # numbers
        prefix + b"\x91\xa1a\x91\x91\xdd\xff\xff\xff\xff" + rng.randbytes(100),  # a length that is a lie
    ]
    records: list[tuple[int, int, Any]] = [(seq, TIME + seq, body) for seq, body in enumerate(bodies)]
    write_journal(pipeline.queue, [*records, (len(bodies), TIME, BYSTANDER)])
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (3 << 30,) * 2);"
        "from runstream_sink.cli.app import run; sys.exit(run(['sink', '--once']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**unmeasured(), **pipeline.environment, "MALLOC_ARENA_MAX": "2"},  # each takes 64 MiB of addresses
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert pipeline.run("f" * 32).params == {"behind": "it"}
