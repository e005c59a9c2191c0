"""Artifacts and tables over MLflow's REST API."""

import os
from collections.abc import Iterator

import pytest

from support.mlflow_api import UNKNOWN, Api, error_of, mlflow_api

PROXY = "/api/2.0/mlflow-artifacts"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """Of a sink that begins empty."""
    with mlflow_api(tmp_path_factory.mktemp("sink")) as api:
        yield api


@pytest.fixture(scope="module")
def run(api: Api) -> str:
    """A run with files and a table."""
    run = api.run()
    for path, data in (("a.txt", b"text"), ("d/page.html", b"<script>"), ("d/é x.bin", b"\0" * 10)):
        sent = api.client.put(f"{PROXY}/artifacts/0/{run}/artifacts/{path}", content=data)
        assert (sent.status_code, sent.content) == (200, b"")
    rows = [{"n": 1, "x": None}, {"n": 2, "x": "é", "big": 0.5}]
    api.client.post(f"/api/v1/runs/{run}/log", json={"rows": [{"table": "t", "rows": rows}]}).raise_for_status()
    return run


def test_files_are_sent_to_be_saved(api: Api, run: str) -> None:
    """Never to be shown as a page of this server."""
    page = api.client.get("/get-artifact", params={"run_id": run, "path": "d/page.html"})
    assert page.content == b"<script>"
    assert page.headers["content-type"].startswith("text/plain")
    assert page.headers["content-disposition"] == "attachment; filename=page.html"
    assert page.headers["x-content-type-options"] == "nosniff"
    other = api.client.get(f"{PROXY}/artifacts/0/{run}/artifacts/d/é x.bin")
    assert other.content == b"\0" * 10
    assert other.headers["content-type"] == "application/octet-stream"
    assert "filename*=UTF-8''" in other.headers["content-disposition"]


def test_a_file_is_sent_in_parts_too(api: Api, run: str) -> None:
    """By the Range header."""
    part = api.client.get(f"{PROXY}/artifacts/0/{run}/artifacts/a.txt", headers={"range": "bytes=1-2"})
    assert (part.status_code, part.content) == (206, b"ex")


def test_a_table_is_a_json_document(api: Api, run: str) -> None:
    """In pandas' split form, with the values at their types."""
    listed = api.get("artifacts/list", run_id=run)
    assert [file["path"] for file in listed["files"]] == ["a.txt", "d", "t.json"]
    table = api.client.get("/get-artifact", params={"run_uuid": run, "path": "t.json"})
    assert table.json() == {"columns": ["n", "x", "big"], "data": [[1, None, None], [2, "é", 0.5]]}


def test_an_artifact_hides_the_table_of_its_name(api: Api) -> None:
    """A client that appends to a table uploads all of it."""
    run = api.run()
    rows = [{"a": 1}]
    api.client.post(f"/api/v1/runs/{run}/log", json={"rows": [{"table": "t", "rows": rows}]}).raise_for_status()
    api.client.put(f"{PROXY}/artifacts/0/{run}/artifacts/t.json", content=b"{}")
    assert api.client.get("/get-artifact", params={"run_id": run, "path": "t.json"}).content == b"{}"


def test_runs_are_found_by_their_tables(api: Api) -> None:
    """By the term that MLflow's client makes for ``load_table``, in pages too, with other terms and without the tag."""
    experiment = api.experiment("tables")
    runs = [api.run(experiment_id=experiment, start_time=number) for number in range(4)]
    for run in runs[1:3]:
        rows = {"rows": [{"table": "dir/t", "rows": [{"a": 1}]}]}
        api.client.post(f"/api/v1/runs/{run}/log", json=rows).raise_for_status()
    noted = '[{"path": "dir/t.json", "type": "table"}]'
    api.post("runs/set-tag", run_id=runs[3], key="mlflow.loggedArtifacts", value=noted)
    term = """tags.mlflow.loggedArtifacts LIKE '%"path"%:%"dir/t.json",%"type"%:%"table"%'"""

    def search(text: str, **more: object) -> tuple[list[str], str | None]:
        found = api.post("runs/search", experiment_ids=[experiment], filter=text, **more)
        return [item["info"]["run_id"] for item in found.get("runs", [])], found.get("next_page_token")

    assert search(term) == ([runs[3], runs[2], runs[1]], None)
    assert search(f"{term} and attributes.run_id IN ('{runs[0]}','{runs[1]}')") == ([runs[1]], None)
    first, token = search(term, max_results=2)
    assert first == [runs[3], runs[2]]
    assert search(term, max_results=2, page_token=token) == ([runs[1]], None)
    assert search(term.replace("dir/t", "dir/nobody"))[0] == []
    assert search(term.replace("dir/t", "../t"))[0] == []


@pytest.mark.parametrize(
    "path",
    ["../x", "a/../../x", "%2e%2e/x", "%252e%252e/x", "/etc/passwd", "C:\\x", "..\\x", "a#b", "%" + "25" * 20 + "2e"],
)
def test_no_path_leads_out_of_a_run(api: Api, run: str, path: str) -> None:
    """However it is written."""
    for address, query in (("/get-artifact", {}), ("/api/2.0/mlflow/artifacts/list", {})):
        answer = api.client.get(address, params={"run_id": run, "path": path, **query})
        assert error_of(answer) == (400, "INVALID_PARAMETER_VALUE", "Invalid path")


