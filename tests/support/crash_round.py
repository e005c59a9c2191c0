"""One round of killing: producers and the sink die at random moments, again and again; then everything is counted."""

import contextlib
import csv
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from runstream_sink import query
from runstream_sink.verify.run import verify
from support import crash_producer, sink_process
from support.pipeline import Pipeline

__all__ = ["Round", "Victim", "start_sink"]

SHARED = "0" * 31 + "f"
SLOTS = 4


class Victim:
    """A process that is started and killed again and again; what it printed is kept, line by line."""

    def __init__(self, program: Path, pipeline: Pipeline, *arguments: str, errors: bool = False) -> None:
        self.lines: list[bytes] = []
        self._arrived = threading.Condition()
        self._process = subprocess.Popen(
            [sys.executable, program, *arguments],
            env={**os.environ, **pipeline.environment, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.DEVNULL if errors else subprocess.PIPE,
            stderr=subprocess.PIPE if errors else None,
            cwd=pipeline.root,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def wait_for(self, text: bytes, timeout: float = 60) -> bool:
        """Wait until a line holds a text; False if the process ended, or the time is over, before."""
        deadline = time.monotonic() + timeout
        with self._arrived:
            while not any(text in line for line in self.lines):
                if not self._reader.is_alive() or time.monotonic() > deadline:
                    return False
                self._arrived.wait(0.1)
        return True

    @property
    def process_id(self) -> int:
        """Of the process."""
        return self._process.pid

    def signal(self, number: int) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def wait(self, timeout: float = 60) -> int:
        """Wait for the end; the exit code."""
        code = self._process.wait(timeout)
        self._reader.join()
        return code

    def kill(self) -> int:
        """Kill it at once; the exit code, another than -9 where it had ended before."""
        self._process.kill()
        return self.wait()

    def _read(self) -> None:
        stream = self._process.stdout or self._process.stderr
        assert stream is not None
        with stream:
            for line in stream:
                with self._arrived:
                    self.lines.append(line)
                    self._arrived.notify_all()


def start_sink(pipeline: Pipeline) -> Victim:
    """A sink as a process of its own; its lines are its log."""
    return Victim(Path(sink_process.__file__), pipeline, pipeline.stream, str(pipeline.store), errors=True)


class Round:
    """Producers and a sink on one queue, and what was acknowledged."""

    def __init__(self, root: Path, seed: int) -> None:
        self.pipeline = Pipeline(root)
        self.acknowledged: list[list[Any]] = []
        self.kills = 0
        self._choice = random.Random(seed)
        self._born = 0
        self._producers: list[tuple[Victim, float]] = []
        self._troubles: list[str] = []

    def run(self, seconds: float) -> None:
        """Kill and start processes for a time; then kill all of them."""
        end = time.monotonic() + seconds
        try:
            self._producers = [self._start_producer() for _ in range(SLOTS)]
            sink = threading.Thread(target=self._torment_sink, args=(end,))
            sink.start()
            while (now := time.monotonic()) < end:
                at = min(range(SLOTS), key=lambda slot: self._producers[slot][1])
                time.sleep(max(0.0, min(self._producers[at][1], end) - now))
                self._bury(at)
                self._producers[at] = self._start_producer()
            sink.join()
        finally:
            for at in range(len(self._producers)):
                self._bury(at)

    def check(self) -> None:
        """Apply what is left, and compare the store with what was acknowledged, and with an undisturbed replay."""
        assert not self._troubles, "".join(self._troubles)
        self.pipeline.drain()
        assert self.pipeline.ask(query.counts).dead_letters == 0
        self.check_facts()
        digest, replayed = self.pipeline.replay("replayed")
        assert replayed.missing == []
        assert digest == self.pipeline.digest()
        report = self.pipeline.ask(verify, self.pipeline.store / "artifacts", queue=self.pipeline.queue)
        assert report.ok, report.findings

    def check_facts(self) -> None:
        """Compare the store with what was acknowledged."""
        facts: dict[str, list[list[Any]]] = {}
        for kind, *fact in self.acknowledged:
            facts.setdefault(kind, []).append(fact)
        self._check_runs(facts.get("run", []), facts.get("ended", []))
        self._check_keys(facts)
        self._check_metrics(facts.get("metric", []))
        self._check_rows(facts.get("row", []))
        self._check_artifacts(facts.get("artifact", []))
        assert not any(count for (dropped,) in facts.get("dropped", []) for count in dropped.values())

    def _start_producer(self) -> tuple[Victim, float]:
        """A new producer, and when it dies."""
        name = f"p{self._born}"
        self._born += 1
        victim = Victim(Path(crash_producer.__file__), self.pipeline, name, SHARED)
        return victim, time.monotonic() + self._choice.uniform(0.1, 1.2)

    def _bury(self, at: int) -> None:
        victim, _ = self._producers[at]
        victim.kill()
        self.kills += 1
        for line in victim.lines:
            if line.endswith(b"\n"):  # else the kill cut it
                self.acknowledged.append(json.loads(line))
        victim.lines.clear()

    def _torment_sink(self, end: float) -> None:
        choice = random.Random(self._choice.random())
        while time.monotonic() < end:
            sink = start_sink(self.pipeline)
            if sink.wait_for(b"sink started"):
                time.sleep(choice.choice([0.0, 0.02, 0.1, 0.3]) * choice.random())
            code = sink.kill()
            self.kills += 1
            if code != -signal.SIGKILL:
                self._troubles.append(b"".join(sink.lines).decode())

    def _check_runs(self, began: list[list[Any]], ended: list[list[Any]]) -> None:
        stored = {run.run_id: run for run in self.pipeline.runs()}
        for run_id, name in began:
            assert run_id in stored
            assert name is None or stored[run_id].tags["producer"] == name
        for (run_id,) in ended:
            assert stored[run_id].status == "FINISHED"

    def _check_keys(self, facts: dict[str, list[list[Any]]]) -> None:
        stored = {run.run_id: run for run in self.pipeline.runs()}
        for run_id, key, value in facts.get("param", []):
            assert stored[run_id].params[key] == value
        last = {run_id: value for run_id, _, value in facts.get("tag", [])}
        for run_id, value in last.items():
            found = stored[run_id].tags["last"]
            assert int(found.rpartition("-")[2]) - int(value.rpartition("-")[2]) in {0, 1}

    def _check_metrics(self, facts: list[list[Any]]) -> None:
        expected: dict[tuple[str, str], dict[int, float]] = {}
        for run_id, key, step, value in facts:
            expected.setdefault((run_id, key), {})[step] = value
        for (run_id, key), points in expected.items():
            history = self.pipeline.ask(query.metric_history, run_id, key)
            steps = Counter(point.step for point in history)
            assert set(steps.values()) == {1}
            found = {point.step: point.value for point in history}
            assert found.items() >= points.items()
            assert len(found) - len(points) in {0, 1}, "what was not acknowledged is at most the call that was cut"

    def _check_rows(self, facts: list[list[Any]]) -> None:
        expected: dict[tuple[str, str], list[str]] = {}
        for run_id, table, row_id in facts:
            expected.setdefault((run_id, table), []).append(row_id)
        csv.field_size_limit(1 << 30)
        for (run_id, table), row_ids in expected.items():
            files = [
                self.pipeline.store / "artifacts" / part.file
                for part in self.pipeline.ask(query.get_table, run_id, table).parts
            ]
            read = [row_id for file in files for row_id in _ids_by_csv_reader(file)]
            assert Counter(read) == Counter(_ids_by_pandas(files))
            assert set(Counter(read).values()) == {1}
            assert set(row_ids) <= set(read)

    def _check_artifacts(self, facts: list[list[Any]]) -> None:
        held = {artifact.path: artifact for artifact in self.pipeline.ask(query.list_artifacts, SHARED)}
        for _, path in facts:
            content = (self.pipeline.store / "artifacts" / SHARED / held[path].file).read_text()
            unique = path.partition("/")[2].removesuffix(".txt")
            assert content
            assert content == unique * (len(content) // len(unique))


def _ids_by_csv_reader(file: Path) -> list[str]:
    with file.open(newline="", encoding="utf-8") as lines:
        header, *rows = csv.reader(lines)
    assert all(len(row) == len(header) for row in rows)
    return [row[header.index("id")] for row in rows]


def _ids_by_pandas(files: list[Path]) -> list[str]:
    ids: list[str] = []
    for file in files:
        with contextlib.suppress(pd.errors.EmptyDataError):
            ids += pd.read_csv(file, dtype=str)["id"].tolist()
    return ids
