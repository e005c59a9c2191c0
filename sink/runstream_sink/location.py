"""Where a store lies: what ``RUNSTREAM_STORE`` and ``--store`` accept.

=====================  ====================================================================
``DIR``                ``DIR/runstream.db``, ``DIR/lock``, ``DIR/artifacts``
``sqlite:///FILE``     ``FILE``, ``FILE.lock`` and ``artifacts`` beside it; a fourth slash
                       makes the path absolute
=====================  ====================================================================
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runstream_schemas.errors import InvalidInputError

__all__ = ["StoreLocation"]

_SQLITE: Final = "sqlite:///"


@dataclass(frozen=True)
class StoreLocation:
    """The paths of one store; nothing is touched on the disk."""

    text: str
    """As the user wrote it, for messages."""
    database: Path
    lock: Path
    artifacts: Path
    """Where artifacts and CSV tables lie, unless another setting says otherwise."""

    @classmethod
    def parse(cls, text: str) -> "StoreLocation":
        """Paths of the store that ``text`` names.  Raises `InvalidInputError` for what names none."""
        if text.startswith(_SQLITE):
            return cls._of_file(text, text.removeprefix(_SQLITE))
        if not text.strip() or "\0" in text:
            raise InvalidInputError("the store is empty; name a directory or sqlite:///FILE")
        if "://" in text or text.startswith(("queue:", "sqlite:")):
            raise InvalidInputError(f"the store {text!r:.200} must be a directory or sqlite:///FILE")
        directory = Path(text).expanduser()
        return cls(text, directory / "runstream.db", directory / "lock", directory / "artifacts")

    @classmethod
    def _of_file(cls, text: str, name: str) -> "StoreLocation":
        if not name.strip("/") or name.endswith("/") or "\0" in name or name == ":memory:":
            raise InvalidInputError(f"the store {text!r:.200} names no file; write sqlite:///FILE")
        file = Path(name).expanduser()
        return cls(text, file, file.with_name(file.name + ".lock"), file.parent / "artifacts")
