"""`tables show`, `metrics` and `sql`: histories, rows and answers for people and as JSON."""

import csv
import io
import json
import math
from typing import Any

import pytest

import runstream
from runstream_sink import query
from runstream_sink.cli.plot import plot
from support.commands import invoke, invoke_json, start
from support.pipeline import Pipeline

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def run(pipeline: Pipeline) -> str:
    """The id of a run with a history, one that is not finite, and a table."""
    with runstream.start_run("one") as started:
        for step in range(100):
            runstream.log_metric("loss", 1 / (step + 1), step=step)
        runstream.log_metric("odd", float("nan"), step=3)
        rows = {"text": ["a", "", None], "n": [1, 2**70, 3], "any": [{"k": [1]}, "x\x1b", None]}
        runstream.log_table(rows, "qa.json")
    runstream.close()
    pipeline.drain()
    return str(started.info.run_id)


def test_the_metrics_of_a_run_are_listed(pipeline: Pipeline, run: str, capsys: Capture) -> None:
    """With how many points each has, and the latest."""
    store = ("--store", pipeline.store)
    loss, odd = invoke_json(capsys, "metrics", "list", run, *store)
    assert (loss["key"], loss["points"], loss["latest"]["step"], odd["latest"]["value"]) == ("loss", 100, 99, "NaN")
    text = invoke(capsys, "metrics", "list", run, *store).out
    assert "NaN" in text
    assert invoke(capsys, "metrics", "list", "zz", *store).code == 7


def test_a_history_is_a_table_of_steps_where_there_is_no_terminal(
    pipeline: Pipeline, run: str, capsys: Capture
) -> None:
    """As many lines as are asked for at most; the end says what is the latest."""
    store = ("--store", pipeline.store)
    text = invoke(capsys, "metrics", "show", run, "loss", *store).out.splitlines()
    assert text[0].split() == ["steps", "points", "min", "max", "last"]
    assert text[1].split()[:5] == ["0", "to", "7", "8", "0.125"]
    assert text[-1] == "100 points; the latest is 0.01 at step 99"
    assert len(invoke(capsys, "metrics", "show", run, "loss", "--buckets", 4, *store).out.splitlines()) == 7
    few = invoke(capsys, "metrics", "show", run, "loss", "--from", 98, "--to", 99, *store).out.splitlines()
    assert [line.split()[0] for line in few[1:3]] == ["98", "99"]


def test_a_history_is_given_as_json(pipeline: Pipeline, run: str, capsys: Capture) -> None:
    """The buckets with their first and last points."""
    document = invoke_json(capsys, "metrics", "show", run, "loss", "--store", pipeline.store)
    assert document["metric"]["points"] == 100
    assert len(document["buckets"]) == 100
    assert document["buckets"][1]["last"] == {
        "value": 0.5,
        "step": 1,
        "timestamp": document["buckets"][1]["last"]["timestamp"],
    }


def test_a_metric_that_is_not_there_is_not_found(pipeline: Pipeline, run: str, capsys: Capture) -> None:
    """With the exit code of that."""
    result = invoke(capsys, "metrics", "show", run, "nothing", "--store", pipeline.store)
    assert result.code == 7
    assert "has no metric 'nothing'" in result.err


