"""The client's side of shipping, without a broker: one shipper is started, looked after, and tells why it waits."""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runstream.shipping import launch
from runstream.shipping.launch import Launcher
from runstream.shipping.leader import ask_to_yield, asked_to_yield, is_led, is_starting, leading
from runstream.shipping.shipments import Shipments
from support.journals import make_journal
from support.queues import dead_journal
from support.shipping import JournalDir, journals_for
from support.waiting import until

pytestmark = pytest.mark.slow

NOBODY = "kafka://127.0.0.1:1/topic"
TIMEOUT = 60


@pytest.fixture
def journals(tmp_path: Path) -> Iterator[JournalDir]:
    """The journal directory of a stream whose broker is never there."""
    with journals_for(tmp_path / "journals", NOBODY) as one:
        one.path.mkdir()
        yield one


def _launcher(journals: JournalDir, **options: object) -> Launcher:
    arguments = {"kafka_username": None, "policy": "drop"}
    return Launcher(journals.path, journals.stream, arguments, **options)  # type: ignore[arg-type]


async def test_a_shipper_is_started_detached_and_tells_why_it_waits(
    journals: JournalDir, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is no child of this process; its error is told once."""
    dead_journal(journals.path, 1, b"event")
    launcher = _launcher(journals)
    launcher.begin()
    await until(journals.has_shipper, TIMEOUT)

    def told() -> bool:
        launcher._due = 0
        launcher.look()
        return "no broker" in launcher.error

    await until(told, TIMEOUT)
    assert told()
    assert capfd.readouterr().err.count("events are not shipped now") == 1
    assert launcher._shells == []
    assert os.getsid(journals.status.pid) != os.getsid(0)
    assert b"RUNSTREAM_POLICY=drop" in _environment_of(journals.status.pid)


def _environment_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


async def test_one_that_was_killed_is_replaced(journals: JournalDir) -> None:
    """When the thread of the client looks again."""
    dead_journal(journals.path, 1, b"event")
    launcher = _launcher(journals)
    launcher.begin()
    await until(journals.has_shipper, TIMEOUT)
    first = journals.status.pid
    os.kill(first, signal.SIGKILL)

    def replaced() -> bool:
        launcher.look()
        return journals.has_shipper() and journals.status.pid != first

    await until(replaced, TIMEOUT)
    launcher.end()


async def test_one_that_waits_is_asked_to_make_way(journals: JournalDir) -> None:
    """By a program that begins; at its end that program has started another one."""
    dead_journal(journals.path, 1, b"event")
    _launcher(journals).begin()
    await until(lambda: journals.has_shipper() and journals.status.state == "waiting", TIMEOUT)
    first = journals.status.pid
    second = _launcher(journals)
    second.begin()
    second.end()
    await until(lambda: journals.has_shipper() and journals.status.pid != first, TIMEOUT)


def test_nothing_is_started_where_somebody_else_ships(journals: JournalDir) -> None:
    """Where one leads, where one is being started, and where the shipper is external."""
    with leading(journals.path):
        _launcher(journals).begin()
    assert not is_starting(journals.path)
    external = _launcher(journals, starts=False)
    external.begin()
    external.look()
    external.end()
    assert not is_starting(journals.path)
    assert external.error == ""


def test_a_missing_library_is_told(
    journals: JournalDir, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """With the extra that brings it; events stay in the journal."""
    monkeypatch.setattr(launch, "find_spec", lambda _: None)
    launcher = _launcher(journals)
    launcher.begin()
    launcher._due = 0
    launcher.look()
    assert "pip install 'runstream[kafka]'" in launcher.error
    assert capfd.readouterr().err.count("runstream[kafka]") == 1
    assert not is_led(journals.path)


def test_a_trouble_whose_words_change_is_told_once_in_a_while(
    journals: JournalDir, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The newest words are in the statistics at once; a warning about others comes a minute later."""
    launcher = _launcher(journals, starts=False)
    for node in range(5):
        launcher.error = f"node {node} is away"
        launcher._tell()
    assert capfd.readouterr().err.count("is away") == 1
    monkeypatch.setattr(launch, "_WARN_INTERVAL", 0)
    launcher._tell()
    launcher._tell()
    assert capfd.readouterr().err.count("node 4 is away") == 1


def test_a_shipper_that_cannot_be_started_does_not_disturb(
    journals: JournalDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an interpreter of its own, say in a program that has Python inside."""
    monkeypatch.setattr(sys, "executable", "/usr/sbin/uwsgi")
    monkeypatch.setattr(sys, "prefix", "/nowhere")
    launcher = _launcher(journals)
    launcher.begin()
    assert "runstream ship" in launcher.error


async def test_a_shipper_is_started_without_a_shell(journals: JournalDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """And on a C library that does not begin sessions: it does that itself, and is waited for."""
    dead_journal(journals.path, 1, b"event")
    monkeypatch.setattr(launch, "_SHELL", "/nowhere/sh")
    monkeypatch.setattr(launch, "_REAP", 0.01)
    spawn = os.posix_spawn

    def old(*arguments: object, setsid: bool = False, **options: object) -> int:
        if setsid:
            raise NotImplementedError
        return spawn(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "posix_spawn", old)
    launcher = _launcher(journals)
    launcher.begin()
    launcher.end()
    await until(journals.has_shipper, TIMEOUT)
    assert os.getsid(journals.status.pid) == journals.status.pid
    journals.kill()

    def reaped() -> bool:
        launcher._reap()
        return not launcher._shells

    await until(reaped, TIMEOUT)


def test_a_shell_that_the_program_has_waited_for_is_none_of_ours(
    journals: JournalDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program may wait for whatever child it has."""
    launcher = _launcher(journals, starts=False)
    launcher._shells.append(2**22)
    launcher.look()
    assert launcher._shells == []


def test_only_who_waits_answers_a_request(journals: JournalDir) -> None:
    """Once."""
    assert not asked_to_yield(journals.path)
    ask_to_yield(journals.path)
    assert asked_to_yield(journals.path)
    assert not asked_to_yield(journals.path)


def test_a_directory_that_cannot_be_looked_at_has_no_leader(
    journals: JournalDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing raises: a shipper is tried."""

    def refuse(_: Path) -> bool:
        raise PermissionError

    monkeypatch.setattr(launch, "is_led", refuse)
    assert not _launcher(journals)._leads()


def test_shipments_count_journals_open_closed_freed_and_lost(tmp_path: Path) -> None:
    """What the brokers have of them, and when they have all."""
    shipments = Shipments()
    first, second, third = (make_journal(tmp_path) for _ in range(3))
    for journal in (first, second, third):
        shipments.add(tmp_path, journal)
        journal.append(b"1")
        journal.append(b"2")
    assert shipments.shipped == 0
    assert not shipments.wait(0)
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    (shipped / first.directory.name).write_text("0:4096:1:0")
    assert shipments.shipped == 1
    third.close()
    shipments.settle(third, lost=True)
    first.close()
    shipments.settle(first)
    (shipped / first.directory.name).write_text("0:4096:2:1")
    (shipped / second.directory.name).write_text("0:4096:2:0")
    assert shipments.shipped == 4
    assert shipments.wait(0)
    second.append(b"3")
    assert not shipments.wait(0.02)
    second.close()
    shipments.settle(second)
    (shipped / second.directory.name).unlink()
    for path in second.directory.path.iterdir():
        path.unlink()
    second.directory.path.rmdir()
    assert shipments.shipped == 5
    assert shipments.wait(0)


async def test_a_program_logs_at_full_speed_without_a_broker(journals: JournalDir) -> None:
    """`flush` says that nothing is shipped; the program ends soon, in every way that processes begin."""
    code = """
        import os, runstream
        runstream.configure(policy="block", block_timeout=1)
        runstream.start_run()
        for step in range(1000):
            runstream.log_metric("m", step)
        child = os.fork()
        if not child:
            runstream.log_metric("m", 1)
            assert runstream.flush(0) is False
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert runstream.flush(0.01) is False
        stats = runstream.stats()
        assert stats["shipped"] == 0 and stats["accepted"] >= 1001, stats
        runstream.configure(stream="queue:" + os.getcwd() + "/queue")
        runstream.log_metric("m", 1, run_id="0" * 32)
        assert runstream.stats()["shipped"] is None
    """
    await asyncio.to_thread(journals.run, code)
    await until(journals.has_shipper, TIMEOUT)
    assert journals.log().count("shipping begins") == 1
