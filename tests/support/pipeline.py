"""The whole way in one process: a queue for the producer's calls, a sink that applies it, a store that is read back."""

import asyncio
import subprocess
import sys
import textwrap
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import runstream
from runstream import active, experiments
from runstream.client import client
from runstream.config import PRODUCER_SETTINGS
from runstream_schemas.events import Event, decode_event
from runstream_schemas.reader import JournalReader, journal_names
from runstream_sink import query
from runstream_sink.config import resolve
from runstream_sink.consumer import Progress
from runstream_sink.digest import digest
from runstream_sink.query.records import Run
from runstream_sink.service import Replayed, replay, run_sink
from runstream_sink.store.sqlite import open_reader
from support.environment import unmeasured

__all__ = ["Pipeline", "events_of", "forget_everything", "run_program"]

T = TypeVar("T")


class Pipeline:
    """A queue directory and a store.  Its methods are for tests that are no coroutines."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self.queue = root / "queue"
        self.store = root / "store"
        self.stream = f"queue:{self.queue}"
        self.options = resolve(stream=self.stream, store=str(self.store))

    @property
    def environment(self) -> dict[str, str]:
        """The variables for a process that logs here, and may fork beside threads as CPython 3.12 warns not to do."""
        return {
            "RUNSTREAM_STREAM": self.stream,
            "RUNSTREAM_STORE": str(self.store),
            "PYTHONWARNINGS": "ignore:This process:DeprecationWarning",
        }

    def drain(self) -> Progress:
        """Run the sink until all that is there is applied."""
        return asyncio.run(run_sink(self.options, once=True))

    def ask(self, question: Callable[..., Awaitable[T]], *arguments: Any, **options: Any) -> T:
        """Ask a function of the query layer."""

        async def answer() -> T:
            reader = await open_reader(self.options.store)
            try:
                return await question(reader, *arguments, **options)
            finally:
                await reader.close()

        return asyncio.run(answer())

    def run(self, run_id: str) -> Run:
        """A run as the store has it."""
        return self.ask(query.get_run, run_id)

    def runs(self) -> list[Run]:
        """All runs that are not deleted, by start."""
        return list(reversed(self.ask(query.list_runs, limit=10_000).runs))

    def rows(self, run_id: str, table: str = "predictions") -> list[dict[str, Any]]:
        """The rows of a table."""
        return self.ask(query.load_table, run_id, table)

    def artifact(self, run_id: str, path: str) -> bytes:
        """The bytes of an artifact as they lie in the store."""
        (found,) = [held for held in self.ask(query.list_artifacts, run_id) if held.path == path]
        return (self.store / "artifacts" / run_id / found.file).read_bytes()

    def digest(self) -> str:
        """The store's digest."""
        return self.ask(digest)

    def replay(self, name: str) -> tuple[str, Replayed]:
        """Replay the queue into a fresh store; its digest, and what the replay says."""
        fresh = Pipeline(self.root / name)
        options = fresh.options._replace(stream=self.options.stream)
        replayed = asyncio.run(replay(options, lambda _: None))
        return fresh.digest(), replayed

    def events(self) -> list[Event]:
        """The events in the queue's journals, without a sink: journal by journal."""
        names = journal_names(self.queue / "journals")
        return [event for name in names for event in events_of(self.queue / "journals" / name)]


def events_of(journal: Path) -> list[Event]:
    """The events in a journal's directory."""
    found: list[Event] = []
    reader = JournalReader(journal)
    before = None
    while reader.position != before:
        before = reader.position
        found += [decode_event(record[2]) for record in reader.read(1 << 20).records]
    reader.close()
    return found


def forget_everything() -> None:
    """Leave no run, setting or experiment behind in this process."""
    while (run := active.active_run()) is not None:
        run.end()
    for started in list(client.active_runs.values()):
        started.end()
    runstream.configure(**dict.fromkeys((setting.name for setting in PRODUCER_SETTINGS), None), redact=None)
    runstream.close()
    experiments.select(None)


def run_program(
    code: str, pipeline: Pipeline, timeout: float = 60, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run Python code, which may do whatever it likes, as a process of its own that logs to the pipeline."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**unmeasured(), **pipeline.environment, **environment},
        cwd=pipeline.root,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