@pytest.mark.parametrize(("encoding", "letters"), [("utf-8", range(0x2801, 0x2900)), ("ascii", range(42, 43))])
def test_a_history_is_plotted_on_a_terminal(
    pipeline: Pipeline, run: str, monkeypatch: pytest.MonkeyPatch, encoding: str, letters: range
) -> None:
    """As wide as the terminal is, with what its encoding has."""

    class Terminal(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("LINES", "12")
    from runstream_sink.cli.app import run as command

    for more in ((), ("--buckets", "3")):
        terminal = Terminal(io.BytesIO(), encoding)
        monkeypatch.setattr("sys.stdout", terminal)
        assert command(["metrics", "show", run, "loss", "--store", str(pipeline.store), *more]) == 0
        terminal.flush()
        text = terminal.buffer.getvalue().decode(encoding)
        monkeypatch.undo()
        monkeypatch.setenv("COLUMNS", "60")
        monkeypatch.setenv("LINES", "12")
        assert any(ord(letter) in letters for letter in text)
        assert max(len(line) for line in text.splitlines() if "|" in line) <= 60
        assert ("steps" in text) == bool(more)


def _bucket(step: int, low: float | None, high: float | None, last: int | None = None) -> query.Bucket:
    first, end = query.Point(low or 0.0, step, 0), query.Point(high or 0.0, step if last is None else last, 0)
    return query.Bucket(step, step, 1, 0, low, high, first, end)


def test_a_plot_shows_where_values_lie() -> None:
    """From the least to the greatest of each bucket; numbers at the left and below."""
    rising = [_bucket(step, float(step), float(step)) for step in range(4)]
    assert plot(rising, 9, 6, braille=False) == [
        "3 |     *",
        "  |   *",
        "  | *",
        "0 |*",
        "  +------",
        "   0    3",
    ]
    column = plot([_bucket(7, -1.0, 1.0)], 10, 5, braille=False)
    assert [line[4:5] for line in column[:3]] == ["*", "*", "*"]
    assert column[-1].strip() == "7"


def test_a_plot_of_odd_values_is_drawn_all_the_same() -> None:
    """The largest and the least numbers, equal ones, none that is finite; however narrow."""
    assert plot([_bucket(0, None, None), _bucket(1, math.inf, math.inf)], 40, 8) == ["(no finite values)"]
    for low, high in ((-1.7e308, 1.7e308), (0.0, 0.0), (5e-324, 5e-324), (-0.0, 5e-324)):
        for size in ((1, 1), (200, 50)):
            lines = plot([_bucket(-(1 << 63), low, low), _bucket((1 << 63) - 1, high, high)], *size)
            assert len(lines) >= 4


def test_rows_of_a_table_are_shown(pipeline: Pipeline, run: str, capsys: Capture) -> None:
    """As their file shows them, but for what a terminal would obey; how many there are goes to standard error."""
    result = invoke(capsys, "tables", "show", run, "qa.json", "--store", pipeline.store)
    assert result.code == 0
    assert result.out.splitlines()[0].split() == ["text", "n", "any"]
    assert '{"k":[1]}' in result.out
    assert str(2**70) in result.out
    assert "\x1b" not in result.out
    assert result.err == "3 of 3 rows; the table has 3\n"


def test_rows_of_a_table_are_filtered_sorted_and_cut(pipeline: Pipeline, run: str, capsys: Capture) -> None:
    """Text, None and the empty text stay apart in JSON."""
    arguments = ("tables", "show", run, "qa", "--store", pipeline.store)
    document = invoke_json(capsys, *arguments, "--filter", "n > 1", "--order", "n DESC", "--columns", "text")
    assert document == {"columns": {"text": "text"}, "rows": [{"text": ""}, {"text": None}], "total": 3, "matched": 2}
    document = invoke_json(capsys, *arguments, "--order", "n", "--limit", 1, "--offset", 1, "--columns", "n")
    assert document["rows"] == [{"n": 3}]
    document = invoke_json(capsys, *arguments, "--search", "K", "--columns", "n", "--columns", "any")
    assert document["rows"] == [{"n": 1, "any": {"k": [1]}}]


def test_a_filter_that_is_none_is_an_error_with_its_place(pipeline: Pipeline, run: str, capsys: Capture) -> None:
    """And the exit code of bad usage; a table that is not there has its own."""
    result = invoke(capsys, "tables", "show", run, "qa", "--filter", "m > 1", "--store", pipeline.store)
    assert result.code == 2
    assert "line 1, column 1: the table has no column 'm'" in result.err
    assert invoke(capsys, "tables", "show", run, "nothing", "--store", pipeline.store).code == 7


def test_sql_is_answered(pipeline: Pipeline, run: str, capsys: Capture) -> None:
    """As a table, as JSON and as CSV."""
    chosen = "r.name, t.text, t.n, 0.5::DOUBLE AS x, 'nan'::DOUBLE AS y"
    text = f"SELECT {chosen} FROM qa t JOIN runs r USING (run_id) ORDER BY t.n"
    arguments = ("sql", text, "--store", pipeline.store)
    result = invoke(capsys, *arguments)
    assert result.code == 0, result.err
    assert result.out.splitlines()[0].split() == ["name", "text", "n", "x", "y"]
    document = invoke_json(capsys, *arguments)
    assert document["columns"] == ["name", "text", "n", "x", "y"]
    assert document["rows"][0] == ["one", "a", 1, 0.5, "NaN"]
    assert document["rows"][2][2] == str(2**70)
    rows = list(csv.reader(io.StringIO(invoke(capsys, *arguments, "--csv").out)))
    assert rows[:2] == [["name", "text", "n", "x", "y"], ["one", "a", "1", "0.5", "nan"]]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("SELECT date '2026-01-02' AS d, 1.50::DECIMAL(4, 2) AS m", ["2026-01-02", "1.50"]),
        ("SELECT [1, NULL] AS l, {'a': 1} AS s, 'x'::BLOB AS b", [[1, None], {"a": 1}, "eA=="]),
        ("SELECT MAP {1: 'a'} AS m, interval 1 day AS i", [{"1": "a"}, "P1D"]),
        ("SELECT [2::HUGEINT ** 65] AS l", [[2.0**65]]),
    ],
)
def test_what_sql_can_yield_has_a_place_in_json(
    pipeline: Pipeline, run: str, capsys: Capture, text: str, answer: Any
) -> None:
    """Dates and decimals as texts, lists and structures as such."""
    assert invoke_json(capsys, "sql", text, "--store", pipeline.store)["rows"] == [answer]


def test_sql_that_is_none_is_bad_usage(pipeline: Pipeline, run: str, capsys: Capture) -> None:
    """In words; so is a choice of two forms."""
    result = invoke(capsys, "sql", "SELEC 1", "--store", pipeline.store)
    assert result.code == 2
    assert "the SQL cannot be read" in result.err
    assert invoke(capsys, "sql", "SELECT 1", "--json", "--csv", "--store", pipeline.store).code == 2


def test_the_commands_are_found_by_their_names(pipeline: Pipeline, run: str) -> None:
    """Through `runstream`, as a process."""
    found = start("sql", "SELECT count(*) AS n FROM metrics", "--json", "--store", pipeline.store)
    assert json.loads(found.out) == {"columns": ["n"], "rows": [[101]]}
    assert start("metrics", "list", run, "--store", pipeline.store).code == 0
