"""Values in rows: what Python values become on the wire, so that encoding a row fails only for what is far too large.

=================================  =======================================================
Python                             on the wire (MessagePack)
=================================  =======================================================
None, bool, float, bytes           as they are
str                                as it is; lone surrogates become their escape (counted)
int                                as it is; beyond 64 bits: extension 1, two's complement,
                                   big-endian; beyond 14,284 bits (4300 decimal digits):
                                   hexadecimal text (counted)
list, tuple, set, deque            array (a set's order is its iteration order)
dict and other mappings            map with text keys (other keys: their ``str()``, counted)
bytearray, memoryview              bytes
datetime with a zone               MessagePack timestamp (read back in UTC); ISO 8601 text
                                   where it has nanoseconds or its year in UTC is not 1 to 9999
other datetime, date, time         ISO 8601 text
timedelta                          ISO 8601 duration, as text
Decimal, UUID; Enum                text; its value
dataclass, attrs, msgspec Struct   map of its fields (Struct fields that are UNSET left out)
pydantic model, and any object
with ``model_dump`` or ``to_dict`` map
numpy, pandas, torch scalar        the Python value; NaT and NA: None
numpy, torch, pyarrow array,
pandas, polars Series              array
DataFrame, pyarrow Table           map of columns, each an array
containers nested deeper than 64   their ``str()`` (counted)
a container inside itself          ``[...]`` or ``{...}`` (counted)
a cell that is too large           extension 2, see ``claims``
a value of 4 GiB or more           refused: MessagePack cannot hold it
anything else                      its ``str()``, ``<Type>`` where that raises (counted)
=================================  =======================================================

Subclasses are treated as what they inherit from.  "Counted": something was given up; the number of such values goes
into the producer's statistics.
"""

import datetime
from collections import deque
from collections.abc import Callable, Iterable, Mapping, ValuesView
from collections.abc import Set as AbstractSet
from contextlib import suppress
from decimal import Decimal
from enum import Enum
from threading import get_ident
from typing import Any, Final
from uuid import UUID

import msgspec

from runstream_schemas.claims import CLAIM, unpack_claim
from runstream_schemas.errors import CorruptDataError, InvalidInputError
from runstream_schemas.foreign import unwrap

__all__ = ["BIG_INTEGER", "MAX_DEPTH", "RowEncoder", "decode_extension", "escape_surrogates", "to_text"]

BIG_INTEGER: Final = 1
"""MessagePack extension type of an integer beyond 64 bits."""
MAX_DEPTH: Final = 64
"""How many containers may lie inside one another in a cell."""

_MAX_INTEGER_BITS: Final = 14_284
_INT64: Final = range(-(1 << 63), 1 << 64)
_SAFE: Final = frozenset({bool, float, bytes, type(None)})
_TEXT: Final = frozenset({str})
_SCALARS: Final = _SAFE | {
    *(str, int, bytearray, Decimal, UUID),
    *(datetime.datetime, datetime.date, datetime.time, datetime.timedelta),
}
"""Types that msgspec encodes as one value without a key (or refuses, for their content)."""
_TIMES: Final = (datetime.datetime, datetime.date, datetime.time, datetime.timedelta)
_CONTAINERS: Final = (Mapping, list, tuple, AbstractSet, deque, ValuesView)
_QUICK_LOOK: Final = 1 << 14
_MAX_CONTAINERS: Final = 1 << 18
_MAX_TEXT_ITEMS: Final = 1 << 16
_RETRIES: Final = 8

_encode = msgspec.msgpack.Encoder().encode


def decode_extension(code: int, data: memoryview) -> int | str:
    """Decode the extensions above, claims to references.  Raises `CorruptDataError` for an unknown one."""
    if code == BIG_INTEGER and 0 < len(data) * 8 <= _MAX_INTEGER_BITS + 8:
        return int.from_bytes(data, "big", signed=True)
    if code == CLAIM:
        return unpack_claim(data).reference
    raise CorruptDataError(f"MessagePack extension {code} of {len(data)} bytes is not known to this version")


def escape_surrogates(text: str) -> str:
    r"""Text that UTF-8 can hold: a lone surrogate becomes its escape, ``\ud800``."""
    return str.encode(text, "utf-8", "backslashreplace").decode("utf-8")


def to_text(value: object) -> str:
    """``str(value)`` as UTF-8 can hold it; ``<Type>`` where it raises.  Never raises."""
    try:
        return escape_surrogates(str(value))
    except Exception:  # noqa: BLE001 - a user's __str__ may raise anything
        return f"<{type(value).__name__}>"


