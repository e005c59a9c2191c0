"""The shipper as a process: who leads, what it says, how it ends; and `runstream ship`.  No broker is needed."""

import asyncio
import json
import logging
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from runstream.cli import main as run_command
from runstream.shipping import process
from runstream.shipping.cli import main as ship
from runstream.shipping.leader import (
    Status,
    StatusFile,
    ask_to_yield,
    is_led,
    is_starting,
    leading,
    note_start,
    read_status,
)
from runstream.shipping.progress import Progress, shipped_position
from runstream.shipping.transport import TransportError
from runstream_schemas.errors import InvalidInputError
from runstream_schemas.streams import KafkaStream, journal_directory
from support.journals import make_journal
from support.memory_topic import MemoryTopic
from support.queues import dead_journal
from support.waiting import until

NOBODY = "kafka://127.0.0.1:1/topic"


@pytest.fixture(autouse=True)
def _undisturbed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Settings of the environment, and of logging, are none of these tests' business."""
    for name in list(os.environ):
        if name.startswith("RUNSTREAM_"):
            monkeypatch.delenv(name)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def _directory(tmp_path: Path) -> Path:
    return journal_directory(KafkaStream(("127.0.0.1:1",), "topic"), tmp_path)


def test_one_process_leads_a_directory(tmp_path: Path) -> None:
    """A second one does not, and everybody can tell; the lock goes with its holder."""
    assert not is_led(tmp_path / "missing")
    with leading(tmp_path / "made") as first, leading(tmp_path / "made") as second:
        assert (first, second) == (True, False)
        assert is_led(tmp_path / "made")
    assert not is_led(tmp_path / "made")


def test_a_shipper_is_starting_until_it_leads(tmp_path: Path) -> None:
    """Or until it should long have come to that."""
    assert not is_starting(tmp_path)
    note_start(tmp_path)
    assert is_starting(tmp_path)
    with leading(tmp_path):
        assert not is_starting(tmp_path)
    note_start(tmp_path)
    os.utime(tmp_path / "shipper.starting", (0, 0))
    assert not is_starting(tmp_path)


def test_the_status_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """A new state is there at once; a mere count once in a while; nonsense is no status."""
    assert read_status(tmp_path) is None
    file = StatusFile(tmp_path)
    file.tell("shipping", "", 1)
    first = read_status(tmp_path)
    assert first == Status(os.getpid(), "shipping", "", 1, first.since if first else 0)
    file.tell("shipping", "", 2)
    assert read_status(tmp_path) == first
    file.end("why")
    last = read_status(tmp_path)
    assert last is not None
    assert (last.state, last.error, last.shipped) == ("ended", "why", 2)
    (tmp_path / "shipper.json").write_text("{")
    assert read_status(tmp_path) is None


def test_positions_are_read_again_and_those_of_removed_journals_go(tmp_path: Path) -> None:
    """What is no position is none."""
    journal = make_journal(tmp_path)
    name = journal.directory.name
    progress = Progress(tmp_path)
    progress.load()
    progress.advance({name: "0:4096:1:0", "f" * 32: "0:4096:1:1"})
    progress.advance({name: "0:4104:2:0"})
    assert progress.behind
    progress.write(everything=True)
    assert not progress.behind
    (tmp_path / "shipped" / "nonsense").write_bytes(b"\xff")
    (tmp_path / "shipped" / "empty").touch()
    again = Progress(tmp_path)
    again.load()
    assert again.positions == {name: "0:4104:2:0", "f" * 32: "0:4096:1:1"}
    again.forget_removed()
    assert again.positions == {name: "0:4104:2:0"}
    assert shipped_position(tmp_path, "f" * 32) is None
    assert shipped_position(tmp_path, "nonsense") is shipped_position(tmp_path, "empty") is None
    journal.close()


