"""Settings of the HTTP server: from the command line, from variables, or as they are by default."""

import pytest

from runstream_schemas.errors import InvalidInputError
from runstream_sink.config import resolve


@pytest.fixture(autouse=True)
def _served(monkeypatch: pytest.MonkeyPatch) -> None:
    """As outside of tests, where nothing says that nothing is served."""
    monkeypatch.delenv("RUNSTREAM_HTTP", raising=False)


def test_by_default_this_machine_is_served() -> None:
    """Without a token, at the port that the documents name."""
    http = resolve().http
    assert http is not None
    assert (http.host, http.port, http.token, http.allow_open, http.allowed_hosts) == ("127.0.0.1", 5600, "", False, ())


def test_what_the_command_line_says_goes_before_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its options."""
    for name, value in (("HOST", "::1"), ("PORT", "7"), ("ALLOW_OPEN", "yes"), ("TOKEN", "t")):
        monkeypatch.setenv(f"RUNSTREAM_{name}", value)
    monkeypatch.setenv("RUNSTREAM_ALLOWED_HOSTS", " One.example, ,two ")
    http = resolve().http
    assert http is not None
    assert (http.host, http.port, http.token, http.allow_open) == ("::1", 7, "t", True)
    assert http.allowed_hosts == ("one.example", "two")
    http = resolve(host="[::2]", port=8, allow_open=False).http
    assert http is not None
    assert (http.host, http.port, http.allow_open) == ("::2", 8, False)


def test_nothing_is_served_where_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """By an option or a variable; an option goes before."""
    assert resolve(http=False).http is None
    monkeypatch.setenv("RUNSTREAM_HTTP", "no")
    assert resolve().http is None
    assert resolve(http=True).http is not None


@pytest.mark.parametrize(("name", "value"), [("PORT", "65536"), ("PORT", "http"), ("PORT", "-1"), ("ALLOW_OPEN", "1")])
def test_what_is_no_value_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """Naming what is wrong."""
    monkeypatch.setenv(f"RUNSTREAM_{name}", value)
    with pytest.raises(InvalidInputError, match=value):
        resolve()
