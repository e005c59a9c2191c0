"""Ranges of files, and how browsers are told to take them."""

import os
from pathlib import Path

import pytest

from runstream_sink.http.files import headers_of, open_below, parse_range
from runstream_sink.query import NotFoundError
from support.open_files import open_files


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("bytes=0-0", (0, 0)),
        ("bytes=2-", (2, 9)),
        ("bytes=2-99", (2, 9)),
        ("bytes=-3", (7, 9)),
        ("bytes=-99", (0, 9)),
        (" bytes=9-9 ", (9, 9)),
        ("", None),
        ("bytes=-", None),
        ("bytes=5-2", None),
        ("bytes=0-1,3-4", None),
        ("lines=0-1", None),
        ("bytes=a-b", None),
        ("bytes=٣-٤", None),
    ],
)
def test_a_range_is_the_bytes_that_it_names(header: str, found: tuple[int, int] | None) -> None:
    """Of ten; what is none, or several, is the whole file."""
    assert parse_range(header, 10) == found


@pytest.mark.parametrize(
    ("header", "size"), [("bytes=10-", 10), ("bytes=99-100", 10), ("bytes=-0", 10), ("bytes=-1", 0), ("bytes=0-", 0)]
)
def test_a_range_behind_the_end_is_none_that_can_be_given(header: str, size: int) -> None:
    """The client is told so."""
    with pytest.raises(ValueError, match=r"bytes|end"):
        parse_range(header, size)


def test_a_file_is_found_by_its_path(tmp_path: Path) -> None:
    """However deep."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c.txt").write_bytes(b"text")
    file = open_below(tmp_path, "a/b/c.txt")
    assert (os.read(file.descriptor, 9), file.size) == (b"text", 4)
    os.close(file.descriptor)


@pytest.mark.parametrize(
    "path", ["", "..", "../secret", "a/../../secret", "/etc/passwd", "link", "dir/x", "a", "none", "fifo", "a\x00b"]
)
def test_nothing_else_is(tmp_path: Path, path: str) -> None:
    """Not by a way out, not by a link, and only what is a file; no descriptor is left open."""
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "x").write_bytes(b"secret")
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "dir").symlink_to(tmp_path)
    os.mkfifo(root / "fifo")
    before = open_files(tmp_path)
    with pytest.raises(NotFoundError):
        open_below(root, path)
    assert open_files(tmp_path) == before


def test_names_that_headers_cannot_hold_are_encoded() -> None:
    """No name ends a header or begins another."""
    headers = headers_of('d/a"\r\nx: y é.txt', "text/plain")
    assert headers["content-disposition"] == "inline; filename*=UTF-8''a%22%0D%0Ax%3A%20y%20%C3%A9.txt"
    assert headers["content-type"] == "text/plain; charset=utf-8"
    assert headers_of("a", "text/plain\r\nx: y")["content-type"] == "application/octet-stream"
    assert headers_of("a", None)["content-disposition"].startswith("attachment")
