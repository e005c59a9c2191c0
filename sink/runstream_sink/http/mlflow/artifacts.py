"""Artifacts: listed, uploaded, downloaded; under their run, and under the addresses that MLflow's client makes itself.

Such an address is ``EXPERIMENT/RUN/artifacts/PATH``.  What is uploaded becomes an artifact, whatever it is: a table
that MLflow's client logs is the JSON file that it writes.  Nothing deletes artifacts.
"""

import posixpath
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any, Final, NamedTuple

from litestar import Response

from runstream_schemas.events import ArtifactLogged
from runstream_sink.http.context import HttpContext
from runstream_sink.http.mlflow.call import Call, Endpoint, existing_run
from runstream_sink.http.mlflow.documents import artifact_root, listed
from runstream_sink.http.mlflow.errors import MlflowError, invalid, missing
from runstream_sink.http.mlflow.fields import integer, text
from runstream_sink.http.mlflow.files import Entry, directory, download, safe_path, upload_path

__all__ = ["ENDPOINTS", "PROXY", "ROOT"]

_ARTIFACTS: Final = "artifacts"
_MOST_AJAX: Final = 10 << 20
_SCHEME: Final = (
    "is not supported for proxied artifact storage (artifact URI scheme: mlflow-artifacts). This endpoint requires a "
    "direct cloud storage artifact URI."
)


class _Place(NamedTuple):
    run_id: str
    path: str


async def _list(call: Call) -> dict[str, Any]:
    asked = call.values["path"] or ""
    path = safe_path(asked)
    run = await existing_run(call.context, call.values["run_id"])
    entries = await directory(call.context.reader, run.run_id, path)
    files = [_document(entry, posixpath.join(asked, posixpath.basename(entry.path))) for entry in entries]
    return {"root_uri": artifact_root(run), **listed(files=files)}


async def _get(call: Call) -> Response[Any]:
    if call.values["path"] is None:
        raise MlflowError("BAD_REQUEST", "the query must have a path")
    asked = call.values["path"]
    path = safe_path(asked)
    run = await existing_run(call.context, call.values["run_id"] or "None")
    return await download(call, run.run_id, path, f"{run.experiment_id}/{run.run_id}/artifacts/{asked}")


async def _upload_small(call: Call) -> Response[Any]:
    run_id, path = call.values["run_uuid"], call.values["path"]
    for name, value in (("run_uuid", run_id), ("path", path)):
        if not value:
            raise invalid(f"Request must specify {name}.")
    place = _Place((await existing_run(call.context, run_id)).run_id, upload_path(path))
    size = await _store(call.context, place, _limited(call.request.stream()))
    if not size:
        raise invalid("Request must specify data.")
    return Response(b"", status_code=200, media_type="application/json")


async def _upload(call: Call) -> Response[bytes]:
    run_id, path = _place(safe_path(call.path))
    await existing_run(call.context, run_id)
    await _store(call.context, _Place(run_id, upload_path(path)), call.request.stream())
    return Response(b"", status_code=200)


async def _download(call: Call) -> Response[Any]:
    path = safe_path(call.path)
    try:
        place = _place(path)
        await existing_run(call.context, place.run_id)
    except MlflowError:
        raise missing(f"No such artifact: '{path:.1000}'") from None
    return await download(call, place.run_id, place.path, path)


async def _list_proxied(call: Call) -> dict[str, Any]:
    asked = safe_path(call.values["path"] or "")
    try:
        run_id, path = _place(asked)
    except MlflowError:
        return {}  # above a run nothing is listed
    entries = await directory(call.context.reader, run_id, path)
    return listed(files=[_document(entry, posixpath.basename(entry.path)) for entry in entries])


async def _delete(_call: Call) -> dict[str, Any]:
    raise MlflowError("NOT_IMPLEMENTED", "artifacts cannot be deleted here: they are kept with their run")


async def _multipart(call: Call) -> dict[str, Any]:
    what = "download" if call.request.method == "GET" else "upload"
    raise MlflowError("NOT_IMPLEMENTED", f"Multipart {what} is not supported for the current artifact repository")


async def _presigned_upload(_call: Call) -> dict[str, Any]:
    raise invalid(f"Presigned upload {_SCHEME}")


async def _presigned_download(_call: Call) -> dict[str, Any]:
    raise invalid(f"Presigned download {_SCHEME}")


async def _store(context: HttpContext, place: _Place, pieces: AsyncIterable[bytes]) -> int:
    """Stage bytes and log them as an artifact; returns how many, and logs none where there are none to log."""
    staged = await context.writer.stage(pieces)
    kind = await context.writer.media_type(place.path)
    await context.writer.submit([ArtifactLogged(place.run_id, place.path, staged.sha256, staged.size, kind)])
    return staged.size


async def _limited(pieces: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    size = 0
    async for piece in pieces:
        size += len(piece)
        if size > _MOST_AJAX:
            raise invalid("Artifact size is too large. Max size is 10MB.")
        yield piece
    if not size:
        raise invalid("Request must specify data.")


def _place(path: str) -> _Place:
    """The run and the path below it.  Raises `MlflowError` for an address that is no run's."""
    parts = path.split("/", 3)
    if len(parts) < 3 or parts[2] != _ARTIFACTS:
        raise invalid(f"'{path:.300}' is no address of a run's artifacts: EXPERIMENT/RUN/artifacts/PATH")
    return _Place(parts[1], parts[3] if len(parts) > 3 else "")


def _document(entry: Entry, path: str) -> dict[str, Any]:
    """As MLflow shows it: the size of what is empty is not told."""
    document = {"path": path, "is_dir": entry.size is None}
    return {**document, "file_size": entry.size} if entry.size else document


_RUN: Final = text("run_id", required=True)
ENDPOINTS: Final = (
    Endpoint("GET", "artifacts/list", _list, (_RUN, text("path"), text("page_token"))),
    Endpoint("POST", "artifacts/presigned-upload-url", _presigned_upload, (text("path"), integer("expiration"))),
    Endpoint("POST", "artifacts/presigned-download-url", _presigned_download, (text("path"), integer("expiration"))),
    Endpoint("POST", "upload-artifact", _upload_small, (text("run_uuid"), text("path"))),
)
PROXY: Final = (
    Endpoint("GET", "artifacts", _list_proxied, (text("path"),)),
    Endpoint("GET", "artifacts/", _download),
    Endpoint("PUT", "artifacts/", _upload),
    Endpoint("DELETE", "artifacts/", _delete),
    Endpoint("POST", "mpu/", _multipart),
    Endpoint("GET", "presigned/", _multipart),
)
"""Below ``mlflow-artifacts``; a path with a slash at its end is followed by anything."""
ROOT: Final = (Endpoint("GET", "get-artifact", _get, (text("run_id"), text("path"))),)
"""Below no version."""
