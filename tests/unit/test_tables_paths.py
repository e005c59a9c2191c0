"""Logical paths become safe file names, one to one."""

import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runstream_sink.paths import MAX_COMPONENT, Taken, physical, safe_path
from runstream_sink.tables.parts import part_file

names = st.text(st.sampled_from("aA%~:.25eE /") | st.characters(codec="utf-8"), min_size=1, max_size=400)
DEVICES = ["con", "CON.txt", "nul", "NUL .x.y", "com1", "LPT9.csv", "COM¹", "CONIN$"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a/b.txt", "a/b.txt"),
        ("Grüße & co (1)/模型.csv", "Grüße & co (1)/模型.csv"),
        ("a:b", "a%3Ab"),
        ("a.", "a%2E"),
        ("a /b", "a%20/b"),
        ("100%", "100%"),
        ("100%25", "100%2525"),
        ("%zz", "%zz"),
        ("con/x", "%63on/x"),
        ("console", "console"),
        ("a~0123456789abcdef", "a%7E0123456789abcdef"),
        ("~a", "~a"),
        ("..", ".%2E"),
        (".env", ".env"),
        ("x" * 201, "x" * 183 + "~" + "84a0678c90937f5d"),
    ],
)
def test_a_path_has_this_safe_form(path: str, expected: str) -> None:
    """The mapping is pinned, since stores with such files exist."""
    assert safe_path(path) == expected


@given(names, names)
@example("a%3A", "a:")
@example("x" * 300, "x" * 301)
@example("x" * 300, safe_path("x" * 300))
@example("/".join("ü" * 90 for _ in range(10)), safe_path("/".join("ü" * 90 for _ in range(10))))
@example("con", "%63on")
def test_different_paths_stay_different(first: str, second: str) -> None:
    """Also where one is the safe form of the other."""
    assert (safe_path(first) == safe_path(second)) == (first == second)


@given(names | st.sampled_from(DEVICES))
def test_a_safe_path_can_be_made_on_every_system(path: str) -> None:
    """No forbidden character, device name, last dot or space, and no component that is too long."""
    safe = safe_path(path)
    assert len(safe.encode()) <= 1200
    for component in safe.split("/"):
        assert len(component.encode()) <= MAX_COMPONENT
        assert not re.search(r'[<>:"|?*\\\x00-\x1f]|[. ]\Z', component)
        assert not re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d) *(\..*)?", component)


@pytest.mark.parametrize("path", ["😀" * 1000, "/".join(["😀" * 49] * 20), "/".join("::::" * 249), "?" * 1000])
def test_the_longest_paths_fit(path: str, tmp_path: Path) -> None:
    """A file of every accepted path can be made."""
    file = tmp_path / part_file(path[:1000].rstrip("/"), 2)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()


@pytest.mark.parametrize(
    ("taken", "path", "expected"),
    [
        ([], "a.csv", "a.csv"),
        (["a.csv"], "a.csv", "a~2.csv"),
        (["a.csv", "a~2.csv"], "a.csv", "a~3.csv"),
        (["A.CSV"], "a.csv", "a~2.csv"),
        (["a.part-0002.csv"], "a.part-0002.csv", "a~2.part-0002.csv"),
        (["a.csv/b"], "a.csv", "a~2.csv"),
        (["a.csv"], "a.csv/b", "a~2.csv/b"),
        (["a.csv/b"], "a.csv/b", "a.csv/b~2"),
        (["a.csv/b/c"], "a.csv/d", "a.csv/d"),
        (["x/a.csv"], "x/a.csv/b/c", "x/a~2.csv/b/c"),
        ([".env"], ".env", ".env~2"),
    ],
)
def test_a_taken_name_is_avoided(taken: list[str], path: str, expected: str) -> None:
    """No file takes another's name, or that of a directory; no directory that of a file."""
    assert physical(path, Taken(taken)) == expected


components = st.sampled_from(["a", "A", "a.csv", "a~2.csv", "b"])


@given(st.lists(st.lists(components, min_size=1, max_size=3).map("/".join), max_size=20))
def test_all_files_of_a_run_can_exist_at_once(paths: list[str]) -> None:
    """Whatever is asked for, in whatever order."""
    taken = Taken()
    files = []
    for path in paths:
        files.append(physical(path, taken).casefold())
        taken.add(files[-1])
    assert len(set(files)) == len(files)
    assert not any(other.startswith(f"{file}/") for file in files for other in files)
