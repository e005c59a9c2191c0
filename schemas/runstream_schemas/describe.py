"""The events as JSON Schema (2020-12) and as a list, made from the structs, for readers in other languages.

JSON Schema speaks of JSON, events are MessagePack.  The schema describes an event in its *JSON form*, which is what a
plain MessagePack decoder gives, with

=========================  ===============================================================
MessagePack                JSON form
=========================  ===============================================================
bytes                      base64, as text
timestamp (extension -1)   ISO 8601, in UTC, as text: ``2026-11-24T05:00:00Z``
extension 1                the integer
extension 2                the reference of a value that lies outside its row, as text
NaN and the infinities     the texts ``NaN``, ``Infinity``, ``-Infinity``
=========================  ===============================================================

The schema is that of a tolerant reader: further fields behind the known ones are valid, since later versions append
fields.  A tag that is not known is not valid: such an event is kept and not read.  What JSON Schema cannot say (that a
row has as many cells as the table has columns) is said in descriptions.
"""

import inspect
from typing import Any, Final

import msgspec

from runstream_schemas.events import RUN_STATUSES, TAGS
from runstream_schemas.names import MAX_KEY, MAX_PATH
from runstream_schemas.segment import DROP_REASONS, MAX_SEQ
from runstream_schemas.values import MAX_DEPTH

__all__ = ["Schema", "event_definitions", "event_list", "json_schema"]

Schema = dict[str, Any]

_INT64: Final = {"minimum": -(1 << 63), "maximum": (1 << 63) - 1}
_COUNT: Final = {"minimum": 0, "maximum": (1 << 63) - 1}
_DOUBLE: Final = {"type": ["number", "string"], "pattern": "^(NaN|-?Infinity)$"}
_ID: Final = {"pattern": "^[0-9a-f]{32}$"}
_KEY: Final = {"minLength": 1, "maxLength": MAX_KEY, "pattern": r"^[^\u0000-\u001f\u007f]*$"}
_PART: Final = r"(?!\.{1,2}(?:/|$))[^/\\\u0000-\u001f\u007f]+"
_PATH: Final = {"minLength": 1, "maxLength": MAX_PATH, "pattern": f"^{_PART}(?:/{_PART})*$"}
_CELL: Final = "Cell"

# By field, or by type and field where a name means different things: what it is, and what its type does not say.
_FIELDS: Final[dict[str, tuple[str, Schema]]] = {
    "run_id": ("The run: 32 lower-case hexadecimal digits.", _ID),
    "experiment_id": (
        "The experiment: a decimal number below 2**63 without leading zeros. It follows from the experiment's name.",
        {"pattern": "^(0|[1-9][0-9]{0,18})$"},
    ),
    "start_time": ("When the run began, milliseconds since the epoch.", _INT64),
    "end_time": ("When the run ended, milliseconds since the epoch.", _INT64),
    "creation_time": ("When the experiment was made, milliseconds since the epoch.", _INT64),
    "timestamp": ("When the point was measured, as the user says: milliseconds since the epoch.", _INT64),
    "name": ("The displayed name.", {}),
    "user": ("Who runs it.", {}),
    "status": ("The run's status.", {"enum": list(RUN_STATUSES)}),
    "params": (f"Params by key; a key has 1 to {MAX_KEY} characters, none of them control.", {"propertyNames": _KEY}),
    "tags": (f"Tags by key; a key has 1 to {MAX_KEY} characters, none of them control.", {"propertyNames": _KEY}),
    "metrics": (
        f"Values by metric; a key has 1 to {MAX_KEY} characters, none of them control. Values are doubles.",
        {"propertyNames": _KEY, "additionalProperties": _DOUBLE},
    ),
    "key": (f"1 to {MAX_KEY} characters, none of them control.", _KEY),
    "value": ("The value, a double: NaN, the infinities and -0.0 too.", _DOUBLE),
    "step": ("The user's count: an epoch, a batch, a request.", _INT64),
    "table": ("The table's path without the suffix .csv or .json; a path as an artifact's.", _PATH),
    "columns": ("The names of the columns, none of them twice.", {"uniqueItems": True}),
    "rows": (
        "One array a row, each with as many cells as there are columns.",
        {"items": {"type": "array", "items": {"$ref": f"#/$defs/{_CELL}"}}},
    ),
    "path": (
        f"1 to {MAX_PATH} characters, with / between the parts; none control or a backslash; no part empty, . or ..",
        _PATH,
    ),
    "sha256": ("SHA-256 of the file's bytes, 64 lower-case hexadecimal digits.", {"pattern": "^[0-9a-f]{64}$"}),
    "size": ("The file's size, bytes.", _COUNT),
    "media_type": ("The file's media type, as image/png.", {}),
    "content": ("The file's bytes.", {}),
    "journal": ("The producer_id of a journal, 32 lower-case hexadecimal digits.", _ID),
    "seq": ("The number of an event of that journal.", {"minimum": 0, "maximum": MAX_SEQ}),
    "emit_ts": ("When that event was logged, nanoseconds since the epoch.", _INT64),
    "segment": ("Index of the segment that was current when they were dropped.", _COUNT),
    "reason": ("Why; later versions may have further reasons.", {}),
    "detail": ("The reason in words, for people.", {}),
    "LossNotice.reason": ("Why they were dropped; there may be further reasons.", {"examples": list(DROP_REASONS)}),
    "count": ("How many events were dropped there for this reason, in all.", _COUNT),
    "Abandoned.count": (
        "How many consecutive seqs, from the event's own on.",
        {"minimum": 1, "maximum": MAX_SEQ + 1},
    ),
    "Abandoned.reason": (
        "Why they hold no event; there may be further reasons.",
        {"examples": ["abandoned", "corrupt", "torn"]},
    ),
    "raw": ("The damaged bytes in their place, perhaps cut.", {}),
}


