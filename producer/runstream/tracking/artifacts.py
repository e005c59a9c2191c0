"""Artifacts of runs, copied to where a program can open them."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from runstream.tracking.entities import FileInfo
from runstream.tracking.records import ArtifactRecord, Source
from runstream.tracking.sources import current_source, settled_source
from runstream_schemas.errors import InvalidInputError, NotFoundError
from runstream_schemas.names import check_path, check_run_id

__all__ = ["download_artifacts", "downloaded", "fetch", "listed"]

_RUNS: Final = "runs:/"


def download_artifacts(
    artifact_uri: str | None, run_id: str | None, artifact_path: str | None, dst_path: str | None, url: str | None
) -> str:
    """See `runstream.download_artifacts`."""
    if (artifact_uri is None) == (run_id is None):
        raise InvalidInputError("download_artifacts takes either artifact_uri or run_id")
    if artifact_uri is not None:
        if artifact_path is not None or not artifact_uri.startswith(_RUNS):
            raise InvalidInputError(
                f"an artifact_uri is runs:/RUN_ID/PATH, without artifact_path; not {artifact_uri!r:.200}"
            )
        run_id, _, artifact_path = artifact_uri.removeprefix(_RUNS).lstrip("/").partition("/")
    source = settled_source() if url is None else current_source(url)
    return downloaded(source, check_run_id(run_id), artifact_path or "", dst_path)


def downloaded(source: Source, run_id: str, path: str, dst_path: str | None) -> str:
    """`fetch` into a directory that is given, or a new temporary one."""
    target = Path(tempfile.mkdtemp(prefix="runstream-")) if dst_path is None else Path(dst_path)
    return str(fetch(source, run_id, path, target))


def listed(held: Sequence[ArtifactRecord], path: str) -> list[FileInfo]:
    """What of a run's artifacts lies directly in a directory, by path; nothing in what is none."""
    wanted = path.strip("/")
    inside = f"{wanted}/" if wanted else ""
    found: dict[str, FileInfo] = {}
    for one in held:
        if one.path.startswith(inside):
            name, deeper, _ = one.path.removeprefix(inside).partition("/")
            found[inside + name] = FileInfo(inside + name, bool(deeper), None if deeper else one.size)
    return [found[name] for name in sorted(found)]


def fetch(source: Source, run_id: str, path: str, target: Path) -> Path:
    """Copy what lies at a path of a run, a file or a directory, into ``target``; the copy's path.

    Raises `NotFoundError` if nothing lies there.
    """
    wanted = path.strip("/")
    inside = f"{wanted}/" if wanted else ""
    held = [one.path for one in source.list_artifacts(run_id)]
    paths = [one for one in held if one == wanted or one.startswith(inside)]
    if not paths and wanted:
        raise NotFoundError(f"run {run_id} has no artifact {wanted!r:.200}")
    target.mkdir(parents=True, exist_ok=True)
    for one in paths:
        file = target / check_path(one, "the artifact's path")
        file.parent.mkdir(parents=True, exist_ok=True)
        source.download(run_id, one, file)
    return (target / wanted if wanted else target).absolute()
