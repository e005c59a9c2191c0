"""Where a run comes from: the tags that MLflow sets on each run, found once in a process.

==========================  ==========================================================================
tag                         value
==========================  ==========================================================================
mlflow.user                 MLFLOW_TRACKING_USERNAME, else the login name, else ``unknown``
mlflow.source.name          the program (``sys.argv[0]``), ``<console>`` without one; a notebook's file name
mlflow.source.type          NOTEBOOK under Jupyter, else LOCAL; an environment may say JOB or PROJECT
mlflow.source.git.commit    the commit that is checked out in the repository that the program lies in
mlflow.source.git.branch    its branch, unless HEAD is detached
mlflow.source.git.repoURL   the address of its first remote, without a user name or password
mlflow.project.entryPoint   for projects only, whose runner hands it on in MLFLOW_RUN_CONTEXT
==========================  ==========================================================================

As in MLflow, the variable MLFLOW_RUN_CONTEXT (a JSON object of text) adds tags and overrides the others.  Git is read
from its files: no process is started and nothing is imported.  What cannot be found is left out; nothing raises.
"""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

import msgspec

__all__ = ["git_facts", "run_context"]

_COMMIT: Final = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?", re.ASCII)
_CREDENTIALS: Final = re.compile(r"^([a-z][a-z0-9+.-]*://)[^/]*@", re.IGNORECASE)
_MAX_SYMBOLIC: Final = 5
_NOTEBOOK_VARIABLES: Final = ("__vsc_ipynb_file__", "IPYNB_FILE", "JPY_SESSION_NAME")
"""Set by VS Code, for MLflow, and by Jupyter."""


def run_context() -> dict[str, str]:
    """The tags, in a dict of the caller's own."""
    return dict(_tags())


@cache
def _tags() -> dict[str, str]:
    tags: dict[str, str] = {"mlflow.user": "unknown", "mlflow.source.name": "<console>", "mlflow.source.type": "LOCAL"}
    for find in (_user, _program, _notebook, _environment):
        with suppress(Exception):  # a tag that cannot be found must not stop a run
            tags.update(find())
    return tags


def _user() -> dict[str, str]:
    name = os.environ.get("MLFLOW_TRACKING_USERNAME")
    if not name:
        import getpass

        name = getpass.getuser()
    return {"mlflow.user": _clean(name)}


def _program() -> dict[str, str]:
    main = sys.argv[0] if sys.argv else ""
    if not main:
        return {}
    tags = {"mlflow.source.name": _clean(main)}
    return tags | {f"mlflow.source.git.{name}": _clean(value) for name, value in git_facts(Path(main)).items()}


def _notebook() -> dict[str, str]:
    """Tags under Jupyter, where IPython is already loaded; a terminal's IPython is no notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None or not (type(shell).__name__ == "ZMQInteractiveShell" or hasattr(shell, "kernel")):
        return {}
    file = getattr(shell, "user_ns", {}).get("__vsc_ipynb_file__")
    for variable in _NOTEBOOK_VARIABLES:
        file = file or os.environ.get(variable)
    name = {"mlflow.source.name": _clean(Path(str(file)).name)} if file else {}
    return {"mlflow.source.type": "NOTEBOOK"} | name


def _environment() -> dict[str, str]:
    given = os.environ.get("MLFLOW_RUN_CONTEXT", "")
    return msgspec.json.decode(given, type=dict[str, str]) if given else {}


def _clean(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def git_facts(file: Path) -> dict[str, str]:
    """``commit``, ``branch`` and ``repoURL`` of the repository around a file or directory, as far as they are known.

    Reads ``.git`` (a directory, or a file that points to one, as in worktrees and submodules), HEAD, the refs,
    packed-refs and config.  Without a commit there is nothing, as in a new repository or one that keeps reftables.
    """
    with suppress(OSError, ValueError):
        place = file.resolve()
        for folder in (place, *place.parents):
            if os.path.lexists(folder / ".git"):
                return _facts(_git_directory(folder / ".git"))
    return {}


def _git_directory(entry: Path) -> Path:
    if entry.is_dir():
        return entry
    return entry.parent / _first_line(entry).removeprefix("gitdir:").strip()


def _facts(git: Path) -> dict[str, str]:
    common = git / _first_line(git / "commondir") if (git / "commondir").exists() else git
    head = _first_line(git / "HEAD")
    commit = _commit(git, common, head)
    if commit is None:
        return {}
    branch = head.removeprefix("ref:").strip().removeprefix("refs/heads/") if head.startswith("ref:") else None
    found = {"commit": commit, "branch": branch, "repoURL": _remote(common / "config")}
    return {name: value for name, value in found.items() if value}


def _commit(git: Path, common: Path, content: str) -> str | None:
    for _ in range(_MAX_SYMBOLIC):
        if not content.startswith("ref:"):
            break
        ref = content.removeprefix("ref:").strip()
        content = _loose(git, ref) or _loose(common, ref) or _packed(common, ref) or ""
    return content if _COMMIT.fullmatch(content) else None


def _loose(git: Path, ref: str) -> str | None:
    try:
        return _first_line(git / ref)
    except OSError:
        return None


def _packed(git: Path, ref: str) -> str | None:
    for line in _lines(git / "packed-refs"):
        commit, _, name = line.partition(" ")
        if name == ref:
            return commit
    return None


def _remote(config: Path) -> str | None:
    """The address of the first remote in git's configuration, without credentials."""
    in_remote = False
    for line in _lines(config):
        key, _, value = line.partition("=")
        if line.startswith("["):
            in_remote = line.startswith('[remote "')
        elif in_remote and key.strip() == "url":
            return _CREDENTIALS.sub(r"\1", value.strip())
    return None


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            yield from (line.strip() for line in file)
    except OSError:
        return


def _first_line(path: Path) -> str:
    with path.open(encoding="utf-8", errors="surrogateescape") as file:
        return file.readline(4096).strip()