def json_schema() -> Schema:
    """JSON Schema of an event in its JSON form: one of the known types."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:runstream:event",
        "title": "Event",
        "description": "One event of runstream: a MessagePack array of a tag and the fields of the tag's type, in its "
        "JSON form. Bytes are base64, timestamps ISO 8601 in UTC, integers of extension 1 are integers, claims "
        "(extension 2) are their references, and NaN and the infinities are texts. Later versions append fields and "
        "add types; a reader passes over fields that it does not know, and keeps events whose tag it does not know.",
        "oneOf": [{"$ref": f"#/$defs/{struct.__name__}"} for struct in TAGS.values()],
        "$defs": event_definitions(),
    }


def event_definitions() -> dict[str, Schema]:
    """The schema of each event type by its name, and that of a table's cell; references begin with ``#/$defs/``."""
    _, found = msgspec.json.schema_components(TAGS.values(), ref_template="#/$defs/{name}")
    return {struct.__name__: _event(tag, struct, found[struct.__name__]) for tag, struct in TAGS.items()} | {
        _CELL: _cell()
    }


def event_list() -> list[tuple[int, str, tuple[str, ...]]]:
    """Tag, name and names of the fields of each event type; a field with a default ends in ``?``."""
    listed = []
    for tag, struct in TAGS.items():
        fields = msgspec.structs.fields(struct)
        listed.append((tag, struct.__name__, tuple(f"{one.name}{'' if one.required else '?'}" for one in fields)))
    return listed


def _event(tag: int, struct: type[msgspec.Struct], found: Schema) -> Schema:
    names = [field.name for field in msgspec.structs.fields(struct)]
    fields = [_field(struct.__name__, *field) for field in zip(names, found["prefixItems"][1:], strict=True)]
    return {
        "title": struct.__name__,
        "description": inspect.cleandoc(str(struct.__doc__)).replace("``", "`"),
        "type": "array",
        "prefixItems": [{"title": "tag", "description": "tag: the event's type.", "const": tag}, *fields],
        "minItems": found["minItems"],
    }


def _field(struct: str, name: str, found: Schema) -> Schema:
    """The schema of one field: what msgspec knows, and the rules beyond the type."""
    description, rules = _FIELDS.get(f"{struct}.{name}") or _FIELDS[name]
    head = {"title": name, "description": f"{name}: {description}"}
    if "anyOf" not in found:
        return head | found | rules
    return head | found | {"anyOf": [one if one == {"type": "null"} else one | rules for one in found["anyOf"]]}


def _cell() -> Schema:
    reference = {"$ref": f"#/$defs/{_CELL}"}
    return {
        "title": _CELL,
        "description": f"A cell of a table: any value, with at most {MAX_DEPTH} arrays and maps inside one another. "
        "Keys of maps are text.",
        "type": ["null", "boolean", "number", "string", "array", "object"],
        "items": reference,
        "additionalProperties": reference,
    }
