"""Cursors: the place of a page's last row in the order of its search, as opaque text.

A cursor holds the values by which its row stood where it stood, so that it is right also when the row has moved or
gone: a row that stays where it was is neither repeated nor skipped.  It fits the search that made it and no other.
"""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Any, Final, TypeVar

import msgspec

from runstream_schemas.errors import InvalidInputError
from runstream_sink.store.search_plan import ExperimentSearch, RunSearch

__all__ = ["make_cursor", "read_cursor"]

S = TypeVar("S", RunSearch, ExperimentSearch)

_DIGEST_SIZE: Final = 6
_LIMIT: Final = 1 << 63
_decode: Final = msgspec.msgpack.Decoder(tuple[bytes, list[int | float | str | None]]).decode
_encode: Final = msgspec.msgpack.Encoder().encode


def make_cursor(plan: RunSearch | ExperimentSearch, place: Sequence[Any]) -> str:
    """The cursor that follows a row of ``plan`` at ``place``."""
    return urlsafe_b64encode(_encode((_digest(plan), place))).decode().rstrip("=")


def read_cursor(plan: S, cursor: str | None) -> S:
    """``plan``, from behind the cursor's place.  Raises `InvalidInputError` for a cursor that is not this search's."""
    if cursor is None:
        return plan
    try:
        digest, place = _decode(urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4)))
    except (binascii.Error, msgspec.MsgspecError, UnicodeError, ValueError):
        digest, place = b"", []
    if digest != _digest(plan) or not _fits(plan, place):
        raise InvalidInputError(
            f"the cursor {cursor!r:.100} is none of this search; take it from the page before, and change nothing else"
        )
    return replace(plan, after=tuple(place))


def _fits(plan: RunSearch | ExperimentSearch, place: Sequence[Any]) -> bool:
    """Whether ``place`` has the shape of one: ranks are small, and integers such as a store holds."""
    integers = [value for value in place if isinstance(value, int)]
    ranks = place[: plan.width // 2 * 2 : 2]
    return (
        len(place) == plan.width
        and all(-_LIMIT <= value < _LIMIT for value in integers)
        and all(rank in {0, 1, 2} for rank in ranks)
    )


def _digest(plan: RunSearch | ExperimentSearch) -> bytes:
    """Of what makes the order and the choice of rows."""
    what = replace(plan, limit=0, after=None)
    return blake2b(repr(what).encode(), digest_size=_DIGEST_SIZE).digest()
