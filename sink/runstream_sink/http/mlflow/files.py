"""The files of a run as MLflow shows them: its artifacts, and each table as a JSON document in pandas' split form.

A table ``x`` is the file ``x.json``, made when it is asked for, unless the run has an artifact of that name.
"""

import posixpath
import re
import unicodedata
from collections.abc import AsyncIterator
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

import msgspec
from litestar import Response
from litestar.response import Stream

from runstream_schemas.errors import InvalidInputError
from runstream_schemas.names import check_path
from runstream_sink.http.context import HttpContext
from runstream_sink.http.files import headers_of, respond
from runstream_sink.http.mlflow.call import Call
from runstream_sink.http.mlflow.errors import invalid, missing
from runstream_sink.query.claims import ClaimedValues
from runstream_sink.query.records import Artifact, Table
from runstream_sink.query.runs import list_artifacts
from runstream_sink.query.tables import iter_table, list_tables
from runstream_sink.store.protocol import StoreReader

__all__ = ["Entry", "directory", "download", "safe_path", "upload_path"]

_TEXTS: Final = frozenset(
    """
    cfg conf csv css css3 err html ini ipynb js json jsonl jsonnet log md mlproject mlmodel out py r rst sh sql svg toml
    tsv txt xhtml xml yaml yml
    """.split()  # noqa: SIM905 - a list literal would be a word a line
)
_DECODED: Final = 10
"""Times that a path may be quoted; more is refused."""


class Entry(NamedTuple):
    """A file or a directory."""

    path: str
    """Below the run's artifacts."""
    size: int | None
    """None of a directory.  Of a table it is that of its CSV files."""


def safe_path(path: str) -> str:
    """The path in normal form, empty for ``.``, or what MLflow answers for one that leads elsewhere, however quoted."""
    plain = path
    for _ in range(_DECODED):
        plain, before = unquote(plain), plain
        if plain == before:
            break
    else:
        raise invalid("Invalid path")
    absolute = plain.startswith(("/", "\\")) or re.match(r"[A-Za-z]:[/\\]", plain)
    if absolute or "#" in plain or "\0" in plain or ".." in re.split(r"[/\\]", plain):
        raise invalid("Invalid path")
    plain = posixpath.normpath(unicodedata.normalize("NFC", path).strip("/"))
    return "" if plain == "." else plain


def upload_path(path: str) -> str:
    """The path of an artifact to be, or what MLflow answers for what cannot be one."""
    try:
        return check_path(safe_path(path), "the artifact's path")
    except InvalidInputError as error:
        raise invalid(f"Invalid path: {error}") from None


async def directory(reader: StoreReader, run_id: str, path: str) -> list[Entry]:
    """What lies directly in a directory of a run, by path; nothing where there is none."""
    start = f"{path}/" if path else ""
    found: dict[str, int | None] = {}
    for name, (size, _) in (await _files(reader, run_id)).items():
        if name.startswith(start):
            head, slash, _ = name[len(start) :].partition("/")
            found[start + head] = None if slash else size
    return [Entry(*item) for item in sorted(found.items())]


async def download(call: Call, run_id: str, path: str, shown: str) -> Response[Any]:
    """A file of a run, to be saved and never shown; ``shown`` is what an error calls it."""
    context = call.context
    files = await _files(context.reader, run_id)
    if path not in files:
        if any(name.startswith(f"{path}/") for name in files) or (files and not path):
            raise invalid(f"Artifact path refers to a directory, not a file: '{shown}'")
        raise missing(f"No such artifact: '{shown:.1000}'")
    _, held = files[path]
    if isinstance(held, Table):
        headers = _headers(path, "text/plain")
        return Stream(_rendered(context, run_id, held), status_code=200, headers=headers)
    headers = _headers(path, _media_type(held))
    file = f"{run_id}/{held.file}"
    return await respond(call.request, context.options.artifacts, file, held.sha256, held.size, headers)


async def _files(reader: StoreReader, run_id: str) -> dict[str, tuple[int, Artifact | Table]]:
    tables = {
        f"{table.name}.json": (sum(part.length for part in table.parts), table)
        for table in await list_tables(reader, run_id)
    }
    artifacts = {artifact.path: (artifact.size, artifact) for artifact in await list_artifacts(reader, run_id)}
    return {**tables, **artifacts}


async def _rendered(context: HttpContext, run_id: str, table: Table) -> AsyncIterator[bytes]:
    """A table as ``{"columns": [...], "data": [[...], ...]}``, piece by piece."""
    root = context.options.artifacts
    claimed = ClaimedValues(context.reader, run_id, root)
    yield b'{"columns":' + _encode(list(table.columns)) + b',"data":['
    first = True
    async for rows in iter_table(context.reader, table, artifacts=root):
        await claimed.fill_in(rows)
        yield (b"" if first else b",") + _encode([list(row.values()) for row in rows])[1:-1]
        first = False
    yield b"]}"


def _media_type(artifact: Artifact) -> str:
    """What is text is plain text, whatever else it is."""
    name = artifact.path.rpartition("/")[2]
    if name.rpartition(".")[2].lower() in _TEXTS:
        return "text/plain"
    kind = artifact.media_type or "application/octet-stream"
    return "application/octet-stream" if kind.startswith(("text/html", "image/svg", "application/xhtml")) else kind


def _headers(path: str, kind: str) -> dict[str, str]:
    """Those of a file to be saved, as MLflow writes them: a text's encoding is not told."""
    headers = {**headers_of(path, kind, download=True), **_attached(path)}
    return headers | {"content-type": headers["content-type"].partition(";")[0]}


def _attached(path: str) -> dict[str, str]:
    """A simple name is written as MLflow writes it."""
    name = path.rpartition("/")[2]
    simple = re.fullmatch(r"[\w!#$&+.^`|~-]+", name, re.ASCII)
    return {"content-disposition": f"attachment; filename={name}"} if simple else {}


def _encode(value: Any) -> bytes:
    return msgspec.json.encode(value, enc_hook=str)
