"""MLflow's own pages, of the installed mlflow, in a real browser show what runstream has logged."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from support.browser import PATIENCE, Watched, chromium, watched
from support.environment import unmeasured
from support.http_sink import http_sink_apart
from support.mlflow import mlflow_python
from support.servers import Server

pytestmark = pytest.mark.server

LOGGING = Path(__file__).parent / "logging_program.py"
EXPERIMENT = "summaries"
ALL = ["night 0", "night 1", "night 2"]
EXPECTED = {
    (
        404,
        "/mlflow/ajax-api/2.0/mlflow/users/current",
    ),  # MLflow's own server knows no users either
    (404, "/mlflow/lost.png"),  # in a note
}
expect.set_options(timeout=PATIENCE)


class Shown(NamedTuple):
    """A sink that serves the pages, and what it holds."""

    root: str
    experiment: str
    runs: list[str]
    drafts: str
    """Another experiment."""
    draft: str
    """Its run, which tests may change."""

    @property
    def url(self) -> str:
        """Of the pages."""
        return f"{self.root}/mlflow/"


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """A real sink, of the environment that has mlflow."""
    root = tmp_path_factory.mktemp("sink")
    python, stream = mlflow_python(), f"queue:{root / 'queue'}"
    logged = subprocess.run(
        [sys.executable, LOGGING, stream],
        check=True,
        capture_output=True,
        text=True,
        env=unmeasured(),
    )
    *runs, draft = json.loads(logged.stdout)
    command = [
        "env",
        "-u",
        "RUNSTREAM_HTTP",
        str(python),
        "-m",
        "runstream.cli",
        "sink",
        "--mlflow-ui",
        "--port",
        "0",
    ]
    server = Server(
        [*command, "--stream", stream, "--store", str(root / "store")],
        root / "sink.log",
    )
    server.launch()
    try:
        url = _address(server, root / "store" / "http.json")
        ids = [httpx.get(f"{url}/api/v1/runs/{run}", timeout=60.0).json()["experiment_id"] for run in (runs[0], draft)]
        yield Shown(url, ids[0], runs, ids[1], draft)
    finally:
        server.terminate()


def _address(server: Server, file: Path) -> str:
    """Where it serves, once it has applied all that was logged."""
    until = time.monotonic() + 60
    while server.running and time.monotonic() < until:
        if file.exists():
            url: str = json.loads(file.read_bytes())["url"]
            found = httpx.get(f"{url}/api/v1/runs", timeout=60.0).json()["runs"]
            if [run["status"] for run in found] == ["FINISHED"] * 4:
                return url
        time.sleep(0.05)  # nobody tells when another process has done something
    raise AssertionError(f"the sink does not serve what was logged: {server.tail()}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for all pages."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def tab(browser: Browser) -> Iterator[Watched]:
    """One page that goes from address to address, as a user's does."""
    with watched(browser) as tab:
        yield tab


@pytest.fixture
def page(tab: Watched, shown: Shown) -> Iterator[Page]:
    """That page, of which nothing may have failed when the test ends."""
    tab.forget()
    yield tab.page
    tab.settle()
    tab.page.evaluate("localStorage.clear()")  # a filter that was typed in is remembered there
    assert (tab.refused - EXPECTED, tab.errors) == (set(), [])


def _open(page: Page, shown: Shown, path: str) -> None:
    """Go to a place of the UI, which begins anew there."""
    page.goto("about:blank")
    page.goto(f"{shown.url}#/{path}")


def _run(shown: Shown, path: str = "", number: int = 2) -> str:
    return f"experiments/{shown.experiment}/runs/{shown.runs[number]}{path}"


def _text(page: Page, text: str | re.Pattern[str]) -> Any:
    return page.get_by_text(text, exact=isinstance(text, str)).first


