"""Large files are copied in the background: whole and as they were at the call, or reported as lost."""

import hashlib
import io
import os
import threading
import time
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

import runstream
from runstream import background
from runstream.artifacts import Staged
from runstream.client import client
from runstream_schemas import events as ev
from runstream_schemas.errors import EnvironmentUnavailableError
from runstream_sink import query
from runstream_sink.apply import apply
from support.large_files import CONTENT, held, letters, unfinished
from support.open_files import open_files
from support.pipeline import Pipeline, run_program
from support.stores import batch


@pytest.fixture(autouse=True)
def little_is_large(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """From 1 MiB on; on a file system that clones as on one that does not, bytes are copied."""
    runstream.configure(background_size="1MiB")
    monkeypatch.setattr(background, "clone", lambda source, target: False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A large file."""
    path = tmp_path / "model.bin"
    path.write_bytes(CONTENT)
    return path


def test_a_large_file_is_stored_when_flush_has_returned(pipeline: Pipeline, file: Path) -> None:
    """The call leaves an intent; what follows completes it as of the time of the call."""
    with runstream.start_run() as run:
        runstream.log_artifact(file, "models")
        assert runstream.flush(60)
    assert runstream.stats()["copying"] == 0
    runstream.close()
    pending, completed = [event for event in pipeline.events() if "model.bin" in repr(event)]
    assert pending == ev.ArtifactPending(run.run_id, "models/model.bin", len(CONTENT))
    assert isinstance(completed, ev.ArtifactCompleted)
    assert completed.sha256 == hashlib.sha256(CONTENT).hexdigest()
    pipeline.drain()
    assert pipeline.artifact(run.run_id, "models/model.bin") == CONTENT
    assert letters(pipeline) == []
    assert unfinished(pipeline) == []
    assert pipeline.replay("fresh")[0] == pipeline.digest()


def test_a_small_file_is_stored_by_the_call(pipeline: Pipeline, tmp_path: Path) -> None:
    """No thread, no intent; in a directory of both kinds each goes its way."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "large.bin").write_bytes(CONTENT)
    (tmp_path / "d" / "small.bin").write_bytes(b"small")
    with runstream.start_run() as run:
        runstream.log_artifact(tmp_path / "d")
    runstream.close()
    kinds = [type(event) for event in pipeline.events() if "d/small" in repr(event)]
    assert kinds == [ev.ArtifactLogged]
    pipeline.drain()
    assert pipeline.artifact(run.run_id, "d/large.bin") == CONTENT
    assert pipeline.artifact(run.run_id, "d/small.bin") == b"small"


@pytest.mark.parametrize("gone", [Path.unlink, lambda path: path.rename(path.with_name("other"))], ids=["rm", "mv"])
def test_a_file_may_be_removed_or_renamed_meanwhile(
    pipeline: Pipeline, file: Path, monkeypatch: pytest.MonkeyPatch, gone: Callable[[Path], Any]
) -> None:
    """Its bytes are read from the descriptor that was opened at the call."""
    with held(monkeypatch) as gate, runstream.start_run() as run:
        runstream.log_artifact(file)
        gone(file)
        file.write_bytes(b"another file of that name")
        assert not runstream.flush(0.01)
        gate.set()
        assert runstream.flush(60)
    pipeline.drain()
    assert pipeline.artifact(run.run_id, "model.bin") == CONTENT


def overwrite(path: Path) -> None:
    """Change one byte in place."""
    with path.open("r+b") as stream:
        stream.write(b"!")


def cut(path: Path) -> None:
    """Make it shorter."""
    os.truncate(path, 5)


def extend(path: Path) -> None:
    """Make it longer."""
    with path.open("ab") as stream:
        stream.write(b"more")


@pytest.mark.parametrize("change", [overwrite, cut, extend], ids=["overwrite", "cut", "extend"])
@pytest.mark.parametrize("before", [True, False], ids=["before", "during"])
def test_a_file_that_is_changed_meanwhile_is_reported_as_lost(
    pipeline: Pipeline, file: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None], before: bool
) -> None:
    """Never stored as a mixture: in the statistics, in the log, and as a dead letter."""
    lost = runstream.stats()["lost_files"]
    with capture_logs() as logs, held(monkeypatch, before=before) as gate, runstream.start_run() as run:
        runstream.log_artifact(file)
        change(file)
        gate.set()
        assert runstream.flush(60)
    assert runstream.stats()["lost_files"] == lost + 1
    (line,) = logs
    assert (line["event"], line["reason"], line["path"]) == ("an artifact is lost", "changed", "model.bin")
    pipeline.drain()
    assert pipeline.ask(query.list_artifacts, run.run_id) == []
    ((reason, detail),) = letters(pipeline)
    assert reason == "artifact_changed"
    assert "model.bin" in detail
    assert unfinished(pipeline) == []
    assert list((pipeline.queue / "staging").glob("??/*")) == []


def test_a_loss_is_written_to_standard_error_unless_the_program_has_its_own_logging(
    pipeline: Pipeline, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Standard output belongs to the program."""
    structlog.reset_defaults()
    with redirect_stderr(io.StringIO()) as errors, held(monkeypatch) as gate, runstream.start_run():
        runstream.log_artifact(file)
        overwrite(file)
        gate.set()
        assert runstream.flush(60)
    assert "an artifact is lost" in errors.getvalue()


def test_a_change_right_before_the_call_and_right_after_it_are_told_apart(
    pipeline: Pipeline, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the clock of modification times ticks slowly."""
    with held(monkeypatch) as gate, runstream.start_run() as run:
        overwrite(file)
        runstream.log_artifact(file, "kept")
        runstream.log_artifact(file, "lost")
        gate.set()
        assert runstream.flush(60)
        gate.clear()
        overwrite(file)
        runstream.log_artifact(file, "last")
        extend(file)
        gate.set()
        assert runstream.flush(60)
    pipeline.drain()
    assert {held.path for held in pipeline.ask(query.list_artifacts, run.run_id)} == {
        "kept/model.bin",
        "lost/model.bin",
    }


def test_what_is_logged_later_at_a_path_wins_though_it_is_there_earlier(
    pipeline: Pipeline, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is being copied competes as of the time of its call."""
    with held(monkeypatch) as gate, runstream.start_run() as run:
        runstream.log_artifact(file)
        runstream.log_text("later", "model.bin")
        gate.set()
    assert runstream.flush(60)
    pipeline.drain()
    assert pipeline.artifact(run.run_id, "model.bin") == b"later"
    assert letters(pipeline) == []


def test_what_is_being_copied_shows_as_pending_until_it_is_there(
    pipeline: Pipeline, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same letter is what remains of a file whose process was killed; a retry changes nothing about that."""
    with held(monkeypatch) as gate, runstream.start_run() as run:
        runstream.log_artifact(file)
        assert runstream.stats()["copying"] == 1
        pipeline.drain()
        ((reason, detail),) = letters(pipeline)
        assert reason == "artifact_pending"
        assert f"{len(CONTENT)} bytes" in detail
        gate.set()
        assert runstream.flush(60)
    pipeline.drain()
    assert letters(pipeline) == []
    assert pipeline.artifact(run.run_id, "model.bin") == CONTENT


def test_an_end_that_is_read_before_its_beginning_is_an_end_all_the_same(
    pipeline: Pipeline, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another journal, which may be read first, may hold it: the settings have changed meanwhile."""
    with held(monkeypatch) as gate, runstream.start_run() as run:
        monkeypatch.setattr("runstream.client._COPY_TIMEOUT", 0.01)
        runstream.log_artifact(file)
        runstream.close()
        gate.set()
        assert client.copies().wait(60)
    journals = pipeline.queue / "journals"
    runstream.close()
    first = min(journals.iterdir(), key=lambda path: path.stat().st_ctime)
    aside = first.rename(pipeline.root / first.name)
    pipeline.drain()
    aside.rename(first)
    pipeline.drain()
    assert pipeline.artifact(run.run_id, "model.bin") == CONTENT
    assert letters(pipeline) == []


def test_a_file_that_cannot_be_copied_is_lost_and_says_why(
    pipeline: Pipeline, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fails or is full meanwhile."""

    def fail(source: int, target: int | None, check: Callable[[], None]) -> Staged:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(background, "copy", fail)
    with capture_logs(), runstream.start_run():
        runstream.log_artifact(file)
        assert runstream.flush(60)
    pipeline.drain()
    ((reason, detail),) = letters(pipeline)
    assert (reason, "No space left" in detail) == ("artifact_unreadable", True)


def test_a_file_whose_intent_is_dropped_is_dropped_and_counted(pipeline: Pipeline, file: Path) -> None:
    """As any event at the quota; no descriptor is left open."""
    runstream.configure(journal_quota="256KiB", segment_size="64KiB")
    with runstream.start_run():
        for before in (runstream.stats()["dropped"]["quota"] for _ in range(2)):  # one more may just be in the making
            while runstream.stats()["dropped"]["quota"] == before:
                runstream.set_tag("t", 1)
            runstream.flush()
        counted = runstream.stats()["dropped"]["quota"]
        opened = open_files(file, pipeline.queue / "staging")
        runstream.log_artifact(file)
        assert runstream.stats()["dropped"]["quota"] == counted + 1
        assert open_files(file, pipeline.queue / "staging") == opened
    assert unfinished(pipeline) == []


def test_more_files_than_may_wait_are_copied_by_their_calls(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that descriptors do not run out."""
    monkeypatch.setattr(background, "_MOST_WAITING", 1)
    paths = [tmp_path / f"{number}.bin" for number in range(4)]
    for path in paths:
        path.write_bytes(CONTENT)
    with runstream.start_run() as run:
        for path in paths:
            runstream.log_artifact(path)
    assert runstream.flush(60)
    pipeline.drain()
    assert len(pipeline.ask(query.list_artifacts, run.run_id)) == 4
    assert letters(pipeline) == []


def test_where_no_thread_can_be_started_the_call_copies(
    pipeline: Pipeline, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the interpreter's end."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with runstream.start_run() as run:
        run.log_param("p", 1)
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            patched.setattr(client, "_copies", None)
            runstream.log_artifact(file)
    pipeline.drain()
    assert pipeline.artifact(run.run_id, "model.bin") == CONTENT


def test_where_the_file_system_clones_a_change_does_no_harm(
    pipeline: Pipeline, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clone is made by the call, and hashed later."""

    def clone(source: int, target: int) -> bool:
        os.pwrite(target, os.pread(source, 1 << 30, 0), 0)  # what the ioctl does, where the file system can
        return True

    monkeypatch.setattr(background, "clone", clone)
    with held(monkeypatch) as gate, runstream.start_run() as run:
        runstream.log_artifact(file)
        overwrite(file)
        gate.set()
        assert runstream.flush(60)
    pipeline.drain()
    assert pipeline.artifact(run.run_id, "model.bin") == CONTENT


def test_a_staging_directory_that_takes_nothing_raises(pipeline: Pipeline, file: Path) -> None:
    """As for small files; nothing is announced that will not come, and no descriptor is left open."""
    with runstream.start_run():
        runstream.log_param("p", 1)
        (pipeline.queue / "staging").write_text("in the way")
        opened = open_files(file, pipeline.queue / "staging")
        with pytest.raises(EnvironmentUnavailableError):
            runstream.log_artifact(file)
        assert open_files(file, pipeline.queue / "staging") == opened
    runstream.close()
    assert not any(isinstance(event, ev.ArtifactPending) for event in pipeline.events())


PROGRAM = """
    import os, threading, time
    import runstream
    from runstream import background
    started = threading.Event()
    def slow(source, target, check):
        started.set()
        while True:
            check()
            time.sleep(0.01)
    background.copy = slow
    background.clone = lambda source, target: False
    run = runstream.start_run()
    runstream.log_artifact("model.bin")
    started.wait()
    END
"""


@pytest.mark.parametrize("end", ["", "os._exit(0)"], ids=["ends", "dies"])
def test_what_a_process_did_not_finish_is_reported(pipeline: Pipeline, file: Path, end: str) -> None:
    """A program that ends waits a little; then the sink says what never came."""
    begun = time.monotonic()
    done = run_program(PROGRAM.replace("END", end), pipeline, RUNSTREAM_BACKGROUND_SIZE="1MiB")
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - begun < 20
    pipeline.drain()
    ((reason, detail),) = letters(pipeline)
    assert reason == "artifact_pending"
    assert "model.bin" in detail
    assert "never came" in detail


def test_a_program_that_ends_waits_for_what_takes_less(pipeline: Pipeline, file: Path) -> None:
    """Nothing needs to be flushed by hand."""
    program = (
        'import runstream\nwith runstream.start_run() as run: runstream.log_artifact("model.bin")\nprint(run.run_id)'
    )
    done = run_program(program, pipeline, RUNSTREAM_BACKGROUND_SIZE="1MiB")
    pipeline.drain()
    assert pipeline.artifact(done.stdout.strip(), "model.bin") == CONTENT


def test_a_forked_child_leaves_the_copies_to_its_parent(
    pipeline: Pipeline, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It closes their files, and can copy its own."""
    with held(monkeypatch) as gate, runstream.start_run() as run:
        runstream.log_artifact(file, "parent")
        runstream.log_artifact(file, "parent2")
        child = os.fork()
        if not child:
            links = [os.path.realpath(path) for path in Path("/proc/self/fd").iterdir()]
            held_places = (str(file), str(pipeline.queue / "staging"))
            os._exit(sum(link.startswith(held_places) for link in links))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        gate.set()
        assert runstream.flush(60)
    pipeline.drain()
    assert len(pipeline.ask(query.list_artifacts, run.run_id)) == 2


def test_an_end_names_an_event_or_is_invalid(pipeline: Pipeline) -> None:
    """Hostile events are dead letters, and touch no other."""
    run = "0" * 32
    events = [
        ev.ArtifactCompleted(run, "p", "ab" * 32, 1, None, "xyz", 0, 0),
        ev.ArtifactCompleted(run, "p", "ab" * 32, 1, None, "0" * 32, -1, 0),
        ev.ArtifactCompleted(run, "p", "ab" * 32, 1, None, "0" * 32, 0, 1 << 63),
        ev.ArtifactFailed(run, "../p", "changed", "", "0" * 32, 0),
        ev.ArtifactFailed("x", "p", "changed", "", "0" * 32, 0),
        ev.ArtifactPending(run, "/", 1),
    ]
    changes = apply([batch(bytes(16), events)], {})
    assert [letter.reason for letter in changes.dead] == ["invalid"] * len(events)
    assert not changes.resolved
