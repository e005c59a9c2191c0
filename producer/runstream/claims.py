"""Claim check: a cell that is too large for an event is staged like an artifact, and the row refers to it.

It happens after redaction and sampling, and only for rows that are larger than ``claim_size``: then each cell whose
encoding is larger is staged, and on the disk before its row is logged.  Where staging fails, the row is dropped and
counted.
"""

import json
from base64 import b64encode
from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Raw

from runstream.artifacts import Staging, media_type_of
from runstream_schemas.claims import CLAIM, Claim, pack_claim
from runstream_schemas.errors import EnvironmentUnavailableError
from runstream_schemas.events import ArtifactLogged
from runstream_schemas.values import RowEncoder, decode_extension

__all__ = ["Claims"]


class Claims:
    """Encodes the rows of one run that are larger than ``size`` bytes."""

    def __init__(
        self,
        run_id: str,
        size: int,
        encoder: RowEncoder,
        staging: Callable[[], Staging],
        emit: Callable[[ArtifactLogged], None],
        count_drop: Callable[[str], None],
    ) -> None:
        self.size = size
        self._run_id = run_id
        self._encoder = encoder
        self._staging = staging
        self._emit = emit
        self._count_drop = count_drop

    def encode_row(self, row: list[Any]) -> bytes | None:
        """Encode the cells of a row, large ones as claims, whose artifacts are logged first; None if it is dropped."""
        try:
            return _encode([self._check_in(self._encoder.encode_row([value])[1:]) for value in row])
        except EnvironmentUnavailableError:
            self._count_drop("disk")
            return None

    def _check_in(self, encoded: bytes) -> Raw | msgspec.msgpack.Ext:
        if len(encoded) <= self.size:
            return Raw(encoded)
        kind, content = _content(encoded)
        staged = self._staging().add_bytes(content)
        claim = Claim(staged.sha256, staged.size, kind)
        self._emit(ArtifactLogged(self._run_id, claim.path, claim.sha256, claim.size, media_type_of(claim.path)))
        return msgspec.msgpack.Ext(CLAIM, pack_claim(claim))


def _content(encoded: bytes) -> tuple[str, bytes]:
    """Kind and bytes of the artifact for an encoded cell."""
    value = _decode(encoded)
    if isinstance(value, str):
        return "text", value.encode()
    if isinstance(value, bytes):
        return "bytes", value
    return "json", json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_scalar_text).encode()


def _scalar_text(value: bytes | datetime) -> str:
    """What JSON lacks, as the sink writes it into cells."""
    if isinstance(value, bytes):
        return b64encode(value).decode("ascii")
    return f"{value.replace(tzinfo=None).isoformat()}Z"


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(ext_hook=decode_extension).decode
