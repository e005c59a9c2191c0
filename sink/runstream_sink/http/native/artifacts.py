"""Artifacts of runs: listed, downloaded, uploaded."""

import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

from litestar import Request, Response, Router
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, FromQuery, HeaderParameter, QueryParameter

from runstream_schemas.errors import CorruptDataError, InvalidInputError
from runstream_schemas.events import ArtifactLogged
from runstream_schemas.names import check_path
from runstream_sink.http import actions
from runstream_sink.http.context import Context, HttpContext
from runstream_sink.http.files import headers_of, respond
from runstream_sink.http.native.models import StoredArtifact, StoredArtifacts
from runstream_sink.http.native.routes import READING, get, put
from runstream_sink.http.problems import ConflictError, TooLargeError
from runstream_sink.query import Artifact, NotFoundError, get_run, list_artifacts

__all__ = ["ROUTER", "UPLOAD_LIMIT", "find_artifact", "upload"]

UPLOAD_LIMIT: Final = 64 << 30
"""Bytes of one artifact."""
_HEX: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


@get("/")
async def list_artifacts_of_run(
    context: Context, run_id: FromPath[str], path: FromQuery[str | None] = None
) -> StoredArtifacts:
    """The artifacts of a run, or those in one directory of it, however deep."""
    await get_run(context.reader, run_id)
    inside = f"{path.strip('/')}/" if path and path.strip("/") else ""
    found = [held for held in await list_artifacts(context.reader, run_id) if held.path.startswith(inside)]
    return StoredArtifacts([_stored(held) for held in found])


@get(
    "/{path:path}",
    responses={**READING, 200: ResponseSpec(bytes, description="The file", media_type="application/octet-stream")},
)
async def download_artifact(
    context: Context,
    request: Request[Any, Any, Any],
    run_id: FromPath[str],
    path: FromPath[str],
    as_file: Annotated[bool, QueryParameter(name="download", description="For a browser to save.")] = False,
) -> Response[Any]:
    """A file.  Takes Range, If-Range and If-None-Match; the ETag is its SHA-256."""
    held = await find_artifact(context, run_id, str(path).lstrip("/"))
    while True:
        headers = headers_of(held.path, held.media_type, download=as_file)
        try:
            return await respond(
                request, context.options.artifacts, f"{run_id}/{held.file}", held.sha256, held.size, headers
            )
        except (NotFoundError, CorruptDataError):
            before, held = held, await find_artifact(context, run_id, held.path)
            if held == before:  # else it was replaced just now
                raise


@put("/{path:path}", request_max_body_size=UPLOAD_LIMIT)
async def upload_artifact(
    context: Context,
    request: Request[Any, Any, Any],
    run_id: FromPath[str],
    path: FromPath[str],
    sha256: FromQuery[str | None] = None,
    digest: Annotated[str | None, HeaderParameter(name="Content-Digest", description="RFC 9530, sha-256.")] = None,
) -> StoredArtifact:
    """Upload a file; the answer comes when it can be downloaded.

    Whoever names the hash, by ``sha256`` or Content-Digest, is sure that it is the file that was meant.
    """
    expected = _expected(sha256, digest)
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower() or None
    if media_type == "application/octet-stream":
        media_type = None
    return _stored(await upload(context, run_id, str(path).lstrip("/"), request.stream(), media_type, expected))


async def upload(
    context: HttpContext,
    run_id: str,
    path: str,
    chunks: AsyncIterator[bytes],
    media_type: str | None = None,
    sha256: str | None = None,
) -> Artifact:
    """Stage bytes, log them as an artifact, and return it when it is published.

    Raises `NotFoundError`, `ConflictError` for a deleted run, `InvalidInputError` for a path that none can have or
    for bytes with another hash, `StreamUnavailableError`.
    """
    path = check_path(path, "the artifact's path")
    await actions.active_run(context, run_id)
    staged = await context.writer.stage(_limited(chunks))
    if sha256 is not None and staged.sha256 != sha256:
        raise InvalidInputError(f"the {staged.size} bytes that came have the hash {staged.sha256}, not {sha256}")
    kind = media_type or await context.writer.media_type(path)
    await context.writer.submit([ArtifactLogged(run_id, path, staged.sha256, staged.size, kind)])
    held = await find_artifact(context, run_id, path)
    if held.sha256 != staged.sha256:
        raise ConflictError(f"another file was logged as {path!r:.200} at the same time")
    return held


async def find_artifact(context: HttpContext, run_id: str, path: str) -> Artifact:
    """The artifact at a path.  Raises `NotFoundError`."""
    await get_run(context.reader, run_id)
    for held in await list_artifacts(context.reader, run_id):
        if held.path == path:
            return held
    raise NotFoundError(f"run {run_id} has no artifact {path!r:.200}")


async def _limited(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > UPLOAD_LIMIT:
            raise TooLargeError(f"an artifact has at most {UPLOAD_LIMIT} bytes")
        yield chunk


def _expected(sha256: str | None, digest: str | None) -> str | None:
    """The hash that the client names, in hexadecimal digits."""
    if sha256 is not None:
        if not _HEX.fullmatch(sha256.lower()):
            raise InvalidInputError("sha256 must be 64 hexadecimal digits")
        return sha256.lower()
    for one in (digest or "").split(","):
        name, _, value = one.strip().partition("=")
        if name.lower() == "sha-256":
            try:
                found = b64decode(value.strip(":"), validate=True)
            except Base64Error:
                found = b""
            if len(found) != 32:
                raise InvalidInputError("Content-Digest must be sha-256=:BASE64:")
            return found.hex()
    return None


def _stored(held: Artifact) -> StoredArtifact:
    return StoredArtifact(held.path, held.size, held.sha256, held.media_type)


ROUTER: Final = Router(
    "/runs/{run_id:str}/artifacts",
    route_handlers=[list_artifacts_of_run, download_artifact, upload_artifact],
    tags=["artifacts"],
)
