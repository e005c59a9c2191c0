"""MLflow's own client with a stream in Kafka: through a journal, a shipper, a broker and a sink, and back."""

import json
from pathlib import Path

from support.http_sink import http_sink_apart
from support.kafka import KafkaCluster, wait_for
from support.mlflow import run_measured

PROGRAM = Path(__file__).parent.parent / "mlflow" / "plugin_program.py"


def test_a_program_sees_what_it_has_logged_over_the_topic(broker: KafkaCluster, topic: str, tmp_path: Path) -> None:
    """Runs, metrics, tags, artifacts and experiments, each read right after it was written."""
    wait_for(broker.create_topic(topic, 2))
    target = tmp_path / "seen.json"
    with http_sink_apart(tmp_path, stream=broker.stream(topic)) as sink:
        environment = {
            "RUNSTREAM_URL": sink.url,
            "RUNSTREAM_JOURNAL_DIR": str(tmp_path / "journals"),
            "RUNSTREAM_SHIPPER_IDLE": "1",
        }
        uri = f"runstream+{broker.stream(topic)}"
        done = run_measured(PROGRAM, uri, str(target), cwd=tmp_path, environment=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    seen = json.loads(target.read_text())
    assert seen["fluent"]["params"] == {"depth": "3", "model": "8b"}
    assert seen["fluent"]["metrics"] == {"acc": "0.5", "f1": "inf", "loss": "0.01"}
    assert (seen["history"], seen["search"], seen["text"]) == (True, ["first", "inner"], "hello")
    assert seen["artifacts"] == [["b.json", False, 12], ["notes", True, None]]
    assert (seen["resumed"], seen["restored"], seen["back"]) == (["FINISHED", "renamed", 1.0, 0.9], "active", "active")
