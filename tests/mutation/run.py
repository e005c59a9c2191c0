"""Mutation testing: which small mistakes in the code the tests notice.

    python tests/mutation/run.py [--sample N] [--jobs N] [GROUP ...]

Each mutant runs in a child of this process, where the mutated module stands in place of the real one, until the first
test fails, or for so long that it counts as endless: either kills it.  What survives is printed.  The exit code is 1
if less than ``GOAL`` of a group's mutants are killed.  With ``--sample`` that many mutants of each module are tried,
chosen by a fixed seed.
"""

import argparse
import ast
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
sys.path[:0] = [str(ROOT / folder) for folder in ("schemas", "producer", "sink", "tests", "tests/mutation", ".")]
os.environ["HYPOTHESIS_PROFILE"] = "fast"

import mutants  # noqa: E402 - found by the path above

GOAL = 0.85
ENDLESS = 30.0
"""Seconds beside three times what the tests take otherwise."""


class Group(NamedTuple):
    """Modules, and the fast tests that are to notice a mistake in them."""

    modules: Sequence[str]
    tests: Sequence[str]


GROUPS = {
    "journal": Group(
        (
            "schemas/runstream_schemas/scanning.py",
            "schemas/runstream_schemas/segment.py",
            "schemas/runstream_schemas/reader.py",
        ),
        ("tests/unit/test_segment.py", "tests/unit/test_scanning.py", "tests/unit/test_reader.py"),
    ),
    "queue": Group(
        (
            "schemas/runstream_schemas/follower.py",
            "schemas/runstream_schemas/acknowledgements.py",
            "schemas/runstream_schemas/retention.py",
        ),
        (
            "tests/unit/test_follower.py",
            "tests/unit/test_acknowledgements.py",
            "tests/unit/test_queue_source.py",
            "tests/unit/test_queue_source_costs.py",
            "tests/unit/test_retention.py",
        ),
    ),
    "intervals": Group(
        ("sink/runstream_sink/intervals.py",), ("tests/unit/test_intervals.py", "tests/model/test_intervals_model.py")
    ),
    "apply": Group(
        ("sink/runstream_sink/apply.py", "sink/runstream_sink/rules.py"),
        (
            "tests/unit/test_apply.py",
            "tests/unit/test_apply_pending.py",
            "tests/unit/test_isolation.py",
            "tests/model/test_apply_model.py",
        ),
    ),
    "csv": Group(
        ("sink/runstream_sink/tables/cells.py", "sink/runstream_sink/tables/parts.py"),
        (
            "tests/unit/test_tables_cells.py",
            "tests/unit/test_tables_deep.py",
            "tests/unit/test_tables_parts.py",
            "tests/unit/test_tables_read.py",
            "tests/model/test_tables_rows.py",
        ),
    ),
}
_READY = ("pytest", "hypothesis", "hypothesis.stateful", "msgspec", "asyncio", "sqlite3", "aiosqlite", "structlog")
"""Loaded once, before the children are made."""
_OPTIONS = (
    *("-x", "-q", "-p", "no:cacheprovider", "-m", "not long and not crash"),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),  # Hypothesis is loaded already
)


class _Mutated(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives one module another code."""

    def __init__(self, name: str, path: Path, tree: ast.Module) -> None:
        self._name = name
        self._path = path
        self._tree = tree

    def find_spec(self, name: str, _path: object, _target: object = None) -> importlib.machinery.ModuleSpec | None:
        if name != self._name:
            return None
        return importlib.util.spec_from_file_location(name, self._path, loader=self)

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._tree, str(self._path), "exec"), module.__dict__)


def main() -> int:
    """Run the groups that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("groups", nargs="*", choices=[[], *GROUPS], metavar="GROUP")
    parser.add_argument("--sample", type=int, help="mutants of each module; all without it")
    parser.add_argument("--jobs", type=int, default=1)
    arguments = parser.parse_args()
    for name in _READY:
        importlib.import_module(name)
    shares = [_run(name, arguments.sample, arguments.jobs) for name in arguments.groups or GROUPS]
    return int(min(shares) < GOAL)


def _run(name: str, sample: int | None, jobs: int) -> float:
    group = GROUPS[name]
    begin = time.monotonic()
    code = _wait(_start(group, None, ""))
    if code:
        raise SystemExit(f"the tests of {name} fail without a mutant")
    limit = ENDLESS + 3 * (time.monotonic() - begin)
    chosen = [(path, mutant) for path in group.modules for mutant in _chosen(ROOT / path, sample)]
    alive: list[str] = []
    running: dict[int, tuple[str, float]] = {}
    for path, mutant in chosen:
        while len(running) >= jobs:
            alive += _collect(running, limit)
        running[_start(group, mutant, path)] = (f"{path}:{mutant.line}: {mutant.what}", time.monotonic())
    while running:
        alive += _collect(running, limit)
    share = 1 - len(alive) / len(chosen)
    print(f"{name}: {len(chosen) - len(alive)} of {len(chosen)} mutants killed, {share:.1%}", *alive, sep="\n  ")
    sys.stdout.flush()
    return share


def _chosen(path: Path, sample: int | None) -> list[mutants.Mutant]:
    found = list(mutants.mutants(path))
    return found if sample is None or len(found) <= sample else random.Random(path.name).sample(found, sample)


def _start(group: Group, mutant: mutants.Mutant | None, path: str) -> int:
    """A child that runs the tests; its exit code is pytest's."""
    child = os.fork()
    if child:
        return child
    os.setpgid(0, 0)
    if mutant is not None:
        _be_silent()
    code = 70
    try:
        if mutant is not None:
            name = ".".join(Path(path).with_suffix("").parts[1:])
            sys.meta_path.insert(0, _Mutated(name, ROOT / path, mutant.tree))
        os.chdir(ROOT)
        import pytest

        code = int(pytest.main([*_OPTIONS, *group.tests]))
    except BaseException:  # noqa: BLE001 - it is another process: nobody above could tell
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _be_silent() -> None:
    silence = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(silence, descriptor)


def _wait(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _collect(running: dict[int, tuple[str, float]], limit: float) -> Iterator[str]:
    """Wait for one child; the mutant that it tried, if that is alive.  Endless ones are ended."""
    while True:
        for child, (what, begin) in list(running.items()):
            done, status = os.waitpid(child, os.WNOHANG)
            late = time.monotonic() - begin > limit
            if late and not done:
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
            if done or late:
                del running[child]
                return iter([what] if done and os.waitstatus_to_exitcode(status) == 0 else [])
        time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main())
