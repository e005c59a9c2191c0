"""The benchmarks run, and what becomes of their results is right; how fast anything is decides nothing here."""

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from support.environment import unmeasured

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "bench"
CHEAP = ("startup", "visible", "sink", "replay", "memory", "search", "history", "tables", "growth", "peers")


@pytest.fixture(name="module")
def _module(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Imports a module of the benchmarks; their names are common, so that none of them may stay."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(BENCH))
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(BENCH)):
            del sys.modules[name]


@pytest.fixture(name="quick_results")
def _quick_results(tmp_path: Path) -> Path:
    """A folder with results of two benchmarks, of the size quick."""
    run = {
        "size": "quick",
        "durability": "committed: on the disk",
        "load_average": [0.5, 0, 0],
        "seconds": 1,
        "code": 0,
    }
    here = {
        "date": "2026-11-24T12:00:00+00:00",
        "commit": "abc",
        "processor": "a processor",
        "cpus": 2,
        "memory_gib": 4,
        "file_system": "ext4",
        "system": "Linux",
        "python": "3.11",
        "versions": {"SQLite": "3"},
    }
    sink = {"metrics": {"count": 10, "ours": 151_000.0, "limit": 200_000.0}, "2 KB rows": {"ours": 1.0, "limit": 9.0}}
    growth = {
        "log metrics": {"kind": "work", "milliseconds": [1.0, 10.0, 100.0], "slope": 1.0, "exponent": 1.0},
        "a search": {"kind": "page", "milliseconds": [1.0, 2.0, 4.0], "slope": 0.3, "exponent": 0.3},
    }
    for name, results in (("sink", sink), ("growth", growth)):
        (tmp_path / f"{name}.json").write_text(json.dumps({"machine": here, "results": results}))
    (tmp_path / "run.json").write_text(json.dumps({"benchmarks": {"sink": run, "growth": run, "gone": run}}))
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("name", CHEAP)
def test_a_benchmark_runs_at_its_smallest_size(tmp_path: Path, name: str) -> None:
    """By the runner; its results, and what the runner makes of them, are files."""
    command = [sys.executable, str(BENCH / "run.py"), "--size", "smallest", "--peers", "--only", name]
    done = subprocess.run(
        [*command, "--output", str(tmp_path)],
        env=unmeasured(),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    held = json.loads((tmp_path / f"{name}.json").read_text())
    assert held["results"]
    assert held["machine"]["cpus"]
    assert json.loads((tmp_path / "run.json").read_text())["benchmarks"][name]["code"] == 0
    assert json.loads((tmp_path / "targets.json").read_text())


def test_every_cheap_benchmark_has_a_smallest_size(module: Any) -> None:
    """Those that have none need a server, or a package that tests do not have."""
    suite = module("suite")
    sizes = {one.name: one.smallest is not None for one in suite.BENCHMARKS}
    assert {name for name, has in sizes.items() if has} == set(CHEAP)


def test_every_script_knows_the_options_that_the_runner_gives_it(module: Any) -> None:
    """At each size, with and without peers."""
    suite = module("suite")
    for one in suite.choose([]):
        text = one.script.read_text("utf-8")
        for size in suite.SIZES:
            given = (one.arguments(size, peers=True) or []) + (one.arguments(size, peers=False) or [])
            assert [option for option in given if option.startswith("--") and f'"{option}"' not in text] == []
        assert '"--output"' in text


def test_each_benchmark_is_on_the_page(module: Any) -> None:
    """Of the documentation."""
    text = (ROOT / "docs" / "benchmarks.md").read_text("utf-8")
    assert [one.name for one in module("suite").choose([]) if f"`bench/{one.name}.py`" not in text] == []


def test_a_benchmark_that_fails_lets_the_others_run_and_fails_the_run(
    module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What failed is named."""
    run, suite = module("run"), module("suite")
    broken = suite.Benchmark("history", "none", 1, "--no-such-option")
    works = suite.Benchmark("search", "none", 1, "--runs 200 --rounds 1")
    absent = suite.Benchmark("tables", "none", 1, needs="no-such-program")
    monkeypatch.setattr(suite, "BENCHMARKS", (broken, works, absent))
    monkeypatch.setattr(sys, "argv", ["run.py", "--output", str(tmp_path)])
    with pytest.raises(SystemExit, match="failed: history"):
        run.main()
    told = json.loads((tmp_path / "run.json").read_text())["benchmarks"]
    assert {name: one["code"] for name, one in told.items()} == {"history": 2, "search": 0}


def test_a_benchmark_that_is_none_is_refused(module: Any) -> None:
    """By name."""
    with pytest.raises(SystemExit, match="no such benchmark: fast"):
        module("suite").choose(["sink", "fast"])


def test_a_benchmark_of_peers_is_left_out_where_none_are_asked_for(module: Any) -> None:
    """And one that has more to do with them is told so."""
    suite = module("suite")
    known = {one.name: one for one in suite.BENCHMARKS}
    assert known["peers"].arguments("full", peers=False) is None
    assert known["peers"].arguments("full", peers=True) == []
    assert known["emit"].arguments("full", peers=False) == ["--no-mlflow"]
    assert known["kafka"].arguments("smallest", peers=True) is None


def test_targets_are_met_missed_or_not_measured(module: Any, quick_results: Path) -> None:
    """By bounds above or below; what lacks results is not taken for met."""
    targets = module("targets")
    judged = {one["what"]: one for one in targets.judge(targets.load_results(quick_results))}
    assert judged["sink, metrics"] | {"durability": None} == {
        "what": "sink, metrics",
        "target": "≥ 150,000/s",
        "benchmark": "sink",
        "figure": "151,000/s",
        "met": True,
        "size": "quick",
        "durability": None,
    }
    assert judged["sink, 2 KB rows"]["met"] is False
    assert judged["growth of work: exponent"]["met"] is True
    assert judged["growth of first pages: exponent"]["met"] is False
    assert judged["request runs"]["met"] is None
    assert judged["emit metric: p50"] | {"what": ""} == {
        "what": "",
        "target": "≤ 2 µs",
        "benchmark": "emit",
        "figure": None,
        "met": None,
        "size": None,
        "durability": None,
    }


def test_targets_of_one_call_are_ratios_within_one_run(module: Any) -> None:
    """To a percentile of ours alone, and to the peers'."""
    calls = {"p50": 2.0, "p99": 10.0, "p99.9": 1000.0, "max": 1.0}
    emit = {
        "metric, alone": {"runstream": calls, "librdkafka": calls | {"p99.9": 500.0}},
        "metric, busy": {"runstream": calls | {"p50": 3.0, "p99.9": 11_000.0}},
    }
    peers = {"metric": {"runstream": calls, "mlflow asynchronous": {"p50": 400.0}}}
    results = {"emit": {"results": emit, "run": {}}, "peers": {"results": peers, "run": {}}}
    figures = {one["what"]: one["figure"] for one in module("targets").judge(results) if one["figure"]}
    assert figures == {
        "emit metric: p50": "2.00 µs",
        "emit metric: p99": "5.0x",
        "emit metric: p99.9": "2.00x",
        "emit metric, beside a busy thread: p50": "1.50x",
        "emit, busy thread or disk: p99.9": "11.00 ms",
        "emit metric: mlflow asynchronous, p50": "200x",
    }


def test_a_replay_that_was_only_projected_is_no_measurement(module: Any) -> None:
    """However fast it would be."""
    found = {
        "metrics": {"seconds": 1.0, "measured": False},
        "2 KB rows": {"seconds": 30.0, "measured": True},
        "request runs": {"seconds": 1.0, "rate": 5000.0, "memory": 100.0, "measured": False},
    }
    judged = module("targets").judge({"replay": {"results": found, "run": {}}})
    met = {one["what"]: one["met"] for one in judged if one["benchmark"] == "replay"}
    assert met == {
        "replay of 10 million metrics": None,
        "replay of 1 million 2 KB rows": True,
        "replay of 1 million request runs": None,
        "sink memory above import, 1 million request runs": None,
    }


def test_the_page_of_figures_is_made_from_the_results(
    module: Any, quick_results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With their plots, machine, targets and tables; the same results make the same bytes."""
    report = module("report")
    written = []
    for name in ("one", "other"):
        command = ["report.py", "--any-size", "--input", str(quick_results), "--output", str(tmp_path / name)]
        monkeypatch.setattr(sys, "argv", command)
        report.main()
        written.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert written[0] == written[1]
    assert set(written[0]) == {"figures.md", "figures.json", "sink-beside-limit.svg", "growth.svg"}
    assert json.loads(written[0]["figures.json"])["growth"]["results"]["a search"]["exponent"] == 0.3
    page = written[0]["figures.md"].decode()
    assert "| sink, metrics | ≥ 150,000/s | 151,000/s | yes | committed |" in page
    assert "| sink, 2 KB rows | ≥ 35,000/s | 1/s | **no** | committed |" in page
    assert "| log metrics | work | 1, 10, 100 | 1 | 1 |" in page
    assert "| sink | quick | 2026-11-24T12:00:00+00:00 | abc | 0.5 | 1 |" in page
    assert "![Growth](growth.svg)" in page
    assert "a processor, 2 CPUs" in page


def test_log_calls_are_drawn_beside_other_loggers_and_by_circumstance(module: Any, tmp_path: Path) -> None:
    """Also where a slow logger has too few calls for a percentile, or a circumstance has no peer."""
    calls = {"p50": 2.0, "p99": 10.0, "p99.9": 1000.0, "max": 2000.0}
    emit = {
        "metric, alone": {"runstream": calls, "librdkafka": calls},
        "metric, change": {"runstream": calls},
        "row, alone": {"runstream": calls, "librdkafka": calls},
    }
    peers = {"metric": {"runstream": calls, "slow": {"p50": 9.0}}, "2 KB row": {"runstream": calls}}
    drawn = module("plots").draw({"emit": {"results": emit}, "peers": {"results": peers}}, tmp_path)
    names = {"emit-beside-peers", "emit-circumstances"}
    assert {path.name for path in drawn} == {f"{name}.{form}" for name in names for form in ("svg", "png")}
    assert all(path.stat().st_size for path in drawn)


def test_figures_of_another_size_than_full_are_not_published(
    module: Any, quick_results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless one asks for it; nor are those of several commits."""
    report = module("report")
    output = tmp_path / "docs"
    monkeypatch.setattr(sys, "argv", ["report.py", "--input", str(quick_results), "--output", str(output)])
    with pytest.raises(SystemExit, match="not of full size: sink, growth"):
        report.main()
    for path in (quick_results / "run.json", quick_results / "sink.json"):
        path.write_text(path.read_text().replace("quick", "full").replace("abc", "def"))
    with pytest.raises(SystemExit, match="several commits"):
        report.main()
    assert not output.exists()


def test_a_page_without_results_says_so(module: Any) -> None:
    """And names all targets."""
    report, targets = module("report"), module("targets")
    page = report.page({}, [])
    assert "Nothing has been measured yet." in page
    assert page.count("not measured") == len(targets.TARGETS)


def test_the_exponent_is_the_greater_of_two(module: Any) -> None:
    """Of all sizes, and of the last two."""
    timing: ModuleType = module("timing")
    assert timing.exponent([1, 10, 100], [2, 20, 200]) == pytest.approx(1)
    assert timing.steep([1, 10, 100], [50, 60, 600]) == pytest.approx(1)
    assert timing.steep([1, 10, 100], [1, 100, 100]) == pytest.approx(1)


def test_a_percentile_is_a_sample(module: Any) -> None:
    """In microseconds."""
    timing: ModuleType = module("timing")
    found = timing.percentiles([1000 * number for number in range(1, 1001)])
    assert found == {"p50": 501.0, "p99": 991.0, "p99.9": 1000.0, "max": 1000.0}


def test_the_machine_is_named() -> None:
    """With versions and the load from before, also where there is no checkout."""
    program = "import json, timing; print(json.dumps(timing.machine()))"
    done = subprocess.run([sys.executable, "-c", program], cwd=BENCH, env=unmeasured(), capture_output=True, check=True)
    told = json.loads(done.stdout)
    assert told["versions"]["msgspec"]
    assert len(told["load_average"]) == 3
    assert told["file_system"]
