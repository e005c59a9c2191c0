"""The digest: what it hashes, what it leaves out, and that damage does not pass for content."""

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runstream_schemas import events as ev
from runstream_schemas.errors import CorruptDataError
from runstream_sink.digest import digest
from runstream_sink.store import Commit
from runstream_sink.store import reading as reading_module
from support.stores import batch, digest_of, ingest, opened, prepare, reading, run_id

P, Q = b"p" * 16, b"q" * 16
RUN = run_id(1)
DEFAULT = ("experiment", "0", "Default", None, "active")
SILENT_RUN = ("run", RUN, None, None, None, None, None, None, "active")


def _expected(*items: tuple[Any, ...]) -> str:
    """The digest as the module's docstring defines it."""
    hashes = [hashlib.sha256(msgspec.msgpack.encode(item)).digest() for item in (DEFAULT, *items)]
    total = sum(int.from_bytes(found, "big") for found in hashes) % (1 << 256)
    return hashlib.sha256(total.to_bytes(32, "big") + len(hashes).to_bytes(8, "big")).hexdigest()


async def _digest(directory: Path, *events: Any) -> str:
    async with opened(directory) as store:
        await ingest(store, [batch(P, events)])
    return await digest_of(directory)


@pytest.mark.parametrize(
    ("event", "items"),
    [
        (ev.ParamsLogged(RUN, {"a": "1"}), [SILENT_RUN, ("param", RUN, "a", "1")]),
        (ev.TagsSet(RUN, {"a": "1"}), [SILENT_RUN, ("tag", RUN, "a", "1")]),
        (ev.TagDeleted(RUN, "a"), [SILENT_RUN]),
        (ev.ArtifactLogged(RUN, "a/b", "0" * 64, 5), [SILENT_RUN, ("artifact", RUN, "a/b", "0" * 64, 5, None)]),
        (
            ev.RunStarted(RUN, "7", 1, "name", "me"),
            [("run", RUN, "7", 1, "name", "me", "RUNNING", None, "active")],
        ),
        (
            ev.MetricLogged(RUN, "m", -0.0, 1, 2),
            [
                SILENT_RUN,
                ("metric", RUN, "m", 1, 2, -(1 << 63), P, 0, 0),
                ("latest", RUN, "m", 1, 2, -(1 << 63), P + bytes(12)),
            ],
        ),
        (
            ev.ExperimentCreated("7", "seven", 5, {"a": "b"}),
            [("experiment", "7", "seven", 5, "active"), ("experiment_tag", "7", "a", "b")],
        ),
        (
            ev.RowsLogged(RUN, "t", ["y", "x", "none"], [[1, "", None]]),
            [
                SILENT_RUN,
                *(("column", RUN, "t", name, kind) for name, kind in (("x", 4), ("y", 2), ("none", 0))),
                ("row", RUN, "t", (("x", ""), ("y", 1)), "1970-01-01T00:00:00.000001Z", f"{P.hex()}:0:0"),
            ],
        ),
        (ev.RowsLogged(RUN, "t", [], []), [SILENT_RUN]),
        (ev.LossNotice(Q.hex(), 0, "quota", 1), []),
        (b"\xc1", []),
        (ev.Abandoned(), []),
    ],
)
async def test_the_digest_hashes_the_items_that_its_definition_lists(
    tmp_path: Path, event: Any, items: list[tuple[Any, ...]]
) -> None:
    """Computed a second time, from the definition."""
    assert await _digest(tmp_path, event) == _expected(*items)


async def test_positions_files_and_grouping_are_not_in_the_digest(tmp_path: Path) -> None:
    """Nor are the integers that stand for names, nor how rows lie in parts."""
    events = [
        ev.RowsLogged(RUN, "t", ["x"], [[1]]),
        ev.RowsLogged(RUN, "t", ["y"], [["a"]]),
        ev.RowsLogged(RUN, "t", ["x"], [[0.5]]),
        ev.ArtifactLogged(RUN, "a", "0" * 64, 1),
    ]
    first = await _digest(tmp_path / "one", *events)
    async with opened(tmp_path / "two") as store:
        for seq in (3, 2, 1, 0):
            commit = await prepare(store, store.location.artifacts, [batch(P, [events[seq]], seq)], 50)
            commit.stream, commit.positions, commit.files = "s", {str(seq): (None, "1")}, {(RUN, "a"): "elsewhere"}
            await store.commit(commit)
    assert await digest_of(tmp_path / "two") == first


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, 2**200, [2**64, {"ü": -(2**70)}], [None, True, 1.5, "x"]])
async def test_values_that_messagepack_lacks_are_hashed(tmp_path: Path, value: Any) -> None:
    """Integers of any size, nested or not; another value gives another digest."""
    event = ev.RowsLogged(RUN, "t", ["x"], [[value]])
    other = ev.RowsLogged(RUN, "t", ["x"], [[value + 1 if isinstance(value, int) else [*value, 1]]])
    assert await _digest(tmp_path / "a", event) == await _digest(tmp_path / "b", event)
    assert await _digest(tmp_path / "c", other) != await digest_of(tmp_path / "a")


