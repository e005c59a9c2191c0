"""Lists as parameters of named queries."""

from collections.abc import Sequence

import msgspec

__all__ = ["json_text"]


def json_text(values: Sequence[str]) -> str:
    """A JSON array."""
    return msgspec.json.encode(values).decode()
