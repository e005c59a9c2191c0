"""MLflow's pages show the same from this server as from MLflow's own, where the same was logged to both."""

import json
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

import httpx
import pytest
from playwright.sync_api import Page

from support.browser import PATIENCE, chromium, watched
from support.http_sink import http_sink_apart
from support.mlflow import mlflow_python
from support.mlflow_api import Api
from support.mlflow_server import mlflow_server

pytestmark = pytest.mark.server

START = 1_700_000_000_000
TABLE = {"columns": ["prompt", "answer"], "data": [["Hi", "Hello"], ["Ho", None]]}


class Side(NamedTuple):
    """One server, a page of it, and what it holds."""

    page: Page
    url: str
    experiment: str
    runs: list[str]

    def open(self, path: str) -> None:
        """Go to a place of the UI; ``EXPERIMENT``, ``RUN0`` and ``RUNS`` stand for ids."""
        runs = json.dumps(self.runs, separators=(",", ":"))
        known = {"EXPERIMENT": self.experiment, "RUNS": runs, "RUN0": self.runs[0]}
        for name, value in known.items():
            path = path.replace(name, value)
        self.page.goto("about:blank")
        self.page.goto(f"{self.url}#/{path}")

    def shown(self) -> list[str]:
        """The lines that the page shows now, with names for ids, and no colours, which are made of ids."""
        main = self.page.locator("main")
        text = main.inner_text() if main.count() else ""
        for number, run in enumerate(self.runs):
            text = text.replace(run, f"RUN{number}")
        text = text.replace(f"mlflow-artifacts:/{self.experiment}/", "mlflow-artifacts:/EXPERIMENT/")
        text = text.replace(f"Experiment ID\n{self.experiment}\n", "Experiment ID\nEXPERIMENT\n")
        lines = map(str.strip, re.split(r"[\n\t]", text))
        return [line for line in lines if line and not re.fullmatch("#[0-9a-f]{6}", line)]


def _filled(page: Page, url: str, api: Api) -> Side:
    experiment = api.experiment("same on both")
    return Side(page, url, experiment, [_logged(api, experiment, number) for number in range(2)])


def _logged(api: Api, experiment: str, number: int) -> str:
    noted = json.dumps([{"path": "answers.json", "type": "table"}])
    tags = {"mlflow.user": "ada", "mlflow.source.name": "train.py", "mlflow.note.content": "# A note", "team": "ä"}
    run_id = api.run(
        experiment_id=experiment,
        run_name=f"run {number}",
        start_time=START + number,
        user_id="ada",
        tags=[{"key": key, "value": value} for key, value in {**tags, "mlflow.loggedArtifacts": noted}.items()],
    )
    steps = [{"key": "loss", "value": 1 / (step + 1), "timestamp": START + step, "step": step} for step in range(10)]
    last = [
        {"key": key, "value": value, "timestamp": START, "step": 0} for key, value in {"a": number, "b": 1e-9}.items()
    ]
    params = [{"key": "lr", "value": f"0.{number}"}, {"key": "model", "value": "small"}]
    api.post("runs/log-batch", run_id=run_id, metrics=last + steps, params=params)
    for path, content in {"answers.json": json.dumps(TABLE), "notes/a.txt": "words"}.items():
        where = {"run_uuid": run_id, "path": path}
        api.client.post("/ajax-api/2.0/mlflow/upload-artifact", params=where, content=content).raise_for_status()
    api.post("runs/update", run_id=run_id, status="FINISHED", end_time=START + 5000)
    return run_id


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Side, Side]]:
    """MLflow's own server, and ours with the pages of the same mlflow."""
    root = tmp_path_factory.mktemp("both")
    for name in ("theirs", "ours", "site"):
        (root / name).mkdir()
    packages = next(mlflow_python().parent.parent.glob("lib/python*/site-packages"))
    (root / "site" / "mlflow").symlink_to(packages / "mlflow")
    with ExitStack() as held:
        browser = held.enter_context(chromium())
        tabs = [held.enter_context(watched(browser)).page for _ in range(2)]
        held.enter_context(pytest.MonkeyPatch.context()).syspath_prepend(root / "site")
        theirs = held.enter_context(mlflow_server(root / "theirs"))
        ours = held.enter_context(http_sink_apart(root / "ours", mlflow_ui=True)).url
        clients = [held.enter_context(httpx.Client(base_url=url, timeout=60.0)) for url in (theirs, ours)]
        yield (
            _filled(tabs[0], f"{theirs}/", Api(clients[0], root)),
            _filled(tabs[1], f"{ours}/mlflow/", Api(clients[1], root)),
        )


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("experiments/EXPERIMENT/runs", "run 1"),
        ("experiments/EXPERIMENT/runs?compareRunsMode=ARTIFACT", "Hello"),
        ("experiments/EXPERIMENT/runs/RUN0", "small"),
        ("experiments/EXPERIMENT/runs/RUN0/artifacts/answers.json", "Hello"),
        ("experiments/EXPERIMENT/runs/RUN0/artifacts/notes/a.txt", "words"),
        ('compare-runs?runs=RUNS&experiments=["EXPERIMENT"]', "small"),
        ('metric?runs=RUNS&metric="loss"&experiments=["EXPERIMENT"]&plot_metric_keys=["loss"]', "0.1 (step=9)"),
    ],
    ids=["runs", "tables", "run", "table", "file", "comparison", "metric"],
)
def test_a_page_shows_the_same(both: tuple[Side, Side], path: str, wanted: str) -> None:
    """Word by word, as soon as all is there."""
    for side in both:
        side.open(path)
    until = time.monotonic() + PATIENCE / 1000
    theirs, ours = (side.shown() for side in both)
    while (theirs != ours or wanted not in ours) and time.monotonic() < until:
        both[1].page.wait_for_timeout(50)  # nobody tells when a page has drawn itself
        theirs, ours = (side.shown() for side in both)
    assert wanted in ours
    assert ours == theirs
