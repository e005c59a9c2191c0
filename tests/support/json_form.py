"""Events in their JSON form, as `runstream_schemas.describe` defines it, by a decoder that knows no event."""

import base64
import datetime
import math
from typing import Any

import msgspec

__all__ = ["json_form", "unpacked"]

SUFFIXES = {"text": "txt", "bytes": "bin", "json": "json"}


def unpacked(body: bytes) -> Any:
    """What a plain MessagePack decoder makes of an event, in JSON form."""
    return json_form(msgspec.msgpack.decode(body))


def json_form(value: Any) -> Any:
    """A value of a plain MessagePack decoder, in JSON form."""
    match value:
        case bytes():
            return base64.b64encode(value).decode()
        case datetime.datetime():
            return value.isoformat().replace("+00:00", "Z")
        case float():
            return value if math.isfinite(value) else str(value).replace("inf", "Infinity").replace("nan", "NaN")
        case msgspec.msgpack.Ext(code=1, data=data):
            return int.from_bytes(data, "big", signed=True)
        case msgspec.msgpack.Ext(code=2, data=data):
            sha256, _, kind = msgspec.msgpack.decode(data)
            return f"artifact:claims/{sha256}.{SUFFIXES[kind]}"
        case list():
            return [json_form(item) for item in value]
        case dict():
            return {key: json_form(item) for key, item in value.items()}
    return value
