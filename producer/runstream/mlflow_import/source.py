"""A tracking store of MLflow's, read through MLflow's own client: a server, a database, or a directory of files.

This is the only module that knows MLflow's classes, and the seam at which its exceptions are translated.
"""

import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from runstream.mlflow_import.model import ListedFile, NotBroughtError, SourceExperiment, SourceRun
from runstream_schemas.errors import EnvironmentUnavailableError, InvalidInputError
from runstream_schemas.inputs import input_key, input_text
from runstream_schemas.streams import hide_password

__all__ = ["MlflowSource", "address_of", "open_source"]

_PAGE: Final = 1000
_RUNS_HELD: Final = 64
"""Runs of which it is known where their artifacts lie."""
_DATABASES: Final = ("sqlite", "postgresql", "mysql", "mssql")
_RETRIES: Final = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"


def address_of(text: str) -> tuple[str, str]:
    """The tracking URI that is meant, and what it is called without passwords.

    Raises `InvalidInputError` for what cannot be one: no file or directory that holds what MLflow keeps, or a scheme
    that there is none of.
    """
    scheme = urlsplit(text).scheme.lower() if "://" in text or text.startswith(("sqlite:", "file:")) else ""
    if scheme in {"http", "https"}:
        return text.rstrip("/"), hide_password(text.rstrip("/"))
    if scheme.partition("+")[0] in _DATABASES:
        if scheme.partition("+")[0] == "sqlite":
            return _database(text)
        return text, hide_password(text)
    if scheme not in {"", "file"}:
        raise InvalidInputError(
            f"{hide_password(text)!r:.300} is no source that there is; use http(s)://HOST:PORT, sqlite:///FILE, "
            "another database's URI, or a directory"
        )
    return _directory(Path(unquote(urlsplit(text).path)) if scheme else Path(text))


def open_source(text: str) -> "MlflowSource":
    """Open a source, and see whether it answers.

    Raises `InvalidInputError` for what can be none, `EnvironmentUnavailableError` where it does not answer or refuses,
    ModuleNotFoundError where MLflow is not installed.
    """
    uri, address = address_of(text)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    from mlflow import MlflowClient

    with _translated(f"{address} cannot be read"):
        client = MlflowClient(tracking_uri=uri)
        source = MlflowSource(client, address, lambda place: get_artifact_repository(place, tracking_uri=uri))
        given = os.environ.get(_RETRIES)
        os.environ[_RETRIES] = given or "1"  # who waits at the beginning wants to know
        try:
            source.probe()
        finally:
            os.environ[_RETRIES] = given or "5"
    return source


class MlflowSource:
    """What `Source` promises, of one tracking URI."""

    def __init__(self, client: Any, address: str, repository: Callable[[str], Any]) -> None:
        """``repository`` opens what holds the artifacts at a URI."""
        self.address = address
        self._client = client
        self._open = repository
        self._held: dict[str, dict[str, Any]] = {}

    def probe(self) -> None:
        """Ask for something small."""
        self._client.search_experiments(max_results=1)

    def experiments(self, *, deleted: bool) -> Iterator[SourceExperiment]:
        """All experiments."""
        view = _view(deleted=deleted)
        for found in self._pages(lambda token: self._client.search_experiments(view, _PAGE, page_token=token)):
            yield SourceExperiment(
                str(found.experiment_id),
                found.name,
                found.creation_time,
                found.last_update_time,
                found.lifecycle_stage == "deleted",
                dict(found.tags),
            )

    def runs(self, experiment_id: str, *, deleted: bool) -> Iterator[SourceRun]:
        """All runs of an experiment: the oldest first, so that those that begin meanwhile shift no page."""
        view, order = _view(deleted=deleted), ["attributes.start_time ASC"]
        found = self._pages(
            lambda token: self._client.search_runs([experiment_id], "", view, _PAGE, order, page_token=token)
        )
        return map(_run, found)

    def history(self, run_id: str, key: str) -> Iterable[tuple[int, int, float]]:
        """All points of a metric, fetched in pages of thousands."""
        with self._item("its history cannot be read"):
            points = self._client.get_metric_history(run_id, key)
        return ((point.step, point.timestamp, point.value) for point in points)

    def files(self, run_id: str) -> Iterator[ListedFile]:
        """All artifacts of a run, directory by directory; those of its models lie below the model's name."""
        with self._item("the source does not list them"):
            places = self._places(run_id)
        for prefix, repository in places.items():
            waiting: list[str | None] = [None]
            while waiting:
                with self._item("the source does not list them"):
                    listed = repository.list_artifacts(waiting.pop())
                waiting += [one.path for one in listed if one.is_dir]
                yield from (ListedFile(prefix + one.path, one.file_size) for one in listed if not one.is_dir)

    def download(self, run_id: str, path: str, directory: Path) -> Path:
        """Fetch an artifact."""
        with self._item("it cannot be downloaded"):
            places = self._places(run_id)
            prefix = max((prefix for prefix in places if path.startswith(prefix)), key=len)
            local = Path(places[prefix].download_artifacts(path.removeprefix(prefix), str(directory)))
        if not local.is_file():
            raise NotBroughtError("it cannot be downloaded: there is no such file")
        return local

    @contextmanager
    def _item(self, what: str) -> Iterator[None]:
        """What concerns one thing is a `NotBroughtError`, as long as the source itself answers."""
        try:
            with _translated(what):
                yield
        except EnvironmentUnavailableError as error:
            with _translated(f"{self.address} cannot be read"):
                self.probe()
            raise NotBroughtError(str(error)) from error

    def _places(self, run_id: str) -> dict[str, Any]:
        """Where a run's artifacts lie: MLflow's repositories, by what their paths begin with."""
        found: dict[str, Any] | None = self._held.get(run_id)
        if found is None:
            run = self._client.get_run(run_id)
            places = {"": run.info.artifact_uri}
            for output in getattr(run.outputs, "model_outputs", None) or ():
                model = self._client.get_logged_model(output.model_id)
                places[f"{model.name}/"] = model.artifact_location
            found = {prefix: self._open(uri) for prefix, uri in places.items()}
            self._held[run_id] = found
            while len(self._held) > _RUNS_HELD:
                self._held.pop(next(iter(self._held)), None)
        return found

    def _pages(self, ask: Callable[[str | None], Any]) -> Iterator[Any]:
        token = None
        while True:
            with _translated(f"{self.address} cannot be read"):
                page = ask(token)
            yield from page
            token = page.token
            if not token:
                return


