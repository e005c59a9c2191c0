"""The SQL of the store: named statements, read once from the files in ``sql/``.

A statement follows a line ``-- name: NAME`` and ends before the next such line; a comment above its SQL says what it
does.
"""

import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Final

__all__ = ["SQL", "parse_statements"]

_NAME: Final = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def parse_statements(text: str) -> dict[str, str]:
    """The named statements of one file.  Raises ValueError for a name that stands twice."""
    _, *parts = _NAME.split(text)
    names, bodies = parts[::2], parts[1::2]
    if len(set(names)) != len(names):
        raise ValueError(f"a statement's name stands twice among {', '.join(names)}")
    return {name: body.strip() for name, body in zip(names, bodies, strict=True)}


def _load() -> Mapping[str, str]:
    directory = files("runstream_sink.store").joinpath("sql")
    texts = [entry.read_text("utf-8") for entry in directory.iterdir() if entry.name.endswith(".sql")]
    return parse_statements("\n".join(texts))


SQL: Final = _load()
"""Every statement by its name."""
