"""Values in rows: what Python values become on the wire, so that encoding a row never fails.

=================================  ======================================================
Python                             on the wire (MessagePack)
=================================  ======================================================
None, bool, float, bytes           as they are
str                                as it is; lone surrogates are escaped (counted)
int                                as it is; beyond 64 bits: extension 1, two's complement,
                                   big-endian; beyond 4300 digits: hexadecimal text (counted)
list, tuple, set                   array (a set's order is its iteration order)
dict                               map with text keys (other keys: their ``str()``, counted)
datetime with a zone               MessagePack timestamp (read back in UTC)
other datetime, date, time         ISO 8601 text
Decimal, UUID                      text
Enum                               its value
dataclass, msgspec Struct          map
numpy, pandas scalar               the Python value of its ``item()``; NaT and NA: None
numpy array, pandas series         array
anything else, and what is nested
deeper than 64 levels              its ``str()`` (counted)
=================================  ======================================================

"Counted": something was given up; the number of such values goes into the producer's statistics.
"""

import datetime
from collections.abc import Mapping, Set
from typing import Any, Final

import msgspec

from runstream_schemas.errors import CorruptDataError

__all__ = ["BIG_INTEGER", "RowEncoder", "decode_extension", "escape_surrogates"]

BIG_INTEGER: Final = 1
"""MessagePack extension type of an integer beyond 64 bits."""

_MAX_DEPTH: Final = 64
_INT64: Final = range(-(1 << 63), 1 << 64)
_MAX_INTEGER_BITS: Final = 14_000
_NATIVE: Final = (bool, float, bytes, type(None))


def decode_extension(code: int, data: memoryview) -> int:
    """Decode the extensions above.  Raises `CorruptDataError` for an unknown one."""
    if code != BIG_INTEGER or not data or len(data) * 8 > _MAX_INTEGER_BITS + 8:
        raise CorruptDataError(f"MessagePack extension {code} of {len(data)} bytes is not known to this version")
    return int.from_bytes(data, "big", signed=True)


def escape_surrogates(text: str) -> str:
    r"""Text that UTF-8 can hold: a lone surrogate becomes its escape, ``\ud800``."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


class RowEncoder:
    """Encodes events that hold user values.  Never raises for a value; ``converted`` counts what was given up."""

    def __init__(self) -> None:
        self.converted = 0
        self._encode = msgspec.msgpack.Encoder(enc_hook=self._replace).encode

    def encode(self, event: msgspec.Struct) -> bytes:
        """Encode an event: fast where MessagePack holds all of its values, else value by value."""
        try:
            return self._encode(event)
        except (ValueError, TypeError, OverflowError, RecursionError, msgspec.MsgspecError):
            fields = {name: self._plain(getattr(event, name), 0) for name in event.__struct_fields__}
            return self._encode(type(event)(**fields))

    def _replace(self, value: Any) -> Any:
        """What stands for a value of a type that msgspec does not know."""
        if isinstance(value, msgspec.msgpack.Ext):
            return value
        item = _unwrap(value)
        if item is not value:
            return item
        self.converted += 1
        return _text(value)

    def _plain(self, value: Any, depth: int) -> Any:
        """The same value in types that MessagePack holds."""
        if isinstance(value, _NATIVE):
            return value
        if isinstance(value, str):
            return self._plain_text(value)
        if isinstance(value, int):
            return self._plain_integer(int(value))
        if depth >= _MAX_DEPTH:
            self.converted += 1
            return _text(value)
        if isinstance(value, Mapping):
            return {self._plain_key(key): self._plain(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list | tuple | Set):
            return [self._plain(item, depth + 1) for item in value]
        try:
            encoded: Any = msgspec.to_builtins(value, enc_hook=_unwrap_or_raise, builtin_types=_DATES)
        except Exception:  # noqa: BLE001 - user types may raise anything
            encoded = value
        if encoded is value:
            encoded = self._replace(value)
        return encoded if isinstance(encoded, _DATES) else self._plain(encoded, depth + 1)

    def _plain_text(self, text: str) -> str:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            self.converted += 1
            return escape_surrogates(text)
        return str(text)

    def _plain_integer(self, value: int) -> Any:
        if value in _INT64:
            return value
        if value.bit_length() > _MAX_INTEGER_BITS:
            self.converted += 1
            return hex(value)
        size = value.bit_length() // 8 + 1
        return msgspec.msgpack.Ext(BIG_INTEGER, value.to_bytes(size, "big", signed=True))

    def _plain_key(self, key: Any) -> str:
        if isinstance(key, str):
            return self._plain_text(key)
        self.converted += 1
        return self._plain_text(_text(key))


_DATES: Final = (datetime.datetime, datetime.date, datetime.time, datetime.timedelta)


def _unwrap(value: Any) -> Any:
    """The plain value inside a value of a foreign library or class; the value itself where there is none."""
    if isinstance(value, _NATIVE):  # a subclass, numpy.float64 among them
        return next(kind(value) for kind in _NATIVE if isinstance(value, kind))
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, Mapping):
        return dict(value)
    if type(value).__name__ in {"NaTType", "NAType"}:
        return None
    for method in ("item", "tolist", "to_dict"):
        found = getattr(value, method, None)
        if callable(found):
            try:
                return found()
            except Exception:  # noqa: BLE001, S112 - a foreign method may raise anything; the next one is tried
                continue
    return value


def _unwrap_or_raise(value: Any) -> Any:
    item = _unwrap(value)
    if item is value:
        raise NotImplementedError
    return item


def _text(value: Any) -> str:
    try:
        return escape_surrogates(str(value))
    except Exception:  # noqa: BLE001 - a user's __str__ may raise anything
        return f"<{type(value).__name__}>"
