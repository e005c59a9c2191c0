"""An import into a topic: what goes on later, under the same producer, arrives as it does in a queue."""

import asyncio
from pathlib import Path

import pytest

from runstream.mlflow_import.cli import main
from runstream_schemas.reader import journal_names
from runstream_sink.service import run_sink
from support.kafka import KafkaCluster
from support.mlflow_import import BEGAN, MemoryRun, MemorySource, bring, run_id
from support.pipeline import Pipeline
from support.shipping import journals_for
from support.topics import options_of, store_digest
from support.waiting import until

pytestmark = pytest.mark.server


async def test_an_import_into_a_topic_gives_the_digest_of_one_into_a_queue(
    broker: KafkaCluster, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice, since the source grows."""
    run = MemoryRun(run_id(1), status="RUNNING", points={"m": [(step, BEGAN + step, 0.5) for step in range(5000)]})
    run.files["a.txt"] = b"hello"
    run.tags["mlflow.loggedArtifacts"] = '[{"path": "t.json", "type": "table"}]'
    source = MemorySource(alpha=[run])
    monkeypatch.setattr("runstream.mlflow_import.source.open_source", lambda _: source)
    await broker.create_topic(topic, 2)
    stream = broker.stream(topic)
    with journals_for(tmp_path / "journal", stream) as place:
        for name, value in place.environment.items():
            monkeypatch.setenv(name, value)
        for count in (1, 2):
            run.files["t.json"] = b'{"columns": ["a"], "data": [' + b", ".join([b"[1]"] * count) + b"]}"
            run.points["m"] += [(5000 + count, BEGAN + 6000 + count, 1.0)]
            assert await asyncio.to_thread(main, ["import-mlflow", "memory:"]) == 0
            await until(lambda: not journal_names(place.path / "journals"), 60)
            progress = await run_sink(options_of(stream, tmp_path / "store"), once=True)
            assert progress.dead == 0
    queue = Pipeline(tmp_path / "queue")
    await asyncio.to_thread(bring, queue, source)
    await asyncio.to_thread(queue.drain)
    assert await store_digest(tmp_path / "store") == await asyncio.to_thread(queue.digest)
