"""The query layer: what the API, the console and the command line read, from whatever store."""

from runstream_sink.query.experiments import (
    find_experiment,
    get_experiment,
    get_experiment_by_name,
    list_experiments,
    search_experiments,
)
from runstream_sink.query.metrics import Bucket, Metric, PointPage, list_metrics, metric_buckets, metric_page
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
    ExperimentPage,
    Loss,
    NotFoundError,
    Point,
    Position,
    Run,
    RunPage,
    Table,
)
from runstream_sink.query.runs import compare_runs, get_run, list_artifacts, list_runs, metric_history, search_runs
from runstream_sink.query.table_filters import Condition
from runstream_sink.query.table_pages import TablePage, table_page
from runstream_sink.query.tables import get_table, iter_table, list_tables, load_table

__all__ = [
    "Artifact",
    "Bucket",
    "Comparison",
    "Condition",
    "Counts",
    "DeadLetterRecord",
    "Experiment",
    "ExperimentPage",
    "Loss",
    "Metric",
    "NotFoundError",
    "Point",
    "PointPage",
    "Position",
    "Run",
    "RunPage",
    "Table",
    "TablePage",
    "compare_runs",
    "count_dead_letters",
    "counts",
    "find_experiment",
    "get_dead_letter",
    "get_experiment",
    "get_experiment_by_name",
    "get_run",
    "get_table",
    "iter_table",
    "list_artifacts",
    "list_dead_letters",
    "list_experiments",
    "list_losses",
    "list_metrics",
    "list_positions",
    "list_runs",
    "list_tables",
    "load_table",
    "metric_buckets",
    "metric_history",
    "metric_page",
    "search_experiments",
    "search_runs",
    "table_page",
]
