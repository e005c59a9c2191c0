"""The server as a whole: where it listens, whom it serves, how it ends, and what it does without a stream."""

import asyncio
import json
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from runstream_schemas.errors import EnvironmentUnavailableError, InvalidInputError
from runstream_schemas.events import RunStarted, TagsSet
from runstream_sink.config import HttpOptions
from runstream_sink.http import server as module
from runstream_sink.http.server import address_file, bind
from runstream_sink.http.writer import Writer
from runstream_sink.location import StoreLocation
from support.commands import start, start_process
from support.http_sink import http_sink
from support.mounting import mounted
from support.waiting import until

RUN = "0194fdc2fa2f7fcc841d6e9e2f1e0a3b"


def _options(host: str = "127.0.0.1", port: int = 0) -> HttpOptions:
    return HttpOptions(host, port, "", False, ())


def test_a_port_in_use_is_named_with_what_to_do() -> None:
    """The user learns of both ways out."""
    with bind(_options()) as held:
        held.listen()
        port = held.getsockname()[1]
        with pytest.raises(EnvironmentUnavailableError, match=f"port {port} .* in use.*--port.*--no-http"):
            bind(_options(port=port))


def test_a_usual_port_that_is_taken_keeps_no_sink_from_its_work() -> None:
    """Two sinks on one machine, of which nobody named the port, both serve."""
    with bind(_options()) as held:
        held.listen()
        port = held.getsockname()[1]
        with bind(_options(port=port)._replace(may_move=True)) as other:
            assert other.getsockname()[1] not in {0, port}


@pytest.mark.parametrize(
    ("host", "kind", "text"),
    [
        ("nobody.invalid", InvalidInputError, "no address"),
        ("x" * 300, InvalidInputError, "no address"),
        ("192.0.2.1", EnvironmentUnavailableError, "no address of this machine"),
    ],
)
def test_an_address_that_is_none_is_refused(host: str, kind: type[Exception], text: str) -> None:
    """Before anything is served."""
    with pytest.raises(kind, match=text):
        bind(_options(host))


def test_a_port_that_may_not_be_served_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one below 1024 is, for most users."""

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(EnvironmentUnavailableError, match=r"port 80 .* Permission denied"):
        bind(_options(port=80))


def test_the_file_that_says_where_lies_beside_the_database(tmp_path: Path) -> None:
    """Each store has its own."""
    assert address_file(StoreLocation.parse("a/b")) == Path("a/b/http.json")
    assert address_file(StoreLocation.parse("sqlite:///x/s.db")) == Path("x/s.db.http.json")


async def test_ipv6_is_served(tmp_path: Path) -> None:
    """Where the machine has it."""
    try:
        bind(_options("::1")).close()
    except EnvironmentUnavailableError:
        pytest.skip("this machine has no IPv6: it was not tested")
    async with http_sink(tmp_path, host="::1") as sink:
        assert sink.url.startswith("http://[::1]:")
        assert (await sink.client.get("/healthz")).text == "ok\n"


async def test_strangers_get_nothing(tmp_path: Path) -> None:
    """Without the token, by another name, from another site; whether it lives may be asked."""
    async with http_sink(tmp_path, token="secret", host="0.0.0.0") as sink:
        api = sink.client
        answer = await api.get("/api/v1/runs")
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
        assert answer.headers.get_list("www-authenticate") == ['Bearer realm="runstream"', 'Basic realm="runstream"']
        assert (await api.get("/healthz")).status_code == 200
        assert (await api.get("/api/v1/runs", headers={"authorization": "Bearer secret"})).status_code == 200
        assert (await api.get("/api/v1/runs", auth=("anybody", "secret"))).status_code == 200
        assert (await api.get("/healthz", headers={"host": "evil.example"})).status_code == 403
        foreign = {"authorization": "Bearer secret", "origin": "http://evil.example"}
        assert (await api.post("/api/v1/runs", headers=foreign, json={})).status_code == 403
        assert (await api.post("/api/v1/runs", headers={**foreign, "origin": sink.url}, json={})).status_code == 201


async def test_other_machines_are_not_served_by_accident(tmp_path: Path) -> None:
    """The sink says what to set."""
    with pytest.raises(InvalidInputError, match="RUNSTREAM_TOKEN"):
        async with http_sink(tmp_path, host="0.0.0.0"):
            pass
    async with http_sink(tmp_path, host="0.0.0.0", allow_open=True) as sink:
        assert sink.context.allow_open
        assert not sink.context.token
        assert (await sink.client.get("/readyz")).status_code == 200


async def test_a_server_that_cannot_read_its_store_lets_go_of_the_port(tmp_path: Path) -> None:
    """Another may have it at once."""
    async with http_sink(tmp_path) as sink:
        options = sink.options._replace(store=StoreLocation.parse(str(tmp_path / "none")))
        with pytest.raises(EnvironmentUnavailableError, match="no store"):
            async with module.serving(options, _options(), sink.consumer):
                pass


async def test_bodies_that_are_too_large_are_refused(tmp_path: Path) -> None:
    """Whether their size is told or not."""
    async with http_sink(tmp_path) as sink:

        async def endless() -> AsyncIterator[bytes]:
            for _ in range(17):
                yield b"x" * (1 << 20)

        headers = {"content-type": "application/json"}
        told = await sink.client.post("/api/v1/runs", content=b"x" * (17 << 20), headers=headers)
        untold = await sink.client.post("/api/v1/runs", content=endless(), headers=headers)
        assert [(answer.status_code, answer.json()["code"]) for answer in (told, untold)] == [(413, "too_large")] * 2


async def test_metrics_tell_how_the_sink_stands(tmp_path: Path) -> None:
    """In Prometheus' text format, with units in the names."""
    async with http_sink(tmp_path) as sink:
        await sink.context.writer.submit([RunStarted(RUN, "0", 1)])
        await sink.client.get("/api/v1/runs/none")
        await sink.client.get("/nothing")
        await sink.client.get("/healthz", headers={"host": "evil.example"})
        text = (await sink.client.get("/metrics")).text
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert values["runstream_applied_events_total"] == values["runstream_http_written_events_total"] == "1"
    assert values["runstream_commit_seconds_count"] == values['runstream_commit_seconds_bucket{le="+Inf"}'] == "1"
    assert values['runstream_http_requests_total{route="/api/v1/runs/{run_id}",method="GET",status="404"}'] == "1"
    assert values['runstream_http_requests_total{route="unrouted",method="GET",status="404"}'] == "1"
    assert values['runstream_http_requests_total{route="unrouted",method="GET",status="403"}'] == "1"
    assert values["runstream_consumer_failing"] == "0"
    assert float(values["process_resident_memory_bytes"]) > 1 << 20
    families = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(families) == len(set(families))


