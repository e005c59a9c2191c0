"""What `python -m runstream_schemas` prints: complete, valid by the standards' own rules, and true of real events."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runstream_schemas import batch, chunk
from runstream_schemas.__main__ import main
from runstream_schemas.asyncapi import CHUNK_CONTENT_TYPE, CONTENT_TYPE, asyncapi_document
from runstream_schemas.batch import Batch
from runstream_schemas.chunk import TYPE_HEADER
from runstream_schemas.describe import event_definitions, event_list, json_schema
from runstream_schemas.events import TAGS, encode_event
from runstream_schemas.events import RowsLogged as Rows
from runstream_schemas.values import RowEncoder
from runstream_sink.apply import apply
from support.json_form import json_form, unpacked

GOLDEN = Path(__file__).parents[1] / "golden" / "schemas_v1" / "events"
BODIES = {path.stem: path.read_bytes() for path in sorted(GOLDEN.iterdir())}
EARLIER = {"Abandoned"}
"""Golden events of types that have got fields since."""
RUN = "0193a1b2c3d47e5f8a9b0c1d2e3f4a5b"
TYPES = {struct.__name__: struct for struct in TAGS.values()}
EVENTS = jsonschema.Draft202012Validator(json_schema())
WRONG: dict[str, list[Any]] = {
    "no tag": [],
    "an unknown tag": [99, RUN],
    "a tag that is text": ["5", RUN],
    "a missing field": [5, RUN, "loss", 0.5, 1],
    "a run id in upper case": [17, RUN.upper()],
    "a run id with a digit too many": [17, RUN + "0"],
    "an experiment id with a leading zero": [15, "012"],
    "an experiment id below zero": [15, "-1"],
    "an experiment id that is a number": [15, 12],
    "an unknown status": [3, RUN, "DONE", 1],
    "an unknown status where none is allowed": [2, RUN, None, "DONE"],
    "an empty key": [8, RUN, ""],
    "a key that is too long": [8, RUN, "k" * 251],
    "a key with a control character": [4, RUN, {"a\x07b": "1"}],
    "a param that is no text": [4, RUN, {"a": 1}],
    "a metric that is text": [5, RUN, "loss", "high", 1, 1],
    "one of several metrics that is text": [6, RUN, {"a": 0.5, "b": "high"}, 1, 1],
    "a step that is a fraction": [5, RUN, "loss", 0.5, 1.5, 1],
    "a step beyond 64 bits": [5, RUN, "loss", 0.5, 1 << 63, 1],
    "a time beyond 64 bits": [1, RUN, "0", 1 << 63],
    "a path that goes up": [21, RUN, "a/../b", b""],
    "an absolute path": [21, RUN, "/a", b""],
    "a path with an empty part": [21, RUN, "a//b", b""],
    "a path that ends in a slash": [9, RUN, "a/", [], []],
    "a path with a backslash": [9, RUN, "a\\b", [], []],
    "a path that is too long": [9, RUN, "a" * 1001, [], []],
    "a column that is there twice": [9, RUN, "t", ["a", "a"], [[1, 2]]],
    "a row that is no array": [9, RUN, "t", ["a"], [1]],
    "a hash in upper case": [10, RUN, "a", "AB" * 32, 1],
    "a hash that is cut": [10, RUN, "a", "ab" * 31, 1],
    "a size below zero": [10, RUN, "a", "ab" * 32, -1],
    "a loss of a journal without an id": [19, "no journal", 0, "quota", 1],
    "a count below zero": [19, RUN, 0, "quota", -1],
}


def every_schema(schema: Any) -> Iterator[dict[str, Any]]:
    """All dicts in a document."""
    if isinstance(schema, dict):
        yield schema
        for value in schema.values():
            yield from every_schema(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from every_schema(value)


def resolve(document: Any, reference: str) -> Any:
    """What a reference into a document names."""
    found = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


def printed(*arguments: str) -> str:
    """What the command prints, as a process of its own."""
    command = [sys.executable, "-m", "runstream_schemas", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_the_schema_is_valid_by_its_meta_schema() -> None:
    """JSON Schema 2020-12, with references that lead somewhere."""
    schema = json_schema()
    assert schema["$schema"] == jsonschema.Draft202012Validator.META_SCHEMA["$id"]
    jsonschema.Draft202012Validator.check_schema(schema)
    references = [one["$ref"] for one in every_schema(schema) if "$ref" in one]
    assert all(resolve(schema, reference) for reference in references)


@pytest.mark.parametrize("struct", TAGS.values(), ids=lambda struct: str(struct.__name__))
def test_every_event_type_and_field_is_described(struct: type[msgspec.Struct]) -> None:
    """By tag, name, docstring and default, in the order of the struct."""
    schema = json_schema()
    assert {"$ref": f"#/$defs/{struct.__name__}"} in schema["oneOf"]
    defined = schema["$defs"][struct.__name__]
    tag, *items = defined["prefixItems"]
    fields = msgspec.structs.fields(struct)
    assert tag["const"] == struct.__struct_config__.tag
    assert [item["title"] for item in items] == [field.name for field in fields]
    assert all(item["description"].startswith(f"{item['title']}: ") for item in items)
    assert all(len(item["description"]) > len(item["title"]) + 10 for item in items)
    assert defined["description"]
    assert defined["minItems"] == 1 + sum(field.required for field in fields)
    for item, field in zip(items, fields, strict=True):
        assert ("default" in item) != field.required
        if not field.required:
            default = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
            assert item["default"] == json_form(default)


def test_no_other_type_is_described() -> None:
    """The events, and what a cell is."""
    assert set(event_definitions()) == {*TYPES, "Cell"}
    assert len(json_schema()["oneOf"]) == len(TYPES)


@pytest.mark.parametrize("name", BODIES)
def test_a_golden_event_is_valid(name: str) -> None:
    """By the whole schema and by the definition of its own type, and by that of no other."""
    event = unpacked(BODIES[name])
    EVENTS.validate(event)
    for other in TYPES:
        one = EVENTS.evolve(schema={"$ref": f"#/$defs/{other}", "$defs": json_schema()["$defs"]})
        assert one.is_valid(event) == (other == name.partition("-")[0])


@pytest.mark.parametrize("name", sorted(BODIES.keys() - EARLIER))
def test_an_event_of_a_later_version_is_valid(name: str) -> None:
    """Later versions append fields; the golden events as they are written now leave none out."""
    event = unpacked(BODIES[name])
    assert len(event) == 1 + len(msgspec.structs.fields(TYPES[name.partition("-")[0]]))
    EVENTS.validate([*event, {"new": [1]}])


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_wrong_event_is_not_valid_and_not_applied(wrong: list[Any]) -> None:
    """What the schema refuses, the sink makes a dead letter of."""
    assert not EVENTS.is_valid(json_form(wrong))
    record = (0, 1, msgspec.msgpack.encode(wrong))
    (letter,) = apply([Batch(bytes(16), [record], [])], {}).dead
    assert letter.reason in {"invalid", "undecodable", "unknown_type"}


@given(
    st.lists(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.datetimes(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
            max_leaves=8,
        ),
        max_size=4,
    )
)
def test_rows_of_any_values_are_valid(cells: list[Any]) -> None:
    """Whatever a program logs, in whatever form it travels."""
    names = [str(at) for at in range(len(cells))]
    EVENTS.validate(unpacked(RowEncoder().encode(Rows(RUN, "t", names, [cells]))))


@given(st.floats(), st.integers(-(1 << 63), (1 << 63) - 1))
def test_every_metric_is_valid(value: float, step: int) -> None:
    """NaN and infinities too."""
    EVENTS.validate(unpacked(encode_event(TYPES["MetricLogged"](RUN, "loss", value, step, step))))


def test_the_document_is_an_asyncapi_document() -> None:
    """AsyncAPI 3.0: required parts, operations on messages of channels, references that lead somewhere."""
    document = asyncapi_document()
    assert list(document)[:3] == ["asyncapi", "id", "info"]
    assert document["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= set(document["info"])
    assert all({"host", "protocol"} <= set(server) for server in document["servers"].values())
    references = [one["$ref"] for one in every_schema(document) if "$ref" in one]
    assert all(resolve(document, reference) for reference in references)
    for operation in document["operations"].values():
        assert operation["action"] in {"send", "receive"}
        channel = resolve(document, operation["channel"]["$ref"])
        prefix = operation["channel"]["$ref"] + "/messages/"
        assert all(one["$ref"].removeprefix(prefix) in channel["messages"] for one in operation["messages"])


def test_the_documents_messages_are_batches_and_chunks_under_their_producers_key() -> None:
    """Content type, headers, payload and key."""
    document = asyncapi_document()
    messages = document["components"]["messages"]
    assert set(messages) == set(document["channels"]["stream"]["messages"]) == {"recordBatch", "chunk"}
    assert messages["recordBatch"]["contentType"] == document["defaultContentType"] == CONTENT_TYPE
    assert messages["chunk"]["contentType"] == CHUNK_CONTENT_TYPE
    for message, kind in ((messages["recordBatch"], "batch"), (messages["chunk"], "chunk")):
        jsonschema.Draft7Validator.check_schema(message["headers"])
        assert jsonschema.Draft7Validator(message["headers"]).is_valid({TYPE_HEADER: kind, "another": "x"})
        assert not jsonschema.Draft7Validator(message["headers"]).is_valid({TYPE_HEADER: "other"})
        assert message["payload"]["format"] == "binary"
        key = message["bindings"]["kafka"]["key"]
        assert key["description"].startswith("producer_id")
        assert key["minLength"] == key["maxLength"] == 16


def test_the_documents_layouts_are_those_of_the_code() -> None:
    """What lies at which offset of a batch, of its events, of a claim and of a chunk."""
    messages = asyncapi_document()["components"]["messages"]
    described = messages["recordBatch"]["description"] + messages["chunk"]["description"]
    rows = re.findall(r"^\| (\d+) \| (\d+|n) \|", described, re.MULTILINE)
    assert rows == re.findall(r"^ {6,9}(\d+) {3,4}(\d+|n)  ", str(batch.__doc__) + str(chunk.__doc__), re.MULTILINE)


def test_the_documents_schemas_are_the_events_in_draft_7() -> None:
    """Which is what AsyncAPI's own schema objects are: golden events are valid, and wrong ones are not."""
    schemas = asyncapi_document()["components"]["schemas"]
    assert set(schemas) == {*event_definitions(), "Event"}
    document = {"$ref": "#/components/schemas/Event", "components": {"schemas": schemas}}
    for schema in schemas.values():
        jsonschema.Draft7Validator.check_schema(schema)
        assert not any("prefixItems" in one or "$defs" in one for one in every_schema(schema))
    validator = jsonschema.Draft7Validator(document)
    assert all(validator.is_valid(unpacked(body)) for body in BODIES.values())
    assert not any(validator.is_valid(json_form(wrong)) for wrong in WRONG.values())


@pytest.mark.parametrize("wanted", ["json-schema", "asyncapi", "list"])
def test_the_command_prints_the_same_each_time(wanted: str, capsys: pytest.CaptureFixture[str]) -> None:
    """In this process and in others, whatever their hash seeds."""
    main([wanted])
    assert printed(wanted) == printed(wanted) == capsys.readouterr().out


def test_the_command_prints_json_schema_unless_told_otherwise() -> None:
    """And JSON documents, where they are asked for."""
    assert json.loads(printed()) == json_schema()
    assert json.loads(printed("asyncapi")) == asyncapi_document()


def test_the_list_names_every_type_with_its_fields() -> None:
    """A line a type."""
    lines = printed("list").splitlines()
    assert len(lines) == len(TAGS) == len(event_list())
    assert "  1 RunStarted(run_id, experiment_id, start_time, name?, user?)" in lines
    assert " 20 Abandoned(count?, reason?, raw?)" in lines


def test_the_command_refuses_other_formats(capsys: pytest.CaptureFixture[str]) -> None:
    """And says which there are."""
    with pytest.raises(SystemExit, match="2"):
        main(["avro"])
    assert "json-schema" in capsys.readouterr().err
