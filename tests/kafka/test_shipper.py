"""Programs that log to a real topic: each event arrives once by its identity, whatever happens to whom meanwhile."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import ConsumerRecord

from runstream.shipping.leader import is_led
from runstream_schemas.batch import decode_batch
from runstream_schemas.chunk import decode_chunk, is_chunk
from runstream_schemas.events import ArtifactLogged, LossNotice, MetricLogged, RowsLogged, decode_event
from runstream_schemas.reader import journal_names
from support.kafka import PROXIED, KafkaCluster
from support.shipping import JournalDir, journals_for
from support.waiting import until

TIMEOUT = 60
LOG = """
    import sys
    import runstream
    runstream.start_run(run_id=sys.argv[1])
    for step in range(int(sys.argv[2])):
        runstream.log_metric("m", step, step=step)
"""
RUN = "0" * 31


@pytest.fixture
def journals(broker: KafkaCluster, topic: str, tmp_path: Path) -> Iterator[JournalDir]:
    """A journal directory for a topic of the broker."""
    with journals_for(tmp_path / "journals", broker.stream(topic)) as one:
        yield one


def events(records: list[ConsumerRecord]) -> dict[tuple[str, int], object]:
    """What a topic holds, by identity; payloads lie before what refers to them, in the same partition."""
    held: dict[tuple[int, str], bytearray] = {}
    found: dict[tuple[str, int], object] = {}
    for record in records:
        if is_chunk(record.value):
            chunk = decode_chunk(record.value)
            whole = held.setdefault((record.partition, chunk.sha256), bytearray(chunk.size))
            whole[chunk.offset : chunk.offset + len(chunk.data)] = chunk.data
            continue
        batch = decode_batch(record.value, lambda sha256, _, at=record.partition: bytes(held[at, sha256]))
        assert record.key == batch.producer_id
        for seq, _, body in batch.records:
            event = decode_event(body)
            assert found.setdefault((batch.producer_id.hex(), seq), event) == event
            if isinstance(event, ArtifactLogged):
                assert len(held[record.partition, event.sha256]) == event.size
    return found


def steps(found: dict[tuple[str, int], object], run_id: str) -> list[int]:
    """The steps of a run's metric."""
    return [event.step for event in found.values() if isinstance(event, MetricLogged) and event.run_id == run_id]


async def _run(journals: JournalDir, code: str, *arguments: str, **environment: str) -> str:
    return await asyncio.to_thread(journals.run, code, *arguments, **environment)


async def _all_shipped(journals: JournalDir) -> None:
    """Wait until nothing is left in the journal directory, and nobody."""
    await until(lambda: not journal_names(journals.path / "journals") and not journals.has_shipper(), TIMEOUT)


async def test_what_a_program_logs_arrives_though_it_ends_at_once(
    broker: KafkaCluster, topic: str, journals: JournalDir
) -> None:
    """It starts a shipper, which ships and frees all, and ends."""
    await _run(journals, LOG, RUN + "1", "5000")
    await _all_shipped(journals)
    found = events(await broker.read(topic))
    assert steps(found, RUN + "1") == list(range(5000))
    assert journals.status.shipped >= 5000
    assert (journals.status.state, journals.status.error) == ("ended", "")


@pytest.mark.parametrize("ending", ["os._exit(0)", "os.kill(os.getpid(), signal.SIGKILL)"])
async def test_a_program_that_is_killed_after_its_first_event_has_it_shipped(
    broker: KafkaCluster, topic: str, journals: JournalDir, ending: str
) -> None:
    """The shipper is there before the first log call has returned."""
    code = f"""
        import os, signal, runstream
        runstream.start_run(run_id="{RUN}1")
        {ending}
    """
    program = journals.start(code)
    await asyncio.to_thread(program.communicate, timeout=TIMEOUT)
    await _all_shipped(journals)
    assert events(await broker.read(topic))


async def test_programs_share_one_shipper(broker: KafkaCluster, topic: str, journals: JournalDir) -> None:
    """However many begin at once, of whatever kind."""
    code = """
        import multiprocessing, os, sys, runstream
        def work(number):
            with runstream.start_run(run_id=f"{number:032x}"):
                for step in range(100):
                    runstream.log_metric("m", step, step=step)
        if __name__ == "__main__":
            work(int(sys.argv[1]))
            children = [multiprocessing.get_context("fork").Process(target=work, args=(int(sys.argv[1]) + 1 + n,))
                        for n in range(2)]
            for child in children: child.start()
            for child in children: child.join()
            assert all(child.exitcode == 0 for child in children)
    """
    await asyncio.gather(*(_run(journals, code, str(number)) for number in (10, 20, 30)))
    await _all_shipped(journals)
    found = events(await broker.read(topic))
    for number in (10, 11, 12, 20, 21, 22, 30, 31, 32):
        assert steps(found, f"{number:032x}") == list(range(100))
    assert journals.log().count("shipping begins") <= 3


