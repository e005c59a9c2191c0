"""The script `runstream`: finds commands, suggests, says what is missing."""

import runpy
import sys
from pathlib import Path

import pytest

from runstream import cli
from runstream_sink.cli import SUMMARIES
from support.commands import start


def _plugin(directory: Path, monkeypatch: pytest.MonkeyPatch, code: str, *commands: str) -> None:
    """A distribution that brings commands, found as an installed one is."""
    information = directory / "plugin-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1\n")
    lines = "\n".join(f"{command} = plugin_module:main" for command in commands)
    (information / "entry_points.txt").write_text(f"[{cli.GROUP}]\n{lines}\n")
    (directory / "plugin_module.py").write_text(code)
    monkeypatch.syspath_prepend(str(directory))
    monkeypatch.delitem(sys.modules, "plugin_module", raising=False)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_without_a_command_all_are_listed_with_a_line_each(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever types `runstream` learns what there is."""
    assert cli.main(arguments) == 0
    listing = capsys.readouterr().out
    for command, summary in SUMMARIES.items():
        assert f"{command} " in listing
        assert summary in listing


def test_the_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` prints one line."""
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("runstream ")


def test_an_unknown_command_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    """The nearest command is named, and the exit code is that of a wrong command line."""
    assert cli.main(["repaly"]) == 2
    assert "did you mean `runstream replay`?" in capsys.readouterr().err


def test_a_command_that_resembles_nothing_gets_the_way_to_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    """No suggestion is better than a wrong one."""
    assert cli.main(["xyzzy"]) == 2
    assert "see `runstream --help`" in capsys.readouterr().err


def test_an_unknown_option_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """An option before the command is none of ours."""
    assert cli.main(["--nonsense"]) == 2
    assert "unknown option --nonsense" in capsys.readouterr().err


def test_the_arguments_and_the_exit_code_pass_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A command of another distribution is called with its name first; without summaries its line is empty."""
    _plugin(tmp_path, monkeypatch, "def main(arguments):\n    print(arguments)\n    return 42\n", "frobnicate")
    assert cli.main(["frobnicate", "--fast", "x"]) == 42
    assert capsys.readouterr().out == "['frobnicate', '--fast', 'x']\n"
    assert cli.main([]) == 0
    assert "frobnicate" in capsys.readouterr().out


def test_a_command_whose_library_is_missing_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A thin installation answers with the extra's name, in the list too."""
    _plugin(tmp_path, monkeypatch, "import no_such_library_at_all\n", "frobnicate")
    assert cli.main(["frobnicate"]) == 3
    error = capsys.readouterr().err
    assert "no_such_library_at_all" in error
    assert "pip install 'runstream[sink]'" in error
    assert cli.main([]) == 0
    assert "needs no_such_library_at_all" in capsys.readouterr().out


def test_a_library_that_is_missing_at_a_call_is_named_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Commands import what they need when they are called."""
    _plugin(tmp_path, monkeypatch, "def main(arguments):\n    import no_such_library_at_all\n", "frobnicate")
    assert cli.main(["frobnicate"]) == 3
    assert "pip install" in capsys.readouterr().err


def test_an_interrupt_while_a_command_is_loaded_ends_quietly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Impatience is no reason for a traceback."""
    _plugin(tmp_path, monkeypatch, "raise KeyboardInterrupt\n", "frobnicate")
    assert cli.main(["frobnicate"]) == 130


def test_a_mistake_in_an_import_of_ours_is_not_called_a_missing_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Installing something would not help."""
    _plugin(tmp_path, monkeypatch, "from runstream_schemas import no_such_name\n", "frobnicate")
    with pytest.raises(ImportError, match="no_such_name"):
        cli.main(["frobnicate"])


def test_where_no_command_is_installed_the_list_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An installation without metadata still answers."""
    monkeypatch.setattr(cli, "GROUP", "runstream.no_such_group")
    assert cli.main([]) == 0
    assert "pip install 'runstream[sink]'" in capsys.readouterr().out


def test_the_sink_without_typer_says_what_to_install(tmp_path: Path) -> None:
    """The real commands, in a process where typer cannot be imported."""
    (tmp_path / "typer.py").write_text("raise ModuleNotFoundError('no typer here', name='typer')\n")
    result = start("sink", PYTHONPATH=str(tmp_path))
    assert (result.code, result.out) == (3, "")
    assert "pip install 'runstream[sink]'" in result.err
    assert "Traceback" not in result.err


def test_the_module_runs_as_a_program() -> None:
    """`python -m runstream.cli` and `python -m runstream_sink.cli` are the script without the script."""
    result = start("--version")
    assert (result.code, result.err) == (0, "")
    assert start("config", module="runstream_sink.cli").out == start("config").out


def test_the_program_ends_with_the_code_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `main` returns becomes the process's exit code."""
    monkeypatch.setattr(sys, "argv", ["runstream", "no-such-command"])
    with pytest.raises(SystemExit) as ended, pytest.warns(RuntimeWarning, match="runstream.cli"):
        runpy.run_module("runstream.cli", run_name="__main__")
    assert ended.value.code == 2