class RowEncoder:
    """Encodes events that hold user values.  Safe to share between threads.

    It refuses only texts, bytes and containers of 2**32 bytes or values or more, with `InvalidInputError`.
    """

    def __init__(self) -> None:
        self._given_up: dict[int, int] = {}

    @property
    def converted(self) -> int:
        """How many values were given up so far."""
        return sum(list(self._given_up.values()))

    def encode(self, event: msgspec.Struct) -> bytes:
        """Encode an event.

        Cells that msgspec takes as they are go through it in one call; others are converted first.  Where it refuses
        the content of a value (a lone surrogate, a large integer), the whole event is rebuilt from plain values.
        """
        try:
            for row in getattr(event, "rows", ()):
                if not _SCALARS.issuperset(map(type, row)):
                    return self._encode_as(_with_plain_cells, event)
            return _encode(event)
        except Exception:  # noqa: BLE001 - values of the user's types may raise anything
            return self._encode_as(_rebuilt, event)

    def encode_row(self, row: list[Any]) -> bytes:
        """Encode the cells of one row alone; ``msgspec.Raw`` of it stands for the row in an event."""
        try:
            return _encode(row) if _SCALARS.issuperset(map(type, row)) else self._encode_as(_plain_row, row)
        except Exception:  # noqa: BLE001 - the same
            return self._encode_as(_rebuilt_row, row)

    def _encode_as(self, convert: Callable[[Any, "_Conversion"], Any], value: Any) -> bytes:
        conversion = _Conversion()
        plain = convert(value, conversion)
        try:
            body = _encode(plain)
        except msgspec.EncodeError as error:
            raise InvalidInputError(
                f"a value of 4 GiB or more cannot be logged ({error}); write it to a file, and log that as an artifact"
            ) from error
        if conversion.given_up:
            thread = get_ident()
            self._given_up[thread] = self._given_up.get(thread, 0) + conversion.given_up
        return body


def _with_plain_cells(event: Any, conversion: "_Conversion") -> Any:
    """The same event, with the cells converted that msgspec would not take as they are."""
    return msgspec.structs.replace(event, rows=[_plain_row(row, conversion) for row in event.rows])


def _plain_row(row: list[Any], conversion: "_Conversion") -> list[Any]:
    return [
        cell if type(cell) in _SCALARS or _is_plain(cell, 1, [_QUICK_LOOK]) else conversion.cell(cell) for cell in row
    ]


def _is_plain(value: Any, depth: int, budget: list[int]) -> bool:
    """Whether a container holds nothing but scalars and containers with text keys, not too deep and not too many."""
    kind = type(value)
    if kind is dict:
        if not _TEXT.issuperset(map(type, value)):
            return False
        value = value.values()
    elif kind is not list and kind is not tuple:
        return False
    if _SCALARS.issuperset(map(type, value)):
        return True
    budget[0] -= 1
    if depth >= MAX_DEPTH or budget[0] < 0:
        return False
    for item in value:  # noqa: SIM110 - all() with a generator takes twice the time
        if type(item) not in _SCALARS and not _is_plain(item, depth + 1, budget):
            return False
    return True


def _rebuilt(event: Any, conversion: "_Conversion") -> Any:
    """The same event, every value in it plain."""
    fields = {name: getattr(event, name) for name in event.__struct_fields__}
    rows = fields.pop("rows", None)
    plain = {name: conversion.cell(value) for name, value in fields.items()}
    if rows is not None:
        plain["rows"] = [_rebuilt_row(row, conversion) for row in _snapshot(rows)]
    return type(event)(**plain)


def _rebuilt_row(row: list[Any], conversion: "_Conversion") -> list[Any]:
    return [conversion.cell(cell) for cell in _snapshot(row)]


