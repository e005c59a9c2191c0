"""Certificates for tests, made by the openssl program: PEM files, valid for a month."""

import subprocess
from pathlib import Path
from typing import NamedTuple

from support.components import real_component

__all__ = ["Authority", "Certificate"]

_CURVE = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


class Certificate(NamedTuple):
    """A certificate and its key."""

    certificate: Path
    key: Path
    encrypted_key: Path
    """The same key under the password `key_password`."""
    together: Path
    """Key and certificate in one file, as Java wants them."""

    key_password: str = "key-secret"


class Authority:
    """One that issues certificates; `certificate` is what clients trust."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._key = directory / f"{name}.key"
        self.certificate = directory / f"{name}.pem"
        _openssl("req", "-x509", *_CURVE, "-days", "30", "-subj", f"/CN={name}", "-keyout", self._key,
                 "-out", self.certificate)  # fmt: skip

    def issue(self, name: str, hosts: str = "DNS:localhost,IP:127.0.0.1") -> Certificate:
        """A certificate for CN=`name` that holds for these hosts."""
        base = self._directory / name
        certificate, key, encrypted, together = (base.with_suffix(end) for end in (".crt", ".key", ".enc.key", ".pem"))
        issued = Certificate(certificate, key, encrypted, together)
        request, extensions = base.with_suffix(".csr"), base.with_suffix(".ext")
        extensions.write_text(f"subjectAltName={hosts}\n")
        _openssl("req", *_CURVE, "-subj", f"/CN={name}", "-keyout", issued.key, "-out", request)
        _openssl("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial",
                 "-days", "30", "-extfile", extensions, "-out", issued.certificate)  # fmt: skip
        _openssl("pkcs8", "-topk8", "-in", issued.key, "-passout", f"pass:{issued.key_password}",
                 "-out", issued.encrypted_key)  # fmt: skip
        issued.together.write_bytes(issued.key.read_bytes() + issued.certificate.read_bytes())
        return issued


def _openssl(*arguments: object) -> None:
    subprocess.run([real_component("openssl"), *map(str, arguments)], check=True, capture_output=True)
