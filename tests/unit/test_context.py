"""Where a run comes from: user, program, notebook and git, found without starting a process."""

import json
import os
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from runstream import context, run_names
from runstream.context import git_facts, run_context

IDENTITY = {"GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@b"}


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test looks anew, without the variables of whoever runs it."""
    for variable in ("MLFLOW_RUN_CONTEXT", "MLFLOW_TRACKING_USERNAME", "IPYNB_FILE", "JPY_SESSION_NAME"):
        monkeypatch.delenv(variable, raising=False)
    context._tags.cache_clear()
    yield
    context._tags.cache_clear()


def git(folder: Path, *arguments: str) -> str:
    """What real git prints."""
    environment = {**os.environ, **IDENTITY, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one commit on the branch ``topic/one`` and a program in a folder."""
    folder = tmp_path / "repo"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "main.py").write_text("")
    git(folder, "init", "-q", "-b", "topic/one")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "one")
    return folder


def test_the_commit_and_branch_are_those_of_the_program(repository: Path) -> None:
    """Found from the file, its folder, and through a link."""
    expected = {"commit": git(repository, "rev-parse", "HEAD"), "branch": "topic/one"}
    (repository.parent / "link.py").symlink_to(repository / "src" / "main.py")
    for place in (repository / "src" / "main.py", repository / "src", repository, repository.parent / "link.py"):
        assert git_facts(place) == expected


def test_packed_refs_are_read(repository: Path) -> None:
    """After ``git pack-refs`` there is no file for the branch."""
    git(repository, "tag", "-a", "v1", "-m", "v1")
    git(repository, "pack-refs", "--all")
    assert not (repository / ".git" / "refs" / "heads" / "topic" / "one").exists()
    assert git_facts(repository)["commit"] == git(repository, "rev-parse", "HEAD")


def test_a_detached_head_has_no_branch(repository: Path) -> None:
    """The commit alone is known."""
    git(repository, "checkout", "-q", "--detach")
    assert git_facts(repository) == {"commit": git(repository, "rev-parse", "HEAD")}


def test_a_worktree_has_a_head_of_its_own(repository: Path, tmp_path: Path) -> None:
    """Its ``.git`` is a file; its refs are shared with the repository."""
    git(repository, "worktree", "add", "-q", "-b", "other", str(tmp_path / "tree"))
    git(tmp_path / "tree", "commit", "-q", "--allow-empty", "-m", "two")
    expected = {"commit": git(tmp_path / "tree", "rev-parse", "HEAD"), "branch": "other"}
    assert git_facts(tmp_path / "tree" / "src" / "main.py") == expected
    assert expected["commit"] != git_facts(repository)["commit"]


def test_a_submodule_is_a_repository_of_its_own(repository: Path, tmp_path: Path) -> None:
    """Its ``.git`` points into the outer repository by a relative path."""
    outer = tmp_path / "outer"
    outer.mkdir()
    git(outer, "init", "-q")
    git(outer, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(repository), "inner")
    assert git_facts(outer / "inner")["commit"] == git(repository, "rev-parse", "HEAD")
    assert git_facts(outer / "inner")["repoURL"] == str(repository)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://user:secret@example.org/a/b.git", "https://example.org/a/b.git"),
        ("https://example.org/a@b.git", "https://example.org/a@b.git"),
        ("git@example.org:a/b.git", "git@example.org:a/b.git"),
    ],
)
def test_the_first_remote_is_named_without_credentials(repository: Path, address: str, expected: str) -> None:
    """What stands before the host in an address may be a token."""
    git(repository, "remote", "add", "origin", address)
    git(repository, "remote", "add", "second", "https://example.org/second")
    assert git_facts(repository)["repoURL"] == expected


def test_without_a_commit_nothing_is_said(tmp_path: Path, repository: Path) -> None:
    """No repository, a new one, a broken one, and refs that name each other."""
    assert git_facts(tmp_path) == {}
    assert git_facts(tmp_path / "missing" / "main.py") == {}
    assert git_facts(Path("a\0b")) == {}
    git(repository, "checkout", "-q", "--orphan", "new")
    assert git_facts(repository) == {}
    (repository / ".git" / "HEAD").write_text("ref: HEAD\n")
    assert git_facts(repository) == {}
    (repository / ".git" / "HEAD").unlink()
    assert git_facts(repository) == {}


