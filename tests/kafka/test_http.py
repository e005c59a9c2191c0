"""Writes by HTTP where the stream is a topic: through a journal, a shipper and a broker, and back."""

import asyncio
from pathlib import Path

import pytest

from support.http_sink import http_sink
from support.kafka import PROXIED, KafkaCluster, wait_for

RUN = "0194fdc2fa2f7fcc841d6e9e2f1e0a3b"


def test_what_is_written_goes_over_the_topic_and_is_read_back(
    broker: KafkaCluster, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs, params and files, whose bytes travel as chunks; the answer comes when they are applied."""
    monkeypatch.setenv("RUNSTREAM_JOURNAL_DIR", str(tmp_path / "journals"))
    monkeypatch.setenv("RUNSTREAM_SHIPPER_IDLE", "1")
    wait_for(broker.create_topic(topic, 2))

    async def write() -> None:
        async with http_sink(tmp_path, broker.stream(topic)) as sink:
            sink.context.writer._deadline = 60.0  # the first write waits for a shipper to start
            api, at = sink.client, f"/api/v1/runs/{RUN}"
            (await api.post("/api/v1/runs", json={"run_id": RUN})).raise_for_status()
            (await api.post(f"{at}/log", json={"params": {"a": "b"}})).raise_for_status()
            (await api.put(f"{at}/artifacts/a.bin", content=b"x" * 100_000)).raise_for_status()
            run = (await api.get(at)).raise_for_status().json()
            assert run["params"] == {"a": "b"}
            assert (await api.get(f"{at}/artifacts/a.bin")).content == b"x" * 100_000
            async with asyncio.timeout(60):
                while True:
                    stream = (await api.get("/api/v1/stream")).raise_for_status().json()
                    if (stream["lag_records"], stream["backlog_events"]) == (0, 0):
                        break
            assert (stream["stream"], stream["stream_error"]) == (broker.stream(topic), "")
            assert "runstream_topic_lag_records 0" in (await api.get("/metrics")).text

    asyncio.run(write())


def test_a_topic_that_cannot_be_asked_is_said_so(
    proxied: KafkaCluster, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the store holds is told all the same."""
    monkeypatch.setenv("RUNSTREAM_JOURNAL_DIR", str(tmp_path / "journals"))
    wait_for(proxied.create_topic(topic, 1))

    async def ask() -> None:
        async with http_sink(tmp_path, proxied.stream(topic, PROXIED)) as sink:
            assert (await sink.client.get("/api/v1/stream")).json()["lag_records"] == 0
            proxied.proxies[1].disable()
            async with asyncio.timeout(60):
                while not (found := (await sink.client.get("/api/v1/stream")).json())["stream_error"]:
                    pass
            assert found["lag_records"] is None
            assert "runstream_stream_reachable 0" in (await sink.client.get("/metrics")).text
            proxied.proxies[1].enable()

    asyncio.run(ask())
