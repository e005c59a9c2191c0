"""Where programs read from, and what they are told where that fails."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

import runstream
from runstream.tracking.http import HttpSource
from runstream_schemas.errors import EnvironmentUnavailableError, InvalidInputError
from support.http_sink import http_sink_apart
from support.pipeline import Pipeline


@contextmanager
def _answering(status: int, body: bytes) -> Iterator[str]:
    """A server that answers everything alike."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that is overridden
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_an_address_without_its_scheme_is_refused() -> None:
    """Before anything is asked."""
    with pytest.raises(InvalidInputError, match="http://"):
        HttpSource("host:5600")


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (200, b"<html>", "does not answer as a runstream sink"),
        (500, b"<html>", "answered with status 500"),
        (503, b'{"detail": "the stream is away"}', "the stream is away"),
    ],
)
def test_a_server_that_is_no_sink_or_in_trouble_is_a_clear_error(status: int, body: bytes, words: str) -> None:
    """Whatever it answers."""
    with _answering(status, body) as url, pytest.raises(EnvironmentUnavailableError, match=words):
        HttpSource(url).get_run("f" * 32)


def test_nobody_at_the_address_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the address and the setting."""
    with _answering(200, b"") as url:
        pass
    monkeypatch.setenv("RUNSTREAM_URL", url)
    with pytest.raises(EnvironmentUnavailableError, match="RUNSTREAM_URL"):
        runstream.get_run("f" * 32)


def test_a_token_that_is_missing_is_asked_for(tmp_path: Path) -> None:
    """By the name of its setting."""
    with (
        http_sink_apart(tmp_path, token="a-token-that-programs-know") as sink,
        pytest.raises(EnvironmentUnavailableError, match="RUNSTREAM_TOKEN"),
    ):
        HttpSource(sink.url).get_run("f" * 32)


def test_large_values_are_read_from_their_artifacts(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts, bytes and lists, and a text that only looks like a reference stays what it is."""
    text = f"artifact:claims/{'0' * 64}.txt"
    runstream.configure(claim_size=1024)
    row = {"a": text, "b": b"x" * 2000, "c": ["y"] * 1000, "d": "z" * 2000, "e": "artifact:nothing"}
    with runstream.start_run() as run:
        run.log_predictions([row])
    pipeline.drain()
    expected = runstream.load_table("predictions", [run.run_id])
    with http_sink_apart(pipeline.root) as sink:
        monkeypatch.setenv("RUNSTREAM_URL", sink.url)
        found = runstream.load_table("predictions", [run.run_id])
    assert found.to_dict("records") == expected.to_dict("records")
    assert (found["a"][0], found["d"][0], found["e"][0]) == (text, "z" * 2000, "artifact:nothing")


def test_a_thin_installation_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The sink's package, or pandas for a DataFrame."""
    Pipeline(tmp_path)
    monkeypatch.setitem(sys.modules, "runstream_sink.query.local", None)
    with pytest.raises(EnvironmentUnavailableError, match=r"runstream\[sink\]"):
        runstream.get_run("f" * 32)


def test_a_data_frame_without_pandas_says_what_to_install(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or to ask for a list."""
    with runstream.start_run():
        pass
    pipeline.drain()
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(EnvironmentUnavailableError, match="output_format='list'"):
        runstream.search_runs()
    assert len(runstream.search_runs(output_format="list")) == 1