async def test_answers_are_compressed_for_who_takes_it(tmp_path: Path) -> None:
    """Files are not: their ranges count bytes as they are."""
    async with http_sink(tmp_path) as sink:
        for encoding in ("gzip", "zstd"):
            async with sink.client.stream("GET", "/schema", headers={"accept-encoding": encoding}) as answer:
                assert answer.headers["content-encoding"] == encoding
                assert len(b"".join([piece async for piece in answer.aiter_raw()])) < 20_000


async def test_changes_are_told_as_they_are_applied(tmp_path: Path) -> None:
    """To a watcher of all, to one of a run, and to one that comes back."""
    async with http_sink(tmp_path) as sink:
        other = "f" * 32
        async with (
            sink.client.stream("GET", "/api/v1/changes") as every,
            sink.client.stream("GET", "/api/v1/changes", params={"run_id": RUN}) as one,
        ):
            all_lines, own_lines = every.aiter_lines(), one.aiter_lines()
            begun, _ = await _next(all_lines, "stream")
            await _next(own_lines, "stream")
            await sink.context.writer.submit([RunStarted(other, "0", 1)])
            place, change = await _next(all_lines, "change")
            assert (change["runs"], change["events"]) == ({other: ["run"]}, 1)
            await sink.context.writer.submit([TagsSet(RUN, {"a": "b"})])
            assert (await _next(all_lines, "change"))[1]["runs"] == {RUN: ["tags"]}
            assert (await _next(own_lines, "change"))[1]["runs"] == {RUN: ["tags"]}
        async with sink.client.stream("GET", "/api/v1/changes", headers={"last-event-id": place}) as again:
            assert (await _next(again.aiter_lines(), "change"))[1]["runs"] == {RUN: ["tags"]}
        async with sink.client.stream("GET", "/api/v1/changes", params={"since": begun}) as again:
            assert (await _next(again.aiter_lines(), "change"))[1]["events"] == 2
        async with sink.client.stream("GET", "/api/v1/changes", params={"since": "elsewhere-7"}) as again:
            assert (await _next(again.aiter_lines(), "reset"))[1] == {}
        await until(lambda: not sink.context.changes._watchers)


async def _next(lines: AsyncIterator[str], name: str) -> tuple[str, Any]:
    """Id and data of the next event of that name."""
    event, place = "", ""
    async for line in lines:
        field, _, value = line.partition(": ")
        if field == "event":
            event, place = value, ""
        elif field == "id":
            place = value
        elif field == "data" and event == name:
            return place, json.loads(value)
    raise AssertionError("the server ended")


