"""Artifacts over real connections: uploaded and downloaded as they are, never run, and nothing else is reached."""

import hashlib
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from runstream_schemas.errors import CorruptDataError
from runstream_sink.http.files import _read, open_below
from runstream_sink.http.native import artifacts
from support.http_sink import HttpSink, http_sink

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


async def test_a_file_is_uploaded_listed_and_downloaded(sink: HttpSink) -> None:
    """Whole, in ranges, and not again where the client has it."""
    at, api = f"/api/v1/runs/{RUN}/artifacts", sink.client
    data = bytes(range(256)) * 4096

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 100_000):
            yield data[start : start + 100_000]

    sha256 = hashlib.sha256(data).hexdigest()
    stored = await _ok(api.put(f"{at}/models/m.bin", content=pieces(), params={"sha256": sha256}))
    assert stored == {
        "path": "models/m.bin",
        "size": len(data),
        "sha256": sha256,
        "media_type": "application/octet-stream",
    }
    assert await _ok(api.get(at)) == await _ok(api.get(at, params={"path": "models/"})) == {"artifacts": [stored]}
    assert await _ok(api.get(at, params={"path": "other"})) == {"artifacts": []}
    whole = await api.get(f"{at}/models/m.bin")
    etag = whole.headers["etag"]
    assert (whole.content, etag, whole.headers["content-length"]) == (data, f'"{sha256}"', str(len(data)))
    part = await api.get(f"{at}/models/m.bin", headers={"range": "bytes=10-19", "if-range": etag})
    assert (part.status_code, part.content, part.headers["content-range"]) == (
        206,
        data[10:20],
        f"bytes 10-19/{len(data)}",
    )
    stale = await api.get(f"{at}/models/m.bin", headers={"range": "bytes=10-19", "if-range": '"old"'})
    assert (stale.status_code, len(stale.content)) == (200, len(data))
    assert (await api.get(f"{at}/models/m.bin", headers={"if-none-match": f'"x", W/{etag}'})).status_code == 304
    assert (await api.get(f"{at}/models/m.bin", headers={"range": "bytes=9999999-"})).status_code == 416
    head = await api.head(f"{at}/models/m.bin")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(data)))
    await _ok(api.put(f"{at}/models/m.bin", content=b"new"))
    assert (await api.get(f"{at}/models/m.bin", headers={"if-none-match": etag})).content == b"new"
    assert (await _ok(api.put(f"{at}/empty.txt", content=b"")))["media_type"] == "text/plain"
    assert (await api.get(f"{at}/empty.txt")).content == b""


async def test_uploads_that_are_not_what_was_meant_are_refused(sink: HttpSink) -> None:
    """By the hash that the client names, in either way; nothing of them is logged."""
    at, api = f"/api/v1/runs/{RUN}/artifacts", sink.client
    digest = b64encode(hashlib.sha256(b"meant").digest()).decode()
    good = {"content-digest": f"sha-512=:x:, sha-256=:{digest}:"}
    assert (await _ok(api.put(f"{at}/a", content=b"meant", headers=good)))["size"] == 5
    await _refused(api.put(f"{at}/b", content=b"other", headers=good), 400, "hash")
    await _refused(api.put(f"{at}/b", content=b"x", headers={"content-digest": "sha-256=:?:"}), 400, "Content-Digest")
    await _refused(api.put(f"{at}/b", content=b"x", params={"sha256": "zz"}), 400, "hexadecimal")
    await _refused(api.put(f"{at}/%2e%2e/b", content=b"x"), 400, "'..'")
    await _refused(api.put(f"/api/v1/runs/{'0' * 32}/artifacts/b", content=b"x"), 404, "no run")
    assert [held["path"] for held in (await _ok(api.get(at)))["artifacts"]] == ["a"]


@pytest.mark.parametrize(
    ("name", "media_type", "way"),
    [
        ("x.html", "text/html", "attachment"),
        ("x.svg", "image/svg+xml", "attachment"),
        ("x.xml", "application/xml", "attachment"),
        ("x.xhtml", "application/xhtml+xml", "attachment"),
        ("x.pdf", "application/pdf", "attachment"),
        ("x.js", "text/javascript", "attachment"),
        ("x", "nonsense\tx", "attachment"),
        ("x.png", "image/png", "inline"),
        ("x.txt", "text/plain", "inline"),
        ("x.json", "application/json", "inline"),
    ],
)
async def test_files_are_never_run_by_a_browser(sink: HttpSink, name: str, media_type: str, way: str) -> None:
    """What could be is an attachment; nothing is sniffed, and nothing is allowed."""
    at = f"/api/v1/runs/{RUN}/artifacts/{name}"
    await _ok(sink.client.put(at, content=b"<script>alert(1)</script>", headers={"content-type": media_type}))
    answer = await sink.client.get(at)
    assert answer.headers["content-disposition"].startswith(f"{way}; filename*=UTF-8''x")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    saved = await sink.client.get(at, params={"download": "true"})
    assert saved.headers["content-disposition"].startswith("attachment")


