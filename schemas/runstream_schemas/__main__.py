"""``python -m runstream_schemas`` prints what the events are, for programs in other languages."""

import argparse
import json
from collections.abc import Sequence

from runstream_schemas.asyncapi import asyncapi_document
from runstream_schemas.describe import event_list, json_schema

__all__ = ["main"]

_FORMATS = {
    "json-schema": "JSON Schema (2020-12) of an event in its JSON form (the default)",
    "asyncapi": "an AsyncAPI 3.0 document: record batches and chunks on a topic, and the events",
    "list": "one line an event type: tag, name, fields; a ? marks those that have defaults",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one of the formats to standard output."""
    parser = argparse.ArgumentParser(
        prog="python -m runstream_schemas",
        description="Print what the events of runstream are.",
        epilog="\n".join(f"  {name:12} {meaning}" for name, meaning in _FORMATS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("format", nargs="?", choices=tuple(_FORMATS), default="json-schema")
    print(_text(parser.parse_args(arguments).format))  # noqa: T201 - what the command is for


def _text(wanted: str) -> str:
    if wanted == "list":
        return "\n".join(f"{tag:3} {name}({', '.join(fields)})" for tag, name, fields in event_list())
    document = asyncapi_document() if wanted == "asyncapi" else json_schema()
    return json.dumps(document, ensure_ascii=False, indent=2)


if __name__ == "__main__":
    main()
