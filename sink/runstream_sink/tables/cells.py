r"""A value as a CSV cell and back.

=========  ==================================================================================
value      cell
=========  ==================================================================================
None       empty
bool       ``true``, ``false``
int        decimal, of any size
float      shortest decimal that reads back as the same double; ``NaN``, ``Infinity``, ``-Infinity``
str        as it is; the empty text is ``""``
bytes      base64
datetime   ISO 8601 in UTC: ``2026-11-24T05:00:00.5Z`` with six digits after the point, or none
nested     compact JSON
=========  ==================================================================================

In a column of type JSON a text that could itself be read as JSON (``12``, ``null``, ``[``...), or is empty, is a JSON
string; any other stays raw.  So a cell there means: JSON if it parses, else the text itself.

Cells are quoted (RFC 4180) where they hold a comma, a quote, a control character or another line separator, begin or
end with a space, begin with ``#`` (some readers guess at comments), or are the empty text.  Lines end with
``\n``; UTF-8 without a byte order mark.  The last two columns are ``_logged_at`` and ``_event``; a user's column of
such a name has one more underscore in the file.
"""

import base64
import datetime
import json
import re
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from functools import lru_cache
from types import NoneType
from typing import Any, Final

from runstream_schemas.errors import CorruptDataError
from runstream_sink.tables.types import ColumnType

__all__ = [
    "EVENT",
    "LOGGED_AT",
    "MAX_DEPTH",
    "column_name",
    "decode_column",
    "encode_column",
    "header_line",
    "json_text",
    "name_in_file",
    "quote",
    "time_text",
]

LOGGED_AT: Final = "_logged_at"
EVENT: Final = "_event"
MAX_DEPTH: Final = 200
"""Nested values are cut below this many levels, where readers would give up."""

_RESERVED: Final = re.compile(r"_+(?:logged_at|event)", re.IGNORECASE)  # DuckDB's names do not differ by case
_ODD: Final = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029\ufeff]")
_TOO_DEEP: Final = "(nested too deeply)"
_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_FLOATS: Final = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
_BOOLS: Final = {"true": True, "false": False}
_JSON_STARTS: Final = frozenset('[{"-0123456789tfnNI \t\n\r')
_LONGEST_INTEGER: Final = 10_000
"""Digits; no event holds an integer of more, and converting a damaged cell of a million would take for ever."""
_EXACT_DIGITS: Final = 15
"""An integer of so many digits is a double without loss."""


def name_in_file(column: str) -> str:
    """The name of a user's column in the header."""
    return f"_{column}" if _RESERVED.fullmatch(column) else column


def column_name(name: str) -> str:
    """The user's column that is called ``name`` in a header: the inverse of `name_in_file`."""
    return name[1:] if _RESERVED.fullmatch(name) else name


def header_line(columns: Iterable[str]) -> str:
    """The first line of a part with these user columns, without its line end."""
    return ",".join([*(quote(name_in_file(column)) for column in columns), LOGGED_AT, EVENT])


