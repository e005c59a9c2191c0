"""The example of serving with a stream in Kafka: from a request to a row in a store."""

from pathlib import Path

from runstream.shipping.leader import read_status
from support.kafka import KafkaCluster
from support.serving import EXAMPLE, Serving, completion, events_of, text_of
from support.shipping import journals_for
from support.waiting import until


async def test_what_a_server_logs_is_in_the_store_after_both_have_ended(
    broker: KafkaCluster, topic: str, tmp_path: Path
) -> None:
    """The server ends before all is shipped; the shipper that it started ends after."""
    with journals_for(tmp_path / "journals", broker.stream(topic)) as journals:
        server = Serving(tmp_path, [*EXAMPLE, "--latency", "0.001"], **journals.environment)
        try:
            await server.started()
            answers = []
            for number in range(20):
                status, body = await server.ask(messages=[{"role": "user", "content": f"What is {number}?"}])
                assert status == 200
                answers.append(completion(body))
        finally:
            server.end()
        await until(lambda: (status := read_status(journals.path)) is not None and status.state == "ended", 60)
        assert journals.status.error == ""
        run, rows = server.results()
    assert [row["answer"] for row in rows] == answers
    assert [row["prompt"] for row in rows] == [f"What is {number}?" for number in range(20)]
    assert (run["status"], run["metrics"]["ok"]["step"]) == ("FINISHED", 19)


async def test_a_server_answers_while_no_broker_can_be_reached(tmp_path: Path) -> None:
    """What it logs meanwhile stays in its journal."""
    with journals_for(tmp_path / "journals", "kafka://127.0.0.1:1/nowhere") as journals:
        server = Serving(tmp_path, [*EXAMPLE, "--latency", "0.001"], **journals.environment)
        try:
            await server.started()
            status, body = await server.ask(messages=[{"role": "user", "content": "What?"}], stream=True)
            assert status == 200
            assert text_of(events_of(body))
            logging = await server.stats()
            assert logging["accepted"] >= 5
            assert set(logging["dropped"].values()) == {0}
        finally:
            server.end()
