"""Small parts of the server: counting, HEAD, problems, pooled readers, downloads that nobody takes."""

import asyncio
import threading
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from litestar.exceptions import HTTPException

from runstream_schemas.errors import (
    CorruptDataError,
    EnvironmentUnavailableError,
    InvalidInputError,
    ParamConflictError,
    RunstreamError,
)
from runstream_schemas.events import RunStarted
from runstream_schemas.journal_status import Backlog, Loss
from runstream_sink.http import downloads, health, state
from runstream_sink.http.asgi import Message, Receive, Scope, Send
from runstream_sink.http.guard import Guard, Rules
from runstream_sink.http.heads import Headed
from runstream_sink.http.measures import Histogram, Measured, Measures
from runstream_sink.http.native.models import number, value_of
from runstream_sink.http.problems import ConflictError, TooLargeError, problem_of, to_response
from runstream_sink.http.readers import PooledReader
from runstream_sink.http.state import StreamState
from runstream_sink.location import StoreLocation
from runstream_sink.query import NotFoundError, get_run, metric_history
from runstream_sink.store.sqlite import SqliteStore
from support.http_sink import http_sink
from support.stores import batch, ingest, run_id
from support.waiting import until


async def test_only_http_is_counted_guarded_and_made_a_head(tmp_path: Path) -> None:
    """A server's other scopes go through, but for WebSockets, which nothing here speaks."""
    seen: list[str] = []

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append(scope["type"])

    scope, nothing = {"type": "lifespan"}, None
    await Measured(app, Measures())(scope, nothing, nothing)  # type: ignore[arg-type]
    await Headed(app)(scope, nothing, nothing)  # type: ignore[arg-type]
    async with http_sink(tmp_path) as sink:
        guard = Guard(app, Rules(sink.context.http), sink.context.measures)
        await guard({"type": "websocket"}, nothing, nothing)  # type: ignore[arg-type]
    assert seen == ["lifespan", "lifespan"]


async def test_a_request_that_breaks_off_counts_as_failed() -> None:
    """It has no status; one of a strange method is named so."""

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise RuntimeError("broken")

    measures = Measures()
    with pytest.raises(RuntimeError):
        await Measured(app, measures)({"type": "http", "method": "BREW"}, None, None)  # type: ignore[arg-type]
    assert (dict(measures.requests), measures.open_requests) == ({("unrouted", "other", 500): 1}, 0)


async def test_a_head_has_no_content_however_many_pieces_there_are() -> None:
    """And the headers that GET has."""
    sent: list[Message] = []

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        assert scope["method"] == "GET"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await send({"type": "http.response.body", "body": b"b", "more_body": False})

    async def send(message: Message) -> None:
        sent.append(message)

    await Headed(app)({"type": "http", "method": "HEAD"}, None, send)  # type: ignore[arg-type]
    assert sent[1:] == [{"type": "http.response.body", "body": b"", "more_body": False}]


def test_a_histogram_counts_what_is_at_most_so_long() -> None:
    """What is longer than all bounds is counted, too."""
    histogram = Histogram((0.1, 1.0))
    for seconds in (0.1, 0.5, 7.0):
        histogram.add(seconds)
    assert (histogram.counts, histogram.total) == ([1, 1, 1], pytest.approx(7.6))


@pytest.mark.parametrize(
    ("error", "status", "code", "detail"),
    [
        (NotFoundError("gone"), 404, "not_found", "gone"),
        (ConflictError("taken"), 409, "conflict", "taken"),
        (ParamConflictError("other"), 409, "conflict", "other"),
        (TooLargeError("large"), 413, "too_large", "large"),
        (InvalidInputError("wrong"), 400, "invalid", "wrong"),
        (EnvironmentUnavailableError("away"), 503, "unavailable", "away"),
        (CorruptDataError("damaged"), 500, "damaged", "damaged"),
        (RunstreamError("other"), 500, "error", "other"),
        (RecursionError("deep"), 400, "invalid", "the values are nested too deeply"),
        (HTTPException("tea", status_code=418), 418, "error", "tea"),
        (ZeroDivisionError("secret"), 500, "internal", "the server made a mistake, and has logged it"),
    ],
)
def test_each_error_has_its_status_and_tells_what_it_may(error: Exception, status: int, code: str, detail: str) -> None:
    """Nothing is told of what nobody foresaw."""
    problem = problem_of(error)
    assert (problem.status, problem.code, problem.detail) == (status, code, detail)
    response = to_response(None, error)  # type: ignore[arg-type]
    assert response.status_code == status
    assert response.headers.get("retry-after") == ("5" if status == 503 else None)


def test_doubles_are_words_where_json_has_none() -> None:
    """And doubles again."""
    for value in (float("inf"), float("-inf"), 0.5):
        assert value_of(number(value)) == value
    assert (number(float("nan")), str(value_of("NaN"))) == ("NaN", "nan")
    assert value_of(7) == 7.0


async def _store(root: Path) -> StoreLocation:
    location = StoreLocation.parse(str(root / "store"))
    store = SqliteStore(location)
    await store.open()
    await ingest(store, [batch(b"p" * 16, [RunStarted(run_id(1), "0", 1)])])
    await store.close()
    return location


