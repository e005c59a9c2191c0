"""What becomes of files that are being copied when the process ends, seen from within."""

import os
import time
from pathlib import Path

import pytest

from runstream import background
from runstream.artifacts import Staging
from runstream.background import BackgroundCopies, LargeFile
from support.large_files import CONTENT, held
from support.open_files import open_files

ORIGIN = ("0" * 32, 0, 0)


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> BackgroundCopies:
    """Nothing is cloned, and nothing must be emitted."""
    monkeypatch.setattr(background, "clone", lambda source, target: False)
    return BackgroundCopies(lambda event: pytest.fail(f"emitted {event}"))


def large_file(directory: Path, name: str = "file") -> LargeFile:
    """A file to copy."""
    path = directory / name
    path.write_bytes(CONTENT)
    return LargeFile(Staging(directory / "staging"), os.open(path, os.O_RDONLY))


def test_what_is_stopped_leaves_nothing_half_staged(
    copies: BackgroundCopies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And says nothing: the sink tells of it.  A file that comes later still is copied by its call."""
    with held(monkeypatch):
        for name in ("first", "second"):
            copies.add(large_file(tmp_path, name), "run", "path", ORIGIN)
        assert copies.unfinished == 2
        copies.stop()
        assert copies._thread is not None
        copies._thread.join(60)
        assert not copies._thread.is_alive()
    assert list((tmp_path / "staging" / "tmp").iterdir()) == []
    later: list[object] = []
    copies._emit = later.append
    copies.add(large_file(tmp_path), "run", "path", ORIGIN)
    assert [type(event).__name__ for event in later] == ["ArtifactCompleted"]


def test_a_child_lets_go_of_what_its_parent_copies_and_waits_to_copy(
    copies: BackgroundCopies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their descriptors are closed; the unfinished files stay for the parent."""
    before = open_files(tmp_path)
    with held(monkeypatch):
        files = [large_file(tmp_path, name) for name in ("first", "second")]
        opened = [descriptor for file in files for descriptor in file.descriptors]
        for file in files:
            copies.add(file, "run", "path", ORIGIN)
        while copies._current is None:  # between taking a file and saying so there is nothing to see
            time.sleep(0.001)
        child = os.fork()
        if not child:
            copies.abandon()
            os._exit(any(os.path.exists(f"/proc/self/fd/{descriptor}") for descriptor in opened))  # noqa: PTH110
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert len(list((tmp_path / "staging" / "tmp").iterdir())) == 2
        copies.stop()
        assert copies._thread is not None
        copies._thread.join(60)
    assert open_files(tmp_path) == before