def test_nothing_is_uploaded_where_no_run_is(api: Api, run: str) -> None:
    """Nor to the run itself, nor beside its artifacts."""
    for path, code in (
        (f"0/{UNKNOWN}/artifacts/x", "RESOURCE_DOES_NOT_EXIST"),
        (f"0/{run}/x", "INVALID_PARAMETER_VALUE"),
        (f"0/{run}/artifacts", "INVALID_PARAMETER_VALUE"),
        ("x", "INVALID_PARAMETER_VALUE"),
    ):
        assert error_of(api.client.put(f"{PROXY}/artifacts/{path}", content=b"x"))[1] == code


def test_what_is_not_there_is_not_found(api: Api, run: str) -> None:
    """A directory is no file."""
    for path in (f"0/{run}/artifacts/nobody", f"0/{UNKNOWN}/artifacts/a.txt", "a.txt"):
        assert error_of(api.client.get(f"{PROXY}/artifacts/{path}"))[:2] == (404, "RESOURCE_DOES_NOT_EXIST")
    for path in (f"0/{run}/artifacts/d", f"0/{run}/artifacts"):
        assert error_of(api.client.get(f"{PROXY}/artifacts/{path}"))[:2] == (400, "INVALID_PARAMETER_VALUE")
    assert error_of(api.client.get("/get-artifact", params={"run_id": run}))[:2] == (400, "BAD_REQUEST")


def test_above_runs_nothing_is_listed(api: Api, run: str) -> None:
    """Below one, names stand without their directory."""
    for path in ("", "0", f"0/{run}"):
        assert api.client.get(f"{PROXY}/artifacts", params={"path": path}).json() == {}
    found = api.client.get(f"{PROXY}/artifacts", params={"path": f"0/{run}/artifacts/d"}).json()
    assert [file["path"] for file in found["files"]] == ["page.html", "é x.bin"]


def test_the_small_upload_of_the_ui(api: Api, run: str) -> None:
    """Up to ten megabytes, and not nothing."""
    address = "/ajax-api/2.0/mlflow/upload-artifact"

    def upload(data: bytes, **query: str) -> tuple[int, str, str]:
        return error_of(api.client.post(address, params=query, content=data))

    assert upload(b"x", path="x")[2] == "Request must specify run_uuid."
    assert upload(b"x", run_uuid=run)[2] == "Request must specify path."
    assert upload(b"", run_uuid=run, path="x")[2] == "Request must specify data."
    assert upload(os.urandom(10 << 20) + b"x", run_uuid=run, path="x")[2].startswith("Artifact size is too large")
    done = api.client.post(address, params={"run_uuid": run, "path": "up/x.txt"}, content=b"data")
    assert (done.status_code, done.content) == (200, b"")
    assert api.client.get("/get-artifact", params={"run_id": run, "path": "up/x.txt"}).content == b"data"


def test_an_artifact_cannot_be_deleted_nor_sent_in_other_ways(api: Api, run: str) -> None:
    """Each refusal has MLflow's code for it."""
    place = f"0/{run}/artifacts/a.txt"
    for method, path in (
        ("DELETE", f"artifacts/{place}"),
        ("POST", f"mpu/create/{place}"),
        ("POST", f"mpu/complete/{place}"),
        ("GET", f"presigned/{place}"),
    ):
        assert error_of(api.client.request(method, f"{PROXY}/{path}"))[:2] == (501, "NOT_IMPLEMENTED")
    for what in ("upload", "download"):
        refused = api.refused("POST", f"artifacts/presigned-{what}-url", run_id=run, path="x")
        assert refused[:2] == (400, "INVALID_PARAMETER_VALUE")
    assert api.client.get("/get-artifact", params={"run_id": run, "path": "a.txt"}).content == b"text"


def test_a_deleted_run_takes_artifacts(api: Api) -> None:
    """As on MLflow's server: they belong to it when it is restored."""
    run = api.run()
    api.post("runs/delete", run_id=run)
    api.client.put(f"{PROXY}/artifacts/0/{run}/artifacts/x", content=b"late").raise_for_status()
    assert api.client.get("/get-artifact", params={"run_id": run, "path": "x"}).content == b"late"


def test_a_dot_in_a_path_means_nothing(api: Api) -> None:
    """The client lists ``.``, and logs to it; entries are named as the directory was."""
    run = api.run()
    root = f"/api/2.0/mlflow-artifacts/artifacts/0/{run}/artifacts"
    assert api.client.request("PUT", f"{root}/d/%2E/a.txt", content=b"text").status_code == 200
    listed = api.get("artifacts/list", run_id=run, path="./d")["files"]
    assert listed == [{"path": "./d/a.txt", "is_dir": False, "file_size": 4}]
    proxied = api.client.get("/api/2.0/mlflow-artifacts/artifacts", params={"path": f"0/{run}/artifacts/."}).json()
    assert proxied == {"files": [{"path": "d", "is_dir": True}]}
    assert api.client.get("/get-artifact", params={"run_id": run, "path": "d//./a.txt"}).content == b"text"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.txt", "text/plain"),
        ("b.pkl", "application/octet-stream"),
        ("c.png", "image/png"),
        ("d.pdf", "application/pdf"),
        ("MLmodel", "text/plain"),
        ("mlproject", "text/plain"),
    ],
)
def test_a_download_has_mlflows_media_type(api: Api, name: str, kind: str) -> None:
    """Of a text without its encoding."""
    run = api.run()
    address = f"/api/2.0/mlflow-artifacts/artifacts/0/{run}/artifacts/{name}"
    assert api.client.put(address, content=b"x").status_code == 200
    assert api.client.get(address).headers["content-type"] == kind
