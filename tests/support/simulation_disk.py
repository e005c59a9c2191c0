"""A disk that forgets: a real directory, and beside it a model of what a power cut would leave of it.

Durable is what was synced: a file's bytes by ``fsync`` or ``fdatasync`` of it, a name by ``fsync`` of its directory.
All else is at a power cut the old or the new, sector by sector and name by name, as chance will have it.  The model
hooks into ``os``, so the code under test knows nothing of it.  SQLite's files are left out: it syncs by itself, in C;
what it has committed is taken for durable.

`Image` is the whole directory at one moment.  A process that is killed unwinds, in this simulation, through code that
a killed process never runs; so the image is taken at the kill, and put back when the process has unwound.
"""

import contextlib
import os
import random
import shutil
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from unittest import mock

from runstream_sink.tables.filesystem import FileSystem

__all__ = ["Disk", "Image"]

_STEPS: Final = ("pwrite", "ftruncate", "truncate", "rename", "replace", "unlink", "link", "mkdir", "rmdir")
_SYNCS: Final = ("fsync", "fdatasync")
_DATABASE: Final = "runstream.db"
_MAPPED_INDEX: Final = "-shm"

Entries = dict[str, int]
"""By name, the number of a file or directory."""


@dataclass
class Image:
    """A directory tree: entries by directory, bytes by file; both are numbered by inode."""

    root: int
    directories: dict[int, Entries] = field(default_factory=dict)
    files: dict[int, bytes] = field(default_factory=dict)


