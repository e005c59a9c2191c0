"""How settings are declared: once, with name, default and help.  ``--help`` and docs/settings.md are made from it.

A setting's value is, in this order: what the program or the command line says, the environment variable
``RUNSTREAM_<NAME>``, the default.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, NamedTuple, TypeVar

from runstream_schemas.errors import InvalidInputError

__all__ = ["ARTIFACTS", "JOURNAL_DIR", "STORE", "STREAM", "TOKEN", "URL", "Resolved", "Setting", "parse_size"]

T = TypeVar("T", str, int, float)

_UNITS: Final = {"": 1, "B": 1, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "KB": 10**3, "MB": 10**6, "GB": 10**9}


class Resolved(NamedTuple):
    """A setting's value and where it came from: ``argument``, ``environment`` or ``default``."""

    value: Any
    origin: str


@dataclass(frozen=True)
class Setting(Generic[T]):
    """One setting."""

    name: str
    default: T
    help: str
    unit: str = ""
    """``bytes`` (accepts 10GiB), ``seconds`` or nothing."""
    choices: tuple[str, ...] = ()
    secret: bool = False
    """Whether the value is shown to nobody, not even where it is refused."""

    @property
    def variable(self) -> str:
        """Name of the environment variable."""
        return "RUNSTREAM_" + self.name.upper()

    @property
    def described(self) -> str:
        """Its help, and what holds where a command line does not say it."""
        return f"{self.help} Default: {self.variable}, or {self.default}"

    def resolve(self, argument: Any = None, environ: Mapping[str, str] = os.environ) -> Resolved:
        """The value that holds now.  Raises `InvalidInputError` naming the setting and where the bad value stands."""
        if argument is not None:
            return Resolved(self._parse(argument, f"the argument {self.name}"), "argument")
        text = environ.get(self.variable, "")
        if text:
            return Resolved(self._parse(text, f"the environment variable {self.variable}"), "environment")
        return Resolved(self.default, "default")

    def get(self, argument: Any = None) -> T:
        """The value that holds now, without its origin."""
        value: T = self.resolve(argument).value
        return value

    def _parse(self, value: Any, place: str) -> T:
        kind = type(self.default)
        shown = "not shown here" if self.secret else f"{value!r:.100}"
        try:
            parsed = parse_size(value) if self.unit == "bytes" else kind(value)
        except (ValueError, TypeError):
            raise InvalidInputError(f"{place} is {shown}; it must be {self.unit or kind.__name__}") from None
        if self.choices and parsed not in self.choices:
            raise InvalidInputError(f"{place} is {shown}; it must be one of {', '.join(self.choices)}")
        if isinstance(parsed, int | float) and not parsed >= 0:
            raise InvalidInputError(f"{place} is {shown}; it must not be negative")
        return parsed  # type: ignore[return-value]


def parse_size(value: object) -> int:
    """Bytes from a number or from text such as ``512MiB`` or ``10 GB``.  Raises ValueError."""
    if isinstance(value, int):
        return value
    text = str(value).strip()
    number = text.rstrip("BKMGIbkmgi")
    size = float(number) * _UNITS.get(text[len(number) :].upper(), math.nan)
    if not math.isfinite(size):
        raise ValueError(f"not a size: {text!r}")
    return int(size)


STREAM = Setting(
    "stream", "queue:./runstream-data/queue", "Where events go: queue:DIR, or kafka://HOST:PORT[,HOST:PORT]/TOPIC."
)
STORE = Setting(
    "store",
    "./runstream-data/store",
    "Where the sink keeps what it made of the events: DIR, sqlite:///FILE or postgresql://...",
)
ARTIFACTS = Setting("artifacts", "", "Where artifacts lie: DIR or s3://BUCKET/PREFIX. Empty: STORE/artifacts.")
JOURNAL_DIR = Setting(
    "journal_dir",
    "./runstream-data/journal",
    "Where journals lie when the stream is Kafka, each stream's in a directory of its own.",
)
URL = Setting("url", "", "The sink's HTTP address, for reads from a program without the store.")
TOKEN = Setting(
    "token",
    "",
    "What the sink's HTTP server asks of clients, as bearer token or as password. Empty: nothing.",
    secret=True,
)
