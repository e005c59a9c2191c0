"""Reading logged tables back, where the sink's package is installed beside this one.

The producer never imports the sink: what reads a store is found by the entry point group ``runstream.reading``.
"""

from typing import Any

from runstream.client import client
from runstream.experiments import current_experiment
from runstream_schemas.errors import EnvironmentUnavailableError

__all__ = ["load_table"]


def load_table(
    artifact_file: str,
    run_ids: list[str] | None = None,
    extra_columns: list[str] | None = None,
    *,
    references: bool = False,
) -> Any:
    """Rows of a logged table as a pandas DataFrame: of the given runs, or of all of the current experiment.

    What the sink has not applied yet is not there.  ``extra_columns`` puts fields of the run (``run_id``, ``status``,
    ...) beside its rows.  Values above ``claim_size`` are read from their artifacts; with ``references`` they stay the
    text that the table holds, ``artifact:claims/...``.  Raises `EnvironmentUnavailableError` where there is no store or
    no package that reads it.
    """
    from importlib.metadata import entry_points  # it takes longer to load than all of this package

    experiment_id = current_experiment().experiment_id
    try:
        load = entry_points(group="runstream.reading")["load_table"].load()
        return load(client.config.store, artifact_file, run_ids, extra_columns, experiment_id, references)
    except (ImportError, KeyError) as error:
        raise EnvironmentUnavailableError(
            f"reading tables needs the sink's package and pandas: pip install 'runstream[sink]' pandas ({error})"
        ) from error
