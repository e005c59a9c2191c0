"""The rules that hold for the repository as a whole: who may import whom, what a module has, what lies where."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.components import real_component

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "runstream_schemas": ROOT / "schemas" / "runstream_schemas",
    "runstream": ROOT / "producer" / "runstream",
    "runstream_sink": ROOT / "sink" / "runstream_sink",
}
MODULES = sorted(path for folder in PACKAGES.values() for path in folder.rglob("*.py"))
TOP_LEVEL = {".ci", "bench", "deploy", "docs", "examples", "producer", "requirements", "schemas", "sink", "tests"}
MAX_LINES = 400
MAX_IMPORT_SECONDS = 0.05
MAX_TRIES = 40
OPTIONAL = {"aiokafka", "matplotlib", "mlflow", "numpy", "pandas", "PIL", "plotly", "pyarrow", "rich", "structlog"}
"""Libraries that the producer may use where they are there; it never imports them while it is imported itself."""
HEAVY = OPTIONAL | {"asyncio", "sqlite3"}


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _imports(tree: ast.AST) -> Iterator[str]:
    """Top-level names of all that a module imports, in functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            yield str(node.module).partition(".")[0]


def _foreign(package: str) -> dict[str, set[str]]:
    """What each module of a package imports besides the standard library and the package itself."""
    known = sys.stdlib_module_names | {package}
    found = {
        _name(path): set(_imports(ast.parse(path.read_bytes()))) - known for path in PACKAGES[package].rglob("*.py")
    }
    return {path: names for path, names in found.items() if names}


def _excess(package: str, allowed: set[str]) -> dict[str, set[str]]:
    return {path: names - allowed for path, names in _foreign(package).items() if names - allowed}


def test_the_schemas_import_nothing_but_msgspec() -> None:
    """Data and wire rules depend on the standard library and the codec."""
    assert _excess("runstream_schemas", {"msgspec"}) == {}


def test_the_producer_imports_the_schemas_and_never_the_sink() -> None:
    """What a client program loads is thin; what it may use if it is there, is named here."""
    assert _excess("runstream", {"msgspec", "runstream_schemas"} | OPTIONAL) == {}


def test_the_sink_never_imports_the_producer() -> None:
    """Both sides know the schemas and not each other."""
    assert not [path for path, names in _foreign("runstream_sink").items() if "runstream" in names]


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_a_module_says_what_it_is_for_and_what_it_exports(path: Path) -> None:
    """Each module has a docstring and, unless it is an empty package file or a main program, `__all__`."""
    tree = ast.parse(path.read_bytes())
    assert ast.get_docstring(tree), "no docstring"
    assigned = {target.id for target in _module_targets(tree) if isinstance(target, ast.Name)}
    assert "__all__" in assigned or len(tree.body) == 1 or path.name == "__main__.py", "no __all__"


def _module_targets(tree: ast.Module) -> Iterator[ast.expr]:
    for node in tree.body:
        if isinstance(node, ast.Assign):
            yield from node.targets
        elif isinstance(node, ast.AnnAssign):
            yield node.target


def test_no_file_is_longer_than_400_lines() -> None:
    """A file that grows beyond is two files."""
    scripts = [path for folder in ("tests", "bench", "examples") for path in (ROOT / folder).rglob("*.py")]
    lengths = {_name(path): len(path.read_text("utf-8").splitlines()) for path in MODULES + scripts}
    assert {path: length for path, length in lengths.items() if length > MAX_LINES} == {}


def test_no_module_marks_unfinished_work_or_hides_lines_from_coverage() -> None:
    """What is not done is not in the code, and what is in the code is measured."""
    mark = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b|pragma:\s*no\s*(?:cover|branch)")
    assert [_name(path) for path in MODULES if mark.search(path.read_text("utf-8"))] == []


def test_only_the_known_folders_lie_at_the_top() -> None:
    """Whoever opens the repository finds a folder for each purpose, and no other."""
    folders = {path.partition("/")[0] for path in _tracked() if "/" in path}
    assert folders <= TOP_LEVEL


def test_nothing_but_the_three_packages_can_be_imported_from_their_folders() -> None:
    """The editable install puts the folders on the path: a stray module there would be importable."""
    sides = {path.partition("/")[0] for path in map(_name, PACKAGES.values())}
    found = {tuple(path.split("/")[:2]) for path in _tracked() if path.partition("/")[0] in sides}
    assert found == {tuple(_name(path).split("/")) for path in PACKAGES.values()}


def test_every_link_between_documents_leads_somewhere() -> None:
    """A relative link names a file or folder of the repository, and its fragment a heading there."""
    documents = [ROOT / path for path in _tracked() if path.endswith(".md")]
    broken = [f"{_name(path)}: {link}" for path in documents for link in _links(path) if not _resolves(path, link)]
    assert broken == []


def _tracked() -> list[str]:
    """Paths of the files that belong to the repository."""
    git = real_component("git")
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout: there is nothing to list")
    output = subprocess.run([git, "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [path for path in output.split("\0") if (ROOT / path).is_file()]


def _links(path: Path) -> list[str]:
    """Targets of a document's inline links that lead to no other site; code is passed over."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", path.read_text("utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def _resolves(document: Path, link: str) -> bool:
    target, _, fragment = link.partition("#")
    path = (document.parent / target).resolve() if target else document
    if not path.exists():
        return False
    return not fragment or fragment in _anchors(path)


def _anchors(path: Path) -> set[str]:
    """The fragments that a document's headings answer to, as web front ends of git make them."""
    headings = re.findall(r"^#+ +(.+?) *$", path.read_text("utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _fresh(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run this interpreter, with nothing measured or added by the environment."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("COV", "PYTHON"))}
    return subprocess.run([sys.executable, *arguments], env=environ, check=True, capture_output=True, text=True)


def test_importing_runstream_loads_no_heavy_module() -> None:
    """A program that logs pays for msgspec and the standard library's small modules alone."""
    loaded = _fresh("-c", "import runstream, sys; print(*sys.modules)").stdout.split()
    assert "msgspec" in loaded
    assert HEAVY.intersection(loaded) == set()


def test_importing_runstream_takes_under_50_ms() -> None:
    """Of the processor, in the best of many tries: what else runs on the machine says nothing about the import."""
    program = "import time; begin = time.process_time(); import runstream; print(time.process_time() - begin)"
    assert any(float(_fresh("-c", program).stdout) < MAX_IMPORT_SECONDS for _ in range(MAX_TRIES))
