"""MLflow's UI: which files are served and how, what is answered below the same path, and to whom."""

import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from runstream_schemas.errors import EnvironmentUnavailableError
from runstream_sink.config import resolve
from runstream_sink.http.mlflow_ui import find_files
from support.commands import invoke
from support.http_sink import http_sink, http_sink_apart
from support.mlflow_api import Api, error_of
from support.mlflow_pages import PAGES, pages_installed

SCRIPT = "/mlflow/static-files/static/js/main.c2f5.js"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """Of a sink that serves the pages too."""
    root = tmp_path_factory.mktemp("sink")
    with (
        pages_installed(tmp_path_factory.mktemp("site")),
        http_sink_apart(root, mlflow_ui=True) as sink,
        httpx.Client(base_url=sink.url, timeout=60.0) as client,
    ):
        yield Api(client, root)


def _policy(answer: httpx.Response) -> dict[str, str]:
    parts = (part.partition(" ") for part in answer.headers["content-security-policy"].split("; "))
    return {name: value for name, _, value in parts}


def test_the_page_is_served_at_an_address_that_ends_in_a_slash(api: Api) -> None:
    """Others are relative to it; the redirect is relative as well, for proxies that serve it elsewhere."""
    page = api.client.get("/mlflow/")
    assert (page.status_code, page.content) == (200, PAGES["index.html"])
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["cache-control"] == "no-cache"
    moved = api.client.get("/mlflow")
    assert (moved.status_code, moved.headers["location"]) == (307, "mlflow/")
    assert api.client.head("/mlflow/").status_code == 200


@pytest.mark.parametrize("name", PAGES)
def test_files_are_served_as_they_are(api: Api, name: str) -> None:
    """Each by its path, with a type that browsers take, compressed where that pays."""
    answer = api.client.get(f"/mlflow/static-files/{name}")
    assert (answer.status_code, answer.content) == (200, PAGES[name])
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert ("max-age" in answer.headers["cache-control"]) == name.startswith("static/")
    kinds = {".js": "javascript", ".css": "text/css", ".json": "application/json", ".html": "text/html"}
    assert kinds.get(Path(name).suffix, "") in answer.headers["content-type"]
    assert ("content-encoding" in answer.headers) == name.endswith(".js")


@pytest.mark.parametrize(
    "path", ["none.js", "", "static", "..%2f..%2f__init__.py", "%2e%2e/%2e%2e/__init__.py", "static/js/", "/etc/passwd"]
)
def test_nothing_but_its_files_is_served(api: Api, path: str) -> None:
    """However the way out is written."""
    assert api.client.get(f"/mlflow/static-files/{path}").status_code == 404


def test_the_pages_talk_to_this_server_alone(api: Api) -> None:
    """Nothing is loaded from elsewhere, markup brings no script, and no other site frames the pages."""
    for path in ("/mlflow/", SCRIPT):
        policy = _policy(api.client.get(path))
        assert policy["default-src"] == policy["script-src-attr"] == policy["base-uri"] == "'none'"
        assert policy["connect-src"].split() == ["'self'", "data:", "blob:"]
        assert policy["frame-ancestors"] == "'self'"
        assert not any("http" in value or "*" in value for value in policy.values())


def test_the_api_is_reached_below_the_same_path(api: Api) -> None:
    """Reads, writes and queries, with the answers that they have elsewhere."""
    experiment_id = api.experiment("below")
    path = f"2.0/mlflow/experiments/get?experiment_id={experiment_id}"
    assert api.client.get(f"/mlflow/ajax-api/{path}").json() == api.client.get(f"/api/{path}").json()
    renamed = {"experiment_id": experiment_id, "new_name": "renamed below"}
    assert api.client.post("/mlflow/ajax-api/2.0/mlflow/experiments/update", json=renamed).json() == {}
    query = f'{{ mlflowGetExperiment(input: {{experimentId: "{experiment_id}"}}) {{ experiment {{ name }} }} }}'
    answer = api.client.post("/mlflow/graphql", json={"query": query}).json()
    assert answer["data"]["mlflowGetExperiment"]["experiment"] == {"name": "renamed below"}
    assert api.client.get("/mlflow/version").text == api.client.get("/version").text


def test_what_a_run_holds_never_becomes_a_page(api: Api) -> None:
    """HTML that a program has logged is text, and to be saved, wherever it is asked for."""
    run_id = api.run()
    upload = f"/mlflow/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run_id}&path=page.html"
    assert api.client.post(upload, content=b"<script>alert(1)</script>").status_code == 200
    answer = api.client.get(f"/mlflow/get-artifact?run_uuid={run_id}&path=page.html")
    assert answer.content == b"<script>alert(1)</script>"
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none'")


