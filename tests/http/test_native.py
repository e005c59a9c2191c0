"""The native API over real connections: what is written is read, what is refused says why."""

import asyncio
import math
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from pyarrow import parquet

from runstream_schemas.events import ExperimentCreated, ParamsLogged, RunStarted
from runstream_schemas.names import experiment_id_of
from support.http_sink import HttpSink, http_sink
from support.loop_guard import blocking_calls

RUN = "0194fdc2fa2f7fcc841d6e9e2f1e0a3b"


@pytest.fixture
async def sink(tmp_path: Path) -> AsyncIterator[HttpSink]:
    """A sink that serves a run."""
    async with http_sink(tmp_path) as sink:
        await _ok(sink.client.post("/api/v1/runs", json={"run_id": RUN, "name": "first", "tags": {"a": "b"}}))
        yield sink


async def _ok(answer: Any) -> Any:
    """The document of an answer that is none of an error."""
    return (await answer).raise_for_status().json()


async def _refused(answer: Any, status: int, text: str) -> None:
    found = await answer
    assert (found.status_code, found.headers["content-type"]) == (status, "application/problem+json")
    assert text in found.json()["detail"]


async def test_an_experiment_is_made_found_changed_deleted_and_restored(sink: HttpSink) -> None:
    """Each answer shows it as it is from then on."""
    at, api = "/api/v1/experiments", sink.client
    made = await _ok(api.post(at, json={"name": "summaries", "tags": {"team": "nlp"}}))
    number = made["experiment_id"]
    assert (number, made["tags"], made["lifecycle"]) == (experiment_id_of("summaries"), {"team": "nlp"}, "active")
    assert await _ok(api.get(f"{at}/{number}")) == made
    assert await _ok(api.get(f"{at}/by-name", params={"name": "summaries"})) == made
    listed = await _ok(api.get(at, params={"filter": "tags.team = 'nlp'", "order_by": ["name DESC", "experiment_id"]}))
    assert listed == {"experiments": [made], "cursor": None}
    assert await _ok(api.post(f"{at}/search", json={"filter": "name = 'summaries'"})) == listed
    changed = await _ok(api.patch(f"{at}/{number}", json={"name": "renamed", "tags": {"x": "y"}}))
    assert (changed["name"], changed["tags"]) == ("renamed", {"team": "nlp", "x": "y"})
    assert await _ok(api.patch(f"{at}/{number}", json={"name": "renamed"})) == changed
    assert (await _ok(api.delete(f"{at}/{number}/tags", params={"key": "x"})))["tags"] == {"team": "nlp"}
    assert (await _ok(api.delete(f"{at}/{number}")))["lifecycle"] == "deleted"
    assert await _ok(api.get(at, params={"filter": "tags.team = 'nlp'"})) == {"experiments": [], "cursor": None}
    await _refused(api.patch(f"{at}/{number}", json={"name": "again"}), 409, "deleted")
    assert (await _ok(api.delete(f"{at}/{number}")))["lifecycle"] == "deleted"
    assert (await _ok(api.post(f"{at}/{number}/restore")))["lifecycle"] == "active"


