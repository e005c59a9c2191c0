"""Counts of dropped events become notices, also where the disk takes some of them only."""

from pathlib import Path

import pytest

from runstream.shipping import losses
from runstream.shipping.losses import LossJournal
from runstream_schemas.events import LossNotice, decode_event
from runstream_schemas.reader import JournalReader, journal_names


def _notices(directory: Path) -> list[LossNotice]:
    found = []
    for name in journal_names(directory / "journals"):
        reader = JournalReader(directory / "journals" / name)
        while not reader.position.done:
            found += [decode_event(record[2]) for record in reader.read(1 << 20).records]
        reader.close()
    return [event for event in found if isinstance(event, LossNotice)]


def test_a_notice_that_is_refused_is_told_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever tells learns of it; each count is in exactly one notice in the end."""
    monkeypatch.setattr(losses, "_QUOTA", 256 << 10)
    monkeypatch.setattr(losses, "_SEGMENT", 64 << 10)
    counts = {(number.to_bytes(16, "big"), 0, "quota"): number + 1 for number in range(5000)}
    journal = LossJournal(tmp_path)
    with pytest.raises(OSError, match="told later"):
        journal.tell(counts)
    assert journal.close()
    journal.tell(counts)
    assert journal.close()
    told = {notice.journal: notice.count for notice in _notices(tmp_path)}
    assert told == {producer.hex(): count for (producer, _, _), count in counts.items()}
    assert len(_notices(tmp_path)) == len(counts)


def test_only_a_count_that_grows_is_told_again(tmp_path: Path) -> None:
    """The greatest one holds, so that others say nothing."""
    journal = LossJournal(tmp_path)
    for count in (3, 3, 2, 5):
        journal.tell({(b"p" * 16, 1, "disk"): count})
    assert journal.close()
    assert [notice.count for notice in _notices(tmp_path)] == [3, 5]