async def test_no_link_leads_out_of_the_root(sink: HttpSink, tmp_path: Path) -> None:
    """Neither as the file nor as a directory on the way, though the database names it."""
    at, api = f"/api/v1/runs/{RUN}/artifacts", sink.client
    secret = tmp_path / "secret"
    secret.write_bytes(b"text")
    for path in ("a.txt", "d/b.txt", "e/c.txt"):
        await _ok(api.put(f"{at}/{path}", content=b"text"))
    root = sink.options.artifacts / RUN
    (root / "a.txt").unlink()
    (root / "a.txt").symlink_to(secret)
    (root / "d" / "b.txt").unlink()
    (root / "d").rmdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "b.txt").write_bytes(b"text")
    (root / "d").symlink_to(tmp_path / "outside")
    (root / "e" / "c.txt").unlink()
    (root / "e" / "c.txt").mkdir()
    for path in ("a.txt", "d/b.txt", "e/c.txt"):
        await _refused(api.get(f"{at}/{path}"), 404, "file")


@pytest.mark.parametrize(
    "path",
    [
        "..%2f..%2frunstream.db",
        "%2e%2e/%2e%2e/runstream.db",
        "/etc/passwd",
        "%00",
        "a%00b",
        "..\\x",
        "%ff%fe",
        "a//b",
        ".",
    ],
)
async def test_hostile_paths_lead_nowhere(sink: HttpSink, path: str) -> None:
    """They are looked up as they are, and there is no such artifact."""
    address = httpx.URL(sink.url).copy_with(raw_path=f"/api/v1/runs/{RUN}/artifacts/{path}".encode())
    answer = await sink.client.get(address)
    assert answer.status_code in {200, 400, 404}
    assert answer.headers["content-type"].startswith("application/")
    assert b"SQLite" not in answer.content


async def test_a_damaged_file_is_said_to_be(sink: HttpSink) -> None:
    """One that is shorter than its event says is not sent as if it were whole."""
    at = f"/api/v1/runs/{RUN}/artifacts/a.txt"
    await _ok(sink.client.put(at, content=b"whole"))
    (sink.options.artifacts / RUN / "a.txt").unlink()
    (sink.options.artifacts / RUN / "a.txt").write_bytes(b"who")
    answer = await sink.client.get(at)
    assert (answer.status_code, answer.json()["code"]) == (500, "damaged")


async def test_a_file_that_is_replaced_while_it_is_asked_for_is_the_new_one(
    sink: HttpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database was read before, and the file after it."""
    at, api = f"/api/v1/runs/{RUN}/artifacts/a.txt", sink.client
    await _ok(api.put(at, content=b"old"))
    stale = await artifacts.find_artifact(sink.context, RUN, "a.txt")
    await _ok(api.put(at, content=b"newer"))
    find, answers = artifacts.find_artifact, [stale]

    async def late(context: Any, run_id: str, path: str) -> Any:
        return answers.pop() if answers else await find(context, run_id, path)

    monkeypatch.setattr(artifacts, "find_artifact", late)
    assert (await api.get(at)).content == b"newer"


async def test_who_was_faster_with_a_file_is_found_after_applying(
    sink: HttpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another file at the same path, logged at the same time, may win."""
    at, api = f"/api/v1/runs/{RUN}/artifacts/a.txt", sink.client
    await _ok(api.put(at, content=b"winner"))
    held = await artifacts.find_artifact(sink.context, RUN, "a.txt")

    async def winner(*_: object) -> Any:
        return held

    monkeypatch.setattr(artifacts, "find_artifact", winner)
    await _refused(api.put(at, content=b"loser"), 409, "at the same time")


async def test_an_upload_has_a_limit(sink: HttpSink, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that come without their number told are counted."""
    monkeypatch.setattr(artifacts, "UPLOAD_LIMIT", 10)
    await _refused(sink.client.put(f"/api/v1/runs/{RUN}/artifacts/a", content=b"x" * 11), 413, "at most 10 bytes")


async def test_a_file_that_becomes_shorter_while_it_is_sent_breaks_off(tmp_path: Path) -> None:
    """Rather than to end as if it were whole."""
    (tmp_path / "f").write_bytes(b"x" * 5)
    with pytest.raises(CorruptDataError):
        assert [piece async for piece in _read(open_below(tmp_path, "f"), 0, 9)] == [b"x" * 5]
