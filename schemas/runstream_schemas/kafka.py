"""The connection to Kafka as the settings have it: who logs in, and whom it trusts.

What is not set by an environment variable comes from the client.properties file that RUNSTREAM_KAFKA_PROPERTIES names,
if any.  Nothing here needs a Kafka client: `Connection.arguments` are those that aiokafka's producer, consumer and
admin client share.  Errors of aiokafka are put into words by `explain`.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from runstream_schemas.errors import EnvironmentUnavailableError, InvalidInputError
from runstream_schemas.kafka_errors import causes_kept, explain, may_retry
from runstream_schemas.kafka_properties import Properties, read_properties
from runstream_schemas.kafka_settings import (
    KAFKA_CA_FILE,
    KAFKA_CERT_FILE,
    KAFKA_CHECK_HOSTNAME,
    KAFKA_COMPRESSION,
    KAFKA_CREATE_TOPIC,
    KAFKA_KEY_FILE,
    KAFKA_KEY_PASSWORD,
    KAFKA_KEY_PASSWORD_FILE,
    KAFKA_PARTITIONS,
    KAFKA_PASSWORD,
    KAFKA_PASSWORD_FILE,
    KAFKA_PROPERTIES,
    KAFKA_REPLICATION,
    KAFKA_SASL_MECHANISM,
    KAFKA_SECURITY_PROTOCOL,
    KAFKA_SETTINGS,
    KAFKA_USERNAME,
)
from runstream_schemas.kafka_tls import Material, Tls
from runstream_schemas.settings import Setting
from runstream_schemas.streams import KafkaStream

__all__ = [
    "KAFKA_COMPRESSION",
    "KAFKA_CREATE_TOPIC",
    "KAFKA_PARTITIONS",
    "KAFKA_REPLICATION",
    "KAFKA_SETTINGS",
    "Connection",
    "causes_kept",
    "connection",
    "explain",
    "may_retry",
]

T = TypeVar("T", str, int, float)

_NO_MECHANISM: Final = "none"
_LARGEST_PASSWORD: Final = 64 << 10


@dataclass(frozen=True)
class Connection:
    """How one stream's brokers are reached.  Its repr shows no secret."""

    stream: KafkaStream
    protocol: str = "PLAINTEXT"
    mechanism: str = _NO_MECHANISM
    username: str = ""
    password: str = field(default="", repr=False)
    tls: Tls = field(default_factory=Tls)
    """Of meaning where the protocol is SSL or SASL_SSL."""
    ignored: tuple[str, ...] = ()
    """Keys of the client.properties file that have no effect here."""

    def arguments(self) -> dict[str, Any]:
        """What aiokafka's clients take.  Raises what `Tls.context` raises.  It holds the password: never log it."""
        arguments: dict[str, Any] = {
            "bootstrap_servers": list(self.stream.servers),
            "client_id": "runstream",
            "security_protocol": self.protocol,
        }
        if self.protocol.endswith("SSL"):
            arguments["ssl_context"] = self.tls.context()
        if self.protocol.startswith("SASL"):
            arguments |= {
                "sasl_mechanism": self.mechanism,
                "sasl_plain_username": self.username,
                "sasl_plain_password": self.password,
            }
        return arguments


def connection(stream: KafkaStream, environ: Mapping[str, str] = os.environ) -> Connection:
    """The connection to a stream's brokers as the settings are now; files with passwords are read.

    Make a new one for each attempt, so that a password that was replaced meanwhile is used.  Raises `InvalidInputError`
    if settings make no sense together, and `EnvironmentUnavailableError` if a file cannot be read.
    """
    return _Resolution(environ).connection(stream)