class Disk:
    """The directory ``root``; ``links`` is where it keeps what the code under test has removed."""

    def __init__(self, root: Path, links: Path, choice: random.Random) -> None:
        self.root = root
        self.step: Callable[[str], None] = lambda _: None
        """Is called before each operation that changes something; may raise."""
        self.waiting: Callable[[], None] = lambda: None
        """Is called while a sync waits for the disk."""
        self.dead = False
        """The process that acts is gone: what it still syncs does not count."""
        self._links = links
        self._choice = choice
        self._bytes: dict[int, bytes] = {}
        self._entries: dict[int, Entries] = {}
        self._own = False
        for directory in (root, links):
            directory.mkdir(parents=True)
        self.sync_everything()

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Let this disk know what happens."""
        with contextlib.ExitStack() as stack:
            for name in (*_STEPS, *_SYNCS):
                hook = self._sync_hook if name in _SYNCS else self._step_hook
                stack.enter_context(mock.patch.object(os, name, hook(name, getattr(os, name))))
            stack.enter_context(mock.patch.object(FileSystem, "sync_file_system", self._sync_file_system))
            yield

    def sync_everything(self, spared: Collection[Path] = ()) -> None:
        """Everything is durable as it is now, except what lies in directories that are ``spared``."""
        image = self.capture()
        numbers = self._numbers_in(image, spared)
        for durable, now in ((self._bytes, image.files), (self._entries, image.directories)):
            for number in (durable.keys() | now.keys()) - numbers:
                durable.pop(number, None)
            durable.update((number, found) for number, found in now.items() if number not in numbers)

    def capture(self) -> Image:
        """The tree as it is now."""
        with self._unobserved():
            image = Image(self.root.stat().st_ino)
            self._capture(self.root, image.root, image)
        return image

    def restore(self, image: Image) -> None:
        """Make the tree what it was."""
        with self._unobserved():
            moved: dict[int, int] = {}
            self._restore(self.root, image.root, image, moved)
        self._entries = {
            moved.get(number, number): {name: moved.get(one, one) for name, one in entries.items()}
            for number, entries in self._entries.items()
        }

    def numbers(self, image: Image, end: str) -> list[int]:
        """The files of an image whose names end with ``end``."""
        entries = [entry for found in image.directories.values() for entry in found.items()]
        return sorted(number for name, number in entries if name.endswith(end))

    def rot(self, path: Path, offset: int, bit: int) -> None:
        """Flip a bit of a file, for ever."""
        with self._unobserved(), path.open("r+b", buffering=0) as file:
            number = os.fstat(file.fileno()).st_ino
            (value,) = os.pread(file.fileno(), 1, offset)
            os.pwrite(file.fileno(), bytes([value ^ (1 << bit)]), offset)
        durable = self._bytes.get(number, b"")
        if offset < len(durable):
            self._bytes[number] = durable[:offset] + bytes([durable[offset] ^ (1 << bit)]) + durable[offset + 1 :]

    def after_power_cut(self, image: Image, spared: Collection[Path] = ()) -> Image:
        """What is left of an image: everything that is durable, and of the rest what chance wrote in time.

        Directories of the root that are ``spared`` are another machine's.
        """
        share = self._choice.choice([0.0, 0.5, 0.5, 1.0])
        unit = self._choice.choice([512, 4096])
        left = Image(image.root)
        if spared:  # then the root is none of a machine's directories, but what they are mounted at
            self._entries[image.root] = dict(image.directories[image.root])
        self._weather(image.root, image, left, share)
        for number in sorted({one for entries in left.directories.values() for one in entries.values()}):
            if number not in left.directories:
                left.files[number] = self._torn(number, self._content(number, image), share, unit)
        self._keep_databases(image, left)
        for number in self._numbers_in(image, spared):
            for kept, before in ((left.files, image.files), (left.directories, image.directories)):
                if number in before:
                    kept[number] = before[number]
        return left

    def _numbers_in(self, image: Image, directories: Collection[Path]) -> set[int]:
        """What lies in these directories of an image's root, in the image or durably."""
        found = [image.directories[image.root][path.name] for path in directories if path.exists()]
        numbers: set[int] = set()
        while found:
            number = found.pop()
            if number not in numbers:
                numbers.add(number)
                found += image.directories.get(number, {}).values()
                found += self._entries.get(number, {}).values()
        return numbers

    def _weather(self, number: int, image: Image, left: Image, share: float) -> None:
        now, durable = image.directories.get(number, {}), self._entries.get(number, {})
        took_place: dict[str, bool] = {}
        for name in sorted({*now, *durable}):
            if now.get(name) != durable.get(name) and name not in took_place:
                happened = self._choice.random() < share
                for same in self._renamed_with(name, now, durable):
                    took_place[same] = happened
        chosen = {name: (now if took_place.get(name, True) else durable).get(name) for name in {*now, *durable}}
        left.directories[number] = {name: one for name, one in sorted(chosen.items()) if one is not None}
        for one in left.directories[number].values():
            if one in image.directories or one in self._entries:
                self._weather(one, image, left, share)

    def _renamed_with(self, name: str, now: Entries, durable: Entries) -> set[str]:
        """Names that changed with this one: a rename takes place as a whole or not at all."""
        numbers = {now.get(name), durable.get(name)} - {None}
        return {name, *(other for other in {*now, *durable} if {now.get(other), durable.get(other)} & numbers)}

    def _content(self, number: int, image: Image) -> bytes:
        """A file's bytes; where its removal is undone, those that it had when it was removed."""
        found = image.files.get(number)
        if found is None:
            with self._unobserved():
                found = (self._links / str(number)).read_bytes()
        return found

    def _torn(self, number: int, now: bytes, share: float, unit: int) -> bytes:
        durable = self._bytes.get(number, b"")
        if now == durable:
            return now
        size = len(now) if self._choice.random() < share else len(durable)
        pieces = []
        for at in range(0, size, unit):
            old, new = durable[at : at + unit].ljust(unit, b"\0"), now[at : at + unit].ljust(unit, b"\0")
            pieces.append(new if old == new or self._choice.random() < share else old)
        return b"".join(pieces)[:size]

    def _keep_databases(self, image: Image, left: Image) -> None:
        """Where a database's name is left, so are its bytes and its log: SQLite has seen to that."""
        for number, entries in left.directories.items():
            now = image.directories.get(number, {})
            of_database = {name: one for name, one in now.items() if name.startswith(_DATABASE)}
            there = _DATABASE in entries
            for name in [name for name in entries if name.startswith(_DATABASE)]:
                del entries[name]
            if there:
                entries.update({name: one for name, one in of_database.items() if not name.endswith(".new")})
            for one in entries.values():
                if one in of_database.values():
                    left.files[one] = image.files[one]

    def _capture(self, path: Path, number: int, image: Image) -> None:
        entries = image.directories[number] = {}
        with os.scandir(path) as found:
            for entry in sorted(found, key=lambda entry: entry.name):
                if entry.name.endswith(_MAPPED_INDEX):
                    continue
                entries[entry.name] = inode = entry.inode()
                if entry.is_dir(follow_symlinks=False):
                    self._capture(Path(entry.path), inode, image)
                else:
                    image.files[inode] = Path(entry.path).read_bytes()
                    self._remember(Path(entry.path), inode)

    def _restore(self, path: Path, number: int, image: Image, moved: dict[int, int]) -> None:
        wanted = image.directories[number]
        with os.scandir(path) as found:
            present = {entry.name: (entry.inode(), entry.is_dir(follow_symlinks=False)) for entry in found}
        for name, (inode, is_directory) in present.items():
            if wanted.get(name) != inode and not name.endswith(_MAPPED_INDEX):  # which SQLite makes anew, if need be
                shutil.rmtree(path / name) if is_directory else (path / name).unlink()
        for name, inode in wanted.items():
            if inode in image.directories:
                (path / name).mkdir(exist_ok=True)
                moved[inode] = (path / name).stat().st_ino
                self._restore(path / name, inode, image, moved)
            else:
                self._restore_file(path / name, inode, image.files[inode])

    def _restore_file(self, path: Path, inode: int, content: bytes) -> None:
        if not path.exists():
            os.link(self._links / str(inode), path)
        if path.read_bytes() != content:
            with path.open("r+b", buffering=0) as file:
                os.ftruncate(file.fileno(), len(content))
                os.pwrite(file.fileno(), content, 0)

    def _remember(self, path: Path, inode: int) -> None:
        """Keep a file whose name may yet come back; its inode is then not used again."""
        with contextlib.suppress(FileExistsError):
            os.link(path, self._links / str(inode))

    def _sync(self, descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        number = os.fstat(descriptor).st_ino
        if not path.is_relative_to(self.root):
            return
        if path.is_dir():
            image = Image(number)
            self._capture_names(path, number, image)
            self._entries[number] = image.directories[number]
        else:
            self._bytes[number] = Path(f"/proc/self/fd/{descriptor}").read_bytes()

    def _capture_names(self, path: Path, number: int, image: Image) -> None:
        entries = image.directories[number] = {}
        with os.scandir(path) as found:
            for entry in found:
                if not entry.name.endswith(_MAPPED_INDEX):
                    entries[entry.name] = entry.inode()
                    if entry.is_file(follow_symlinks=False):
                        self._remember(Path(entry.path), entry.inode())
                    elif entry.is_dir(follow_symlinks=False):
                        self._entries.setdefault(entry.inode(), {})

    def _sync_file_system(self, _: int) -> None:
        if self._own or self.dead:
            return
        self.step("syncfs")
        self.sync_everything()

    def _step_hook(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def hooked(*arguments: Any, **options: Any) -> Any:
            if not self._own and not self.dead:
                self.step(name)
            return real(*arguments, **options)

        return hooked

    def _sync_hook(self, name: str, _: Callable[..., Any]) -> Callable[..., Any]:
        def hooked(descriptor: int) -> None:
            if self._own or self.dead:
                return
            self.step(name)
            with self._unobserved():
                self._sync(descriptor)  # what comes while it waits may miss it
            self.waiting()

        return hooked

    @contextlib.contextmanager
    def _unobserved(self) -> Iterator[None]:
        before, self._own = self._own, True
        try:
            yield
        finally:
            self._own = before
