r"""Logical names to file names that every file system and shell takes, one to one.

Each component of a path is made safe for itself:

* ``< > : " | ? * \``, control characters, a last dot or space, the first character of a Windows device name, and a
  ``%`` in front of two hexadecimal digits become ``%XX``, byte by byte of UTF-8;
* a component that is then longer than `MAX_COMPONENT` bytes is cut and ends in ``~`` and 16 hexadecimal digits of the
  SHA-256 of the whole; one that merely looks like that has its ``~`` escaped.

A path that is longer than `MAX_SAFE_PATH` bytes all the same becomes one such component.
"""

import hashlib
import re
from collections.abc import Callable, Iterable
from typing import Final

__all__ = ["MAX_COMPONENT", "MAX_SAFE_PATH", "Taken", "physical", "safe_path"]

MAX_COMPONENT: Final = 200
"""Bytes; file systems take 255, and suffixes follow."""
MAX_SAFE_PATH: Final = 1200
"""Bytes of a safe path; Linux takes 4096 with the directory in front."""

_OFFENDING: Final = re.compile(r'[<>:"|?*\\/\x00-\x1f\x7f]|%(?=[0-9A-Fa-f]{2})|[. ]\Z|~(?=[0-9a-f]{16}\Z)')
_DEVICE: Final = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³]) *(?:\..*)?", re.IGNORECASE)
_CUT_ESCAPE: Final = re.compile(rb"%[0-9A-F]?\Z")
_HASH: Final = 17


def safe_path(path: str) -> str:
    """The relative path under which the logical ``path`` may lie.  Different paths give different results."""
    safe = "/".join(map(_safe_component, path.split("/")))
    if len(safe.encode()) > MAX_SAFE_PATH:
        return _cut(_escape(path), path)
    return safe


def _safe_component(component: str) -> str:
    escaped = _escape(component)
    return escaped if len(escaped.encode()) <= MAX_COMPONENT else _cut(escaped, component)


def _escape(component: str) -> str:
    escaped = _OFFENDING.sub(lambda match: _percent(match[0]), component)
    return _percent(escaped[0]) + escaped[1:] if _DEVICE.fullmatch(component) else escaped


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode())


def _cut(escaped: str, whole: str) -> str:
    head = _CUT_ESCAPE.sub(b"", escaped.encode()[: MAX_COMPONENT - _HASH])
    return f"{head.decode(errors='ignore')}~{hashlib.sha256(whole.encode()).hexdigest()[:16]}"


class Taken:
    """The files of one directory tree, such as a run's, and the directories that they need.

    Names that differ by case only count as the same: some file systems see it so.
    """

    def __init__(self, files: Iterable[str] = ()) -> None:
        self._files: set[str] = set()
        self._directories: set[str] = set()
        for file in files:
            self.add(file)

    def add(self, file: str) -> None:
        """Take a file's path, relative to the tree."""
        folded = file.casefold()
        self._files.add(folded)
        end = folded.rfind("/")
        while end > 0 and folded[:end] not in self._directories:
            self._directories.add(folded[:end])
            end = folded.rfind("/", 0, end)

    def is_file(self, path: str) -> bool:
        """Whether a file lies there."""
        return path.casefold() in self._files

    def is_used(self, path: str) -> bool:
        """Whether a file or a directory lies there."""
        return self.is_file(path) or path.casefold() in self._directories


def physical(path: str, taken: Taken) -> str:
    """Where a new file goes whose safe path is ``path``: there, or beside it (``a~2.csv``) where that is taken.

    Neither the file nor its directories ever coincide with a file that is taken, nor the file with a directory.
    """
    *directories, name = path.split("/")
    parent = ""
    for directory in directories:
        parent = f"{_free(parent, directory, taken.is_file)}/"
    return _free(parent, name, taken.is_used)


def _free(parent: str, name: str, is_taken: Callable[[str], bool]) -> str:
    candidate = f"{parent}{name}"
    dot = name.find(".", 1)
    stem, suffix = (name, "") if dot < 0 else (name[:dot], name[dot:])
    number = 1
    while is_taken(candidate):
        number += 1
        candidate = f"{parent}{stem}~{number}{suffix}"
    return candidate
