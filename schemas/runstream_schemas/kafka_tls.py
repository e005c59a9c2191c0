"""TLS to Kafka's brokers: certificates and keys in PEM, loaded into an `ssl.SSLContext`.

Errors name the file and say what to do.  Other formats than PEM are refused with the command that converts them.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runstream_schemas.errors import EnvironmentUnavailableError, InvalidInputError

if TYPE_CHECKING:
    from ssl import SSLContext

__all__ = ["Material", "Tls", "conversion"]

_JKS: Final = b"\xfe\xed\xfe\xed"
_DER: Final = b"\x30"
_PEM: Final = b"-----BEGIN "


@dataclass(frozen=True)
class Material:
    """A certificate or a key: a PEM file, or PEM text."""

    origin: str
    """What names it: a setting's variable, or a property and its file."""
    path: Path | None = None
    text: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"{self.path}, which {self.origin} names," if self.path else self.origin

    def read(self) -> bytes:
        """Its PEM bytes.  Raises `EnvironmentUnavailableError` or `InvalidInputError`."""
        if self.path is None:
            content = self.text.encode()
        else:
            try:
                content = self.path.read_bytes()
            except OSError as error:
                raise EnvironmentUnavailableError(f"{self} cannot be read: {error.strerror}") from None
        if _PEM not in content:
            raise InvalidInputError(f"{self} is not in PEM; {conversion(self.path, _store_type(content))}")
        return content


@dataclass(frozen=True)
class Tls:
    """Whom a client trusts and as whom it shows itself.  Its repr shows no secret."""

    ca: Material | None = None
    """Whom to trust; None: the certificates of the system."""
    certificate: Material | None = None
    key: Material | None = None
    """None: it lies with the certificate."""
    key_password: str = field(default="", repr=False)
    check_hostname: bool = True

    def context(self) -> "SSLContext":
        """A context for connections to brokers.

        Raises `EnvironmentUnavailableError` if a file cannot be read, and `InvalidInputError` if what it holds will not
        do.
        """
        import ssl

        context = ssl.create_default_context() if self.ca is None else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = self.check_hostname
        if self.ca is not None:
            with _as_file(self.ca.read()) as path:
                try:
                    context.load_verify_locations(path)
                except ssl.SSLError as error:
                    raise InvalidInputError(f"{self.ca} holds no certificate that can be read ({error})") from None
        if self.certificate is not None:
            self._load_identity(context, self.certificate, self.key or self.certificate)
        return context

    def _load_identity(self, context: "SSLContext", certificate: Material, key: Material) -> None:
        import ssl

        asked = []

        def password() -> str:
            asked.append(True)
            return self.key_password or _NO_PASSWORD

        with _as_file(certificate.read()) as chain_path, _as_file(key.read()) as key_path:
            try:
                context.load_cert_chain(chain_path, key_path, password)
            except ssl.SSLError as error:
                raise InvalidInputError(self._refusal(certificate, key, error, encrypted=bool(asked))) from None

    def _refusal(self, certificate: Material, key: Material, error: "OSError", *, encrypted: bool) -> str:
        if encrypted and not self.key_password:
            return (
                f"{key} holds an encrypted key; set RUNSTREAM_KAFKA_KEY_PASSWORD_FILE or RUNSTREAM_KAFKA_KEY_PASSWORD "
                "(or ssl.key.password)"
            )
        if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
            return f"the key in {key} does not belong to the certificate in {certificate}"
        if encrypted:
            return f"the password of the key in {key} is wrong"
        return f"{certificate} and {key} hold no certificate with its key that can be read ({error})"


_NO_PASSWORD: Final = "\0"  # noqa: S105 - a password that no key has
"""OpenSSL would ask the terminal if there were none."""


def conversion(path: Path | None, kind: str) -> str:
    """How to make PEM of a key store or trust store; ``kind`` is as Java's ssl.keystore.type has it."""
    source = path or "FILE"
    if kind == "PKCS12":
        return (
            f"convert it: openssl pkcs12 -in {source} -nodes -out store.pem (certificates alone: -nokeys), and name "
            "store.pem instead"
        )
    if kind == "JKS":
        return (
            f"convert it: keytool -importkeystore -srckeystore {source} -destkeystore store.p12 -deststoretype PKCS12 "
            "&& openssl pkcs12 -in store.p12 -nodes -out store.pem, and name store.pem instead"
        )
    return "it must hold lines such as -----BEGIN CERTIFICATE----- or -----BEGIN PRIVATE KEY-----"


def _store_type(content: bytes) -> str:
    if content.startswith(_JKS):
        return "JKS"
    return "PKCS12" if content.startswith(_DER) else ""


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """A path under which OpenSSL, which reads files alone, finds bytes that need not lie on a disk."""
    descriptor = os.memfd_create("runstream")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
