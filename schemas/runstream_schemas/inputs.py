"""How datasets that are a run's inputs are kept: as tags of the run, one a dataset.

The key is ``runstream.input.`` and 32 hex digits of the SHA-256 of the dataset's name and digest, so that a dataset
which is logged again takes its own place.  The value is a JSON object: ``dataset``, with texts by the names ``name``,
``digest``, ``source_type``, ``source`` and perhaps ``schema`` and ``profile``; and perhaps ``tags``, a list of objects
with ``key`` and ``value``.
"""

import hashlib
from typing import Any, Final

import msgspec

__all__ = ["INPUT", "input_key", "input_text"]

INPUT: Final = "runstream.input."
"""Beginning of the keys of such tags."""


def input_key(entry: dict[str, Any]) -> str:
    """The tag that keeps an input."""
    dataset = entry["dataset"]
    identity = msgspec.json.encode([dataset["name"], dataset["digest"]])
    return INPUT + hashlib.sha256(identity).hexdigest()[:32]


def input_text(entry: dict[str, Any]) -> str:
    """What the tag holds."""
    return msgspec.json.encode(entry).decode()