def _view(*, deleted: bool) -> int:
    from mlflow.entities import ViewType

    view: int = ViewType.ALL if deleted else ViewType.ACTIVE_ONLY
    return view


def _run(found: Any) -> SourceRun:
    info, data = found.info, found.data
    return SourceRun(
        info.run_id,
        info.run_name or None,
        info.user_id or None,
        info.status,
        info.start_time,
        info.end_time,
        info.lifecycle_stage == "deleted",
        dict(data.params),
        {**data.tags, **_inputs(found)},
        {metric.key: (metric.value, metric.timestamp, metric.step) for metric in data._metric_objs},  # noqa: SLF001
    )


def _inputs(found: Any) -> dict[str, str]:
    """Datasets, as the sink keeps them: a tag each."""
    inputs = found.inputs.dataset_inputs if found.inputs else ()
    return dict(map(_input, inputs))


def _input(given: Any) -> tuple[str, str]:
    held = given.dataset
    dataset = {name: getattr(held, name) or "" for name in ("name", "digest", "source_type", "source")}
    dataset |= {name: getattr(held, name) for name in ("schema", "profile") if getattr(held, name) is not None}
    tags = [{"key": tag.key, "value": tag.value} for tag in given.tags]
    entry = {"tags": tags, "dataset": dataset} if tags else {"dataset": dataset}
    return input_key(entry), input_text(entry)


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """Whatever MLflow, and what it stands on, raises becomes an `EnvironmentUnavailableError` that says what to do."""
    try:
        yield
    except (EnvironmentUnavailableError, ModuleNotFoundError):
        raise
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        advice = next((advice for pattern, advice in _ADVICE if re.search(pattern, text)), "")
        told = f"{advice} ({text:.300})" if advice else f"{text:.600}"
        raise EnvironmentUnavailableError(f"{what}: {told}") from error


_ADVICE: Final = (
    (
        r"error code (401|403)|Unauthorized|Forbidden",
        "it refuses; set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
    ),
    (r"Max retries exceeded|Connection refused|NameResolution|timed out", "it does not answer; check the address"),
    (r"error code (404|405)|Expecting value|JSONDecodeError|valid JSON|Failed to parse", "it is no MLflow server"),
    (r"[Oo]ut-of-date database schema", "its schema is of another version; run mlflow db upgrade on a copy"),
)


def _database(text: str) -> tuple[str, str]:
    """A database of SQLite: MLflow would make one that is not there, or fill one that is something else."""
    found = re.fullmatch(r"sqlite(?:\+\w+)?:///(.+)", text)
    if found is None:
        raise InvalidInputError(f"{text!r:.300} names no file; use sqlite:///FILE")
    path = Path(found[1].partition("?")[0]).absolute()
    if not path.is_file():
        raise InvalidInputError(f"there is no file {path}; check the source")
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.Error as error:
        raise InvalidInputError(f"{path} is no database of SQLite: {error}") from error
    if not {"experiments", "runs", "alembic_version"} <= tables:
        raise InvalidInputError(f"{path} is no database of MLflow's: it lacks the tables of its tracking store")
    return f"sqlite:///{path}", f"sqlite:///{path}"


def _directory(path: Path) -> tuple[str, str]:
    """A directory of MLflow's file store, which MLflow would make where there is none."""
    path = path.absolute()
    if path.is_file():
        raise InvalidInputError(f"{path} is a file; for a database of SQLite say sqlite:///{path}")
    if not path.is_dir():
        raise InvalidInputError(f"there is no directory {path}; check the source")
    if not any(path.glob("*/meta.yaml")) and not any(path.glob(".trash/*/meta.yaml")):
        database = next(iter(sorted(path.glob("*.db"))), None)
        hint = f"; say sqlite:///{database}" if database is not None else ""
        raise InvalidInputError(f"{path} holds no experiments of MLflow's (no */meta.yaml){hint}")
    return path.as_uri(), str(path)
