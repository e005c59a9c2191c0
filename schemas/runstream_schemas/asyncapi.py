"""An AsyncAPI 3.0 document of the stream: record batches on a topic, and the events in them.

AsyncAPI's own schema objects are those of JSON Schema draft 7, where the items of a tuple are called ``items`` and not
``prefixItems``; the events are translated into it, so that every AsyncAPI tool reads them.
"""

from typing import Any, Final

from runstream_schemas.batch import CODECS, MAX_EVENTS, MAX_PAYLOAD
from runstream_schemas.describe import Schema, event_definitions
from runstream_schemas.events import TAGS

__all__ = ["CONTENT_TYPE", "asyncapi_document"]

CONTENT_TYPE: Final = "application/vnd.runstream.batch"
"""Media type of a record batch."""

_SCHEMAS: Final = "#/components/schemas/"
_MESSAGE: Final = "recordBatch"
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

The decoded payload is the events, one after the other, with consecutive seqs; each as

| offset | size | what |
|---|---|---|
| 0 | 4 | length of the body; never 0 |
| 4 | 8 | emit_ts, nanoseconds since the epoch |
| 12 | n | body: one event in MessagePack, the schema `Event` in its JSON form |

An event is identified by (producer_id, seq). A batch may be sent again, with other boundaries: pass over events that
were seen."""


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
        "components": {"messages": {_MESSAGE: _message()}, "schemas": _schemas()},
    }


def _info() -> Schema:
    return {
        "title": "runstream",
        "version": "1",
        "description": "What LLM programs log, as typed events in record batches. The version is that of the formats. "
        "The document says how batches travel over Kafka. This version writes queue directories only, where the same "
        "events lie in journals.",
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
        "description": "One topic. The batches of a producer are in one partition, in order.",
        "parameters": {"topic": {"description": "The topic's name.", "default": "runstream"}},
        "servers": [{"$ref": "#/servers/broker"}],
        "messages": {_MESSAGE: {"$ref": f"#/components/messages/{_MESSAGE}"}},
    }


def _operation(action: str, who: str) -> Schema:
    return {
        "action": action,
        "summary": f"{who} {action}s record batches.",
        "channel": {"$ref": "#/channels/stream"},
        "messages": [{"$ref": f"#/channels/stream/messages/{_MESSAGE}"}],
    }


def _message() -> Schema:
    return {
        "name": _MESSAGE,
        "title": "Record batch",
        "summary": "Consecutive events of one producer.",
        "description": _LAYOUT,
        "contentType": CONTENT_TYPE,
        "headers": {"type": "object", "description": "None is needed: a batch describes itself. Pass over any."},
        "payload": {"type": "string", "format": "binary", "description": "One record batch, bytes."},
        "bindings": {
            "kafka": {
                "key": {
                    "type": "string",
                    "format": "binary",
                    "description": "producer_id: the same 16 bytes as in the batch.",
                },
                "bindingVersion": "0.5.0",
            }
        },
    }


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