class _Resolution:
    """Settings, and the file of properties behind them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        path = self._text(KAFKA_PROPERTIES)
        self._file = read_properties(_path(path)) if path else Properties("", {})

    def connection(self, stream: KafkaStream) -> Connection:
        protocol = self._setting_or_property(KAFKA_SECURITY_PROTOCOL, "security.protocol")
        if self._is_set(
            KAFKA_SECURITY_PROTOCOL
        ):  # what else the file says about logins or TLS is then for other programs
            self._file = self._file.without(login=not protocol.startswith("SASL"), tls=not protocol.endswith("SSL"))
        mechanism, username, password = self._login(protocol)
        return Connection(stream, protocol, mechanism, username, password, self._tls(protocol), self._file.ignored())

    def _login(self, protocol: str) -> tuple[str, str, str]:
        """Mechanism, user and password."""
        mechanism = self._setting_or_property(KAFKA_SASL_MECHANISM, "sasl.mechanism")
        login = self._file.login() if not self._is_set(KAFKA_USERNAME) else None
        username = login.username if login else self._text(KAFKA_USERNAME)
        given = self._secret(KAFKA_PASSWORD, KAFKA_PASSWORD_FILE)
        password = given or (login.password if login else "")
        if not protocol.startswith("SASL"):
            if mechanism != _NO_MECHANISM or username or password:
                raise InvalidInputError(
                    f"there are settings of a login to Kafka, and the protocol is {protocol}, which has none; set "
                    f"{KAFKA_SECURITY_PROTOCOL.variable} (or security.protocol) to SASL_SSL, or to SASL_PLAINTEXT if "
                    "the brokers have no TLS"
                )
            return mechanism, "", ""
        if mechanism == _NO_MECHANISM:
            raise InvalidInputError(
                f"the protocol {protocol} needs a mechanism; set {KAFKA_SASL_MECHANISM.variable} (or sasl.mechanism) "
                "to PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512, whichever the brokers have"
            )
        if login:
            login.check(mechanism)
        if not username:
            raise InvalidInputError(
                f"the mechanism {mechanism} needs a user; set {KAFKA_USERNAME.variable} (or sasl.jaas.config)"
            )
        if not password:
            raise InvalidInputError(
                f"the user {username!r} needs a password; set {KAFKA_PASSWORD_FILE.variable} or "
                f"{KAFKA_PASSWORD.variable} (or sasl.jaas.config)"
            )
        return mechanism, username, password

    def _tls(self, protocol: str) -> Tls:
        if protocol.endswith("SSL"):
            ca, certificate, key, key_password = self._materials()
            return Tls(ca, certificate, key, key_password, check_hostname=self._checks_hostname())
        named = [
            setting.variable for setting in (KAFKA_CA_FILE, KAFKA_CERT_FILE, KAFKA_KEY_FILE) if self._is_set(setting)
        ]
        if named or self._file.has_tls:
            raise InvalidInputError(
                f"{named[0] if named else self._file.name} is about TLS, and the protocol {protocol} has none; set "
                f"{KAFKA_SECURITY_PROTOCOL.variable} (or security.protocol) to SSL or SASL_SSL"
            )
        return Tls()

    def _materials(self) -> tuple[Material | None, Material | None, Material | None, str]:
        """The CA, the certificate, its key and the key's password."""
        ca = self._file_of(KAFKA_CA_FILE) or self._file.ca()
        key_password = self._secret(KAFKA_KEY_PASSWORD, KAFKA_KEY_PASSWORD_FILE)
        certificate, key = self._file_of(KAFKA_CERT_FILE), self._file_of(KAFKA_KEY_FILE)
        if certificate is None and key is not None:
            raise InvalidInputError(
                f"{KAFKA_KEY_FILE.variable} names a key without a certificate; set {KAFKA_CERT_FILE.variable} too"
            )
        if certificate is None:
            certificate, key = self._file.identity()
            key_password = key_password or self._file.key_password
        return ca, certificate, key, key_password

    def _checks_hostname(self) -> bool:
        if self._is_set(KAFKA_CHECK_HOSTNAME):
            return self._text(KAFKA_CHECK_HOSTNAME) == "yes"
        return self._file.checks_hostname()

    def _setting_or_property(self, setting: Setting[str], key: str) -> str:
        """What is set, else what the file says, else the default."""
        if self._is_set(setting) or key not in self._file.values:
            return self._text(setting)
        value = self._file.values[key].upper()
        if value not in setting.choices:
            raise InvalidInputError(
                f"{self._file.name} has {key}={value:.100}; it must be one of {', '.join(setting.choices)}"
            )
        return value

    def _secret(self, setting: Setting[str], file: Setting[str]) -> str:
        """A password that is set, or that lies in a file."""
        text, path = self._text(setting), self._text(file)
        if text and path:
            raise InvalidInputError(f"{setting.variable} and {file.variable} are both set; unset one of them")
        return _read_password(_path(path), file.variable) if path else text

    def _file_of(self, setting: Setting[str]) -> Material | None:
        path = self._text(setting)
        return Material(setting.variable, _path(path)) if path else None

    def _is_set(self, setting: Setting[str]) -> bool:
        return setting.resolve(None, self._environ).origin != "default"

    def _text(self, setting: Setting[T]) -> T:
        value: T = setting.resolve(None, self._environ).value
        return value


def _path(text: str) -> Path:
    return Path(os.path.expanduser(text))  # noqa: PTH111 - which raises where there is no such user


def _read_password(path: Path, variable: str) -> str:
    """What a file holds, without the end of its line."""
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST_PASSWORD).decode()
    except OSError as error:
        raise EnvironmentUnavailableError(
            f"the file {path}, which {variable} names, cannot be read: {error.strerror}"
        ) from None
    except UnicodeDecodeError:
        raise InvalidInputError(f"the file {path}, which {variable} names, is not text in UTF-8") from None
    password = text.removesuffix("\n").removesuffix("\r")
    if not password:
        raise InvalidInputError(f"the file {path}, which {variable} names, holds no password")
    return password