async def test_flush_waits_for_the_brokers(journals: JournalDir) -> None:
    """And `stats` counts what they have; after `close` too."""
    code = """
        import runstream
        runstream.start_run()
        for step in range(1000):
            runstream.log_metric("m", step)
        assert runstream.flush(60)
        stats = runstream.stats()
        assert stats["shipped"] == stats["accepted"] > 1000, stats
        assert stats["stream"].startswith("kafka://") and stats["error"] == "", stats
        runstream.log_metric("m", 1)
        runstream.close()
        assert runstream.flush(60)
        stats = runstream.stats()
        assert stats["shipped"] == stats["accepted"], stats
    """
    await _run(journals, code)


async def test_events_logged_while_the_broker_is_down_arrive_when_it_returns(
    proxied: KafkaCluster, topic: str, tmp_path: Path
) -> None:
    """The program runs at full speed, is told why nothing is shipped, and is long gone then."""
    await proxied.create_topic(topic, 3)
    code = (
        LOG
        + """
    assert runstream.stats()["dropped"] == {"quota": 0, "disk": 0, "too_large": 0, "unencodable": 0}
    assert runstream.flush(0.2) is False
    import time
    while "no broker" not in runstream.stats()["error"]:
        time.sleep(0.01)
    """
    )
    proxied.nodes[1].kill()
    with journals_for(tmp_path / "journals", proxied.stream(topic)) as journals:
        program = journals.start(code, RUN + "1", "20000")
        _, errors = await asyncio.to_thread(program.communicate, timeout=TIMEOUT)
        assert program.returncode == 0, errors
        assert errors.count("events are not shipped now") == 1
        assert journals.has_shipper()
        await proxied.restart(1)
        await _all_shipped(journals)
    assert steps(events(await proxied.read(topic)), RUN + "1") == list(range(20_000))


async def test_a_broker_that_is_killed_and_comes_back_gets_everything(
    proxied: KafkaCluster, topic: str, tmp_path: Path
) -> None:
    """While the program goes on logging."""
    code = """
        import sys, time, runstream
        runstream.start_run(run_id=sys.argv[1])
        step = 0
        print("logging", flush=True)
        import threading
        done = threading.Event()
        threading.Thread(target=lambda: (sys.stdin.readline(), done.set()), daemon=True).start()
        while not done.is_set():
            runstream.log_metric("m", step, step=step)
            step += 1
            time.sleep(0.001)
        print(step, runstream.flush(60))
    """
    with journals_for(tmp_path / "journals", proxied.stream(topic)) as journals:
        program = journals.start(code, RUN + "1")
        assert program.stdout is not None
        await asyncio.to_thread(program.stdout.readline)
        await until(lambda: journals.has_shipper() and journals.status.shipped, TIMEOUT)
        for _ in range(2):
            shipped = journals.status.shipped
            proxied.nodes[1].kill()
            await proxied.restart(1)
            await until(lambda before=shipped: journals.status.shipped > before, TIMEOUT)
        output, errors = await asyncio.to_thread(program.communicate, "\n", TIMEOUT)
        count, flushed = output.split()
        assert flushed == "True", errors
        await _all_shipped(journals)
    assert steps(events(await proxied.read(topic)), RUN + "1") == list(range(int(count)))


async def test_a_shipper_that_is_killed_is_started_again(
    broker: KafkaCluster, topic: str, journals: JournalDir
) -> None:
    """By the program that logs; what it had sent and not noted comes again and is the same."""
    code = """
        import os, sys, time, runstream
        runstream.start_run(run_id=sys.argv[1])
        for step in range(3000):
            runstream.log_metric("m", step, step=step)
            if step % 100 == 0:
                print(step, flush=True)
                sys.stdin.readline()
        assert runstream.flush(60)
    """
    program = journals.start(code, RUN + "1")
    assert program.stdin is not None
    assert program.stdout is not None
    killed = 0
    for number in range(30):
        assert await asyncio.to_thread(program.stdout.readline)
        if number % 10 == 5:
            await until(lambda last=killed: journals.has_shipper() and journals.status.pid != last, TIMEOUT)
            killed = journals.status.pid
            os.kill(killed, signal.SIGKILL)
            await until(lambda: not is_led(journals.path), TIMEOUT)
        program.stdin.write("\n")
        program.stdin.flush()
    _, errors = await asyncio.to_thread(program.communicate, timeout=TIMEOUT)
    assert program.returncode == 0, errors
    await _all_shipped(journals)
    assert steps(events(await broker.read(topic)), RUN + "1") == list(range(3000))
    assert journals.log().count("shipping begins") >= 4


async def test_large_events_and_artifacts_arrive_in_chunks(
    broker: KafkaCluster, topic: str, journals: JournalDir
) -> None:
    """Rows above what the topic takes, and files of any size, before what refers to them."""
    await broker.create_topic(topic, 3, config={"max.message.bytes": "100000"})
    code = """
        import os, runstream
        with open("large.bin", "wb") as file:
            for _ in range(20):
                file.write(os.urandom(1 << 20))
        with runstream.start_run():
            runstream.log_artifact("large.bin")
            runstream.log_predictions([{"text": "x" * 700_000, "number": number} for number in range(3)])
            runstream.log_text("y" * 2_000_000, "made.txt")
    """
    await _run(journals, code)
    await _all_shipped(journals)
    records = await broker.read(topic)
    found = list(events(records).values())
    assert max(len(record.value) for record in records) < 100_000
    assert {event.path: event.size for event in found if isinstance(event, ArtifactLogged)} == {
        "large.bin": 20 << 20,
        "made.txt": 2_000_000,
    }
    assert sum(len(event.rows) for event in found if isinstance(event, RowsLogged)) == 3


