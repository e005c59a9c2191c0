"""What the demo shows: progress, the files of the store, rows of a table, and what runstream commands print."""

import csv
import itertools
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

__all__ = ["RUNSTREAM", "command", "console", "show_command", "show_next", "show_progress", "show_results"]

RUNSTREAM: Final = str(Path(sys.executable).with_name("runstream"))
"""The command that belongs to this interpreter."""
_COLUMNS: Final = ("task_id", "passed", "tokens", "output", "error")
_ADDRESS: Final = "http://127.0.0.1:5600"
"""Where ``runstream sink`` serves."""
_CELL: Final = 20
"""Characters of a cell that are shown."""
console: Final = Console(highlight=False)


def show_progress(items: Iterator[Any], total: int, title: str) -> Iterator[Any]:
    """Hand items on; show a bar on a terminal, and a line now and then elsewhere."""
    if console.is_terminal:
        with Progress(console=console) as progress:
            yield from progress.track(items, total=total, description=title)
        return
    for count, item in enumerate(items, 1):
        yield item
        if count == total or count % 50 == 0:
            console.print(f"{title}: {count} of {total} prompts")


def command(*arguments: str) -> str:
    """What a runstream command prints."""
    done = subprocess.run([RUNSTREAM, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def show_results(store: Path, run_ids: Sequence[str]) -> None:
    """The files of the store, the first rows of a table, and the runs side by side."""
    tree = Tree(f"[bold]{store}")
    for path in sorted(store.iterdir()):
        branch = tree.add(path.name)
        if path.name == "artifacts":
            add_runs(branch, path, run_ids)
    console.print(tree)
    show_rows(store / "artifacts" / run_ids[-1] / "predictions.csv", count=5)
    show_command("runs", "compare", *run_ids, "--store", str(store))


def add_runs(tree: Tree, artifacts: Path, run_ids: Sequence[str]) -> None:
    """The files of the runs named; of others, their number."""
    others = [path for path in artifacts.iterdir() if path.name not in run_ids]
    if others:
        tree.add(f"[dim]{len(others)} runs of earlier calls")
    for run_id in run_ids:
        branch = tree.add(run_id)
        for file in sorted(path for path in (artifacts / run_id).rglob("*") if path.is_file()):
            branch.add(f"{file.relative_to(artifacts / run_id)} [dim]{file.stat().st_size:,} bytes")


def show_rows(file: Path, count: int) -> None:
    """The first rows of a CSV table, each cell on one line."""
    with file.open(newline="", encoding="utf-8") as lines:
        rows = list(itertools.islice(csv.DictReader(lines), count))
    title = f"The second run's {file.name}: its first rows, some of its columns"
    table = Table(*_COLUMNS, title=title, title_justify="left", box=SIMPLE_HEAD)
    for row in rows:
        table.add_row(*(Text(" ".join(row[column].split())[:_CELL]) for column in _COLUMNS))
    console.print(table)


def show_command(*arguments: str) -> None:
    """A runstream command, and what it prints."""
    console.print(f"[bold]$ runstream {' '.join(arguments)}", soft_wrap=True)
    console.file.flush()
    subprocess.run([RUNSTREAM, *arguments], check=True)


def show_next(stream: str, store: Path, experiment_id: str) -> None:
    """How to look at the results over HTTP, and what to do with them."""
    analysis = Path(__file__).with_name("analysis.py")
    console.print(
        f"""
Look at them over HTTP, where this is running:
  runstream sink --stream {stream} --store {store}
by the API ({_ADDRESS}/schema), with MLflow's own client (with its UI, too: sink --mlflow-ui), from a program:
  curl {_ADDRESS}/api/v1/runs
  MLFLOW_TRACKING_URI={_ADDRESS} mlflow runs list --experiment-id {experiment_id}
  RUNSTREAM_URL={_ADDRESS} python -c "import runstream; print(runstream.search_runs(['{experiment_id}']))"
or analyse them with pandas, DuckDB and matplotlib:
  RUNSTREAM_STORE={store} python {analysis}""",
        soft_wrap=True,
        markup=False,
    )