def _expect_lines(page: Page, charts: int, names: list[str]) -> None:
    """Wait until so many charts have a line for each run, with all of its points."""
    page.wait_for_function(
        """([charts, names]) => charts == [...document.querySelectorAll(".js-plotly-plot")].filter(chart => {
            const lines = (chart._fullData || []).filter(data => data.type == "scatter" && data.x?.length == 30)
            return names.every(name => lines.some(line => line.name == name))
        }).length""",
        arg=[charts, names],
    )


def test_experiments_are_listed(page: Page, shown: Shown) -> None:
    """The one that a program has named, and Default."""
    _open(page, shown, "experiments")
    expect(page.get_by_role("link", name=EXPERIMENT)).to_be_visible()
    expect(page.get_by_role("link", name="Default")).to_be_visible()


def test_runs_stand_in_a_table(page: Page, shown: Shown) -> None:
    """Each by its name, and found by a filter that is typed in."""
    _open(page, shown, f"experiments/{shown.experiment}/runs")
    for name in ALL:
        expect(page.get_by_role("link", name=name)).to_be_visible()
    field = page.get_by_placeholder(re.compile("metrics.rmse"))
    field.fill("params.model = 'model-1'")
    field.press("Enter")
    expect(_text(page, "1 matching run")).to_be_visible()


def test_a_run_shows_what_was_logged(page: Page, shown: Shown) -> None:
    """Params, latest metrics and its note, whose markup runs nothing."""
    _open(page, shown, _run(shown))
    for text in ("model-2", "0.2", "A note", "final", "2.5", "Finished"):
        expect(_text(page, text)).to_be_visible()


def test_metrics_are_drawn(page: Page, shown: Shown) -> None:
    """A chart a metric, on the page of a run and for several runs at once."""
    _open(page, shown, _run(shown, "/model-metrics"))
    _expect_lines(page, 2, ["night 2"])
    _open(page, shown, f"experiments/{shown.experiment}/runs?compareRunsMode=CHART")
    _expect_lines(page, 2, ALL)


def test_a_metric_of_several_runs_is_one_chart(page: Page, shown: Shown) -> None:
    """With their last values beside it."""
    runs = json.dumps(shown.runs, separators=(",", ":"))
    _open(
        page,
        shown,
        f'metric?runs={runs}&metric="loss"&experiments=["{shown.experiment}"]&plot_metric_keys=["loss"]',
    )
    _expect_lines(page, 1, ALL)
    expect(_text(page, "0.03125 (step=29)")).to_be_visible()


def test_runs_are_compared(page: Page, shown: Shown) -> None:
    """By a plot of their params and metrics, and side by side."""
    runs = json.dumps(shown.runs, separators=(",", ":"))
    _open(page, shown, f'compare-runs?runs={runs}&experiments=["{shown.experiment}"]')
    expect(_text(page, "Comparing 3 Runs from 1 Experiment")).to_be_visible()
    expect(page.locator(".js-plotly-plot .parcoords")).to_be_visible()
    expect(page.get_by_text("WebGL is not supported")).to_have_count(0)
    for text in ("night 0", "model-1", "0.033", "0.032", "0.031", "NaN"):
        expect(_text(page, text)).to_be_visible()


def test_files_are_shown(page: Page, shown: Shown) -> None:
    """Text as text, images as images."""
    _open(page, shown, _run(shown, "/artifacts/notes/hello.txt"))
    expect(_text(page, "words of a file")).to_be_visible()
    _open(page, shown, _run(shown, "/artifacts/red.png"))
    _expect_image(page, (40, 30))


def test_images_of_a_series_are_shown_by_step(page: Page, shown: Shown) -> None:
    """Beside the charts of metrics, small."""
    _open(page, shown, f"experiments/{shown.drafts}/runs/{shown.draft}/model-metrics")
    image = page.locator("img[src*='get-artifact']").first
    expect(image).to_be_visible()
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") == 60


def test_a_script_in_an_image_does_not_run(page: Page, shown: Shown) -> None:
    """An SVG is an image and nothing else."""
    _open(page, shown, _run(shown, "/artifacts/picture.svg"))
    _expect_image(page, (50, 40))


