"""The query layer: what the API, the console and the command line read, from whatever store."""

from runstream_sink.query.experiments import find_experiment, list_experiments
from runstream_sink.query.operations import (
    count_dead_letters,
    counts,
    get_dead_letter,
    list_dead_letters,
    list_losses,
    list_positions,
)
from runstream_sink.query.records import (
    Artifact,
    Comparison,
    Counts,
    DeadLetterRecord,
    Experiment,
    Loss,
    NotFoundError,
    Point,
    Position,
    Run,
    RunPage,
    Table,
)
from runstream_sink.query.runs import compare_runs, get_run, list_artifacts, list_runs, metric_history
from runstream_sink.query.tables import get_table, iter_table, list_tables, load_table

__all__ = [
    "Artifact",
    "Comparison",
    "Counts",
    "DeadLetterRecord",
    "Experiment",
    "Loss",
    "NotFoundError",
    "Point",
    "Position",
    "Run",
    "RunPage",
    "Table",
    "compare_runs",
    "count_dead_letters",
    "counts",
    "find_experiment",
    "get_dead_letter",
    "get_run",
    "get_table",
    "iter_table",
    "list_artifacts",
    "list_dead_letters",
    "list_experiments",
    "list_losses",
    "list_positions",
    "list_runs",
    "list_tables",
    "load_table",
    "metric_history",
]
