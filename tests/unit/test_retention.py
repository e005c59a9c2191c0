"""What is freed of a queue, and what is kept."""

import os
from pathlib import Path

import pytest

from runstream.journal import Journal
from runstream_schemas import retention
from runstream_schemas.acknowledgements import APPLIED_ENTIRELY
from runstream_schemas.reader import has_writer, segment_indices
from runstream_schemas.retention import Freed, free, removed_journals
from runstream_schemas.segment import segment_name
from support.journals import FaultyFilesystem, journal_path, make_journal
from support.open_files import open_files

NOW = 2_000_000_000.0
DAY = 86_400.0
NOTHING = Freed(0, 0, 0, 0)
KEPT_FOR_EVER = 1 << 60


def acknowledge(queue: Path, journal: Journal, first: int, consumer: str = "store") -> None:
    """A consumer has applied the segments before ``first``."""
    directory = queue / "consumers" / consumer
    directory.mkdir(parents=True, exist_ok=True)
    (directory / journal.directory.name).write_text(str(first))


def filled(queue: Path, disk: FaultyFilesystem | None = None) -> Journal:
    """A living journal of several segments, all a day old."""
    journal = make_journal(queue, disk)
    for _ in range(300):
        journal.append(bytes(1_000))
    age(journal_path(queue, journal), DAY)
    return journal


def age(path: Path, seconds: float) -> None:
    """Let the files of a directory be that old at ``NOW``."""
    for file in path.iterdir():
        os.utime(file, (NOW - seconds, NOW - seconds))


def indices(queue: Path, journal: Journal) -> list[int]:
    """The segments that are there."""
    return segment_indices(journal_path(queue, journal))


def stage(queue: Path, name: str, at: float) -> Path:
    """Staged bytes of that time."""
    path = queue / "staging" / name[:2] / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"12345")
    os.utime(path, (at, at))
    return path


def test_without_a_consumer_nothing_is_freed(tmp_path: Path) -> None:
    """Whoever starts the sink late finds everything."""
    journal = filled(tmp_path)
    stage(tmp_path, "ab12", 0)
    assert free(tmp_path, 0, 0, NOW) == NOTHING
    (tmp_path / "consumers").mkdir()
    (tmp_path / "consumers" / "file").write_text("")
    assert free(tmp_path, 0, 0, NOW) == NOTHING
    journal.close()


def test_what_is_applied_and_old_is_freed(tmp_path: Path) -> None:
    """And no segment that is younger, or was not applied."""
    journal = filled(tmp_path)
    acknowledge(tmp_path, journal, 2)
    assert free(tmp_path, DAY + 1, KEPT_FOR_EVER, NOW) == NOTHING
    sizes = sum((journal_path(tmp_path, journal) / segment_name(index)).stat().st_size for index in (0, 1))
    assert free(tmp_path, DAY - 1, KEPT_FOR_EVER, NOW) == Freed(2, 0, 0, sizes)
    assert indices(tmp_path, journal) == list(range(2, journal._current.index + 1))
    assert free(tmp_path, DAY - 1, KEPT_FOR_EVER, NOW) == NOTHING
    journal.close()


def test_every_consumer_must_have_applied_it(tmp_path: Path) -> None:
    """One that has not begun keeps everything; one whose file cannot be read, too."""
    journal = filled(tmp_path)
    acknowledge(tmp_path, journal, 3, "fast")
    (tmp_path / "consumers" / "slow").mkdir()
    assert free(tmp_path, 0, 0, NOW) == NOTHING
    for text in (b"", b"\xff", b"half 3"):
        (tmp_path / "consumers" / "slow" / journal.directory.name).write_bytes(text)
        assert free(tmp_path, 0, 0, NOW) == NOTHING
    acknowledge(tmp_path, journal, 1, "slow")
    assert free(tmp_path, 0, 0, NOW).segments == 1
    journal.close()