async def test_dropped_events_arrive_as_notices(broker: KafkaCluster, topic: str, journals: JournalDir) -> None:
    """What a program could not log for its quota while nobody shipped."""
    code = """
        import runstream
        runstream.start_run()
        for _ in range(3000):
            runstream.log_metric("m" * 200, 1)
        print(runstream.stats()["dropped"]["quota"])
    """
    output = await _run(journals, code, RUNSTREAM_SHIPPER="external", RUNSTREAM_JOURNAL_QUOTA="300KiB")
    assert int(output) > 0
    assert not journals.has_shipper()
    await _run(journals, "import sys; from runstream.cli import main; sys.exit(main(['ship', '--once']))")
    notices = [event for event in events(await broker.read(topic)).values() if isinstance(event, LossNotice)]
    assert sum(notice.count for notice in notices) == int(output)
    assert journal_names(journals.path / "journals") == []


async def test_a_missing_topic_is_told_and_awaited(broker: KafkaCluster, topic: str, journals: JournalDir) -> None:
    """Where it may not be created; the program goes on."""
    journals.environment["RUNSTREAM_KAFKA_CREATE_TOPIC"] = "no"
    code = (
        LOG
        + """
    import time
    while "kafka-topics.sh" not in runstream.stats()["error"]:
        time.sleep(0.01)
    """
    )
    await _run(journals, code, RUN + "1", "10")
    journals.kill(signal.SIGTERM)
    await until(lambda: not journals.has_shipper(), TIMEOUT)
    await broker.create_topic(topic)
    await _run(journals, LOG, RUN + "2", "10")
    await _all_shipped(journals)
    found = events(await broker.read(topic))
    assert steps(found, RUN + "1") == steps(found, RUN + "2") == list(range(10))


async def test_a_shipper_that_waits_makes_way_for_one_with_other_settings(
    secured: KafkaCluster, topic: str, tmp_path: Path
) -> None:
    """A wrong password is told, and is on no disk; the next program brings the right one, and all is shipped."""
    login = {
        "RUNSTREAM_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "RUNSTREAM_KAFKA_SASL_MECHANISM": "PLAIN",
        "RUNSTREAM_KAFKA_USERNAME": "admin",
    }
    code = (
        LOG
        + """
    import time
    while "refuse the login" not in runstream.stats()["error"]:
        time.sleep(0.01)
    """
    )
    with journals_for(tmp_path / "journals", secured.stream(topic, "SASL_PLAINTEXT"), **login) as journals:
        await _run(journals, code, RUN + "1", "10", RUNSTREAM_KAFKA_PASSWORD="not-the-password")
        assert journals.has_shipper()
        await _run(journals, LOG, RUN + "2", "10", RUNSTREAM_KAFKA_PASSWORD="admin-secret")
        await _all_shipped(journals)
        texts = [path.read_bytes() for path in journals.path.rglob("*") if path.is_file()]
        assert not any(b"not-the-password" in text or b"admin-secret" in text for text in texts)
    found = events(await secured.read(topic))
    assert steps(found, RUN + "1") == steps(found, RUN + "2") == list(range(10))


async def test_the_shipper_has_nothing_of_the_program_open(journals: JournalDir) -> None:
    """No sockets, files or locks, though they may be inherited; it is nobody's child that the program could see."""
    code = """
        import os, socket, sys, runstream
        listener = socket.create_server(("127.0.0.1", 0))
        listener.set_inheritable(True)
        os.set_inheritable(os.open("held", os.O_RDWR | os.O_CREAT), True)
        runstream.start_run()
        try:
            os.wait()
        except ChildProcessError:
            print("no child", flush=True)
        sys.stdin.readline()
    """
    program = journals.start(code)
    assert program.stdout is not None
    assert await asyncio.to_thread(program.stdout.readline) == "no child\n"
    await until(journals.has_shipper, TIMEOUT)
    assert _open_files(program.pid) & _open_files(journals.status.pid) <= {Path(os.devnull)}
    assert os.getsid(journals.status.pid) not in {os.getsid(program.pid), os.getsid(0)}
    await asyncio.to_thread(program.communicate, "\n", TIMEOUT)


def _open_files(pid: int) -> set[Path]:
    return {path.readlink() for path in Path(f"/proc/{pid}/fd").iterdir()}


async def test_a_stream_behind_a_proxy_is_shipped(proxied: KafkaCluster, topic: str, tmp_path: Path) -> None:
    """The brokers' names for themselves are what counts after the first connection."""
    with journals_for(tmp_path / "journals", proxied.stream(topic, PROXIED)) as journals:
        await _run(journals, LOG, RUN + "1", "10")
        await _all_shipped(journals)
    assert steps(events(await proxied.read(topic)), RUN + "1") == list(range(10))
