"""The HTTP server inside the sink: it starts, says where, serves, and ends."""

import json
from pathlib import Path

from runstream_schemas.events import RunStarted
from runstream_sink.query import get_run
from support.http_sink import http_sink

RUN = "0" * 31 + "1"


async def test_a_write_is_there_when_its_answer_comes(tmp_path: Path) -> None:
    """What `Writer.submit` puts on the stream, a read right after it finds."""
    async with http_sink(tmp_path) as sink:
        await sink.context.writer.submit([RunStarted(RUN, "0", 1, name="first")])
        assert (await get_run(sink.context.reader, RUN)).name == "first"


async def test_a_file_says_where_the_server_is_while_it_runs(tmp_path: Path) -> None:
    """Others find a server on a free port by ``http.json`` beside the database."""
    file = tmp_path / "store" / "http.json"
    async with http_sink(tmp_path) as sink:
        said = json.loads(file.read_bytes())
        assert f"http://{said['host']}:{said['port']}" == said["url"] == sink.url
        assert (await sink.client.get("/readyz")).text == "ready\n"
    assert not file.exists()