async def test_a_leader_says_what_it_does(tmp_path: Path) -> None:
    """In its status file; it has ended by itself when nothing was left."""
    dead_journal(tmp_path, 1, b"event")
    topic = MemoryTopic()
    topic.refusals = [TransportError("no broker is there", may_retry=True)]
    with structlog.testing.capture_logs() as lines:
        assert await process.lead(tmp_path, topic, idle=0.05)
    assert [line["event"] for line in lines] == ["shipping waits", "connected", "shipping ends"]
    status = read_status(tmp_path)
    assert status is not None
    assert (status.pid, status.state, status.error, status.shipped) == (os.getpid(), "ended", "", 1)


async def test_a_leader_tells_once_in_a_while_how_much_was_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that somebody who watches sees it move."""
    monkeypatch.setattr(process, "_PROGRESS", 0)
    dead_journal(tmp_path, 1, b"event")
    with structlog.testing.capture_logs() as lines:
        await process.lead(tmp_path, MemoryTopic(), once=True)
    assert {"event": "shipped", "events": 1, "log_level": "info"} in lines


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_a_leader_in_order(tmp_path: Path, number: signal.Signals) -> None:
    """It has not ended by itself then."""
    journal = make_journal(tmp_path)
    topic = MemoryTopic()
    running = asyncio.create_task(process.lead(tmp_path, topic))
    journal.append(b"event")
    await until(lambda: topic.values, 60)
    os.kill(os.getpid(), number)
    assert not await asyncio.wait_for(running, 60)
    journal.close()


async def test_a_leader_that_waits_makes_way_when_it_is_asked(tmp_path: Path) -> None:
    """What it could not ship stays, and the reason is there to be read."""
    dead_journal(tmp_path, 1, b"event")
    topic = MemoryTopic()
    topic.refusals = [TransportError("wrong password", may_retry=False)]
    running = asyncio.create_task(process.lead(tmp_path, topic, yields=True))
    await until(lambda: topic.opened, 60)
    ask_to_yield(tmp_path)
    assert not await asyncio.wait_for(running, 60)
    status = read_status(tmp_path)
    assert status is not None
    assert (status.state, status.error) == ("ended", "wrong password")


async def test_a_leader_ends_when_its_directory_is_removed(tmp_path: Path) -> None:
    """Also while no broker can be had: nobody will ever log there again, and whoever makes it anew starts another."""
    directory = tmp_path / "journals-of-a-topic"
    topic = MemoryTopic()
    topic.refusals = [TransportError("no broker is there", may_retry=True)] * 1_000
    with leading(directory):
        dead_journal(directory, 1, b"event")
        running = asyncio.create_task(process.lead(directory, topic))
        await until(lambda: topic.opened, 60)
        shutil.rmtree(directory)
        assert not await asyncio.wait_for(running, 60)


async def test_a_leader_that_gives_up_leaves_the_reason(tmp_path: Path) -> None:
    """In the status file, and raises it."""
    topic = MemoryTopic()
    topic.refusals = [TransportError("wrong password", may_retry=False)]
    with pytest.raises(TransportError):
        await process.lead(tmp_path, topic, once=True)
    status = read_status(tmp_path)
    assert status is not None
    assert status.error == "wrong password"


def test_the_process_ends_where_another_one_leads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, and well; it writes nothing."""
    monkeypatch.setenv("RUNSTREAM_STREAM", NOBODY)
    monkeypatch.setenv("RUNSTREAM_JOURNAL_DIR", str(tmp_path))
    with leading(_directory(tmp_path)):
        assert process.main() == 0
    assert not (_directory(tmp_path) / "shipper.log").exists()


