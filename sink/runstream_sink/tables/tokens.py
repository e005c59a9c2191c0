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
    end = len(data)
    inside = data.count(b'"') % 2 == 1
    while True:
        mark = data.rfind(b'"', 0, end)
        if not inside:
            line_end = data.rfind(b"\n", mark + 1, end)
            if line_end >= 0:
                return line_end + 1
        if mark < 0:
            return 0
        end, inside = mark, not inside


def split_cells(text: str) -> list[str | None]:
    """The cells of whole records, one after the other.  Raises `CorruptDataError` for text that is no CSV."""
    if '"' not in text:
        plain = text.replace("\n", ",").split(",")
        plain.pop()
        return [cell or None for cell in plain]
    raw: list[str] = _CELL.findall(text)
    if sum(map(len, raw)) + len(raw) != len(text):
        raise CorruptDataError("a quote stands where none may be")
    return [_unquote(cell) if cell else None for cell in raw]


def _unquote(cell: str) -> str:
    return cell[1:-1].replace('""', '"') if cell[0] == '"' else cell
