"""Large values of rows, which lie beside their table: from the reference in the cell back to the value."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiofiles

from runstream_schemas.claims import parse_reference
from runstream_schemas.errors import CorruptDataError
from runstream_sink.query.runs import list_artifacts
from runstream_sink.store.protocol import StoreReader
from runstream_sink.tables.cells import encode_column
from runstream_sink.tables.types import ColumnType

__all__ = ["ClaimedValues"]


class ClaimedValues:
    """The values that rows of one run refer to, each as its cell would have been read, had it been small."""

    def __init__(self, reader: StoreReader, run_id: str, root: Path) -> None:
        self._reader = reader
        self._run_id = run_id
        self._root = root
        self._files: dict[str, str] | None = None

    async def fill_in(self, rows: list[dict[str, Any]]) -> None:
        """Put values in place of references, where the run has their artifacts.

        Raises `CorruptDataError` if an artifact's file is missing or holds something else.
        """
        for row in rows:
            for column, cell in row.items():
                found = parse_reference(cell) if isinstance(cell, str) and cell.startswith("artifact:") else None
                if found is None:
                    continue
                path, digest, kind = found
                file = (await self._artifacts()).get(path)
                if file is not None:
                    row[column] = _value(await _read(self._root / self._run_id / file, digest), kind)

    async def _artifacts(self) -> dict[str, str]:
        if self._files is None:
            self._files = {held.path: held.file for held in await list_artifacts(self._reader, self._run_id)}
        return self._files


async def _read(path: Path, digest: str) -> bytes:
    try:
        async with aiofiles.open(path, "rb") as file:
            data = await file.read()
    except FileNotFoundError:
        raise CorruptDataError(f"{path}, a value of a table, is missing; restore or replay it") from None
    if sha256(data).hexdigest() != digest:
        raise CorruptDataError(f"{path}, a value of a table, has another hash than its name; restore or replay it")
    return data


def _value(data: bytes, kind: str) -> Any:
    if kind == "bytes":
        return encode_column([data], ColumnType.TEXT)[0]
    return data.decode() if kind == "text" else json.loads(data)
