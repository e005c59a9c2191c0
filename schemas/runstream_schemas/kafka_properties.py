r"""A ``client.properties`` file as Java's clients of Kafka have it, as far as it is about the connection.

The syntax is that of ``java.util.Properties.load``: ``key=value``, ``key:value`` or ``key value``; comments begin with
``#`` or ``!``; a line that ends in an odd number of backslashes goes on in the next one, whose leading blanks do not
count; ``\t``, ``\n``, ``\r``, ``\f`` and ``\uXXXX`` are escapes, and any other backslash is left out.  The file is
UTF-8, or else, as in Java, ISO 8859-1.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from runstream_schemas.errors import EnvironmentUnavailableError, InvalidInputError
from runstream_schemas.kafka_tls import Material, conversion

__all__ = ["Login", "Properties", "parse", "read_properties"]

_LOGIN: Final = ("sasl.mechanism", "sasl.jaas.config")
_TRUST: Final = ("ssl.truststore.type", "ssl.truststore.location", "ssl.truststore.certificates")
_KEYS: Final = (
    "ssl.keystore.type",
    "ssl.keystore.location",
    "ssl.keystore.certificate.chain",
    "ssl.keystore.key",
    "ssl.key.password",
)
_HOSTNAME: Final = "ssl.endpoint.identification.algorithm"
_TLS: Final = (*_TRUST, *_KEYS, _HOSTNAME)
_KNOWN: Final = frozenset(("security.protocol", *_LOGIN, *_TLS))

_ESCAPES: Final = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_KEY: Final = re.compile(r"((?:\\.|[^\\=: \t\f])*)[ \t\f]*(?:[=:][ \t\f]*)?(.*)", re.DOTALL)
_JAAS: Final = re.compile(
    r"""\s*(?P<module>[\w.$]+)\s+(?:required|requisite|sufficient|optional)
    (?P<options>(?:\s+[\w.$-]+\s*=\s*(?:"(?:\\.|[^"\\])*"|[^\s;"]+))*)\s*;\s*""",
    re.VERBOSE | re.DOTALL,
)
_OPTION: Final = re.compile(r'([\w.$-]+)\s*=\s*(?:"((?:\\.|[^"\\])*)"|([^\s;"]+))', re.DOTALL)
_MODULES: Final = {"PlainLoginModule": "PLAIN", "ScramLoginModule": "SCRAM-"}


class Login(NamedTuple):
    """What sasl.jaas.config says.  Not to be shown."""

    file: str
    mechanisms: str
    """How the mechanisms begin that the login module is for."""
    username: str
    password: str

    def check(self, mechanism: str) -> None:
        """Raise `InvalidInputError` if this is the login for another mechanism."""
        if not mechanism.startswith(self.mechanisms):
            raise InvalidInputError(
                f"{self.file} has, in sasl.jaas.config, the login module of {self.mechanisms.rstrip('-')}, and the "
                f"mechanism is {mechanism}; change one of them"
            )


@dataclass(frozen=True, repr=False)
class Properties:
    """What a file says.  Not to be shown."""

    name: str
    """The file's, for messages."""
    values: Mapping[str, str]
    dropped: frozenset[str] = frozenset()
    """Known keys that have no effect."""

    def without(self, *, login: bool, tls: bool) -> "Properties":
        """The same, without what it says about logins or TLS."""
        left_out = frozenset((*(_LOGIN if login else ()), *(_TLS if tls else ()))) & self.values.keys()
        kept = {key: value for key, value in self.values.items() if key not in left_out}
        return Properties(self.name, kept, left_out)

    def ignored(self) -> tuple[str, ...]:
        """Keys without any effect here, sorted."""
        return tuple(sorted((self.values.keys() - _KNOWN) | self.dropped))

    @property
    def has_tls(self) -> bool:
        """Whether it names certificates."""
        return any(self.values.get(key) for key in (*_TRUST[1:], *_KEYS[1:]))

    def login(self) -> Login | None:
        """User and password.  Raises `InvalidInputError` if they are not to be found in the login module's options."""
        text = self.values.get("sasl.jaas.config", "")
        if not text.strip():
            return None
        found = _JAAS.fullmatch(text)
        if found is None:
            raise InvalidInputError(
                f"{self.name} has a sasl.jaas.config that cannot be read; it must be MODULE required "
                'username="..." password="...";'
            )
        module = found["module"].rpartition(".")[2]
        if module not in _MODULES:
            raise InvalidInputError(
                f"{self.name} has, in sasl.jaas.config, the login module {module:.100}; only "
                f"{' and '.join(_MODULES)} are known"
            )
        options = {name: _unquoted(quoted) or plain for name, quoted, plain in _OPTION.findall(found["options"])}
        return Login(self.name, _MODULES[module], options.get("username", ""), options.get("password", ""))

    def ca(self) -> Material | None:
        """Whom to trust.  Raises `InvalidInputError` if they are not in PEM."""
        return self._material("truststore", "certificates")

    def identity(self) -> tuple[Material | None, Material | None]:
        """The client's certificate, and its key unless that lies with it.  Raises `InvalidInputError`."""
        certificate = self._material("keystore", "certificate.chain")
        key = self._text("ssl.keystore.key")
        if certificate is not None and certificate.path is None and key is None:
            raise InvalidInputError(f"{self.name} has ssl.keystore.certificate.chain without ssl.keystore.key; add it")
        return certificate, key

    @property
    def key_password(self) -> str:
        """The password of the client's key; empty: none."""
        return self.values.get("ssl.key.password", "")

    def checks_hostname(self) -> bool:
        """Whether a broker's certificate must be for its host.  Raises `InvalidInputError`."""
        value = self.values.get(_HOSTNAME, "https").lower()
        if value not in {"", "https"}:
            raise InvalidInputError(
                f"{self.name} has {_HOSTNAME}={value:.100}; it must be https, or empty for no check"
            )
        return value == "https"

    def _material(self, store: str, inline: str) -> Material | None:
        location, kind = (
            self.values.get(f"ssl.{store}.location", ""),
            self.values.get(f"ssl.{store}.type", "JKS").upper(),
        )
        text = self._text(f"ssl.{store}.{inline}")
        if (location or text) and kind != "PEM":
            raise InvalidInputError(
                f"{self.name} names a {store} of the type {kind:.100}, and only PEM is known (ssl.{store}.type=PEM); "
                + conversion(Path(location) if location else None, kind)
            )
        if location and text:
            raise InvalidInputError(f"{self.name} has ssl.{store}.location and ssl.{store}.{inline}; take one out")
        return Material(f"ssl.{store}.location in {self.name}", Path(location)) if location else text

    def _text(self, key: str) -> Material | None:
        value = self.values.get(key, "")
        return Material(f"{key} in {self.name}", text=value) if value else None


