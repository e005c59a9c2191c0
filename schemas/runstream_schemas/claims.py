"""Claims: what a row holds in place of a value that is too large for an event.

The value itself is an artifact of the run, ``claims/<sha256>`` with the suffix of its kind.  On the wire the cell is
MessagePack extension 2, holding the MessagePack array ``[sha256, size, kind]``: 64 hexadecimal digits, bytes, and

========  =========  =======================================================================
kind      suffix     the artifact's bytes
========  =========  =======================================================================
text      ``.txt``   UTF-8
bytes     ``.bin``   as they are
json      ``.json``  JSON with NaN and infinities as Python writes them, bytes as base64
========  =========  =======================================================================

Where it has been decoded the cell is text, the *reference*: ``artifact:claims/<sha256><suffix>``.
"""

import re
from typing import Final, NamedTuple

import msgspec

from runstream_schemas.errors import CorruptDataError

__all__ = ["CLAIM", "KINDS", "Claim", "pack_claim", "parse_reference", "unpack_claim"]

CLAIM: Final = 2
"""MessagePack extension type of a claim."""
KINDS: Final = {"text": ".txt", "bytes": ".bin", "json": ".json"}
"""Kinds of values, and the suffixes of their artifacts."""

_SCHEME: Final = "artifact:"
_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_REFERENCE: Final = re.compile(r"artifact:claims/([0-9a-f]{64})(\.txt|\.bin|\.json)", re.ASCII)
_BY_SUFFIX: Final = {suffix: kind for kind, suffix in KINDS.items()}
_MAX_SIZE: Final = 1 << 63


class Claim(NamedTuple):
    """A value that lies outside its row."""

    sha256: str
    size: int
    kind: str

    @property
    def path(self) -> str:
        """The artifact's path in its run."""
        return f"claims/{self.sha256}{KINDS[self.kind]}"

    @property
    def reference(self) -> str:
        """The text that stands in the cell."""
        return _SCHEME + self.path


def pack_claim(claim: Claim) -> bytes:
    """The data of the extension."""
    return msgspec.msgpack.encode(list(claim))


def unpack_claim(data: bytes | memoryview) -> Claim:
    """A claim from the data of the extension.  Raises `CorruptDataError`."""
    try:
        claim = Claim(*_decode(data))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CorruptDataError(f"a row's cell claims something else than [sha256, size, kind]: {error}") from error
    if not _SHA256.fullmatch(claim.sha256) or not 0 <= claim.size < _MAX_SIZE or claim.kind not in KINDS:
        raise CorruptDataError(
            f"a row's cell claims {claim.size} bytes of kind {claim.kind!r:.80} under sha256 {claim.sha256!r:.80}"
        )
    return claim


def parse_reference(text: str) -> tuple[str, str, str] | None:
    """The artifact's path, its SHA-256 and the value's kind, if ``text`` is a reference."""
    found = _REFERENCE.fullmatch(text)
    return None if found is None else (text.removeprefix(_SCHEME), found[1], _BY_SUFFIX[found[2]])


_decode = msgspec.msgpack.Decoder(tuple[str, int, str]).decode