class _Conversion:
    """Rebuilds values from types that MessagePack holds, and counts what it gave up."""

    def __init__(self) -> None:
        self.given_up = 0
        self._around: set[int] = set()
        self._containers = _MAX_CONTAINERS
        self._text_items = _MAX_TEXT_ITEMS

    def cell(self, value: Any) -> Any:
        """What stands for one cell."""
        self._around.clear()
        self._containers = _MAX_CONTAINERS
        self._text_items = _MAX_TEXT_ITEMS
        return self._plain(value, 0)

    def _plain(self, value: Any, depth: int) -> Any:
        try:
            return value if type(value) in _SAFE else self._convert(value, depth)
        except Exception:  # noqa: BLE001 - values of the user's types may raise anything
            return self._as_text(value)

    def _as_text(self, value: Any) -> str:
        self.given_up += 1
        return to_text(value)

    def _convert(self, value: Any, depth: int) -> Any:
        if isinstance(value, Enum):
            return self._inside(value, value._value_, depth)
        if isinstance(value, str):
            return self._string(str.__str__(value))
        if isinstance(value, int):
            return self._integer(int.__int__(value))
        if isinstance(value, float):
            return float.__float__(value)
        if isinstance(value, bytes | bytearray | memoryview):
            return memoryview(value).tobytes()
        return self._convert_object(value, depth)

    def _convert_object(self, value: Any, depth: int) -> Any:
        if type(value).__name__ in {"NaTType", "NAType"}:  # pandas; NaT claims to be a datetime
            return None
        if isinstance(value, _TIMES):
            return _time(value)
        if isinstance(value, Decimal | UUID):
            return self._string(str(value))
        if isinstance(value, _CONTAINERS):
            return self._container(value, depth)
        inner = unwrap(value)
        return self._as_text(value) if inner is value else self._inside(value, inner, depth)

    def _string(self, text: str) -> str:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            self.given_up += 1
            return escape_surrogates(text)
        return text

    def _integer(self, value: int) -> Any:
        if value in _INT64:
            return value
        if value.bit_length() > _MAX_INTEGER_BITS:
            self.given_up += 1
            return hex(value)
        size = value.bit_length() // 8 + 1
        return msgspec.msgpack.Ext(BIG_INTEGER, value.to_bytes(size, "big", signed=True))

    def _inside(self, outer: Any, inner: Any, depth: int) -> Any:
        """What stands for a value that another one wraps."""
        if type(inner) in _SAFE:
            return inner
        if id(outer) in self._around:
            return self._elision(inner)
        if depth >= MAX_DEPTH:
            return self._as_text(outer)
        self._around.add(id(outer))
        try:
            return self._plain(inner, depth if isinstance(inner, _CONTAINERS) else depth + 1)
        finally:
            self._around.discard(id(outer))

    def _container(self, value: Any, depth: int) -> Any:
        self._containers -= 1
        if id(value) in self._around or self._containers < 0:
            return self._elision(value)
        if depth >= MAX_DEPTH:
            return self._deep_text(value)
        self._around.add(id(value))
        try:
            return self._map(value, depth + 1) if isinstance(value, Mapping) else self._array(value, depth + 1)
        finally:
            self._around.discard(id(value))

    def _map(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        return {self._key(key): self._plain(item, depth) for key, item in _snapshot(value.items())}

    def _array(self, value: Iterable[Any], depth: int) -> list[Any]:
        items = _snapshot(value)
        return items if _SAFE.issuperset(map(type, items)) else [self._plain(item, depth) for item in items]

    def _key(self, key: Any) -> str:
        if isinstance(key, Enum):
            key = key._value_
        if isinstance(key, str):
            return self._string(str.__str__(key))
        return self._as_text(key)

    def _elision(self, value: Any) -> str:
        self.given_up += 1
        return "{...}" if isinstance(value, Mapping) else "[...]"

    def _deep_text(self, value: Any) -> str:
        """The text of a container, unless it is too large: what is shared inside it may make it endless."""
        waiting = [value]
        while waiting and len(waiting) < self._text_items:
            self._text_items -= 1
            item = waiting.pop()
            if isinstance(item, Mapping):
                waiting.extend(item.values())
            elif isinstance(item, list | tuple | AbstractSet):
                waiting.extend(item)
        return self._elision(value) if waiting else self._as_text(value)


def _snapshot(items: Iterable[Any]) -> list[Any]:
    """The items at one moment, tried again where another thread changes them meanwhile."""
    for _ in range(_RETRIES):
        with suppress(RuntimeError):
            return list(items)
    return list(items)


def _time(value: Any) -> Any:
    """A date or time of any class, as a datetime in UTC or as text."""
    if isinstance(value, datetime.datetime):
        return _moment(value)
    if getattr(value, "nanoseconds", 0):  # pandas
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        value = datetime.timedelta(days=value.days, seconds=value.seconds, microseconds=value.microseconds)
    elif isinstance(value, datetime.date):
        value = datetime.date(value.year, value.month, value.day)
    else:
        parts = (value.hour, value.minute, value.second, value.microsecond)
        value = datetime.time(*parts, tzinfo=value.tzinfo, fold=value.fold)
    return msgspec.to_builtins(value)


def _moment(value: datetime.datetime) -> Any:
    if getattr(value, "nanosecond", 0):  # pandas
        return value.isoformat()
    date = (value.year, value.month, value.day)
    time = (value.hour, value.minute, value.second, value.microsecond)
    plain = datetime.datetime(*date, *time, tzinfo=value.tzinfo, fold=value.fold)
    if plain.utcoffset() is None:
        return plain.isoformat()
    try:
        return plain.astimezone(datetime.UTC)
    except OverflowError:
        return plain.isoformat()