async def test_names_of_experiments_are_taken_once(sink: HttpSink) -> None:
    """Also where several ask at once, and by a deleted one; a renamed one leaves its name to another."""
    at, api = "/api/v1/experiments", sink.client
    answers = await asyncio.gather(*(api.post(at, json={"name": "one"}) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [201, *[409] * 7]
    number = experiment_id_of("one")
    await _ok(api.delete(f"{at}/{number}"))
    await _refused(api.post(at, json={"name": "one"}), 409, "restore it")
    await _ok(api.post(f"{at}/{number}/restore"))
    await _ok(api.patch(f"{at}/{number}", json={"name": "two"}))
    await _refused(api.post(at, json={"name": "two"}), 409, "already")
    other = await _ok(api.post(at, json={"name": "one"}))
    assert (other["name"], other["experiment_id"] != number) == ("one", True)
    await _refused(api.patch(f"{at}/{number}", json={"name": "one"}), 409, "already")


async def test_what_is_no_experiment_is_refused(sink: HttpSink) -> None:
    """By 404 where it is not there, by 400 where it cannot be, by 409 where it must not be."""
    at, api = "/api/v1/experiments", sink.client
    await _refused(api.get(f"{at}/7"), 404, "no experiment")
    await _refused(api.get(f"{at}/seven"), 404, "no experiment")
    await _refused(api.post(at, json={"name": "  "}), 400, "name")
    await _refused(api.post(at, json={"name": "x", "more": 1}), 400, "unknown field `more`")
    await _refused(api.post(at, json={"name": "x", "tags": {"": "y"}}), 400, "key")
    await _refused(api.post(at, content=b"{", headers={"content-type": "application/json"}), 400, "truncated")
    await _refused(api.delete(f"{at}/0"), 409, "default")
    await _refused(api.delete(f"{at}/0/tags", params={"key": "x"}), 404, "no tag")
    await _refused(api.get(at, params={"limit": 0}), 400, "limit")
    await _refused(api.get(at, params={"filter": "nonsense"}), 400, "filter")
    await _refused(api.get("/api/v1/nothing"), 404, "Not Found")
    await _refused(api.put(at), 405, "Method")


async def test_a_run_is_begun_changed_ended_deleted_and_restored(sink: HttpSink) -> None:
    """Each answer shows it as it is from then on."""
    at, api = f"/api/v1/runs/{RUN}", sink.client
    begun = await _ok(api.get(at))
    assert (begun["name"], begun["status"], begun["tags"], begun["end_time"]) == ("first", "RUNNING", {"a": "b"}, None)
    assert (await _ok(api.patch(at, json={"name": "second", "status": "SCHEDULED"})))["status"] == "SCHEDULED"
    ended = await _ok(api.patch(at, json={"end_time": 5}))
    assert (ended["name"], ended["status"], ended["end_time"]) == ("second", "SCHEDULED", 5)
    assert (await _ok(api.patch(at, json={"status": "FAILED"})))["end_time"] > 5
    assert (await _ok(api.delete(f"{at}/tags", params={"key": "a"})))["tags"] == {}
    await _refused(api.delete(f"{at}/tags", params={"key": "a"}), 404, "no tag")
    assert (await _ok(api.delete(at)))["lifecycle"] == "deleted"
    await _refused(api.patch(at, json={"name": "third"}), 409, "deleted")
    await _refused(api.post(f"{at}/log", json={"tags": {"x": "y"}}), 409, "deleted")
    assert (await _ok(api.get("/api/v1/runs", params={"lifecycle": "deleted"})))["runs"][0]["run_id"] == RUN
    assert (await _ok(api.post(f"{at}/restore")))["lifecycle"] == "active"


async def test_runs_begin_only_where_they_can(sink: HttpSink) -> None:
    """In an experiment that is there, under an id that is free; without an id they get one."""
    api = sink.client
    made = await _ok(api.post("/api/v1/runs", json={"user": "me", "start_time": 7}))
    assert (made["user"], made["start_time"], made["experiment_id"]) == ("me", 7, "0")
    assert (len(made["run_id"]), made["run_id"][12]) == (32, "7")
    await _refused(api.post("/api/v1/runs", json={"run_id": RUN}), 409, "already")
    await _refused(api.post("/api/v1/runs", json={"run_id": "x"}), 400, "run id")
    await _refused(api.post("/api/v1/runs", json={"experiment_id": "7"}), 404, "no experiment")
    await _ok(api.post("/api/v1/experiments", json={"name": "gone"}))
    await _ok(api.delete(f"/api/v1/experiments/{experiment_id_of('gone')}"))
    await _refused(api.post("/api/v1/runs", json={"experiment_id": experiment_id_of("gone")}), 409, "deleted")


async def test_all_kinds_are_logged_at_once_and_read_back(sink: HttpSink) -> None:
    """Params, points with NaN and infinities, tags and rows, in one request."""
    at, api = f"/api/v1/runs/{RUN}", sink.client
    points = [
        {"key": "loss", "value": 0.5, "timestamp": 9},
        {"key": "loss", "value": "NaN", "step": 1, "timestamp": 9},
        {"key": "loss", "value": "-Infinity", "step": -1, "timestamp": 9},
    ]
    rows = [{"a": 1, "b": "x"}, {"a": 2, "b": [1, {"c": None}]}, {"z": "y" * 300_000}, {"z": 1 << 70}]
    batch = {
        "params": {"lr": "0.1"},
        "metrics": points,
        "tags": {"t": "u"},
        "rows": [{"table": "d/t.csv", "rows": rows}],
    }
    assert await _ok(api.post(f"{at}/log", json=batch)) == {"params": 1, "metrics": 3, "tags": 1, "rows": 4}
    run = await _ok(api.get(at))
    assert (run["params"], run["tags"]) == ({"lr": "0.1"}, {"a": "b", "t": "u"})
    assert run["metrics"] == {"loss": {"value": "NaN", "step": 1, "timestamp": 9}}
    listed = await _ok(api.get(f"{at}/metrics"))
    assert listed == {"metrics": [{"key": "loss", "points": 3, "latest": run["metrics"]["loss"]}]}
    first = await _ok(api.get(f"{at}/metrics/points", params={"key": "loss", "limit": 2}))
    assert [point["value"] for point in first["points"]] == ["-Infinity", 0.5]
    rest = await _ok(api.get(f"{at}/metrics/points", params={"key": "loss", "cursor": first["cursor"]}))
    assert ([point["value"] for point in rest["points"]], rest["cursor"]) == (["NaN"], None)
    wanted = {"key": "loss", "buckets": 10, "start_step": 0, "end_step": 1}
    buckets = await _ok(api.get(f"{at}/metrics/buckets", params=wanted))
    assert [(one["count"], one["nans"], one["min"]) for one in buckets["runs"][RUN]] == [(1, 0, 0.5), (1, 1, None)]
    assert await _ok(api.post("/api/v1/metrics/buckets", json={**wanted, "run_ids": [RUN]})) == buckets
    tables = (await _ok(api.get(f"{at}/tables")))["tables"]
    assert [(one["name"], one["rows"], one["columns"]) for one in tables] == [
        ("d/t", 4, {"a": "int", "b": "json", "z": "json"})
    ]


async def test_what_cannot_be_logged_is_refused_whole(sink: HttpSink) -> None:
    """Nothing of a request with one mistake in it is logged; one that holds nothing is fine."""
    at, api = f"/api/v1/runs/{RUN}", sink.client
    assert await _ok(api.post(f"{at}/log", json={})) == {"params": 0, "metrics": 0, "tags": 0, "rows": 0}
    good = {"tags": {"never": "set"}}
    for bad, text in (
        ({"rows": [{"table": "t", "rows": [{}]}]}, "at least one column"),
        ({"rows": [{"table": "../t", "rows": [{"a": 1}]}]}, "'..'"),
        ({"params": {"\x01": "x"}}, "key"),
        ({"metrics": [{"key": "\x01", "value": 1}]}, "key"),
        ({"metrics": [{"key": "m", "value": "much"}]}, "value"),
        ({"metrics": [{"key": "m", "value": 1, "step": 1 << 63}]}, "step"),
        ({"metrics": [{"key": "m", "value": None}]}, "value"),
    ):
        await _refused(api.post(f"{at}/log", json={**good, **bad}), 400, text)
    assert (await _ok(api.get(at)))["tags"] == {"a": "b"}
    assert (await _ok(api.patch(at, json={})))["status"] == "RUNNING"
    await _refused(api.patch(at, json={"status": "SLEEPING"}), 400, "status")


async def test_a_param_is_not_changed(sink: HttpSink) -> None:
    """Neither where it is there before, nor where a program is faster; the same value again is welcome."""
    at, api = f"/api/v1/runs/{RUN}/log", sink.client
    await _ok(api.post(at, json={"params": {"lr": "1"}}))
    await _ok(api.post(at, json={"params": {"lr": "1"}}))
    await _refused(api.post(at, json={"params": {"lr": "2"}, "tags": {"never": "set"}}), 409, "cannot be changed")
    answers = await asyncio.gather(*(api.post(at, json={"params": {"k": str(value)}}) for value in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200, *[409] * 7]
    run = await _ok(api.get(f"/api/v1/runs/{RUN}"))
    assert (run["params"]["lr"], run["tags"]) == ("1", {"a": "b"})


async def test_who_was_faster_is_found_after_applying(sink: HttpSink) -> None:
    """A program's event comes between check and write: the answer says that its value holds."""
    writer, submitted = sink.context.writer, sink.context.writer.submit

    async def late(events: Any) -> None:
        await submitted([ParamsLogged(RUN, {"lr": "program"})])
        await submitted(events)

    writer.submit = late  # type: ignore[method-assign]
    await _refused(sink.client.post(f"/api/v1/runs/{RUN}/log", json={"params": {"lr": "http"}}), 409, "program")


async def test_runs_are_searched_in_pages_and_compared(sink: HttpSink) -> None:
    """By MLflow's grammar; a page's cursor leads to the next."""
    api = sink.client
    for number in range(5):
        made = await _ok(api.post("/api/v1/runs", json={"name": f"run {number}"}))
        value: Any = number if number < 4 else "Infinity"
        batch = {"params": {"n": str(number)}, "metrics": [{"key": "acc", "value": value}]}
        await _ok(api.post(f"/api/v1/runs/{made['run_id']}/log", json=batch))
    wanted = {"filter": "metrics.acc >= 1", "order_by": ["metrics.acc DESC"], "limit": 3, "experiment_id": ["0"]}
    first = await _ok(api.get("/api/v1/runs", params=wanted))
    second = await _ok(api.get("/api/v1/runs", params={**wanted, "cursor": first["cursor"]}))
    assert [run["params"]["n"] for run in first["runs"] + second["runs"]] == ["4", "3", "2", "1"]
    body = {"filter": "metrics.acc >= 1", "order_by": ["metrics.acc DESC"], "limit": 3, "experiment_ids": ["0"]}
    assert await _ok(api.post("/api/v1/runs/search", json=body)) == first
    ids = [run["run_id"] for run in first["runs"]]
    matrix = await _ok(api.post("/api/v1/runs/compare", json={"run_ids": [*ids, RUN]}))
    assert matrix["params"] == {"n": ["4", "3", "2", None]}
    assert matrix["metrics"] == {"acc": ["Infinity", 3.0, 2.0, None]}
    await _refused(api.post("/api/v1/runs/compare", json={"run_ids": ["0" * 32]}), 404, "no run")
    await _refused(api.get("/api/v1/runs", params={"filter": "metrics.acc >"}), 400, "filter")
    await _refused(api.get(f"/api/v1/runs/{'0' * 32}"), 404, "no run")


async def test_a_table_is_read_in_pages_and_downloaded_whole(sink: HttpSink) -> None:
    """Filtered, sorted and searched; as CSV, JSON Lines and Parquet."""
    at, api = f"/api/v1/runs/{RUN}", sink.client
    rows = [{"n": number, "text": f"Row {number}", "x": number / 2} for number in range(2000)]
    await _ok(api.post(f"{at}/log", json={"rows": [{"table": "t", "rows": rows}]}))
    wanted = {"table": "t", "filter": "n >= 10", "order_by": "n DESC", "limit": 2, "count": True, "column": ["n", "x"]}
    page = await _ok(api.get(f"{at}/tables/rows", params=wanted))
    assert (page["rows"], page["total"], page["matched"]) == (
        [{"n": 1999, "x": 999.5}, {"n": 1998, "x": 999.0}],
        2000,
        1990,
    )
    following = await _ok(api.get(f"{at}/tables/rows", params={**wanted, "cursor": page["cursor"]}))
    assert [row["n"] for row in following["rows"]] == [1997, 1996]
    found = await _ok(api.get(f"{at}/tables/rows", params={"table": "t.csv", "search": "ROW 77", "provenance": True}))
    assert [row["n"] for row in found["rows"]] == [77, *range(770, 780)]
    assert set(found["rows"][0]) == {"n", "text", "x", "_logged_at", "_event"}
    lines = (await api.get(f"{at}/tables/download", params={"table": "t"})).text.splitlines()
    assert (lines[0], lines[-1], len(lines)) == ("n,text,x", "1999,Row 1999,999.5", 2001)
    answer = await api.get(f"{at}/tables/download", params={"table": "t", "format": "jsonl"})
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''t.jsonl"
    assert answer.text.splitlines()[3] == '{"n":3,"text":"Row 3","x":1.5}'
    answer = await api.get(f"{at}/tables/download", params={"table": "t", "format": "parquet", "provenance": "true"})
    assert parquet.read_table(BytesIO(answer.content)).num_rows == 2000
    await _refused(api.get(f"{at}/tables/download", params={"table": "none"}), 404, "no table")
    await _refused(api.get(f"{at}/tables/download", params={"table": "t", "format": "xml"}), 400, "form")
    await _refused(api.get(f"{at}/tables/rows", params={"table": "t", "filter": "z > 1"}), 400, "no column")


async def test_numbers_that_json_lacks_are_words_in_rows(sink: HttpSink) -> None:
    """Also deep inside a cell."""
    from runstream_schemas.events import RowsLogged

    row = [math.nan, {"deep": [math.inf, 1.5]}, None]
    await sink.context.writer.submit([RowsLogged(RUN, "t", ["a", "b", "c"], [row])])
    page = await _ok(sink.client.get(f"/api/v1/runs/{RUN}/tables/rows", params={"table": "t"}))
    assert page["rows"] == [{"a": "NaN", "b": {"deep": ["Infinity", 1.5]}, "c": None}]


async def test_the_stream_and_the_store_say_how_they_stand(sink: HttpSink) -> None:
    """Counts, backlog, and dead letters with their bytes."""
    api = sink.client
    store = await _ok(api.get("/api/v1/store"))
    assert (store["runs"], store["store_id"], store["stream"]) == (
        1,
        sink.context.reader.store_id,
        str(sink.options.stream),
    )
    for _ in range(3):
        await _refused(_submit(sink, RunStarted("no id", "0", 1)), 400, "run id")
    stream = await _ok(api.get("/api/v1/stream"))
    assert (stream["failure"], stream["stream_error"], stream["backlog_events"], stream["lag_records"]) == (
        "",
        "",
        0,
        None,
    )
    first = await _ok(api.get("/api/v1/dead-letters", params={"limit": 2, "reason": "invalid"}))
    rest = await _ok(api.get("/api/v1/dead-letters", params={"cursor": first["cursor"]}))
    letters = first["dead_letters"] + rest["dead_letters"]
    assert ([letter["raw"] for letter in letters], rest["cursor"]) == (["", "", ""], None)
    assert (await _ok(api.get(f"/api/v1/dead-letters/{letters[0]['id']}")))["raw"]
    await _refused(api.get("/api/v1/dead-letters/77"), 404, "no dead letter")


async def _submit(sink: HttpSink, event: Any) -> httpx.Response:
    """What an API would answer."""
    from runstream_sink.http.problems import problem_of

    try:
        await sink.context.writer.submit([event])
    except Exception as error:  # noqa: BLE001 - told
        problem = problem_of(error)
        headers = {"content-type": "application/problem+json"}
        return httpx.Response(problem.status, json={"detail": problem.detail}, headers=headers)
    return httpx.Response(200)


async def test_no_request_blocks_the_event_loop(sink: HttpSink) -> None:
    """Whatever touches the disk does so in a thread."""
    at, api = f"/api/v1/runs/{RUN}", sink.client
    rows = [{"n": number} for number in range(100)]
    tables, metrics = [{"table": "t", "rows": rows}], [{"key": "m", "value": 1}]
    await _ok(api.post(f"{at}/log", json={"rows": tables, "metrics": metrics}))
    with blocking_calls() as calls:
        await _ok(api.put(f"{at}/artifacts/a.txt", content=b"text" * 100_000))
        for path, params in (
            ("/api/v1/experiments", {}),
            ("/api/v1/runs", {"filter": "metrics.m > 0"}),
            (at, {}),
            (f"{at}/metrics/points", {"key": "m"}),
            (f"{at}/metrics/buckets", {"key": "m"}),
            (f"{at}/tables", {}),
            (f"{at}/tables/rows", {"table": "t", "filter": "n > 3"}),
            (f"{at}/tables/download", {"table": "t"}),
            (f"{at}/artifacts/a.txt", {}),
            ("/api/v1/stream", {}),
            ("/readyz", {}),
            ("/metrics", {}),
        ):
            (await api.get(path, params=params)).raise_for_status()
        await _ok(api.post(f"{at}/log", json={"params": {"a": "b"}, "tags": {"c": "d"}}))
        await sink.context.writer.submit([ExperimentCreated("5", "five", 1)])
    assert calls == []
