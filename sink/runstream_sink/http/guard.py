"""Who may talk to the server: checked before anything else is done with a request.

* **Host.**  A page that a browser shows may let its own name point to this machine (DNS rebinding); the Host header
  then has that name.  It must be localhost, 127.0.0.1, [::1], the served address, the address that the connection
  came to, or one of ``RUNSTREAM_ALLOWED_HOSTS``.
* **Origin.**  Requests that change something must not come from another site's page, as browsers tell by ``Origin`` and
  ``Sec-Fetch-Site``.
* **Token.**  Where there is one, it must come as ``Authorization: Bearer`` or as the password of ``Basic``, whatever
  the user's name.  /healthz and /readyz answer without, in a word.
"""

import binascii
import hmac
from base64 import b64decode
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Final, NamedTuple

import msgspec

from runstream_schemas.errors import InvalidInputError
from runstream_sink.config import HttpOptions
from runstream_sink.http.asgi import App, Receive, Scope, Send
from runstream_sink.http.measures import Measures
from runstream_sink.http.problems import PROBLEM, Problem

__all__ = ["Guard", "Refusal", "Rules", "check_exposure", "is_loopback"]

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_OPEN: Final = frozenset({"/healthz", "/readyz"})
_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_HEADERS: Final = ("host", "origin", "sec-fetch-site", "authorization")


class Refusal(NamedTuple):
    """Why a request is not served."""

    status: int
    code: str
    detail: str


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check_exposure(options: HttpOptions) -> None:
    """Raise `InvalidInputError` if other machines would be served though nobody said so."""
    if not (is_loopback(options.host) or options.token or options.allow_open):
        raise InvalidInputError(
            f"{options.host or 'every address'} is reached by other machines; set RUNSTREAM_TOKEN, which clients must "
            "then send, or say --allow-open"
        )


class Rules:
    """What holds for one server."""

    def __init__(self, options: HttpOptions) -> None:
        self._token = options.token.encode()
        self._any_host = "*" in options.allowed_hosts
        self._hosts = _LOCAL | {_name(options.host), *map(_name, options.allowed_hosts)} - {""}

    def check(self, method: str, path: str, headers: Mapping[str, str], server: str) -> Refusal | None:
        """Why a request is refused, if it is.

        ``headers`` are by name in lower case, ``server`` is the address that the connection came to.
        """
        host = headers.get("host", "")
        if not host:
            return Refusal(400, "bad_host", "the request has no Host header")
        if not self._any_host and _name(host) not in self._hosts | {_name(server)} - {""}:
            return Refusal(
                403,
                "bad_host",
                f"the host {host!r:.200} is not served; RUNSTREAM_ALLOWED_HOSTS may name it",
            )
        if method not in _SAFE and _is_foreign(headers, host):
            return Refusal(403, "foreign_origin", "pages of other sites may not change anything here")
        if self._token and path not in _OPEN and not self._knows_token(headers.get("authorization", "")):
            return Refusal(401, "unauthorized", "send the server's token (RUNSTREAM_TOKEN) as bearer token or password")
        return None

    def _knows_token(self, authorization: str) -> bool:
        scheme, _, credentials = authorization.partition(" ")
        given = credentials.strip().encode()
        if scheme.lower() == "basic":
            try:
                given = b64decode(given, validate=True).partition(b":")[2]
            except binascii.Error:
                return False
        elif scheme.lower() != "bearer":
            return False
        return hmac.compare_digest(given, self._token)


def _name(host: str) -> str:
    """A host without port, brackets and final dot, in lower case; empty for what is none."""
    host = host.strip().lower()
    if host.startswith("["):
        name, bracket, rest = host[1:].partition("]")
        return name if bracket and (not rest or rest.startswith(":")) else ""
    if host.count(":") <= 1:
        host = host.partition(":")[0]
    return host.removesuffix(".")


def _is_foreign(headers: Mapping[str, str], host: str) -> bool:
    """Whether a browser says that another site's page has made the request."""
    origin = headers.get("origin")
    if origin is not None:
        return origin.partition("://")[2].lower() != host.strip().lower()
    return headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}


class Guard:
    """Lets through to an application what the rules allow."""

    def __init__(self, app: App, rules: Rules, measures: Measures) -> None:
        self._app = app
        self._rules = rules
        self._measures = measures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            return  # nothing here speaks WebSocket: the server refuses what is not accepted
        refusal = self._rules.check(scope["method"], scope["path"], _headers(scope), _server(scope))
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            self._measures.count(None, scope["method"], refusal.status)
            await _refuse(refusal, send)


def _headers(scope: Scope) -> dict[str, str]:
    """The headers that matter here; of one that comes twice nothing good can be meant."""
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        key = name.decode("latin-1").lower()
        if key in _HEADERS:
            found[key] = f"{found[key]}, {value.decode('latin-1')}" if key in found else value.decode("latin-1")
    return found


def _server(scope: Scope) -> str:
    server = scope.get("server")
    return str(server[0]) if server else ""


async def _refuse(refusal: Refusal, send: Send) -> None:
    body = msgspec.json.encode(Problem(status=refusal.status, code=refusal.code, detail=refusal.detail))
    headers = [
        (b"content-type", PROBLEM.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),  # what follows of the body is not read
    ]
    if refusal.status == 401:
        headers += [(b"www-authenticate", scheme + b' realm="runstream"') for scheme in (b"Bearer", b"Basic")]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
