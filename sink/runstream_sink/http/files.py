"""Files of runs over HTTP: found without leaving their root, sent in ranges, and never run by a browser.

* A file is opened component by component below the root, and no symbolic link is followed.
* Its bytes are those of one open file: what is published meanwhile under the same path does not mix with them.
* Whatever a browser could run or render as a page of this server (HTML, SVG, XML, PDF, anything unknown) is sent as an
  attachment; all files come with ``nosniff`` and a policy that allows them nothing.
"""

import asyncio
import os
import re
import stat
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from litestar import Request, Response
from litestar.response import Stream

from runstream_schemas.errors import CorruptDataError
from runstream_sink.http.heads import HEAD
from runstream_sink.query.records import NotFoundError

__all__ = ["ByteRange", "File", "headers_of", "open_below", "parse_range", "respond"]

_CHUNK: Final = 256 << 10
_INLINE: Final = frozenset(
    {
        "application/json",
        "application/jsonl",
        "audio/mpeg",
        "audio/ogg",
        "audio/wav",
        "image/avif",
        "image/bmp",
        "image/gif",
        "image/jpeg",
        "image/png",
        "image/webp",
        "text/csv",
        "text/markdown",
        "text/plain",
        "text/tab-separated-values",
        "video/mp4",
        "video/webm",
    }
)
_MEDIA_TYPE: Final = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}", re.ASCII)
_RANGE: Final = re.compile(r"bytes=(\d{0,19})-(\d{0,19})", re.ASCII)
_POLICY: Final = "sandbox; default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'"


class ByteRange(NamedTuple):
    """Bytes of a file, both ends included."""

    first: int
    last: int


class File(NamedTuple):
    """An open file."""

    descriptor: int
    size: int


def open_below(root: Path, path: str) -> File:
    """Open a regular file by its path below ``root``; blocking.

    Raises `NotFoundError` if there is none, or only by way of a link or out of the root.
    """
    *directories, name = PurePosixPath(path).parts or ("",)
    with ExitStack() as held:
        try:
            place = _step(held, str(root), os.O_DIRECTORY)
            for part in directories:
                place = _step(held, _component(part), os.O_DIRECTORY | os.O_NOFOLLOW, place)
            descriptor = _step(held, _component(name), os.O_NONBLOCK | os.O_NOFOLLOW, place)
            size = _size(descriptor)
        except (OSError, ValueError) as error:
            raise NotFoundError(f"there is no file {path!r:.200} among the artifacts") from error
        return File(os.dup(descriptor), size)


def _step(held: ExitStack, part: str, flags: int, place: int | None = None) -> int:
    """Open something in the directory ``place``, for as long as ``held`` is held."""
    descriptor = os.open(part, os.O_RDONLY | os.O_CLOEXEC | flags, dir_fd=place)
    held.callback(os.close, descriptor)
    return descriptor


def _size(descriptor: int) -> int:
    """Bytes of a regular file.  Raises ValueError for anything else."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("no regular file")
    return status.st_size


def _component(part: str) -> str:
    """A name that leads one step down.  Raises ValueError for any other."""
    if part in {"", ".", "..", "/"}:
        raise ValueError("no way out of the root")
    return part


def parse_range(header: str, size: int) -> ByteRange | None:
    """The bytes that a Range header (RFC 9110, 14.2) asks for; None for the whole file.

    Several ranges, and what is no range, ask for the whole file.  Raises ValueError for one that is not there.
    """
    found = _RANGE.fullmatch(header.strip())
    if found is None or found[1] == found[2] == "":
        return None
    if found[1] == "":
        length = int(found[2])
        if not length or not size:
            raise ValueError("no bytes")
        return ByteRange(max(size - length, 0), size - 1)
    first, last = int(found[1]), int(found[2]) if found[2] else size - 1
    if found[2] and last < first:
        return None
    if first >= size:
        raise ValueError("behind the end")
    return ByteRange(first, min(last, size - 1))


def headers_of(path: str, media_type: str | None, *, download: bool = False) -> dict[str, str]:
    """How a browser is to take a file."""
    kind = (media_type or "").lower()
    if not _MEDIA_TYPE.fullmatch(kind):
        kind = "application/octet-stream"
    text = kind.startswith("text/") or kind in {"application/json", "application/jsonl"}
    way = "inline" if kind in _INLINE and not download else "attachment"
    name = quote(PurePosixPath(path).name.encode("utf-8", "replace"), safe="")
    return {
        "content-type": f"{kind}; charset=utf-8" if text else kind,
        "content-disposition": f"{way}; filename*=UTF-8''{name}",
        "content-security-policy": _POLICY,
        "cross-origin-resource-policy": "same-origin",
        "x-content-type-options": "nosniff",
    }


async def respond(
    request: Request[Any, Any, Any], root: Path, path: str, sha256: str, size: int, headers: Mapping[str, str]
) -> Response[Any]:
    """The file as an answer: whole, in part (206), unchanged since the client saw it (304), or not in that range (416).

    Raises `NotFoundError`, and `CorruptDataError` if the file has another size.
    """
    etag = f'"{sha256}"'
    common = {**headers, "etag": etag, "cache-control": "private, no-cache", "accept-ranges": "bytes"}
    if _matches(request.headers.get("if-none-match", ""), etag):
        return Response(b"", status_code=304, headers={"etag": etag, "cache-control": common["cache-control"]})
    wanted = request.headers.get("range", "")
    if request.headers.get("if-range", etag) != etag:
        wanted = ""
    try:
        part = parse_range(wanted, size)
    except ValueError:
        return Response(b"", status_code=416, headers={"content-range": f"bytes */{size}", "accept-ranges": "bytes"})
    file = await asyncio.to_thread(open_below, root, path)
    if file.size != size:
        os.close(file.descriptor)
        raise CorruptDataError(f"{path!r:.200} has {file.size} bytes instead of {size}; restore or replay it")
    first, last = part or ByteRange(0, size - 1)
    length = str(last - first + 1)
    if part is not None:
        common["content-range"] = f"bytes {first}-{last}/{size}"
    status = 200 if part is None else 206
    if HEAD in request.scope:
        os.close(file.descriptor)
        return Response(b"", status_code=status, headers={**common, "content-length": length})
    return Stream(_read(file, first, last + 1), status_code=status, headers={**common, "content-length": length})


def _matches(header: str, etag: str) -> bool:
    """If-None-Match (RFC 9110, 13.1.2), by the weak comparison."""
    return any(one.strip().removeprefix("W/") in {etag, "*"} for one in header.split(","))


async def _read(file: File, first: int, end: int) -> AsyncIterator[bytes]:
    try:
        while first < end:
            chunk = await asyncio.to_thread(os.pread, file.descriptor, min(_CHUNK, end - first), first)
            if not chunk:
                raise CorruptDataError("a file became shorter while it was sent")
            first += len(chunk)
            yield chunk
    finally:
        os.close(file.descriptor)