def test_of_what_is_not_kept_there_is_nothing_below_that_path(api: Api) -> None:
    """The UI takes an error for a broken server; programs are told that it is not served."""
    for method, path in (
        ("GET", "2.0/mlflow/model-versions/search?filter=x"),
        ("POST", "3.0/mlflow/traces/search"),
        ("GET", "3.0/mlflow/ui-telemetry"),
        ("POST", "3.0/mlflow/ui-telemetry"),
    ):
        assert api.client.request(method, f"/mlflow/ajax-api/{path}", json={}).status_code == 200
        assert error_of(api.client.request(method, f"/ajax-api/{path}", json={}))[:2] == (404, "ENDPOINT_NOT_FOUND")
    assert api.client.get("/mlflow/ajax-api/3.0/mlflow/ui-telemetry").json()["disable_ui_telemetry"] is True
    assert error_of(api.client.get("/mlflow/ajax-api/4.0/anything"))[:2] == (404, "ENDPOINT_NOT_FOUND")
    assert error_of(api.client.post("/mlflow/static-files/index.html"))[:2] == (404, "ENDPOINT_NOT_FOUND")


async def test_the_guard_stands_before_the_pages_too(tmp_path: Path) -> None:
    """Token, host and origin are asked for; a browser is told that a password will do."""
    (tmp_path / "site").mkdir()
    with pages_installed(tmp_path / "site"):
        async with http_sink(tmp_path, mlflow_ui=True, token="secret") as sink:
            for path in ("/mlflow/", SCRIPT, "/mlflow/ajax-api/3.0/mlflow/server-info", "/mlflow/get-artifact"):
                refused = await sink.client.get(path)
                assert refused.status_code == 401
                assert any(value.startswith("Basic") for value in refused.headers.get_list("www-authenticate"))
            known = {"auth": ("anybody", "secret")}
            assert (await sink.client.get("/mlflow/", **known)).status_code == 200
            assert (await sink.client.get("/mlflow/", headers={"host": "evil.example"}, **known)).status_code == 403
            foreign = await sink.client.post("/mlflow/graphql", headers={"origin": "null"}, **known)
            assert foreign.status_code == 403


async def test_files_that_are_gone_are_missed(tmp_path: Path) -> None:
    """Another mlflow has been installed meanwhile, perhaps; the answer says what helps."""
    (tmp_path / "site").mkdir()
    with pages_installed(tmp_path / "site"):
        async with http_sink(tmp_path, mlflow_ui=True) as sink:
            (tmp_path / "site" / "mlflow" / "server" / "js" / "build" / "index.html").unlink()
            answer = await sink.client.get("/mlflow/")
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
            assert "start the sink anew" in answer.json()["detail"]


async def test_without_being_asked_for_the_pages_are_not_served(tmp_path: Path) -> None:
    """Whether mlflow is installed or not."""
    (tmp_path / "site").mkdir()
    with pages_installed(tmp_path / "site"):
        async with http_sink(tmp_path) as sink:
            assert (await sink.client.get("/mlflow/")).status_code == 404


def test_a_sink_without_mlflow_says_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And does not start."""
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setenv("RUNSTREAM_HTTP", "yes")
    places = ("--stream", f"queue:{tmp_path / 'queue'}", "--store", tmp_path / "store")
    result = invoke(capsys, "sink", *places, "--port", "0", "--mlflow-ui")
    assert result.code != 0
    assert "mlflow, which is not installed; run: pip install 'runstream[mlflow]'" in result.err


def test_an_mlflow_without_its_ui_will_not_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As mlflow-skinny has none."""
    (tmp_path / "mlflow").mkdir()
    (tmp_path / "mlflow" / "__init__.py").touch()
    monkeypatch.delitem(sys.modules, "mlflow", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EnvironmentUnavailableError, match="mlflow-skinny"):
        find_files()


def test_the_setting_and_the_option_ask_for_the_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """The option goes before; by default they are not served."""
    assert resolve(http=True).http.mlflow_ui is False  # type: ignore[union-attr]
    assert resolve(http=True, mlflow_ui=True).http.mlflow_ui is True  # type: ignore[union-attr]
    monkeypatch.setenv("RUNSTREAM_MLFLOW_UI", "yes")
    assert resolve(http=True).http.mlflow_ui is True  # type: ignore[union-attr]
    assert resolve(http=True, mlflow_ui=False).http.mlflow_ui is False  # type: ignore[union-attr]
