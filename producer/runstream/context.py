"""Where a run comes from: the tags that MLflow sets on each run, found once in a process.

==========================  ==========================================================================
tag                         value
==========================  ==========================================================================
mlflow.user                 MLFLOW_TRACKING_USERNAME, else the login name, else ``unknown``
mlflow.source.name          the program (``sys.argv[0]``), ``<console>`` without one; a notebook's file name
mlflow.source.type          NOTEBOOK under Jupyter, else LOCAL; an environment may say JOB or PROJECT
mlflow.source.git.commit    the commit of the repository that the program's file lies in
mlflow.project.entryPoint   for projects only, whose runner hands it on in MLFLOW_RUN_CONTEXT
==========================  ==========================================================================

As in MLflow, the variable MLFLOW_RUN_CONTEXT (a JSON object of text) adds tags and overrides the others.  Git is read
from its files: no process is started and nothing is imported.  What cannot be found is left out; nothing raises.
"""

import os
import re
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

import msgspec

__all__ = ["git_commit", "run_context"]

_COMMIT: Final = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?", re.ASCII)
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
    commit = git_commit(Path(main))
    return tags | {"mlflow.source.git.commit": commit} if commit else tags


def _notebook() -> dict[str, str]:
    """Tags under Jupyter, where IPython is already loaded; a terminal's IPython is no notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None or not (type(shell).__name__ == "ZMQInteractiveShell" or hasattr(shell, "kernel")):
        return {}
    file = getattr(shell, "user_ns", {}).get("__vsc_ipynb_file__")
    file = (
        file
        or os.environ.get("__vsc_ipynb_file__")
        or os.environ.get("IPYNB_FILE")
        or os.environ.get("JPY_SESSION_NAME")
    )
    name = {"mlflow.source.name": _clean(Path(str(file)).name)} if file else {}
    return {"mlflow.source.type": "NOTEBOOK"} | name


def _environment() -> dict[str, str]:
    given = os.environ.get("MLFLOW_RUN_CONTEXT", "")
    return msgspec.json.decode(given, type=dict[str, str]) if given else {}


def _clean(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def git_commit(file: Path) -> str | None:
    """The commit that is checked out in the repository around a file or directory; None where there is none.

    Reads ``.git`` (a directory, or a file that points to one, as in worktrees and submodules), HEAD, the refs and
    packed-refs.  Reftable repositories give None.
    """
    with suppress(OSError, ValueError):
        place = file.resolve()
        for folder in (place, *place.parents):
            if os.path.lexists(folder / ".git"):
                return _head(_git_directory(folder / ".git"))
    return None


def _git_directory(entry: Path) -> Path:
    if entry.is_dir():
        return entry
    return entry.parent / _first_line(entry).removeprefix("gitdir:").strip()


def _head(git: Path) -> str | None:
    common = git / _first_line(git / "commondir") if (git / "commondir").exists() else git
    content = _first_line(git / "HEAD")
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
    with (git / "packed-refs").open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            commit, _, name = line.rstrip("\n").partition(" ")
            if name == ref:
                return commit
    return None


def _first_line(path: Path) -> str:
    with path.open(encoding="utf-8", errors="surrogateescape") as file:
        return file.readline(4096).strip()
