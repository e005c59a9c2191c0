"""Claim check: large cells lie beside their table, and come back as what they were."""

import datetime
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest

import runstream
from runstream_schemas.claims import Claim, pack_claim, parse_reference, unpack_claim
from runstream_schemas.errors import CorruptDataError, InvalidInputError
from runstream_schemas.events import ArtifactLogged, RowsLogged
from runstream_schemas.values import decode_extension
from runstream_sink import query
from support.pipeline import Pipeline

LARGE = "ü" * 2_000
DIGEST = "ab" * 32
MOMENT = datetime.datetime(2026, 11, 24, 5, 0, 0, 500_000, datetime.UTC)


@pytest.fixture(autouse=True)
def small_claims(pipeline: Pipeline) -> None:
    """What is large is small here."""
    runstream.configure(claim_size=1024)


def loaded(run: runstream.Run, table: str = "predictions", **options: Any) -> list[dict[str, Any]]:
    """The rows as a user loads them."""
    rows: list[dict[str, Any]] = runstream.load_table(table, [run.run_id], **options).to_dict("records")
    return rows


def test_a_large_text_lies_beside_the_table_and_comes_back(pipeline: Pipeline) -> None:
    """The cell says where it is; ordinary tools find it there; ``load_table`` reads it."""
    with runstream.start_run() as run:
        runstream.log_prediction({"prompt": LARGE, "n": 1})
        runstream.log_prediction({"prompt": "small", "n": 2})
    pipeline.drain()
    reference, small = (row["prompt"] for row in pipeline.rows(run.run_id))
    assert (reference[:16], reference[-4:], small) == ("artifact:claims/", ".txt", "small")
    assert pipeline.artifact(run.run_id, reference.removeprefix("artifact:")).decode() == LARGE
    assert loaded(run) == [{"prompt": LARGE, "n": 1}, {"prompt": "small", "n": 2}]
    assert loaded(run, references=True)[0] == {"prompt": reference, "n": 1}
    assert pipeline.ask(query.list_dead_letters) == []


def test_only_the_large_cells_of_a_row_are_claims(pipeline: Pipeline) -> None:
    """The artifact's event precedes the row's; what is small stays in the row."""
    with runstream.start_run():
        runstream.log_prediction({"a": LARGE, "b": "x" * 900, "c": None, "d": 1 << 70})
    runstream.close()
    before, rows = pipeline.events()[-3:-1]
    assert isinstance(before, ArtifactLogged)
    assert isinstance(rows, RowsLogged)
    assert rows.rows == [[f"artifact:{before.path}", "x" * 900, None, 1 << 70]]
    assert (before.size, before.media_type) == (4_000, "text/plain")


def test_a_row_of_many_small_cells_is_no_claim(pipeline: Pipeline) -> None:
    """However large the row is as a whole."""
    row = {f"c{number}": "x" * 100 for number in range(100)}
    with runstream.start_run() as run:
        runstream.log_prediction(row)
    pipeline.drain()
    assert pipeline.rows(run.run_id) == [row]


@pytest.mark.parametrize(
    ("small", "large"),
    [
        (b"\x00\xff", b"\x00\xff" * 1_000),
        ({"a": [1, None]}, {"a": [1, None, "x" * 2_000], "b": b"\xff", "t": MOMENT}),
        ([0.5], [math.inf, 1 << 80, *range(2_000)]),
    ],
    ids=["bytes", "dict", "list"],
)
def test_a_large_value_reads_as_a_small_one_would(pipeline: Pipeline, small: Any, large: Any) -> None:
    """Whether it was in the table or beside it."""
    with runstream.start_run() as beside:
        runstream.log_prediction({"v": small})
        runstream.log_prediction({"v": large})
    runstream.configure(claim_size="1MiB")
    with runstream.start_run() as inside:
        runstream.log_prediction({"v": small})
        runstream.log_prediction({"v": large})
    pipeline.drain()
    assert str(pipeline.rows(beside.run_id)[1]["v"]).startswith("artifact:claims/")
    assert loaded(beside) == loaded(inside)


def test_rows_of_a_table_keep_their_order_around_claims(pipeline: Pipeline) -> None:
    """Small rows share events, with claims among them."""
    texts = [LARGE if number % 3 == 0 else f"small {number}" for number in range(20)]
    with runstream.start_run() as run:
        runstream.log_table({"text": texts}, "t.csv")
    pipeline.drain()
    assert [row["text"] for row in loaded(run, "t")] == texts
    assert len([event for event in pipeline.events() if isinstance(event, RowsLogged)]) == 1


