"""Reading back what was logged, with MLflow's names: runs, experiments, histories, tables, artifacts.

Where ``RUNSTREAM_URL`` is set, its sink is asked over HTTP (``RUNSTREAM_TOKEN`` is its token); else the store
(``RUNSTREAM_STORE``) is read by the sink's package, which must be installed then.  A read waits until a sink that runs
has applied what this process has logged, at most ``read_wait`` seconds; what no sink has applied is not there.  All
functions raise `NotFoundError` for what is not there, `InvalidInputError` for a filter or order that is
none, and `EnvironmentUnavailableError` where neither a sink nor a store answers.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from runstream.tracking.entities import Experiment, Metric, Run

__all__ = [
    "download_artifacts",
    "get_experiment",
    "get_experiment_by_name",
    "get_metric_history",
    "get_parent_run",
    "get_run",
    "load_table",
    "search_experiments",
    "search_runs",
]


def search_runs(
    experiment_ids: Sequence[str] | None = None,
    filter_string: str = "",
    run_view_type: int = 1,
    max_results: int = 100_000,
    order_by: Sequence[str] | None = None,
    output_format: Literal["pandas", "list"] = "pandas",
    search_all_experiments: bool = False,
    experiment_names: Sequence[str] | None = None,
) -> Any:
    """The runs of some experiments that meet MLflow's filter: a DataFrame, or a list of `Run`.

    Without ids and names it is those of the current experiment.  ``run_view_type`` is 1 for runs that were not deleted,
    2 for those that were, 3 for all.  The DataFrame has MLflow's columns: ``run_id``, ``metrics.KEY``, ...; times are
    in UTC.
    """
    from runstream.tracking import search

    return search.search_runs(
        experiment_ids,
        filter_string,
        run_view_type,
        max_results,
        order_by or (),
        output_format,
        search_all_experiments,
        experiment_names,
    )


def get_run(run_id: str) -> "Run":
    """One run: ``run.info.status``, ``run.data.metrics`` and so on."""
    from runstream.tracking import search

    return search.get_run(run_id)


def get_parent_run(run_id: str) -> "Run | None":
    """The run in which a run is nested; None if it is in none."""
    from runstream.tracking import search

    return search.get_parent_run(run_id)


def search_experiments(
    view_type: int = 1,
    max_results: int | None = None,
    filter_string: str | None = None,
    order_by: Sequence[str] | None = None,
) -> "list[Experiment]":
    """The experiments that meet MLflow's filter; ``view_type`` as in `search_runs`."""
    from runstream.tracking import search

    return search.search_experiments(view_type, max_results, filter_string or "", order_by or ())


def get_experiment(experiment_id: str) -> "Experiment":
    """One experiment."""
    from runstream.tracking import search

    return search.get_experiment(experiment_id)


def get_experiment_by_name(name: str) -> "Experiment | None":
    """The experiment with that name; None if there is none."""
    from runstream.tracking import search

    return search.get_experiment_by_name(name)


def get_metric_history(run_id: str, key: str) -> "list[Metric]":
    """All points of a metric, by step, then timestamp; none where the run has no such metric."""
    from runstream.tracking import search

    return search.get_metric_history(run_id, key)


def load_table(
    artifact_file: str,
    run_ids: list[str] | None = None,
    extra_columns: list[str] | None = None,
    *,
    references: bool = False,
) -> Any:
    """Rows of a logged table as a pandas DataFrame: of the given runs, or of all of the current experiment.

    ``extra_columns`` puts fields of the run (``run_id``, ``status``, ...) beside its rows.  Values above ``claim_size``
    are read from their artifacts; with ``references`` they stay the text that the table holds, ``artifact:claims/...``.
    """
    from runstream.tracking import tables

    return tables.load_table(artifact_file, run_ids, extra_columns or (), references=references)


def download_artifacts(
    artifact_uri: str | None = None,
    run_id: str | None = None,
    artifact_path: str | None = None,
    dst_path: str | None = None,
    tracking_uri: str | None = None,
) -> str:
    """Copy a file or directory of a run, or all of them, and return where it lies now.

    It is named by ``run_id`` and ``artifact_path``, or by ``artifact_uri`` as ``runs:/RUN_ID/PATH``.  Without
    ``dst_path``, an existing directory or one to be made, a new temporary directory is taken.  ``tracking_uri`` may be
    a sink's address, to be asked instead of the one in the settings.
    """
    from runstream.tracking import artifacts

    return artifacts.download_artifacts(artifact_uri, run_id, artifact_path, dst_path, tracking_uri)