def read_properties(path: Path) -> Properties:
    """What a file says.  Raises `EnvironmentUnavailableError` if it cannot be read."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EnvironmentUnavailableError(
            f"the file {path}, which RUNSTREAM_KAFKA_PROPERTIES names, cannot be read: {error.strerror}"
        ) from None
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    return Properties(str(path), {key: value.strip() for key, value in parse(text).items()})  # as Kafka does


def parse(text: str) -> dict[str, str]:
    """Keys and values; of a key that comes twice, the last one holds."""
    found = {}
    for line in _logical_lines(text):
        match = _KEY.fullmatch(line)
        assert match is not None  # noqa: S101 - it matches every text
        found[_unescaped(match[1])] = _unescaped(match[2])
    return found


def _logical_lines(text: str) -> Iterator[str]:
    """Lines put together where they go on, without comments and blank lines."""
    line: str | None = None
    for natural in re.split(r"\r\n|\r|\n", text):
        part = natural.lstrip(" \t\f")
        if line is None and (not part or part[0] in "#!"):
            continue
        backslashes = len(part) - len(part.rstrip("\\"))
        line = (line or "") + part[: len(part) - backslashes % 2]
        if backslashes % 2 == 0:
            yield line
            line = None
    if line:
        yield line


def _unescaped(text: str) -> str:
    found = _ESCAPE.sub(lambda found: chr(int(found[1], 16)) if found[1] else _escape(found[2]), text)
    return found.encode("utf-16", "surrogatepass").decode(
        "utf-16", "replace"
    )  # Java's escapes are halves of characters


def _escape(character: str) -> str:
    return _ESCAPES.get(character, character)


def _unquoted(text: str) -> str:
    """What stands between double quotes, as Java's StreamTokenizer reads it."""
    return re.sub(r"\\(.)", lambda found: _escape(found[1]), text, flags=re.DOTALL)
