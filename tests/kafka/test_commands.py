"""The sink's commands where the stream is a topic."""

import json
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import msgspec

from runstream_schemas.follower import format_position
from runstream_schemas.reader import JournalReader, journal_names
from runstream_schemas.streams import KafkaStream, journal_directory, parse_stream
from support.commands import Result, start, start_process
from support.kafka import KafkaCluster, wait_for
from support.pipeline import Pipeline, run_program
from support.topics import encoded, expected_digest, produce

PROGRAM = """
    import runstream
    with runstream.start_run() as run:
        for step in range(10):
            run.log_metric("m", step, step=step)
"""


class Place:
    """A topic with some events, and where its store and its journals lie."""

    def __init__(self, broker: KafkaCluster, topic: str, root: Path) -> None:
        self.stream = broker.stream(topic)
        self.store = root / "store"
        self.journals = root / "journal"

    def run(self, *arguments: object) -> Result:
        """A command, to its end."""
        return start(
            *arguments,
            RUNSTREAM_STREAM=self.stream,
            RUNSTREAM_STORE=str(self.store),
            RUNSTREAM_JOURNAL_DIR=str(self.journals),
        )

    def status(self) -> Any:
        """What `status` says."""
        result = self.run("status", "--json")
        assert result.code == 0, result.err
        return json.loads(result.out)

    @property
    def directory(self) -> Path:
        """The journal directory."""
        stream = parse_stream(self.stream)
        assert isinstance(stream, KafkaStream)
        return journal_directory(stream, self.journals)


def test_a_topic_is_applied_replayed_and_shown(broker: KafkaCluster, topic: str, tmp_path: Path) -> None:
    """`sink --once`, `status`, `digest`, `verify` and `replay` with places."""
    place = Place(broker, topic, tmp_path)
    wait_for(broker.create_topic(topic, 2))
    wait_for(produce(broker.bootstrap, topic, [(0, value) for value in encoded(1, 100)]))
    before = place.status()
    assert (before["store"], before["lag"], before["shipper"], before["error"]) == (None, 10, None, None)
    assert place.run("sink", "--once").code == 0
    wait_for(produce(broker.bootstrap, topic, [(0, value) for value in encoded(2, 30)]))
    found = place.status()
    assert found["topic"] == topic
    assert found["brokers"] == [broker.servers()]
    assert found["partitions"] == [
        {"partition": 0, "begin": 0, "end": 13, "position": 10, "lag": 3, "lost": 0},
        {"partition": 1, "begin": 0, "end": 0, "position": None, "lag": 0, "lost": 0},
    ]
    assert (found["lag"], found["journals"], found["missing"], found["sink"]) == (3, 0, [], None)
    assert place.run("digest", place.store).out.strip() == wait_for(expected_digest(tmp_path / "expected", [(1, 100)]))
    assert place.run("verify", place.store).code == 0
    refused = place.run("verify", place.store, "--stream", place.stream)
    assert (refused.code, "only a queue directory will do" in refused.err) == (2, True)
    part = place.run("replay", "--store", tmp_path / "part", "--from", "0=5", "--until", "0=10", "--json")
    assert (part.code, json.loads(part.out)["events"], json.loads(part.out)["lost"]) == (0, 50, [])
    assert place.run("replay", "--store", tmp_path / "bad", "--from", "nowhere").code == 2
    text = place.run("status").out
    assert "2 partitions, 3 records behind" in text
    assert "shipper  none yet" in text


def test_what_is_gone_or_wrong_shows_in_status(broker: KafkaCluster, topic: str, tmp_path: Path) -> None:
    """Lost records, missing events, dead letters."""
    place = Place(broker, topic, tmp_path)
    wait_for(broker.create_topic(topic, 1))
    values = encoded(1, 100)
    wait_for(produce(broker.bootstrap, topic, [(0, b"rubbish"), *((0, value) for value in values[:3])]))
    assert place.run("sink", "--once").code == 0
    wait_for(produce(broker.bootstrap, topic, [(0, value) for value in values[3:]]))
    wait_for(broker.delete_records(topic, 8))
    assert place.status()["partitions"][0]["lost"] == 4
    assert place.run("sink", "--once").code == 0
    found = place.status()
    assert found["missing"] == [{"producer_id": f"{1:032x}", "events": 40, "intervals": [[30, 69]]}]
    assert found["dead_letters"] == {"undecodable": 1}
    text = place.run("status").out
    assert "missing  40 events of 1 producers" in text
    assert "30 to 69" in text