def time_text(nanoseconds: int) -> str:
    """Nanoseconds since the epoch as UTC with microseconds: ``2026-11-24T05:00:00.123456Z``."""
    second, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{_second_text(second)}.{rest // 1000:06d}Z"


@lru_cache(maxsize=1024)
def _second_text(second: int) -> str:
    return (_EPOCH + datetime.timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S")


def quote(text: str) -> str:
    """A cell with this text, quoted where a reader might mistake it.  Never empty."""
    if '"' in text:
        return '"' + text.replace('"', '""') + '"'
    if "," in text or "\n" in text or _is_odd(text):
        return f'"{text}"'
    return text


def _is_odd(text: str) -> bool:
    if not text or text[0] in " #" or text[-1] == " ":
        return True
    return not text.isprintable() if text.isascii() else _ODD.search(text) is not None


def encode_column(values: Sequence[Any], column_type: ColumnType) -> list[str]:
    """The cells of ``values``, whose types join to at most ``column_type``."""
    encoders = _JSON_ENCODERS if column_type is ColumnType.JSON else _ENCODERS
    kinds = set(map(type, values))
    if len(kinds) == 1:
        return list(map(encoders[kinds.pop()], values))
    return [encoders[type(value)](value) for value in values]


def decode_column(cells: list[str | None], part_type: ColumnType, column_type: ColumnType) -> list[Any]:
    """The values of cells that were written at ``part_type``, as values of ``column_type``.

    None is the empty cell.  An integer that no double holds stays an integer in a float column.  Raises
    `CorruptDataError` for a cell that is no such value.
    """
    if part_type is ColumnType.TEXT or column_type in (ColumnType.TEXT, ColumnType.NULL):
        return cells
    decode = _DECODERS[column_type]
    try:
        return [None if cell is None else decode(cell) for cell in cells]
    except (ValueError, KeyError, ArithmeticError) as error:
        raise CorruptDataError(
            f"a cell of a column of type {column_type.name} holds something else: {error}"
        ) from error


def json_text(value: Any) -> str:
    """A value as compact JSON; NaN and infinities as Python writes them.  Never raises for a decoded value."""
    try:
        text = _encode_json(value)
    except (TypeError, ValueError, RecursionError):
        return _encode_json(_plain(value, 0))
    if text.count("[") + text.count("{") > MAX_DEPTH:
        return _encode_json(_plain(value, 0))
    return text


def _plain(value: Any, depth: int) -> Any:
    """The same value in types that JSON has, cut below `MAX_DEPTH` levels."""
    if isinstance(value, list | tuple | dict) and depth >= MAX_DEPTH:
        return _TOO_DEEP
    if isinstance(value, dict):
        return {_key_text(key): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, bytes | datetime.datetime):
        return _scalar_text(value)
    if isinstance(value, int) and not _has_decimal(value):
        return hex(value)
    return value


def _key_text(key: Any) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, bytes | datetime.datetime):
        return _scalar_text(key)
    return "null" if key is None else json_text(key) if isinstance(key, tuple) else _ENCODERS[type(key)](key)


def _scalar_text(value: bytes | datetime.datetime) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    text = (value if value.tzinfo is None else value.astimezone(datetime.UTC)).replace(tzinfo=None).isoformat()
    return f"{text}Z"


def _has_decimal(value: int) -> bool:
    try:
        str(value)
    except ValueError:  # beyond Python's limit of digits
        return False
    return True


def _int_text(value: int) -> str:
    try:
        return str(value)
    except ValueError:  # beyond Python's limit of digits
        return str(Decimal(value))


def _parse_int(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        if len(text) > _LONGEST_INTEGER or not text.lstrip("-").isdigit():
            raise
        return int(Decimal(text))


def _float_text(value: float) -> str:
    text = repr(value)
    return _FLOATS.get(text, text)


def _parse_float(text: str) -> float:
    if text in _BOOLS:
        return float(_BOOLS[text])
    value = float(text)
    if len(text) > _EXACT_DIGITS and text.lstrip("-").isdigit():
        exact = _parse_int(text)
        return value if value == exact else exact
    return value


def _parse_int_or_bool(text: str) -> int:
    return int(_BOOLS[text]) if text in _BOOLS else _parse_int(text)


def _parse_json(text: str) -> Any:
    if not text or text[0] not in _JSON_STARTS:
        return text
    try:
        return _decode_json(text)
    except (ValueError, RecursionError):
        return text


def _is_json(text: str) -> bool:
    if not text or text[0] not in _JSON_STARTS:
        return not text
    try:
        _decode_json(text)
    except RecursionError:  # a reader might get further
        return True
    except ValueError:
        return False
    return True


def _json_cell_of_text(text: str) -> str:
    return quote(_encode_json(text) if _is_json(text) else text)


_encode_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_scalar_text).encode
_decode_json = json.JSONDecoder(parse_int=_parse_int).decode

_ENCODERS: Final[dict[type, Callable[[Any], str]]] = {
    NoneType: lambda _: "",
    bool: lambda value: "true" if value else "false",
    int: _int_text,
    float: _float_text,
    str: quote,
    bytes: lambda value: quote(_scalar_text(value)),
    datetime.datetime: _scalar_text,
}
_JSON_ENCODERS: Final[dict[type, Callable[[Any], str]]] = {
    **_ENCODERS,
    str: _json_cell_of_text,
    bytes: lambda value: _json_cell_of_text(_scalar_text(value)),
    list: lambda value: quote(json_text(value)),
    tuple: lambda value: quote(json_text(value)),
    dict: lambda value: quote(json_text(value)),
}
_DECODERS: Final[dict[ColumnType, Callable[[str], Any]]] = {
    ColumnType.BOOL: _BOOLS.__getitem__,
    ColumnType.INT: _parse_int_or_bool,
    ColumnType.FLOAT: _parse_float,
    ColumnType.JSON: _parse_json,
}
