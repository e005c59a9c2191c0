"""An AsyncAPI 3.0 document of the stream: record batches and chunks on a topic, and the events in them.

AsyncAPI's own schema objects are those of JSON Schema draft 7, where the items of a tuple are called ``items`` and not
``prefixItems``; the events are translated into it, so that every AsyncAPI tool reads them.
"""

from typing import Any, Final

from runstream_schemas.batch import CODECS, MAX_EVENTS, MAX_PAYLOAD
from runstream_schemas.chunk import TYPE_HEADER
from runstream_schemas.describe import Schema, event_definitions
from runstream_schemas.events import TAGS

__all__ = ["CHUNK_CONTENT_TYPE", "CONTENT_TYPE", "asyncapi_document"]

CONTENT_TYPE: Final = "application/vnd.runstream.batch"
"""Media type of a record batch."""
CHUNK_CONTENT_TYPE: Final = "application/vnd.runstream.chunk"
"""Media type of a chunk."""

_SCHEMAS: Final = "#/components/schemas/"
_BATCH: Final = "recordBatch"
_CHUNK: Final = "chunk"
_LAYOUT: Final = f"""All integers are little-endian.

| offset | size | what |
|---|---|---|
| 0 | 4 | `RSB1`: record batch, format version 1 |
| 4 | 1 | codec of the payload: {", ".join(f"{number} {name}" for number, name in enumerate(CODECS))} |
| 5 | 3 | zeros |
| 8 | 16 | producer_id |
| 24 | 8 | first seq |
| 32 | 4 | number of events, 1 to {MAX_EVENTS} |
| 36 | 4 | CRC-32 of bytes 0 to 36 and of the payload as it stands |
| 40 | n | payload; at most {MAX_PAYLOAD} bytes when decoded |

The decoded payload is the events, one after the other; each as

| offset | size | what |
|---|---|---|
| 0 | 4 | length of the body; never 0 |
| 4 | 8 | emit_ts, nanoseconds since the epoch |
| 12 | n | body: one event in MessagePack, the schema `Event` in its JSON form |

The first event has the first seq, and each the seq behind the one before it; but an event `Abandoned` (a body that
begins with a byte 90 to 9f and 14, hexadecimal) stands for `count` seqs, and the event behind it has its seq plus
`count`.

With codec {CODECS.index("claimed")}, claimed, the payload is a reference to the decoded payload, which travels before
it in chunks:

| offset | size | what |
|---|---|---|
| 0 | 32 | SHA-256 of the decoded payload |
| 32 | 8 | size of the decoded payload, bytes |

An event is identified by (producer_id, seq). A batch may be sent again, with other boundaries: pass over events that
were seen."""
_CHUNK_LAYOUT: Final = """All integers are little-endian.

| offset | size | what |
|---|---|---|
| 0 | 4 | `RSC1`: chunk, format version 1 |
| 4 | 4 | zeros |
| 8 | 32 | SHA-256 of the whole |
| 40 | 8 | size of the whole, bytes |
| 48 | 8 | offset of the data in the whole |
| 56 | 4 | CRC-32 of bytes 0 to 56 and of the data |
| 60 | n | data |

The chunks of artifacts, and of claimed payloads, come before the batch that refers to them, in the same partition. A
chunk may come again, and the same bytes in other chunks."""


def asyncapi_document() -> Schema:
    """The document, as JSON has it."""
    return {
        "asyncapi": "3.0.0",
        "id": "urn:runstream",
        "info": _info(),
        "defaultContentType": CONTENT_TYPE,
        "servers": {"broker": _server()},
        "channels": {"stream": _channel()},
        "operations": {"publish": _operation("send", "A producer"), "consume": _operation("receive", "A sink")},
        "components": {"messages": {_BATCH: _batch(), _CHUNK: _chunk()}, "schemas": _schemas()},
    }


def _info() -> Schema:
    return {
        "title": "runstream",
        "version": "1",
        "description": "What LLM programs log, as typed events in record batches. The version is that of the formats. "
        "The document says how they travel over Kafka. Queue directories need no broker: the same events lie there in "
        "journals.",
        "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
    }


def _server() -> Schema:
    return {
        "host": "kafka.example.com:9092",
        "protocol": "kafka",
        "description": "A placeholder: put your brokers here.",
    }


def _channel() -> Schema:
    return {
        "address": "{topic}",
        "title": "The stream",
        "description": "One topic, which is not compacted. What a producer sends is in one partition, in order, unless "
        "partitions are added meanwhile.",
        "parameters": {"topic": {"description": "The topic's name.", "default": "runstream"}},
        "servers": [{"$ref": "#/servers/broker"}],
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in (_BATCH, _CHUNK)},
    }


def _operation(action: str, who: str) -> Schema:
    return {
        "action": action,
        "summary": f"{who} {action}s record batches, and chunks of the bytes that belong to them.",
        "channel": {"$ref": "#/channels/stream"},
        "messages": [{"$ref": f"#/channels/stream/messages/{name}"} for name in (_BATCH, _CHUNK)],
    }


def _batch() -> Schema:
    return {
        "name": _BATCH,
        "title": "Record batch",
        "summary": "Consecutive events of one producer.",
        "description": _LAYOUT,
        "contentType": CONTENT_TYPE,
        "headers": _headers("batch"),
        "payload": {"type": "string", "format": "binary", "description": "One record batch, bytes."},
        "bindings": _bindings("producer_id: the same 16 bytes as in the batch."),
    }


def _chunk() -> Schema:
    return {
        "name": _CHUNK,
        "title": "Chunk",
        "summary": "A piece of the bytes of an artifact, or of a claimed payload, under their SHA-256.",
        "description": _CHUNK_LAYOUT,
        "contentType": CHUNK_CONTENT_TYPE,
        "headers": _headers("chunk"),
        "payload": {"type": "string", "format": "binary", "description": "One chunk, bytes."},
        "bindings": _bindings("producer_id: 16 bytes, those of the batch that refers to the bytes."),
    }


def _headers(kind: str) -> Schema:
    return {
        "type": "object",
        "description": "A value describes itself by its first bytes, so that no header is needed. Pass over others.",
        "properties": {TYPE_HEADER: {"type": "string", "const": kind, "description": "What the value is, in ASCII."}},
    }


def _bindings(key: str) -> Schema:
    described = {"type": "string", "format": "binary", "minLength": 16, "maxLength": 16, "description": key}
    return {"kafka": {"key": described, "bindingVersion": "0.5.0"}}


def _schemas() -> dict[str, Schema]:
    events: dict[str, Schema] = {
        "Event": {
            "title": "Event",
            "description": "One event in its JSON form: an array of a tag and the fields of the tag's type. Bytes are "
            "base64, timestamps ISO 8601 in UTC, claims are their references, and NaN and the infinities are texts.",
            "oneOf": [{"$ref": f"{_SCHEMAS}{struct.__name__}"} for struct in TAGS.values()],
        }
    }
    return events | {name: _translated(schema) for name, schema in event_definitions().items()}


def _translated(schema: Any) -> Any:
    """The same schema in draft 7, with references into the document."""
    if isinstance(schema, list):
        return [_translated(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        "items" if key == "prefixItems" else key: (
            value.replace("#/$defs/", _SCHEMAS) if key == "$ref" else _translated(value)
        )
        for key, value in schema.items()
    }