def _expect_image(page: Page, size: tuple[int, int]) -> None:
    image = page.locator("img[src^='blob:']").first
    expect(image).to_be_visible()
    assert tuple(image.evaluate("image => [image.naturalWidth, image.naturalHeight]")) == size


def test_html_has_an_origin_of_its_own(page: Page, shown: Shown) -> None:
    """Its scripts run in a frame that can read nothing of this server's."""
    _open(page, shown, _run(shown, "/artifacts/page.html"))
    frame = page.locator("iframe[src^='blob:']")
    expect(frame).to_have_attribute("sandbox", "allow-scripts")
    expect(frame.content_frame.locator("#said")).to_have_text("origin null")


def test_a_logged_table_is_a_table(page: Page, shown: Shown) -> None:
    """On the page of its run, and beside those of other runs."""
    _open(page, shown, _run(shown, "/artifacts/answers.json"))
    for text in ("prompt", "Hello 2", "1.5"):
        expect(_text(page, text)).to_be_visible()
    expect(page.get_by_text("View as table")).to_be_visible()
    _open(page, shown, f"experiments/{shown.experiment}/runs?compareRunsMode=ARTIFACT")
    expect(page.get_by_role("combobox", name=re.compile(r"selected: answers\.json"))).to_be_visible()
    for text in ("Ho", "Hello 2", "Hello 1"):
        expect(_text(page, text)).to_be_visible()


def test_what_is_changed_on_a_page_is_changed_for_everybody(page: Page, shown: Shown) -> None:
    """A run is renamed in the browser."""
    _open(page, shown, f"experiments/{shown.drafts}/runs/{shown.draft}")
    page.get_by_role("button", name="Open header dropdown menu").click()
    page.get_by_role("menuitem", name="Rename").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("textbox").fill("renamed")
    dialog.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", name="renamed")).to_be_visible()
    assert httpx.get(f"{shown.root}/api/v1/runs/{shown.draft}", timeout=60.0).json()["name"] == "renamed"


def test_a_browser_is_asked_for_the_token(browser: Browser, tmp_path: Path) -> None:
    """As a password, once: all that the pages ask for comes with it."""
    packages = next(mlflow_python().parent.parent.glob("lib/python*/site-packages"))
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "mlflow").symlink_to(packages / "mlflow")
    with pytest.MonkeyPatch.context() as patching:
        patching.syspath_prepend(tmp_path / "site")
        with (
            http_sink_apart(tmp_path, mlflow_ui=True, token="secret") as sink,
            watched(browser, http_credentials={"username": "anybody", "password": "secret"}) as tab,
        ):
            tab.page.goto(f"{sink.url}/mlflow/#/experiments")
            expect(tab.page.get_by_role("link", name="Default")).to_be_visible()
            tab.settle()
            assert tab.errors == []


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("experiments/{}/traces", "3.0/mlflow/traces/search"),
        ("experiments/{}/models", "2.0/mlflow/logged-models/search"),
        ("experiments/{}/evaluation-runs", "2.0/mlflow/runs/search"),
        ("experiments/{}/datasets", "3.0/mlflow/datasets/search"),
        ("experiments/{}/prompts", "2.0/mlflow/registered-models/search"),
        ("models", "2.0/mlflow/registered-models/search"),
        ("mcp-registry", "3.0/mlflow/mcp-servers"),
    ],
)
def test_pages_of_what_is_not_kept_are_empty(tab: Watched, shown: Shown, path: str, asked: str) -> None:
    """What they ask for is answered, and nothing fails but what they would load from other sites."""
    tab.forget()
    with tab.page.expect_response(lambda answer: f"/mlflow/ajax-api/{asked}" in answer.url):
        _open(tab.page, shown, path.format(shown.experiment))
    tab.settle()
    foreign = [error for error in tab.errors if "https://mlflow.org/" in error]
    assert (tab.refused - EXPECTED, tab.errors) == (set(), foreign)
