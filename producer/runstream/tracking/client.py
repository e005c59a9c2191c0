"""``runstream.MlflowClient``: the tracking methods of MLflow's class, with its names, parameters and their order.

What is logged goes to the journal, and no call waits for a server.  What is read comes from the sink or the store, as
in `runstream.reading`, and is waited for as `runstream.tracking.settling` says.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from runstream.client import client
from runstream.experiments import announce, checked_id, checked_name
from runstream.inputs import as_text, check_tags
from runstream.tracking import tables
from runstream.tracking.artifacts import downloaded, listed
from runstream.tracking.client_runs import RunMethods
from runstream.tracking.entities import Experiment, FileInfo, Metric, Run, ViewType, experiment_of, run_of
from runstream.tracking.records import Page, Source
from runstream.tracking.search import history, lifecycle_of
from runstream.tracking.sources import settled_source
from runstream_schemas import events as ev
from runstream_schemas.errors import InvalidInputError, NotFoundError
from runstream_schemas.names import check_key, check_run_id

__all__ = ["MlflowClient", "PagedList"]

_AT_ONCE: Final = 1000


class PagedList(list[Any]):
    """A page of results; ``token`` asks for the next one, and is None on the last."""

    def __init__(self, items: Sequence[Any], token: str | None) -> None:
        super().__init__(items)
        self.token = token


class MlflowClient(RunMethods):
    """Logs to any run of any experiment, and reads them back.

    ``tracking_uri`` may be the address of the sink that is read; else it is as the settings say.  Which stream takes
    what is logged, the settings say alone.  Errors are those of `runstream.reading` and of the log functions.
    """

    def __init__(
        self, tracking_uri: str | None = None, registry_uri: str | None = None, workspace_store_uri: str | None = None
    ) -> None:
        del registry_uri, workspace_store_uri
        super().__init__()
        if tracking_uri is not None and not str(tracking_uri).startswith(("http://", "https://")):
            raise InvalidInputError(
                f"tracking_uri is a sink's address, http://HOST:PORT, not {tracking_uri!r:.200}; "
                "which stream takes what is logged, runstream.configure(stream=...) says"
            )
        self._url = None if tracking_uri is None else str(tracking_uri)

    @property
    def tracking_uri(self) -> str | None:
        """The address of the sink that is read, if one was given."""
        return self._url

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"runstream.MlflowClient has no {name!r}: what tracks runs and experiments is here, but no models, "
            "registry, traces, prompts or evaluation; docs/mlflow.md says what there is"
        )

    def create_experiment(
        self, name: str, artifact_location: str | None = None, tags: dict[str, Any] | None = None
    ) -> str:
        """Create an experiment and return its id, which follows from the name: making it again changes nothing."""
        if artifact_location is not None:
            raise InvalidInputError(
                "artifact_location cannot be set by an experiment; set RUNSTREAM_ARTIFACTS for the sink"
            )
        return announce(checked_name(name), check_tags(tags or {})).experiment_id

    def get_experiment(self, experiment_id: str) -> Experiment:
        """One experiment."""
        return experiment_of(self._source().get_experiment(str(experiment_id)))

    def get_experiment_by_name(self, name: str) -> Experiment | None:
        """The experiment with that name; None if there is none."""
        try:
            return experiment_of(self._source().get_experiment_by_name(name))
        except NotFoundError:
            return None

    def search_experiments(
        self,
        view_type: int = ViewType.ACTIVE_ONLY,
        max_results: int | None = 1000,
        filter_string: str | None = None,
        order_by: Sequence[str] | None = None,
        page_token: str | None = None,
    ) -> PagedList:
        """A page of the experiments that meet MLflow's filter."""
        source, lifecycle = self._source(), lifecycle_of(view_type)

        def find(page: Page) -> tuple[list[Any], str | None]:
            found = source.search_experiments(filter_string or "", order_by or (), lifecycle, page)
            return [experiment_of(held) for held in found.experiments], found.cursor

        return _page(find, max_results or _AT_ONCE, page_token)

    def delete_experiment(self, experiment_id: str) -> None:
        """Mark an experiment and its runs deleted."""
        client.emit(ev.ExperimentDeleted(checked_id(experiment_id)))

    def restore_experiment(self, experiment_id: str) -> None:
        """Take a deletion back."""
        client.emit(ev.ExperimentRestored(checked_id(experiment_id)))

    def rename_experiment(self, experiment_id: str, new_name: str) -> None:
        """Change the name that is shown; the id stays."""
        client.emit(ev.ExperimentRenamed(checked_id(experiment_id), checked_name(new_name)))

    def set_experiment_tag(self, experiment_id: str, key: str, value: Any) -> None:
        """Set a tag of an experiment."""
        client.emit(ev.ExperimentTagsSet(checked_id(experiment_id), {check_key(key, "tag"): as_text(value)}))

    def delete_experiment_tag(self, experiment_id: str, key: str) -> None:
        """Remove a tag of an experiment."""
        client.emit(ev.ExperimentTagDeleted(checked_id(experiment_id), check_key(key, "tag")))

    def get_run(self, run_id: str) -> Run:
        """One run."""
        source = self._source()
        return run_of(source.get_run(run_id), source)

    def get_parent_run(self, run_id: str) -> Run | None:
        """The run in which a run is nested; None if it is in none."""
        parent = self.get_run(run_id).data.tags.get("mlflow.parentRunId")
        return None if parent is None else self.get_run(parent)

    def search_runs(
        self,
        experiment_ids: Sequence[str],
        filter_string: str = "",
        run_view_type: int = ViewType.ACTIVE_ONLY,
        max_results: int = 1000,
        order_by: Sequence[str] | None = None,
        page_token: str | None = None,
    ) -> PagedList:
        """A page of the runs of some experiments that meet MLflow's filter."""
        source, lifecycle = self._source(), lifecycle_of(run_view_type)
        ids = [experiment_ids] if isinstance(experiment_ids, str | int) else experiment_ids

        def find(page: Page) -> tuple[list[Any], str | None]:
            found = source.search_runs([str(one) for one in ids], filter_string, order_by or (), lifecycle, page)
            return [run_of(held, source) for held in found.runs], found.cursor

        return _page(find, max_results, page_token)

    def get_metric_history(self, run_id: str, key: str) -> list[Metric]:
        """All points of a metric, by step, then timestamp."""
        return history(self._source(), run_id, key)

    def load_table(
        self,
        experiment_id: str,
        artifact_file: str,
        run_ids: list[str] | None = None,
        extra_columns: list[str] | None = None,
    ) -> Any:
        """Rows of a logged table as a pandas DataFrame: of the given runs, or of all of the experiment."""
        return tables.load_rows(
            self._source(), artifact_file, run_ids, extra_columns or (), str(experiment_id), references=False
        )

    def list_artifacts(self, run_id: str, path: str | None = None) -> list[FileInfo]:
        """What lies directly in a directory of a run; nothing in what is none."""
        return listed(self._source().list_artifacts(check_run_id(run_id)), path or "")

    def download_artifacts(self, run_id: str, path: str, dst_path: str | None = None) -> str:
        """Copy a file or directory of a run into ``dst_path``, or a new temporary directory; where it lies now."""
        return downloaded(self._source(), check_run_id(run_id), path, dst_path)

    def _source(self) -> Source:
        return settled_source(self._url)


def _page(find: Callable[[Page], tuple[list[Any], str | None]], most: int, token: str | None) -> PagedList:
    """Up to so many items from behind a token."""
    if most < 0:
        raise InvalidInputError(f"max_results is {most}; it must not be negative")
    found: list[Any] = []
    while len(found) < most:
        some, token = find(Page(min(_AT_ONCE, most - len(found)), token or None))
        found += some
        if token is None:
            break
    return PagedList(found, token)