async def test_lone_surrogates_that_a_cell_spells_out_are_hashed(tmp_path: Path) -> None:
    r"""JSON can say ``\ud800``, UTF-8 cannot."""
    text = ev.RowsLogged(RUN, "t", ["x"], [[["abcdef"]]])
    async with opened(tmp_path) as store:
        await ingest(store, [batch(P, [text])])
        file = store.location.artifacts / RUN / "t.csv"
        content = file.read_bytes()
        file.write_bytes(content.replace(b"abcdef", b"\\ud800"))
        damaged = await digest_of(tmp_path)
        file.write_bytes(content)
    assert await digest_of(tmp_path) != damaged


async def test_many_tables_and_columns_come_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables without columns, wide ones, ones of many parts: the digest does not depend on how rows are fetched."""
    events = [
        ev.RowsLogged(RUN, "a-nothing", [], [[]]),
        ev.RowsLogged(RUN, "b-wide", [f"c{number}" for number in range(9)], [[1] * 9]),
        *(ev.RowsLogged(RUN, "c-long", ["x"], [["text" * 20]]) for _ in range(7)),
        ev.RowsLogged(RUN, "d-empty", ["x"], []),
        ev.RowsLogged(RUN, "e-nothing", [], [[]]),
        ev.RowsLogged(run_id(2), "f", ["x", "y"], [[1, 2]]),
        ev.RowsLogged(RUN, "g-nothing", [], [[]]),
    ]
    async with opened(tmp_path) as store:
        for seq, event in enumerate(events):
            await ingest(store, [batch(P, [event], seq)], part_limit=100)
    whole = await digest_of(tmp_path)
    monkeypatch.setattr(reading_module, "_ROWS_AT_ONCE", 2)
    assert await digest_of(tmp_path) == whole


async def test_a_digest_is_that_of_one_committed_state(tmp_path: Path) -> None:
    """Commits that are made while it is computed are in it as a whole or not at all."""
    events = [[ev.ParamsLogged(RUN, {"a": "1"}), ev.RowsLogged(RUN, "t", ["x"], [[seq]])] for seq in range(20)]
    allowed = set()
    async with opened(tmp_path / "first") as store:
        for seq, group in enumerate(events):
            allowed.add(await digest_of(tmp_path / "first"))
            await ingest(store, [batch(P, group, 2 * seq)])
    allowed.add(await digest_of(tmp_path / "first"))

    async def write() -> None:
        for seq, group in enumerate(events):
            await ingest(store, [batch(P, group, 2 * seq)])

    async with opened(tmp_path / "second") as store, reading(tmp_path / "second") as reader:
        writer = asyncio.create_task(write())
        while not writer.done():
            assert await digest(reader) in allowed
        await writer


async def test_artifacts_may_lie_elsewhere(tmp_path: Path) -> None:
    """Another root has the same digest; a wrong one is damage."""
    expected = await _digest(tmp_path / "store", ev.RowsLogged(RUN, "t", ["x"], [[1]]))
    (tmp_path / "store" / "artifacts").rename(tmp_path / "elsewhere")
    async with reading(tmp_path / "store") as reader:
        assert await digest(reader, tmp_path / "elsewhere") == expected
        with pytest.raises(CorruptDataError, match="missing"):
            await digest(reader)


async def test_a_commit_without_anything_changes_nothing(tmp_path: Path) -> None:
    """An empty store has a digest, too."""
    async with opened(tmp_path) as store:
        await store.commit(Commit())
    assert await digest_of(tmp_path) == _expected()
