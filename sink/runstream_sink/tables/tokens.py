r"""CSV text to cells, telling an empty cell (None) from an empty text (``""``), which ``csv.reader`` cannot.

Reads what ``cells`` writes: a cell is quoted as a whole or holds no quote, lines end with ``\n``.
"""

import re
from typing import Final

from runstream_schemas.errors import CorruptDataError

__all__ = ["records_end", "split_cells"]

# Possessive, so that a cell of many megabytes needs no memory to backtrack.
_CELL: Final = re.compile(r'("(?:[^"]++|"")*+"|[^",\n]*+)[,\n]')


def records_end(data: bytes) -> int:
    """Where the last whole record in ``data`` ends, in bytes; 0 if there is none.  ``data`` begins with a record."""
    quotes, end = data.count(b'"'), len(data)  # no pattern: before 3.11.5, possessive groups match what they must not
    while (at := data.rfind(b"\n", 0, end)) >= 0:
        quotes -= data.count(b'"', at, end)
        if quotes % 2 == 0:
            return at + 1
        end = at
    return 0


def split_cells(text: str, width: int) -> list[str | None]:
    """The cells of whole records of ``width`` cells, one after the other.  Raises `CorruptDataError` for other text."""
    if '"' not in text:
        plain = text.replace("\n", ",").split(",")
        plain.pop()
        _check(len(plain), width, text.count("\n"))
        return [cell or None for cell in plain]
    raw: list[str] = _CELL.findall(text)
    if sum(map(len, raw)) + len(raw) != len(text):
        raise CorruptDataError("a quote stands where none may be")
    _check(len(raw), width, text.count("\n") - sum([cell.count("\n") for cell in raw]))
    return [_unquote(cell) if cell else None for cell in raw]


def _check(cells: int, width: int, records: int) -> None:
    if cells != width * records:
        raise CorruptDataError(f"{records} rows have {cells} cells in all, and not {width} each")


def _unquote(cell: str) -> str:
    return cell[1:-1].replace('""', '"') if cell[0] == '"' else cell
