"""The pages are true: links lead somewhere, commands and targets exist, and code blocks run as they stand."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")])
RUNSTREAM = str(Path(sys.executable).with_name("runstream"))
LINK = re.compile(r"\]\(([^)\s]+)\)")
README_PRELUDE = """\
prompts = ["one", "two"]


def ask(prompt):
    return prompt.upper(), 0.5


open("report.png", "wb").write(b"png")
"""


def name_of(page: Path) -> str:
    """Where it lies in the repository."""
    return str(page.relative_to(ROOT))


def text_of(page: Path) -> str:
    """A page without its fenced code."""
    return re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The names that its headings have in links."""
    headings = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def code(page: Path, language: str) -> list[str]:
    """The page's code blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def run(directory: Path, *command: str) -> str:
    """Run a program in a directory; what it prints."""
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def logged(directory: Path, *programs: str) -> str:
    """Run programs that log, then a sink; the id of the newest run."""
    for program in programs:
        run(directory, sys.executable, "-c", program)
    run(directory, RUNSTREAM, "sink", "--once")
    return max(path.name for path in (directory / "runstream-data/store/artifacts").iterdir())


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    """To a file of this repository, and to a heading in it, if it names one."""
    for target in LINK.findall(text_of(page)):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), target


def test_every_page_is_found_from_the_index() -> None:
    """Of the documentation, or of the decisions."""
    for index in (DOCS / "README.md", DOCS / "decisions" / "README.md"):
        linked = {(index.parent / target).resolve() for target in LINK.findall(text_of(index))}
        assert {page for page in index.parent.glob("*.md") if page != index} <= linked


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_that_a_page_names_exists(page: Path) -> None:
    """docs/cli.md, which is made from the commands, has a heading for each."""
    commands = set(re.findall(r"^## (runstream .+)$", (DOCS / "cli.md").read_text("utf-8"), re.MULTILINE))
    first_words = {tuple(command.split()[:2]) for command in commands}
    named = re.findall(r"(?:^    |`)(?:/\S+/)?(runstream [a-z].*?)(?:`|$)", text_of(page), re.MULTILINE)
    assert named or name_of(page) not in {"README.md", "docs/operations.md", "docs/cli.md"}
    for command in named:
        words = tuple(re.sub(r"[^\w -].*", "", command).split())
        assert words[:2] in first_words, command
        assert any(tuple(known.split()) in {words[:3], words[:2]} for known in commands) or len(words) == 2, command


def test_every_target_of_make_that_the_readme_names_exists() -> None:
    """With this name in the Makefile."""
    targets = set(re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)[1].split())
    named = set(re.findall(r"\bmake ([a-z-]+)", text_of(ROOT / "README.md")))
    assert named <= targets


def test_the_readmes_program_runs(tmp_path: Path) -> None:
    """With prompts and something to ask."""
    (program,) = code(ROOT / "README.md", "python")
    run_id = logged(tmp_path, README_PRELUDE + program)
    files = tmp_path / "runstream-data/store/artifacts" / run_id
    assert {path.name for path in files.iterdir()} == {"predictions.csv", "report.png"}


def test_the_program_that_comes_from_mlflow_runs(tmp_path: Path) -> None:
    """As it stands."""
    (program,) = code(DOCS / "mlflow.md", "python")
    run_id = logged(tmp_path, program)
    assert (tmp_path / "runstream-data/store/artifacts" / run_id / "answers.csv").exists()


def test_the_program_that_reads_a_journal_prints_its_events(tmp_path: Path) -> None:
    """Of a journal's directory."""
    logged(tmp_path, *code(DOCS / "mlflow.md", "python"))
    (journal,) = (tmp_path / "runstream-data/queue/journals").iterdir()
    (program,) = code(DOCS / "formats.md", "python")
    printed = run(tmp_path, sys.executable, "-c", program, str(journal)).splitlines()
    assert "ExperimentCreated(" in printed[0]
    assert "RunEnded(" in printed[-1]
