"""Who may talk to the server: Host and Origin headers, tokens, addresses."""

from base64 import b64encode

import pytest

from runstream_schemas.errors import InvalidInputError
from runstream_sink.config import HttpOptions
from runstream_sink.http.guard import Rules, check_exposure, is_loopback


def _options(
    host: str = "127.0.0.1", *, token: str = "", allow_open: bool = False, hosts: tuple[str, ...] = ()
) -> HttpOptions:
    return HttpOptions(host, 5600, token, allow_open, hosts)


def _status(
    rules: Rules, method: str = "GET", path: str = "/api/v1/runs", server: str = "127.0.0.1", **headers: str
) -> int:
    named = {name.replace("_", "-"): value for name, value in {"host": "localhost:5600", **headers}.items()}
    refusal = rules.check(method, path, named, server)
    return 200 if refusal is None else refusal.status


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:5600",
        "localhost.",
        "127.0.0.1:1",
        "[::1]:5600",
        "[::1]",
        "sink.example",
        "Sink.Example.:80",
    ],
)
def test_names_of_this_server_are_served(host: str) -> None:
    """Those of this machine, with any port, and those that are allowed."""
    assert _status(Rules(_options(hosts=("sink.example",))), host=host) == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "[::1",
        "[::1]x",
        "localhost@evil.example",
        "2130706433",
        "[::2]:80",
        " ",
    ],
)
def test_other_names_are_refused(host: str) -> None:
    """A page whose name was made to point here gets nothing (DNS rebinding)."""
    assert _status(Rules(_options()), host=host) == 403


def test_a_request_without_a_host_is_refused() -> None:
    """HTTP/1.1 demands one."""
    assert _status(Rules(_options()), host="") == 400


def test_the_address_that_a_connection_came_to_is_served() -> None:
    """A server of all addresses is called by any of them, but by no name that it does not know."""
    rules = Rules(_options("0.0.0.0", token="secret"))
    assert _status(rules, host="192.0.2.7:5600", server="192.0.2.7", authorization="Bearer secret") == 200
    assert _status(rules, host="192.0.2.8:5600", server="192.0.2.7", authorization="Bearer secret") == 403


def test_any_name_is_served_where_a_star_is_allowed() -> None:
    """Behind a proxy that checks names itself."""
    assert _status(Rules(_options(hosts=("*",))), host="whatever.example") == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": "http://localhost:5600"}, 200),
        ({"origin": "https://LOCALHOST:5600"}, 200),
        ({"origin": "http://localhost:5601"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": ""}, 403),
        ({"sec_fetch_site": "same-origin"}, 200),
        ({"sec_fetch_site": "none"}, 200),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_site": "same-site"}, 403),
    ],
)
def test_pages_of_other_sites_change_nothing(headers: dict[str, str], status: int) -> None:
    """What a browser says about where a request comes from decides."""
    rules = Rules(_options())
    assert {_status(rules, method, **headers) for method in ("POST", "PUT", "PATCH", "DELETE")} == {status}
    assert _status(rules, "GET", **headers) == 200


def _basic(text: str) -> str:
    return "Basic " + b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "authorization",
    ["Bearer s3:cret", "bearer  s3:cret ", _basic("anybody:s3:cret"), _basic(":s3:cret"), "Bearer s3:cret\t"],
)
def test_the_token_opens(authorization: str) -> None:
    """As bearer token, or as password of whatever user."""
    assert _status(Rules(_options(token="s3:cret")), authorization=authorization) == 200


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer wrong",
        "Bearer s3:cre",
        "s3:cret",
        "Digest s3:cret",
        "Basic ???",
        _basic("s3:cret:x"),
        "Basic s3:cret",
        "Bearer tökén",
    ],
)
def test_nothing_else_opens(authorization: str) -> None:
    """Also what is no credentials at all."""
    assert _status(Rules(_options(token="s3:cret")), authorization=authorization) == 401


def test_whether_it_lives_may_be_asked_without_a_token() -> None:
    """Probes know none, and learn a word; metrics tell more."""
    rules = Rules(_options(token="secret"))
    assert [_status(rules, path=path) for path in ("/healthz", "/readyz", "/metrics", "/")] == [200, 200, 401, 401]


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "", "sink.example"])
def test_other_machines_are_served_with_a_token_or_when_told_so(host: str) -> None:
    """Nobody serves the world by accident."""
    with pytest.raises(InvalidInputError, match="RUNSTREAM_TOKEN"):
        check_exposure(_options(host))
    check_exposure(_options(host, token="secret"))
    check_exposure(_options(host, allow_open=True))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.3.2.1", "::1"])
def test_this_machine_needs_none(host: str) -> None:
    """Its own addresses lead nowhere else."""
    assert is_loopback(host)
    check_exposure(_options(host))


def test_options_show_no_token() -> None:
    """Not even where somebody prints them."""
    assert "secret" not in repr(_options(token="secret"))
