"""Directories whose names survive a power cut."""

import itertools
from pathlib import Path

import pytest

from runstream_schemas import directories
from runstream_schemas.directories import make_durable


class _DiedError(Exception):
    """The process ends here."""


@pytest.mark.parametrize("syncs", range(4))
def test_who_comes_after_a_process_that_died_while_it_made_directories_finishes_its_work(
    syncs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever that died: each name on the way is synced once it stands, by the one or by the other."""
    left = itertools.repeat(None, syncs)
    durable: set[str] = set()

    def sync(path: Path) -> None:
        if next(left, 0) == 0:
            raise _DiedError
        durable.update(str(one) for one in path.iterdir())

    monkeypatch.setattr(directories, "sync_directory", sync)
    place = tmp_path / "a" / "b" / "c"
    if syncs < 4:
        with pytest.raises(_DiedError):
            make_durable(place)
    left = itertools.repeat(None)
    make_durable(place)
    assert durable >= {str(place), str(place.parent), str(place.parent.parent)}


def test_a_directory_that_nobody_else_may_look_into_can_hold_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies above the first directory that is missing need not be readable."""
    real = directories.sync_directory

    def sync(path: Path) -> None:
        if path == tmp_path.parent:
            raise PermissionError
        real(path)

    monkeypatch.setattr(directories, "sync_directory", sync)
    make_durable(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