def test_journals_on_their_way_show_in_status(broker: KafkaCluster, topic: str, tmp_path: Path) -> None:
    """What no broker has acknowledged, how old it is, and what the shipper says of itself."""
    place = Place(broker, topic, tmp_path)
    wait_for(broker.create_topic(topic, 1))
    queue = Pipeline(tmp_path / "pipeline")
    assert run_program(PROGRAM, queue).returncode == 0
    place.journals.mkdir()
    queue.queue.rename(place.directory)
    found = place.status()
    (journal,) = journal_names(place.directory / "journals")
    assert found["journals"] == 1
    assert found["backlog_events"] == len(_read(place.directory, journal).records)
    assert found["oldest_age_seconds"] >= 0
    (place.directory / "shipped").mkdir()
    position = _read(place.directory, journal).position
    (place.directory / "shipped" / journal).write_text(format_position(position))
    said = {"pid": 77, "state": "waiting", "error": "no broker answers", "shipped": 11, "since": 1_795_000_000.0}
    (place.directory / "shipper.json").write_bytes(msgspec.json.encode(said))
    found = place.status()
    assert (found["backlog_events"], found["shipper"]) == (0, said)
    text = place.run("status").out
    assert "shipper  process 77, waiting since" in text
    assert "11 events shipped: no broker answers" in text
    (place.directory / "shipper.json").write_text("nonsense")
    (place.directory / "shipped" / journal).write_text("nonsense")
    found = place.status()
    assert (found["backlog_events"] > 0, found["shipper"]) == (True, None)


def _read(directory: Path, journal: str) -> Any:
    reader = JournalReader(directory / "journals" / journal)
    try:
        return reader.read(1 << 20)
    finally:
        reader.close()


def test_a_broker_that_is_away_leaves_the_rest_of_the_status(tmp_path: Path, proxied: KafkaCluster, topic: str) -> None:
    """And ends a sink that is to end with exit code 3, in one line."""
    place = Place(proxied, topic, tmp_path)
    proxied.nodes[1].kill()
    found = place.status()
    assert (found["lag"], found["partitions"]) == (None, [])
    assert "is running at" in found["error"]
    result = place.run("sink", "--once")
    assert result.code == 3
    assert "is running at" in result.err.splitlines()[-1]


def test_a_standby_takes_over_when_the_sink_is_killed(broker: KafkaCluster, topic: str, tmp_path: Path) -> None:
    """Within seconds, by itself; a second sink without --standby is refused with exit code 4."""
    place = Place(broker, topic, tmp_path)
    wait_for(broker.create_topic(topic, 1))
    environment = {
        "RUNSTREAM_STREAM": place.stream,
        "RUNSTREAM_STORE": str(place.store),
        "RUNSTREAM_JOURNAL_DIR": str(place.journals),
    }
    first = start_process("sink", **environment)
    _wait_for_line(first, "sink started")
    assert place.run("sink").code == 4
    second = start_process("sink", "--standby", **environment)
    _wait_for_line(second, "standing by")
    wait_for(produce(broker.bootstrap, topic, [(0, value) for value in encoded(1, 100)]))
    first.kill()
    first.communicate(timeout=60)
    _wait_for_line(second, "sink started")
    second.send_signal(signal.SIGTERM)
    assert second.communicate(timeout=60)[0] == ""
    assert place.run("sink", "--once").code == 0
    assert place.run("digest", place.store).out.strip() == wait_for(expected_digest(tmp_path / "expected", [(1, 100)]))


def test_a_standby_can_be_stopped(broker: KafkaCluster, topic: str, tmp_path: Path) -> None:
    """It has done nothing, and that is no error; so can a sink that waits for its topic."""
    place = Place(broker, topic, tmp_path)
    environment = {
        "RUNSTREAM_STREAM": place.stream,
        "RUNSTREAM_STORE": str(place.store),
        "RUNSTREAM_JOURNAL_DIR": str(place.journals),
    }
    waiting = start_process("sink", **environment)
    _wait_for_line(waiting, "cannot be opened")
    standby = start_process("sink", "--standby", **environment)
    _wait_for_line(standby, "standing by")
    for process in (standby, waiting):
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        assert process.returncode == 0


def _wait_for_line(process: "subprocess.Popen[str]", text: str) -> None:
    """Wait until a process has logged a text."""
    assert process.stderr is not None
    deadline = threading.Timer(60, process.kill)
    deadline.start()
    try:
        assert any(text in line for line in process.stderr), f"the process ended before it said {text!r}"
    finally:
        deadline.cancel()