def test_a_program_has_user_name_type_and_git(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tags that MLflow sets for a script."""
    monkeypatch.setattr(sys, "argv", [str(repository / "src" / "main.py"), "--flag"])
    monkeypatch.setenv("LOGNAME", "someone\udcff")
    assert run_context() == {
        "mlflow.user": "someone\\udcff",
        "mlflow.source.name": str(repository / "src" / "main.py"),
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": git(repository, "rev-parse", "HEAD"),
        "mlflow.source.git.branch": "topic/one",
    }


def test_tags_are_found_once_and_given_as_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the caller does with the dict changes nothing for the next one."""
    first = run_context()
    first["mlflow.user"] = "changed"
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "later")
    assert run_context()["mlflow.user"] not in {"changed", "later"}


def test_a_console_has_no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in ``python`` without arguments; the user name that MLflow would send is taken."""
    monkeypatch.setattr(sys, "argv", [""])
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "tracked")
    assert run_context() == {
        "mlflow.user": "tracked",
        "mlflow.source.name": "<console>",
        "mlflow.source.type": "LOCAL",
    }
    context._tags.cache_clear()
    monkeypatch.setattr(sys, "argv", [])
    assert run_context()["mlflow.source.name"] == "<console>"


def test_a_user_without_a_name_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's user id may be in no password file."""
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)
    assert run_context()["mlflow.user"] == "unknown"


def _ipython(shell: Any) -> types.ModuleType:
    module = types.ModuleType("IPython")
    module.get_ipython = lambda: shell  # type: ignore[attr-defined]
    return module


def test_a_notebook_is_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under Jupyter's kernel, with the name that the editor or the server tells."""
    shell = type("ZMQInteractiveShell", (), {"user_ns": {"__vsc_ipynb_file__": "/home/a/one.ipynb"}})()
    monkeypatch.setitem(sys.modules, "IPython", _ipython(shell))
    assert run_context()["mlflow.source.type"] == "NOTEBOOK"
    assert run_context()["mlflow.source.name"] == "one.ipynb"
    context._tags.cache_clear()
    shell.user_ns = {}
    monkeypatch.setenv("JPY_SESSION_NAME", "work/two.ipynb")
    assert run_context()["mlflow.source.name"] == "two.ipynb"
    context._tags.cache_clear()
    monkeypatch.delenv("JPY_SESSION_NAME")
    assert (run_context()["mlflow.source.type"], run_context()["mlflow.source.name"]) == ("NOTEBOOK", sys.argv[0])


def test_a_terminal_is_no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """IPython in a terminal, or imported without a shell."""
    for shell in (types.SimpleNamespace(), None):
        monkeypatch.setitem(sys.modules, "IPython", _ipython(shell))
        context._tags.cache_clear()
        assert run_context()["mlflow.source.type"] == "LOCAL"


def test_the_environment_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job's or project's runner says what it is."""
    given = {"mlflow.source.type": "PROJECT", "mlflow.project.entryPoint": "train"}
    monkeypatch.setenv("MLFLOW_RUN_CONTEXT", json.dumps(given))
    assert given.items() <= run_context().items()


@pytest.mark.parametrize("text", ["{", "[1]", '{"a": 1}'])
def test_a_bad_environment_is_ignored(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """A tag that cannot be read must not stop a run."""
    monkeypatch.setenv("MLFLOW_RUN_CONTEXT", text)
    assert run_context()["mlflow.source.type"] == "LOCAL"


def test_names_are_readable_and_many() -> None:
    """Two words and a number, from the generator that is passed in."""
    names = [run_names.generate(Random(seed)) for seed in range(300)]
    assert all(re.fullmatch(r"[a-z]+-[a-z]+-\d{1,3}", name) for name in names)
    assert len(set(names)) > 290
    assert names[7] == run_names.generate(Random(7))


def test_names_leave_the_programs_own_random_numbers_alone() -> None:
    """A seeded training run is reproducible."""
    import random

    state = random.getstate()
    run_names.generate(Random(1))
    assert random.getstate() == state


def test_words_are_distinct() -> None:
    """About a hundred of each kind."""
    for words in (run_names._ADJECTIVES, run_names._ANIMALS):
        assert len(words) == len(set(words)) >= 100