def test_the_process_ends_with_nothing_to_ship(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though no broker is there; its log is JSON, a line each."""
    monkeypatch.setenv("RUNSTREAM_STREAM", NOBODY)
    monkeypatch.setenv("RUNSTREAM_JOURNAL_DIR", str(tmp_path))
    monkeypatch.setenv(process.IDLE_VARIABLE, "0")
    assert process.main() == 0
    lines = (_directory(tmp_path) / "shipper.log").read_text().splitlines()
    assert "shipping begins" in {json.loads(line)["event"] for line in lines}


def test_the_process_goes_on_when_somebody_came_at_the_last_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A journal that is there when the lead has ended is shipped, and not left to nobody."""
    monkeypatch.setenv("RUNSTREAM_STREAM", NOBODY)
    monkeypatch.setenv("RUNSTREAM_JOURNAL_DIR", str(tmp_path))
    led: list[Path] = []

    async def lead(_: object, directory: Path, idle: float) -> bool:
        led.append(directory)
        if len(led) == 1:
            dead_journal(directory, 1, b"event")
            return True
        return False

    monkeypatch.setattr(process, "_lead_to_kafka", lead)
    assert process.main() == 0
    assert led == [_directory(tmp_path)] * 2


def test_an_error_of_our_own_is_in_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its traceback: nobody sees the standard error of such a process."""
    monkeypatch.setenv("RUNSTREAM_STREAM", NOBODY)
    monkeypatch.setenv("RUNSTREAM_JOURNAL_DIR", str(tmp_path))

    async def fail(*_: object, **__: object) -> bool:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(process, "lead", fail)
    with pytest.raises(RuntimeError):
        process.main()
    assert "RuntimeError: a mistake" in (_directory(tmp_path) / "shipper.log").read_text()


def test_the_log_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One old file is kept."""
    monkeypatch.setattr(process, "_LOG_SIZE", 2_000)
    handler = process._file(tmp_path)
    process.log_to(handler)
    log = structlog.get_logger("runstream.shipping")
    for number in range(200):
        log.info("line", number=number)
    logging.getLogger("aiokafka").info("a payload")
    handler.close()
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["shipper.log", "shipper.log.1"]
    assert all(path.stat().st_size <= 2_000 for path in tmp_path.iterdir())
    assert "a payload" not in "".join(path.read_text() for path in tmp_path.iterdir())


def test_ship_says_what_it_does_and_needs(capfd: pytest.CaptureFixture[str]) -> None:
    """Its help, and its line among the commands."""
    assert ship(["ship", "--help"]) == 0
    assert "--once" in capfd.readouterr().out
    assert run_command(["--help"]) == 0
    assert "Ship what programs have journaled" in capfd.readouterr().out
    assert "--journal-dir DIR" in ship.reference


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--stream", "queue:somewhere"], 2, "none in Kafka"),
        (["--stream", "nonsense"], 2, "of no kind"),
        (["--unknown"], 2, "unrecognized"),
        (["--timeout", "-1"], 2, "invalid"),
        (["--stream", NOBODY, "--once", "--timeout", "0"], 3, "no broker"),
    ],
)
def test_ship_refuses_what_it_cannot_do(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    """With the exit codes of all commands."""
    assert ship(["ship", "--journal-dir", str(tmp_path), *arguments]) == code
    assert message in capfd.readouterr().err


def test_ship_once_waits_for_the_one_that_leads(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """As long as it is to wait; then it says who is at work."""
    with leading(_directory(tmp_path)):
        arguments = ["ship", "--stream", NOBODY, "--journal-dir", str(tmp_path), "--once", "--timeout", "0.01"]
        assert ship(arguments) == 3
    assert "another shipper is at work" in capfd.readouterr().err


def test_ship_names_a_library_that_is_missing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """And the extra that brings it."""

    def fail(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'aiokafka'", name="aiokafka")

    monkeypatch.setattr("runstream.shipping.process.resolve", fail)
    assert ship(["ship"]) == 3
    assert "pip install 'runstream[kafka]'" in capfd.readouterr().err


def test_only_a_stream_in_kafka_can_be_shipped() -> None:
    """A queue is read where it lies."""
    with pytest.raises(InvalidInputError, match="need not be shipped"):
        process.resolve("queue:somewhere")