def test_beyond_the_size_the_oldest_go_first(tmp_path: Path) -> None:
    """Only as many as must, and only applied ones."""
    old, young = filled(tmp_path), filled(tmp_path)
    age(journal_path(tmp_path, young), 1)
    for journal in (old, young):
        acknowledge(tmp_path, journal, journal._current.index)
    total = sum(
        (journal_path(tmp_path, journal) / segment_name(index)).stat().st_size
        for journal in (old, young)
        for index in indices(tmp_path, journal)
    )
    assert free(tmp_path, 10 * DAY, total, NOW) == NOTHING
    assert free(tmp_path, 10 * DAY, total - 1, NOW).segments == 1
    assert len(indices(tmp_path, old)) == old._current.index
    assert indices(tmp_path, young)[0] == 0
    assert free(tmp_path, 10 * DAY, 0, NOW).segments == old._current.index - 1 + young._current.index
    assert indices(tmp_path, old) == [old._current.index]
    for journal in (old, young):
        journal.close()


def test_a_living_journal_keeps_its_present_segment(tmp_path: Path) -> None:
    """Whatever a consumer claims to have applied, and a journal that is in use is not removed."""
    journal = filled(tmp_path)
    acknowledge(tmp_path, journal, journal._current.index)
    free(tmp_path, 0, 0, NOW)
    assert indices(tmp_path, journal) == [journal._current.index]
    assert has_writer(journal_path(tmp_path, journal))
    assert journal.append(b"goes on") is None
    journal.close()


def test_a_living_journal_without_segments_is_not_removed(tmp_path: Path) -> None:
    """Its writer may make another one."""
    journal = filled(tmp_path)
    acknowledge(tmp_path, journal, APPLIED_ENTIRELY)
    assert free(tmp_path, 0, 0, NOW).journals == 0
    assert journal_path(tmp_path, journal).is_dir()
    journal.close()


def test_a_dead_journal_goes_with_its_last_segment(tmp_path: Path) -> None:
    """With what consumers noted of it; a replay will name it."""
    disk = FaultyFilesystem()
    journal = filled(tmp_path, disk)
    disk.die()
    acknowledge(tmp_path, journal, APPLIED_ENTIRELY)
    acknowledge(tmp_path, journal, APPLIED_ENTIRELY, "other")
    assert removed_journals(tmp_path) == []
    before = open_files(tmp_path)
    freed = free(tmp_path, 0, KEPT_FOR_EVER, NOW)
    assert (freed.segments, freed.journals) == (journal._current.index + 1, 1)
    assert open_files(tmp_path) == before
    assert not journal_path(tmp_path, journal).exists()
    assert not list((tmp_path / "consumers").glob("*/*"))
    assert removed_journals(tmp_path) == [journal.directory.name]
    assert (tmp_path / "removed").read_text() == f"{journal.directory.name}\n"


def test_a_removed_journal_whose_events_lie_elsewhere_is_not_noted(tmp_path: Path) -> None:
    """What was shipped to a topic is no loss, and no replay reads this directory."""
    journal = filled(tmp_path)
    journal.close()
    acknowledge(tmp_path, journal, APPLIED_ENTIRELY, "kafka")
    assert free(tmp_path, 0, 0, NOW, note_removed=False).journals == 1
    assert not journal_path(tmp_path, journal).exists()
    assert removed_journals(tmp_path) == []
    assert not (tmp_path / "removed").exists()


def test_staged_bytes_are_kept_while_a_segment_may_name_them(tmp_path: Path) -> None:
    """A segment that is left was made before, or within the hour: whatever is older is named by none."""
    disk = FaultyFilesystem()
    journal = make_journal(tmp_path, disk)
    journal.append(b"x")
    made = journal_path(tmp_path, journal).joinpath(segment_name(0)).stat().st_mtime
    kept = stage(tmp_path, "aa11", made - 3_000)
    gone = stage(tmp_path, "bb22", made - 4_000)
    rest = stage(tmp_path, "tmp", made - 4_000)
    (tmp_path / "staging" / "a file").write_text("")
    acknowledge(tmp_path, journal, 0)
    freed = free(tmp_path, 10 * DAY, KEPT_FOR_EVER, made + 2 * DAY)
    assert freed == Freed(0, 0, 2, 10)
    assert kept.exists()
    assert not gone.exists()
    assert not rest.exists()
    disk.die()
    acknowledge(tmp_path, journal, APPLIED_ENTIRELY)
    assert free(tmp_path, 0, 0, made + 2 * DAY).staged == 1


