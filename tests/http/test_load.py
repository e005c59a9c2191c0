"""Reads and writes by HTTP while a program logs as fast as the sink applies: consistent, and never refused."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from support.http_sink import HttpSink, http_sink
from support.pipeline import Pipeline
from support.programs import Program

pytestmark = pytest.mark.slow

_PROGRAM = """
    import sys, threading
    import runstream
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), stop.set())).start()
    runstream.configure(policy="block", block_timeout=60, journal_quota="64MiB")
    with runstream.start_run() as run:
        print("run", run.info.run_id)
        n = 0
        while not stop.is_set():
            n += 1
            runstream.log_metrics({"a": n, "b": n}, step=n)
            runstream.log_prediction({"n": n, "text": "x" * 50})
            if n % 1000 == 0:
                runstream.set_tag("n", n)
    runstream.flush()
    print("logged", n)
"""


class _Reader:
    """Reads one run, and checks that nothing goes back and nothing is half there."""

    def __init__(self, sink: HttpSink, run_id: str, until: float) -> None:
        self._api = sink.client
        self._at = f"/api/v1/runs/{run_id}"
        self._until = until
        self.answers = 0

    async def watch(self) -> None:
        """Until the time is over."""
        latest = total = points = 0
        while time.monotonic() < self._until:
            run = await self._get(self._at)
            pair = [run["metrics"].get(key, {}).get("value", 0) for key in "ab"]
            assert pair[0] == pair[1] >= latest, pair
            latest = pair[0]
            page = await self._get(f"{self._at}/tables/rows", table="predictions", order_by="n DESC", limit=5)
            assert page["total"] >= total
            assert [row["n"] for row in page["rows"]] == [page["total"] - back for back in range(5)]
            total = page["total"]
            buckets = (await self._get(f"{self._at}/metrics/buckets", key="a", buckets=100))["runs"]
            count = sum(bucket["count"] for held in buckets.values() for bucket in held)
            assert count >= points
            points = count
            found = await self._get("/api/v1/runs", filter=f"metrics.a >= {latest}", limit=10)
            assert len(found["runs"]) == 1
        self.latest = latest

    async def write(self, number: int) -> None:
        """Log to a run of its own until the time is over, and read each value back."""
        made = (await self._api.post("/api/v1/runs", json={"name": f"writer {number}"})).raise_for_status().json()
        value = 0
        while time.monotonic() < self._until:
            value += 1
            batch = {"metrics": [{"key": "w", "value": value, "step": value}], "tags": {"value": str(value)}}
            answer = await self._api.post(f"/api/v1/runs/{made['run_id']}/log", json=batch)
            assert answer.status_code == 200, answer.text
            run = await self._get(f"/api/v1/runs/{made['run_id']}")
            assert (run["metrics"]["w"]["value"], run["tags"]["value"]) == (value, str(value))

    async def _get(self, path: str, **params: Any) -> Any:
        answer = await self._api.get(path, params=params)
        assert answer.status_code == 200, answer.text
        self.answers += 1
        return answer.json()


async def _read_for(seconds: float, root: Path) -> None:
    async with http_sink(root) as sink:
        program = Program(_PROGRAM, Pipeline(root))
        run_id = await asyncio.to_thread(program.wait_for, "run")
        sink.context.writer._deadline = 60.0  # however slow the machine is
        await _applied(sink, run_id, 10)
        readers = [_Reader(sink, run_id, time.monotonic() + seconds) for _ in range(3)]
        writing = (readers[0].write(number) for number in range(2))
        await asyncio.gather(*(reader.watch() for reader in readers), *writing)
        program.tell()
        logged = int(await asyncio.to_thread(program.wait_for, "logged"))
        assert await asyncio.to_thread(program.end) == 0
        await _applied(sink, run_id, logged)
        assert all(reader.answers > 0 for reader in readers)


async def _applied(sink: HttpSink, run_id: str, value: int) -> None:
    """Wait until that many points are there, and rows."""
    async with asyncio.timeout(300):
        while True:
            run = (await sink.client.get(f"/api/v1/runs/{run_id}")).json()
            tables = (await sink.client.get(f"/api/v1/runs/{run_id}/tables")).json().get("tables")
            latest = run.get("metrics", {}).get("a", {"value": 0})["value"]
            if tables and tables[0]["rows"] >= value and latest >= value:
                return


async def test_reads_are_consistent_while_the_sink_applies(tmp_path: Path) -> None:
    """For some seconds; an answer that the database is locked would be one with another status than 200."""
    await _read_for(10, tmp_path)


@pytest.mark.long
async def test_reads_are_consistent_for_ten_minutes(tmp_path: Path) -> None:
    """The same for longer."""
    await _read_for(600, tmp_path)