async def test_a_watcher_is_told_that_nothing_happens_and_of_failures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that it knows a silent sink from a lost one."""
    from runstream_sink.http.native import stream

    monkeypatch.setattr(stream, "_HEARTBEAT", 0.01)
    async with http_sink(tmp_path) as sink, sink.client.stream("GET", "/api/v1/changes") as answer:
        lines = answer.aiter_lines()
        async for line in lines:
            if line.startswith(":"):
                break
        await sink.context.writer.submit([RunStarted(RUN, "0", 1)])
        read = sink.consumer._source.read
        monkeypatch.setattr(sink.consumer._source, "read", _fails)
        while "the disk is gone" not in (await _next(lines, "stream"))[1]["failure"]:
            pass
        assert (await sink.client.get("/readyz")).status_code == 503
        refused = await sink.client.post("/api/v1/runs", json={})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        monkeypatch.setattr(sink.consumer._source, "read", read)
        while (await _next(lines, "stream"))[1]["failure"]:
            pass
        assert (await sink.client.get("/readyz")).status_code == 200


async def _fails(_limit: int) -> None:
    raise OSError("the disk is gone")


@pytest.mark.slow
async def test_a_stream_that_is_away_refuses_writes_and_takes_them_when_it_is_back(tmp_path: Path) -> None:
    """A queue on a file system that is read-only for a while: reads go on, and nothing is half done."""
    queue = tmp_path / "queue"
    with mounted(queue, "size=64m"):
        async with http_sink(tmp_path) as sink:
            api = sink.client
            await _remount(queue, "ro")
            answer = await api.post("/api/v1/runs", json={"run_id": RUN})
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
            assert answer.headers["retry-after"] == "5"
            upload = await api.put(f"/api/v1/runs/{RUN}/artifacts/a", content=b"x")
            assert upload.status_code == 404
            assert (await api.get("/api/v1/runs")).json() == {"runs": [], "cursor": None}
            await _remount(queue, "rw")
            async with asyncio.timeout(60):  # it tries again after a second
                while (answer := await api.post("/api/v1/runs", json={"run_id": RUN})).status_code == 503:
                    pass
            assert answer.status_code == 201
            assert sink.consumer.progress.events == 1


async def _remount(directory: Path, how: str) -> None:
    await asyncio.to_thread(subprocess.run, ["mount", "-o", f"remount,{how}", directory], check=True)


async def test_requests_that_are_under_way_are_finished(tmp_path: Path) -> None:
    """Also a write, which needs the consumer; watchers are let go."""
    release = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"first "
        await release.wait()
        yield b"last"

    async with http_sink(tmp_path) as sink:
        await sink.context.writer.submit([RunStarted(RUN, "0", 1)])
        uploading = asyncio.create_task(sink.client.put(f"/api/v1/runs/{RUN}/artifacts/a.txt", content=slow()))
        async with sink.client.stream("GET", "/api/v1/changes") as answer:
            lines = answer.aiter_lines()
            await _next(lines, "stream")
            await _upload_began(sink.context.writer)
            ending = asyncio.create_task(sink.server.end())
            assert not [line async for line in lines if line.startswith("event: change")]
        release.set()
        stored = (await uploading).raise_for_status().json()
        await ending
        assert stored["size"] == 10
        with pytest.raises(httpx.ConnectError):
            await sink.client.get("/healthz")


async def _upload_began(writer: Writer) -> None:
    """Wait until bytes of an upload are staged."""

    def begun() -> bool:
        return writer._writing is not None and any((writer._writing.staging.root / "tmp").glob("*"))

    await until(begun)


@pytest.mark.slow
async def test_the_command_serves_says_where_and_ends_by_a_signal(tmp_path: Path) -> None:
    """``runstream sink`` on a free port; by --once and --no-http nothing is served."""
    store = tmp_path / "store"
    arguments = ("sink", "--stream", f"queue:{tmp_path / 'queue'}", "--store", str(store))
    process = start_process(*arguments, "--port", "0", RUNSTREAM_HTTP="yes")
    try:
        await until((store / "http.json").exists)
        said = json.loads((store / "http.json").read_bytes())
        assert said["pid"] == process.pid
        async with httpx.AsyncClient(timeout=60) as client:
            made = await client.post(f"{said['url']}/api/v1/runs", json={"run_id": RUN})
        assert made.status_code == 201
        taken = start(*_elsewhere(tmp_path), "--port", str(said["port"]), RUNSTREAM_HTTP="yes")
        assert (taken.code, "--no-http" in taken.err) == (3, True)
        quiet = start(*_elsewhere(tmp_path), "--once", "--port", str(said["port"]), RUNSTREAM_HTTP="yes")
        assert quiet.code == 0
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert (process.returncode, (store / "http.json").exists()) == (0, False)
    opened = start(*_elsewhere(tmp_path), "--host", "0.0.0.0", RUNSTREAM_HTTP="yes")
    assert (opened.code, "--allow-open" in opened.err) == (2, True)
    large = start(*_elsewhere(tmp_path), "--port", "70000", RUNSTREAM_HTTP="yes")
    assert (large.code, "below 65536" in large.err) == (2, True)


def _elsewhere(tmp_path: Path) -> tuple[str, ...]:
    return ("sink", "--stream", f"queue:{tmp_path / 'other-queue'}", "--store", str(tmp_path / "other-store"))


async def test_a_store_directory_that_takes_no_file_does_not_keep_it_from_serving(tmp_path: Path) -> None:
    """Others have to be told where it is."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "http.json.new").mkdir()
    async with http_sink(tmp_path) as sink:
        assert (await sink.client.get("/healthz")).status_code == 200
    assert list((tmp_path / "store" / "http.json.new").iterdir()) == []
