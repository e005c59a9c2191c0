"""What a consumer acknowledges: files that producers and retention read, on disks that refuse."""

from pathlib import Path

import pytest

from runstream_schemas.acknowledgements import APPLIED_ENTIRELY, Acknowledgements
from runstream_schemas.errors import CorruptDataError
from runstream_schemas.follower import format_position
from runstream_schemas.reader import Position

ONE, TWO = "1" * 32, "2" * 32
DONE = format_position(Position(7, 4096, 9, done=True))


def at(segment: int) -> str:
    """A position in that segment."""
    return format_position(Position(segment, 4096, 5))


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    """A queue with two journals."""
    for name in (ONE, TWO):
        (tmp_path / "journals" / name).mkdir(parents=True)
    return tmp_path


def told(queue: Path, consumer: str = "kafka") -> dict[str, str]:
    """What a consumer has told, by journal."""
    return {path.name: path.read_text() for path in (queue / "consumers" / consumer).iterdir()}


def refuse(queue: Path) -> Path:
    """Let the consumer's files be refused, until what is returned is removed."""
    directory = queue / "consumers" / "kafka"
    for path in directory.iterdir():
        path.unlink()
    directory.rmdir()
    directory.write_text("in the way")
    return directory


def test_a_consumer_that_registers_is_known_and_has_applied_nothing(queue: Path) -> None:
    """From then on everything is kept for it."""
    Acknowledgements(queue, "kafka").register()
    assert told(queue) == {}


def test_the_first_segment_that_is_not_applied_is_told(queue: Path) -> None:
    """By journal; one that is read to its end is applied entirely."""
    one = Acknowledgements(queue, "kafka")
    assert one.settle({ONE: at(3), TWO: DONE}) is None
    assert told(queue) == {ONE: "3", TWO: "4294967296"}


def test_what_was_told_is_not_written_again(queue: Path) -> None:
    """A journal moves on within a segment all the time."""
    one = Acknowledgements(queue, "kafka")
    one.settle({ONE: at(3)})
    (queue / "consumers" / "kafka" / ONE).write_text("mark")
    one.settle({ONE: format_position(Position(3, 8192, 6))})
    assert told(queue) == {ONE: "mark"}
    one.settle({ONE: at(4)})
    assert told(queue) == {ONE: "4"}


def test_what_the_disk_refuses_is_owed_and_the_error_returned(queue: Path) -> None:
    """It is acknowledged with the next one, newest first unapplied segment and all."""
    one = Acknowledgements(queue, "kafka")
    one.register()
    blocked = refuse(queue)
    assert isinstance(one.settle({ONE: at(1)}), FileExistsError)
    assert isinstance(one.settle({ONE: at(2)}), FileExistsError)
    blocked.unlink()
    assert one.settle({TWO: at(5)}) is None
    assert told(queue) == {ONE: "2", TWO: "5"}


def test_what_is_owed_is_tried_again_from_time_to_time(queue: Path) -> None:
    """Not at every look, and not where nothing is owed."""
    one = Acknowledgements(queue, "kafka")
    one.register()
    assert one.try_again() is None
    blocked = refuse(queue)
    one.settle({ONE: at(1)})
    blocked.unlink()
    assert one.try_again() is None
    assert not blocked.exists()
    one._owed_since -= 2
    assert one.try_again() is None
    assert told(queue) == {ONE: "1"}


def test_a_journal_is_trimmed_before_it_is_told_to_be_applied_entirely(queue: Path) -> None:
    """On a full disk the file may need the room; a trim that fails leaves both to be tried again."""
    trimmed: list[str] = []
    failing = [OSError(5, "broken")]

    def trim(name: str) -> None:
        if failing:
            raise failing.pop()
        assert not (queue / "consumers" / "kafka" / ONE).exists()
        trimmed.append(name)

    one = Acknowledgements(queue, "kafka", trim)
    one.register()
    assert str(one.settle({ONE: DONE})) == "[Errno 5] broken"
    assert told(queue) == {}
    assert one.settle({TWO: at(1)}) is None
    assert trimmed == [ONE]
    assert told(queue) == {ONE: str(APPLIED_ENTIRELY), TWO: "1"}


def test_a_file_that_cannot_be_put_in_place_leaves_nothing_half_written(queue: Path) -> None:
    """A producer that reads half a number would believe that its quota is used up."""
    one = Acknowledgements(queue, "kafka")
    (queue / "consumers" / "kafka" / ONE).mkdir(parents=True)
    assert isinstance(one.settle({ONE: at(1)}), IsADirectoryError)
    assert [path.name for path in (queue / "consumers" / "kafka").iterdir()] == [ONE]


def test_whoever_resumes_tells_what_a_crash_swallowed(queue: Path) -> None:
    """Of the journals that are there; what the files say already is left alone."""
    one = Acknowledgements(queue, "kafka")
    one.settle({ONE: at(3), TWO: DONE})
    before = (queue / "consumers" / "kafka" / ONE).stat().st_mtime_ns
    again = Acknowledgements(queue, "kafka")
    assert again.resume({ONE: at(3), TWO: DONE, "3" * 32: at(1)}) is None
    assert told(queue) == {ONE: "3", TWO: str(APPLIED_ENTIRELY)}
    assert (queue / "consumers" / "kafka" / ONE).stat().st_mtime_ns == before
    assert again.resume({ONE: at(4), TWO: DONE}) is None
    assert told(queue)[ONE] == "4"


def test_a_consumer_that_was_removed_is_made_again_when_it_resumes(queue: Path) -> None:
    """Somebody took a living one for stale."""
    one = Acknowledgements(queue, "kafka")
    assert one.resume({ONE: at(3)}) is None
    assert told(queue) == {ONE: "3"}


def test_whoever_resumes_owes_nothing_from_before(queue: Path) -> None:
    """The positions that it resumes at are the truth; without any there is nothing to tell."""
    one = Acknowledgements(queue, "kafka")
    blocked = queue / "consumers" / "kafka" / ONE
    blocked.mkdir(parents=True)
    one.settle({ONE: at(5)})
    assert isinstance(one.resume({ONE: at(4)}), IsADirectoryError)
    assert one.resume({}) is None
    blocked.rmdir()
    assert one.settle({TWO: at(1)}) is None
    assert told(queue) == {TWO: "1"}


def test_whoever_resumes_forgets_what_it_has_told(queue: Path) -> None:
    """Another process may have told something else meanwhile."""
    one = Acknowledgements(queue, "kafka")
    one.settle({ONE: at(3)})
    Acknowledgements(queue, "kafka").settle({ONE: at(2)})
    one.resume({ONE: at(2)})
    one.settle({ONE: at(3)})
    assert told(queue) == {ONE: "3"}


def test_what_is_no_position_is_not_acknowledged(queue: Path) -> None:
    """It would free what nobody has applied."""
    with pytest.raises(CorruptDataError):
        Acknowledgements(queue, "kafka").settle({ONE: "x"})