def test_what_is_checked_in_is_what_redaction_left(pipeline: Pipeline) -> None:
    """No byte of what a hook removed is staged."""
    runstream.configure(redact=lambda row: {"text": row["text"].replace("secret", "[...]")})
    with runstream.start_run() as run:
        runstream.log_prediction({"text": "secret" * 1_000})
    pipeline.drain()
    assert loaded(run) == [{"text": "[...]" * 1_000}]
    assert all(b"secret" not in path.read_bytes() for path in pipeline.root.rglob("*") if path.is_file())


def test_a_row_whose_cell_cannot_be_staged_is_dropped_and_counted(pipeline: Pipeline) -> None:
    """The program goes on, and so do the other rows."""
    before = runstream.stats()["dropped"]["disk"]
    with runstream.start_run() as run:
        runstream.log_prediction({"text": "first"})
        (pipeline.queue / "staging").write_text("in the way")
        runstream.log_prediction({"text": LARGE})
        runstream.log_table({"text": ["a", LARGE, "b"]}, "t")
    assert runstream.stats()["dropped"]["disk"] == before + 2
    (pipeline.queue / "staging").unlink()
    pipeline.drain()
    assert pipeline.rows(run.run_id) == [{"text": "first"}]
    assert pipeline.rows(run.run_id, "t") == [{"text": "a"}, {"text": "b"}]


def test_a_cell_that_no_event_can_hold_is_refused_at_the_call(pipeline: Pipeline) -> None:
    """From 4 GiB on; what is logged next is there.  The bytes are zeros that no memory was given for."""
    huge = bytes(1 << 32)
    with runstream.start_run() as run:
        for log in (
            lambda: run.log_prediction({"huge": huge}),
            lambda: run.log_prediction({"huge": {"inside": [huge]}}),
            lambda: run.log_predictions([{"n": 0}, {"huge": huge}]),
            lambda: run.log_table({"huge": [huge]}, "t"),
        ):
            with pytest.raises(InvalidInputError, match=r"4 GiB or more cannot be logged.*log that as an artifact"):
                log()
        run.log_prediction({"n": 1})
    pipeline.drain()
    assert pipeline.rows(run.run_id)[-1]["n"] == 1


def test_a_text_that_looks_like_a_reference_stays_what_it_is(pipeline: Pipeline) -> None:
    """Unless the run has such an artifact."""
    text = f"artifact:claims/{DIGEST}.txt"
    with runstream.start_run() as run:
        runstream.log_prediction({"text": text, "other": "artifact:elsewhere"})
    pipeline.drain()
    assert loaded(run) == [{"text": text, "other": "artifact:elsewhere"}]


def test_a_damaged_value_is_an_error_that_names_its_file(pipeline: Pipeline) -> None:
    """Never another value; the reference can still be had."""
    with runstream.start_run() as run:
        runstream.log_prediction({"text": LARGE})
    pipeline.drain()
    (file,) = (pipeline.store / "artifacts" / run.run_id / "claims").iterdir()
    file.unlink()
    with pytest.raises(CorruptDataError, match="is missing"):
        loaded(run)
    file.write_text("another")
    with pytest.raises(CorruptDataError, match="another hash"):
        loaded(run)
    assert len(loaded(run, references=True)) == 1


def test_a_replay_finds_the_values_again(pipeline: Pipeline) -> None:
    """Same content, same digest; the same value twice is kept once."""
    with runstream.start_run() as run:
        for number in range(3):
            runstream.log_prediction({"text": LARGE, "n": number})
    runstream.close()
    pipeline.drain()
    digest, replayed = pipeline.replay("fresh")
    assert (digest, replayed.missing) == (pipeline.digest(), [])
    assert len(list((pipeline.root / "fresh" / "store" / "artifacts" / run.run_id / "claims").iterdir())) == 1


def test_a_claim_on_the_wire_is_checked() -> None:
    """What is no claim is corrupt, and a dead letter then."""
    claim = Claim(DIGEST, 5, "json")
    assert unpack_claim(pack_claim(claim)) == claim
    assert decode_extension(2, memoryview(pack_claim(claim))) == f"artifact:claims/{DIGEST}.json"
    assert parse_reference(claim.reference) == (claim.path, DIGEST, "json")
    for wrong in ([DIGEST, -1, "text"], [DIGEST, 1, "other"], ["../x", 1, "text"], [DIGEST, 1], 5, ["é", 1, "text"]):
        with pytest.raises(CorruptDataError, match="claims"):
            unpack_claim(msgspec.msgpack.encode(wrong))
    for text in ("artifact:claims/x.txt", f"artifact:claims/{DIGEST}", f"claims/{DIGEST}.txt"):
        assert parse_reference(text) is None


def test_a_size_below_which_nothing_is_gained_is_refused(tmp_path: Path) -> None:
    """A reference has a length, too."""
    with pytest.raises(InvalidInputError, match="at least 1024"):
        runstream.configure(claim_size=100)
