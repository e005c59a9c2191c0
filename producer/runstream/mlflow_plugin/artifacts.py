"""Artifacts of runs for MLflow's client: logged through our staging, listed and downloaded from the sink or store.

Addresses are ``runstream-artifacts:/RUN_ID/PATH``; which stream and which sink is meant, the tracking URI says.
"""

import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mlflow.entities import FileInfo
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.tracking import get_tracking_uri

from runstream import files
from runstream.inputs import as_local_path, join_path
from runstream.mlflow_plugin.entities import speaking_mlflow
from runstream.mlflow_plugin.model_records import models_of
from runstream.mlflow_plugin.session import session_of
from runstream.tracking.artifacts import listed
from runstream.tracking.records import ArtifactRecord
from runstream_schemas.errors import EnvironmentUnavailableError, NotFoundError
from runstream_schemas.names import check_path, check_run_id

__all__ = ["Artifacts"]


class Artifacts(ArtifactRepository):  # type: ignore[misc]
    """The artifacts of one run, or those in one of its directories."""

    def __init__(self, artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> None:
        super().__init__(artifact_uri, tracking_uri, registry_uri)
        run_id, _, self._root = urlsplit(artifact_uri).path.strip("/").partition("/")
        with speaking_mlflow():
            self._run_id = check_run_id(run_id)
            self._session = session_of(tracking_uri or get_tracking_uri())

    def log_artifact(self, local_file: Any, artifact_path: str | None = None) -> None:
        """Log a file as it is now."""
        with speaking_mlflow():
            source = as_local_path(local_file)
            path = check_path(join_path(self._below(artifact_path), source.name), "the artifact's path")
            staged = files.log_file(self._session.client, self._run_id, path, source)
        if staged is not None:
            self._session.memory.add_file(self._run_id, path, staged)

    def log_artifacts(self, local_dir: Any, artifact_path: str | None = None) -> None:
        """Log all files of a directory."""
        with speaking_mlflow():
            below = self._below(artifact_path)
            files.log_directory(self._session.client, self._run_id, as_local_path(local_dir), below)

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        """What lies directly in a directory; nothing in what is none.

        Of a run without the files of its models, which MLflow lists by itself, below the models' names.
        """
        with speaking_mlflow():
            held = self._held()
        skip = len(self._root) + 1 if self._root else 0
        found = listed(held, self._below(path) or "")
        return [FileInfo(one.path[skip:], one.is_dir, one.file_size) for one in found]

    def _download_file(self, remote_file_path: str, local_path: Any) -> None:
        path = self._below(remote_file_path) or ""
        with speaking_mlflow():
            if self._session.settle() or not self._copy_staged(path, Path(local_path)):
                self._session.source.download(self._run_id, path, Path(local_path))

    def _held(self) -> list[ArtifactRecord]:
        """The files that the sink has; where it has not applied all yet, those that this process has logged as well."""
        memory = self._session.memory
        settled, held = self._session.settle(), []
        try:
            held = self._session.source.list_artifacts(self._run_id)
            if not self._root:
                models = tuple(f"{one.path}/" for one in models_of(self._session.source.get_run(self._run_id).tags))
                held = [one for one in held if not one.path.startswith(models)]
        except NotFoundError:
            pass
        except EnvironmentUnavailableError:
            if memory.run(self._run_id) is None:
                raise
        if settled:
            return held
        known = {one.path for one in held}
        logged = memory.files(self._run_id).items()
        return held + [ArtifactRecord(path, one.size, one.sha256, None) for path, one in logged if path not in known]

    def _copy_staged(self, path: str, target: Path) -> bool:
        """Copy a file that this process has logged from where it was staged; whether that was there."""
        staged = self._session.memory.files(self._run_id).get(path)
        if staged is None:
            return False
        try:
            shutil.copyfile(self._session.client.staging().path_of(staged.sha256), target)
        except OSError:  # the sink has it, and its place was freed
            return False
        return True

    def _below(self, path: str | None) -> str | None:
        """A path in the run; None for the run's own directory."""
        return "/".join(part for part in (self._root, (path or "").strip("/")) if part) or None