async def test_pooled_readers_answer_as_one(tmp_path: Path) -> None:
    """Many at once, whole or piece by piece; connections of streams are used again."""
    reader = await PooledReader.open(await _store(tmp_path))
    runs = await asyncio.gather(*(get_run(reader, run_id(1)) for _ in range(20)))
    assert {run.run_id for run in runs} == {run_id(1)}
    await asyncio.gather(*(metric_history(reader, run_id(1), "m") for _ in range(10)))
    assert 1 <= len(reader._idle) <= 3
    stream = reader.stream("all_seen")
    await anext(stream)
    async with reader.snapshot() as frozen:
        assert frozen.store_id == reader.store_id
    await reader.close()
    await stream.aclose()
    assert reader._idle == []


async def test_readers_that_are_open_are_closed_where_one_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where there are no more descriptors."""
    from runstream_sink.http import readers

    location, opened = await _store(tmp_path), []
    open_one = readers.open_reader

    async def scarce(place: StoreLocation) -> Any:
        if opened:
            raise EnvironmentUnavailableError("too many open files")
        opened.append(await open_one(place))
        return opened[0]

    monkeypatch.setattr(readers, "open_reader", scarce)
    with pytest.raises(EnvironmentUnavailableError, match="too many"):
        await PooledReader.open(location)
    assert opened[0]._closed


async def test_a_download_is_what_was_written() -> None:
    """However much that is, and however it is cut; and what writing raises is raised."""

    def write(file: BinaryIO) -> None:
        file.writelines(b"x" * 33_333 for _ in range(100))
        assert file.tell() == 3_333_300

    assert b"".join([piece async for piece in downloads.made_by(write)]) == b"x" * 3_333_300

    def fail(file: BinaryIO) -> None:
        file.write(b"begun")
        raise CorruptDataError("damaged")

    with pytest.raises(CorruptDataError):
        assert [piece async for piece in downloads.made_by(fail)] == [b"begun"]


async def test_a_download_that_nobody_takes_ends() -> None:
    """The thread that makes it learns of it."""
    ended = threading.Event()

    def endless(file: BinaryIO) -> None:
        try:
            while True:
                file.write(b"x" * 100_000)
        finally:
            ended.set()

    making = downloads.made_by(endless)
    assert await anext(making)
    await making.aclose()  # type: ignore[attr-defined]
    await until(ended.is_set)


async def test_a_client_that_takes_nothing_for_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread is free for others then."""
    monkeypatch.setattr(downloads, "_PATIENCE", 0.01)
    found: list[BaseException] = []

    def endless(file: BinaryIO) -> None:
        try:
            while True:
                file.write(b"x" * 200_000)
        except BrokenPipeError as error:
            found.append(error)
            raise

    making = downloads.made_by(endless)
    assert await anext(making)
    await until(lambda: found)
    await making.aclose()  # type: ignore[attr-defined]


async def test_a_store_that_does_not_answer_is_not_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a server that ends is not, either."""
    async with http_sink(tmp_path) as sink:

        async def fail(_reader: object) -> None:
            raise EnvironmentUnavailableError("gone")

        monkeypatch.setattr(health, "counts", fail)
        assert (await sink.client.get("/readyz")).status_code == 503
        monkeypatch.undo()
        sink.context.changes.close()
        assert (await sink.client.get("/readyz")).text == "ending\n"


async def test_metrics_name_reasons_and_leave_out_what_is_not_known(tmp_path: Path) -> None:
    """Losses are added up by reason, and labels are escaped."""
    losses = [Loss("a", 0, "quota", 2), Loss("b", 1, "quota", 3)]
    found = StreamState("s", "", "x", None, None, None, None, 1, 2, 3, 4, losses, {'a"\\\n': 5}, [])
    async with http_sink(tmp_path) as sink:
        text = health.render(sink.context, found)
    assert 'runstream_lost_events{reason="quota"} 5\n' in text
    assert 'runstream_dead_letters{reason="a\\"\\\\\\n"} 5\n' in text
    assert "runstream_backlog_events" not in text
    assert "runstream_stream_reachable 0\n" in text


async def test_a_queue_that_is_gone_is_said_so(tmp_path: Path) -> None:
    """What the store holds is told all the same; a backlog has an age; of two counts of a loss the greater is true."""
    async with http_sink(tmp_path) as sink:
        (sink.options.queue / "journals").rename(tmp_path / "elsewhere")
        found = (await sink.client.get("/api/v1/stream")).json()
        (tmp_path / "elsewhere").rename(sink.options.queue / "journals")
    assert "no queue directory" in found["stream_error"]
    assert found["backlog_events"] is None
    assert (state._age(None), state._age(Backlog(0, 0, None))) == (None, None)
    assert (state._age(Backlog(1, 1, 1)) or 0) > 1e9
    assert state._greatest([Loss("a", 0, "disk", 2), Loss("a", 0, "disk", 5), Loss("a", 0, "disk", 1)])[0].count == 5
