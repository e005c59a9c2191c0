"""Every kind of dead letter is listed, shown and retried: applied, refused, or dead as before."""

from pathlib import Path
from typing import Any

import pytest

from runstream_schemas import events as ev
from runstream_schemas.segment import pack_header, pack_record, record_seed
from runstream_schemas.values import RowEncoder
from runstream_sink import consumer
from support.commands import invoke, invoke_json
from support.hostile_events import RUN
from support.pipeline import Pipeline

PRODUCER = bytes(range(16))
GOOD = RowEncoder().encode(ev.RowsLogged(RUN, "t", ["a"], [[1]]))


def _body(kind: str) -> bytes:
    return {
        "undecodable": b"\xc1",
        "unknown_type": b"\x91\xcd\xff\xff",
        "invalid": ev.encode_event(ev.RunEnded("x", "FINISHED", 0)),
        "artifact_missing": ev.encode_event(ev.ArtifactLogged(RUN, "a", "ab" * 32, 1)),
    }.get(kind, GOOD)


def _write(queue: Path, kind: str) -> None:
    records = [pack_record(seq, 1 << 60, body, record_seed(PRODUCER)) for seq, body in enumerate((_body(kind), GOOD))]
    if kind == "corrupt":
        records[0] = records[0][:30] + b"?" + records[0][31:]
    journal = queue / "journals" / PRODUCER.hex()
    journal.mkdir(parents=True)
    (journal / "0000000000.seg").write_bytes(pack_header(PRODUCER, 0, 1 << 16, 1) + b"".join(records) + bytes(64))


@pytest.mark.parametrize("kind", ["corrupt", "undecodable", "unknown_type", "invalid", "artifact_missing", "failed"])
def test_a_letter_of_each_kind_is_listed_shown_and_retried(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """One that failed by our mistake is applied in the end; the others stay dead, and say why."""
    pipeline = Pipeline(tmp_path)
    _write(pipeline.queue, kind)
    real = consumer.append

    def append(state: Any, entries: Any, *rest: Any) -> Any:
        if entries[0].seq == 0:
            raise KeyError("a mistake")
        return real(state, entries, *rest)

    if kind == "failed":
        monkeypatch.setattr(consumer, "append", append)
    pipeline.drain()
    monkeypatch.undo()
    store = ("--store", pipeline.store)
    (letter,) = invoke_json(capsys, "dlq", "list", *store)
    assert (letter["reason"], letter["seq"], letter["producer_id"]) == (kind, 0, PRODUCER.hex())
    shown = invoke_json(capsys, "dlq", "show", letter["id"], *store)
    assert shown["raw"]
    assert invoke(capsys, "dlq", "show", letter["id"], *store).code == 0
    applied = kind == "failed"
    (outcome,) = invoke_json(
        capsys, "dlq", "retry", letter["id"], "--stream", pipeline.stream, *store, code=int(not applied)
    )
    assert outcome["applied"] is applied
    assert applied or outcome["detail"]
    assert len(pipeline.rows(RUN, "t")) == 1 + applied


def test_events_that_are_torn_out_of_a_journal_are_a_hole_and_no_letter(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There are no bytes to show or to apply again; `verify` names the events, and a replay loses the same."""
    pipeline = Pipeline(tmp_path)
    records = [pack_record(seq, 1 << 60, GOOD, record_seed(PRODUCER)) for seq in (0, 4)]
    journal = pipeline.queue / "journals" / PRODUCER.hex()
    journal.mkdir(parents=True)
    (journal / "0000000000.seg").write_bytes(pack_header(PRODUCER, 0, 1 << 16, 1) + b"".join(records) + bytes(64))
    pipeline.drain()
    options = ("--stream", pipeline.stream, "--store", pipeline.store)
    assert invoke_json(capsys, "dlq", "list", "--store", pipeline.store) == []
    assert invoke_json(capsys, "dlq", "retry", "--all", *options) == []
    (finding,) = invoke_json(capsys, "verify", pipeline.store, "--stream", pipeline.stream, code=1)["findings"]
    assert finding["kind"] == "hole"
    assert all(text in str(finding) for text in ("torn", PRODUCER.hex(), "1", "3"))
    assert len(pipeline.rows(RUN, "t")) == 2
    assert pipeline.replay("replayed")[0] == pipeline.digest()
