"""Which file holds what: artifacts and table parts of a run share one directory and must not collide.

An artifact and a table may have names that would need the same file, or a file where the other needs a directory.
Whoever comes second lies beside (``x~2.csv``).  Names are not part of a store's logical content.
"""

from collections import OrderedDict
from collections.abc import Collection
from typing import Final, NamedTuple

from runstream_sink.paths import Taken, physical, safe_path
from runstream_sink.store.protocol import Store
from runstream_sink.tables.parts import part_file

__all__ = ["Placement"]

_RUNS_REMEMBERED: Final = 4096


class _Run(NamedTuple):
    taken: Taken
    artifacts: dict[str, str]
    """By path, the file below the run's directory."""
    parts: dict[tuple[str, int], str]
    """By table and number, the file of a part that was placed here."""


class Placement:
    """Remembers the files of the runs that were used last."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._runs: OrderedDict[str, _Run] = OrderedDict()

    async def load(self, run_ids: Collection[str]) -> None:
        """Make the files of runs known; needed before the other methods are asked for them."""
        missing = [run_id for run_id in run_ids if run_id not in self._runs]
        if missing:
            parts, artifacts = await self._store.files(missing)
            for run_id in missing:
                held = artifacts.get(run_id, {})
                self._runs[run_id] = _Run(Taken([*held.values(), *parts.get(run_id, ())]), held, {})
        for run_id in run_ids:
            self._runs.move_to_end(run_id)
        while len(self._runs) > max(_RUNS_REMEMBERED, len(run_ids)):
            self._runs.popitem(last=False)

    def artifact(self, run_id: str, path: str) -> str:
        """The file of an artifact, below its run's directory."""
        run = self._runs[run_id]
        if path not in run.artifacts:
            file = run.artifacts[path] = physical(safe_path(path), run.taken)
            run.taken.add(file)
        return run.artifacts[path]

    def part(self, run_id: str, table: str, number: int) -> str:
        """The file of a new part of a table, below the root of all artifacts."""
        run = self._runs[run_id]
        if (table, number) not in run.parts:
            file = run.parts[table, number] = physical(part_file(table, number), run.taken)
            run.taken.add(file)
        return f"{run_id}/{run.parts[table, number]}"

    def forget(self) -> None:
        """A commit failed: what was placed for it is not there."""
        self._runs.clear()
