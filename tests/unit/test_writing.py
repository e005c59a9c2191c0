"""Writing on a stream on behalf of others: each event is accepted, or refused with a reason."""

from importlib.metadata import entry_points
from pathlib import Path

import pytest

from runstream.writing import open_writing
from runstream_schemas.errors import EnvironmentUnavailableError, InvalidInputError
from runstream_schemas.events import RowsLogged, RunStarted, decode_event
from runstream_schemas.follower import Follower

RUN = "0" * 32


def test_the_sink_finds_it_by_its_entry_point() -> None:
    """Under the name that the sink looks for."""
    (entry,) = entry_points(group="runstream.writing")
    assert entry.load() is open_writing


def test_events_are_on_the_stream_under_the_identity_that_was_told(tmp_path: Path) -> None:
    """Also those with values that MessagePack does not hold as they are."""
    writing = open_writing(f"queue:{tmp_path}")
    events = [RunStarted(RUN, "0", 1), RowsLogged(RUN, "t", ["a"], [[1 << 70], ["\ud800"]])]
    told = [writing.emit(event) for event in events]
    assert writing.error == ""
    writing.close()
    follower = Follower(tmp_path)
    follower.seek({})
    (batch,) = follower.read(1 << 20).batches
    assert told == [(batch.producer_id, record[0]) for record in batch.records]
    assert decode_event(batch.records[0][2]) == events[0]
    follower.close()


def test_what_is_not_accepted_raises_and_counts_as_no_loss(tmp_path: Path) -> None:
    """There is no journal where none can be made; as soon as there can, events are accepted."""
    (tmp_path / "queue").write_bytes(b"in the way")
    writing = open_writing(f"queue:{tmp_path / 'queue'}")
    with pytest.raises(EnvironmentUnavailableError, match="no journal can be written"):
        writing.emit(RunStarted(RUN, "0", 1))
    (tmp_path / "queue").unlink()
    writing._client._open_failed_at = -1.0
    assert writing.emit(RunStarted(RUN, "0", 1))[1] == 0
    assert set(writing._client.stats()["dropped"].values()) == {0}
    writing.close()


def test_an_event_that_no_segment_holds_says_so(tmp_path: Path) -> None:
    """With what to do about it."""
    writing = open_writing(f"queue:{tmp_path}", journal_quota=1 << 20, segment_size=64 << 10)
    with pytest.raises(EnvironmentUnavailableError, match=r"full|too large"):
        writing.emit(RowsLogged(RUN, "t", ["a"], [["x" * (2 << 20)]]))
    writing.close()


def test_bytes_are_staged_and_media_types_known_as_by_any_program(tmp_path: Path) -> None:
    """Beside the queue, content-addressed."""
    writing = open_writing(f"queue:{tmp_path}")
    assert writing.staging.root == tmp_path / "staging"
    assert (writing.media_type("a/b.png"), writing.media_type("b")) == ("image/png", None)


def test_a_stream_that_is_none_is_refused() -> None:
    """As by configure."""
    with pytest.raises(InvalidInputError):
        open_writing("nonsense")
