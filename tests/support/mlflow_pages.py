"""A package that looks like mlflow to whoever looks for its UI."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["PAGES", "pages_installed"]

PAGES = {
    "index.html": b"<!doctype html><title>MLflow</title>",
    "favicon.ico": b"\0\0",
    "manifest.json": b"{}",
    "static/js/main.c2f5.js": b"'use strict';" * 100,
    "static/css/main.b0f5.css": b"a { color: red }",
    "static/media/font.0a1b.woff2": b"font",
}


@contextmanager
def pages_installed(root: Path) -> Iterator[None]:
    """While this lasts, mlflow is found below an empty directory, and has `PAGES`."""
    for name, content in PAGES.items():
        path = root / "mlflow" / "server" / "js" / "build" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (root / "mlflow" / "__init__.py").write_text("raise AssertionError('it was imported')\n")
    with pytest.MonkeyPatch.context() as patching:
        patching.delitem(sys.modules, "mlflow", raising=False)
        patching.syspath_prepend(root)
        yield