@pytest.mark.parametrize("header", [b"\xff" * 64, b""])
def test_a_segment_that_does_not_say_when_it_was_made_keeps_all_staged_bytes(tmp_path: Path, header: bytes) -> None:
    """Its events are still read, and may name any of them."""
    journal = filled(tmp_path)
    journal.close()
    path = journal_path(tmp_path, journal) / segment_name(0)
    path.write_bytes(header + path.read_bytes()[len(header) :] if header else b"")
    staged = stage(tmp_path, "aa11", 1.0)
    acknowledge(tmp_path, journal, 0)
    assert free(tmp_path, 0, 0, NOW) == NOTHING
    assert staged.exists()


def test_no_segment_can_come_back_after_a_power_cut_without_the_bytes_that_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its removal is on the disk before they go."""
    journal, dead = filled(tmp_path), filled(tmp_path)
    dead.close()
    for one in (journal, dead):
        acknowledge(tmp_path, one, APPLIED_ENTIRELY)
    path = stage(tmp_path, "abc", NOW - DAY)
    synced = {}
    monkeypatch.setattr(retention, "sync_directory", lambda place: synced.update({place: path.exists()}))
    assert free(tmp_path, 0.0, 0, NOW, note_removed=False).staged == 1
    assert synced == {tmp_path / "journals": True, journal_path(tmp_path, journal): True}


def test_without_any_segment_staged_bytes_are_kept_for_an_hour(tmp_path: Path) -> None:
    """The event that names them may be on its way."""
    (tmp_path / "consumers" / "store").mkdir(parents=True)
    stage(tmp_path, "aa11", NOW - 3_000)
    stage(tmp_path, "bb22", NOW - 4_000)
    assert free(tmp_path, 0, 0, NOW).staged == 1


def test_what_was_killed_while_it_was_made_is_removed_after_an_hour(tmp_path: Path) -> None:
    """But not while its process lives."""
    (tmp_path / "consumers" / "store").mkdir(parents=True)
    for name in ("dead", "young", "living"):
        directory = tmp_path / "journals" / f"{name}.new"
        directory.mkdir(parents=True)
        (directory / "lock").write_text("")
        os.utime(directory, (NOW - 4_000, NOW - (0 if name == "young" else 4_000)))
    disk = FaultyFilesystem()
    disk.lock(tmp_path / "journals" / "living.new" / "lock")
    free(tmp_path, 0, 0, NOW)
    assert {path.name for path in (tmp_path / "journals").iterdir()} == {"young.new", "living.new"}
    disk.die()
    free(tmp_path, 0, 0, NOW)
    assert {path.name for path in (tmp_path / "journals").iterdir()} == {"young.new"}


def test_two_sinks_may_free_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the other one has removed is no error."""
    journal = filled(tmp_path)
    acknowledge(tmp_path, journal, 4)
    stage(tmp_path, "aa11", 1.0)
    real = retention.segment_indices
    path = journal_path(tmp_path, journal)

    def indices_before_the_other_freed(directory: Path) -> list[int]:
        found = real(directory)
        if others := [index for index in found if index in {0, 3}]:
            (path / segment_name(others[0])).unlink()
        return found

    monkeypatch.setattr(retention, "segment_indices", indices_before_the_other_freed)
    free(tmp_path, 0, 0, NOW)
    monkeypatch.undo()
    assert real(path)[0] >= 4
    journal.close()


def test_an_empty_queue_has_nothing_to_free(tmp_path: Path) -> None:
    """A sink may start before the first producer."""
    (tmp_path / "consumers" / "store").mkdir(parents=True)
    assert free(tmp_path, 0, 0) == NOTHING


def test_a_journal_that_a_killed_sink_left_empty_counts_as_removed_and_goes(tmp_path: Path) -> None:
    """The sink freed its last segment, and did not come to removing the rest."""
    journal = filled(tmp_path)
    journal.close()
    acknowledge(tmp_path, journal, APPLIED_ENTIRELY)
    for index in indices(tmp_path, journal):
        (journal_path(tmp_path, journal) / segment_name(index)).unlink()
    assert removed_journals(tmp_path) == [journal.directory.name]
    free(tmp_path, max_age=0, max_bytes=0)
    assert not journal_path(tmp_path, journal).exists()
    assert removed_journals(tmp_path) == [journal.directory.name]
