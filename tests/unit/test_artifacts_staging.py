"""Staging: files are kept as they were at the call, under the name of their content."""

import hashlib
import multiprocessing
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from runstream.artifacts import Staged, Staging, media_type_of, walk
from runstream_schemas.errors import EnvironmentUnavailableError, InvalidInputError


@pytest.fixture
def staging(tmp_path: Path) -> Staging:
    """A staging directory that does not exist yet."""
    return Staging(tmp_path / "queue" / "staging")


def sha256(data: bytes) -> str:
    """Hexadecimal digits of the hash."""
    return hashlib.sha256(data).hexdigest()


def leftovers(staging: Staging) -> list[Path]:
    """Unfinished files."""
    return list((staging.root / "tmp").iterdir()) if (staging.root / "tmp").exists() else []


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (5 << 20) + 3])
@pytest.mark.parametrize("sync", [False, True])
def test_a_file_is_kept_under_the_name_of_its_content(tmp_path: Path, size: int, sync: bool) -> None:
    """Read-only, whole, and independent of the file from then on."""
    staging = Staging(tmp_path / "staging", sync=sync)
    data = os.urandom(size)
    file = tmp_path / "model.bin"
    file.write_bytes(data)
    staged = staging.add_file(file)
    file.write_bytes(b"overwritten")
    file.unlink()
    assert staged == Staged(sha256(data), size)
    path = staging.path_of(staged.sha256)
    assert path == staging.root / staged.sha256[:2] / staged.sha256
    assert path.read_bytes() == data
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert path.stat().st_nlink == 1
    assert leftovers(staging) == []


def test_bytes_are_staged_like_files(staging: Staging, tmp_path: Path) -> None:
    """The same content from a file is the same one."""
    staged = staging.add_bytes(b"content")
    (tmp_path / "file").write_bytes(b"content")
    assert staging.add_file(tmp_path / "file") == staged == Staged(sha256(b"content"), 7)
    assert staging.path_of(staged.sha256).read_bytes() == b"content"


def test_known_content_is_only_touched(staging: Staging) -> None:
    """Who removes old content sees that it is wanted again; the file itself stays."""
    path = staging.path_of(staging.add_bytes(b"again").sha256)
    os.utime(path, (1, 1))
    before = path.stat()
    staging.add_bytes(b"again")
    assert path.stat().st_ino == before.st_ino
    assert path.stat().st_mtime > 1
    assert leftovers(staging) == []


def test_content_that_a_crash_cut_is_replaced(staging: Staging) -> None:
    """A file of another size under the name of the content cannot be it."""
    path = staging.path_of(staging.add_bytes(b"whole").sha256)
    path.chmod(0o644)
    path.write_bytes(b"")
    staging.add_bytes(b"whole")
    assert path.read_bytes() == b"whole"
    assert leftovers(staging) == []


def test_a_link_is_followed(staging: Staging, tmp_path: Path) -> None:
    """What is logged is the file behind it."""
    (tmp_path / "file").write_bytes(b"data")
    (tmp_path / "link").symlink_to("file")
    assert staging.add_file(tmp_path / "link").sha256 == sha256(b"data")


def test_a_file_that_changes_meanwhile_agrees_with_its_hash(staging: Staging, tmp_path: Path) -> None:
    """Whatever was read is what the name says."""
    file = tmp_path / "file"
    file.write_bytes(bytes(8 << 20))
    stop = threading.Event()

    def change() -> None:
        with file.open("r+b") as target:
            while not stop.is_set():
                target.seek(int.from_bytes(os.urandom(3), "big") % (8 << 20))
                target.write(b"x" * 5000)
                target.flush()

    thread = threading.Thread(target=change)
    thread.start()
    try:
        all_staged = [staging.add_file(file) for _ in range(5)]
    finally:
        stop.set()
        thread.join()
    for staged in all_staged:
        content = staging.path_of(staged.sha256).read_bytes()
        assert (sha256(content), len(content)) == staged


@pytest.mark.parametrize("make", ["missing", "directory", "fifo", "device", "nul", "below_file"])
def test_what_is_no_file_is_refused(staging: Staging, tmp_path: Path, make: str) -> None:
    """At once, with its path in the message, and without waiting for a writer of a pipe."""
    path = tmp_path / "it"
    if make == "directory":
        path.mkdir()
    elif make == "fifo":
        os.mkfifo(path)
    elif make == "device":
        path = Path("/dev/zero")
    elif make == "nul":
        path = Path("it\0")
    elif make == "below_file":
        path.write_text("")
        path /= "it"
    with pytest.raises(InvalidInputError, match=r"it|/dev/zero"):
        staging.add_file(path)
    assert not staging.root.exists()


def test_a_file_that_cannot_be_read_is_the_environments_fault(staging: Staging, tmp_path: Path) -> None:
    """A link that leads to itself stands for everything that the kernel refuses, also for root."""
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(EnvironmentUnavailableError, match=r"cannot read the file .*loop"):
        staging.add_file(tmp_path / "loop")


def test_a_place_that_takes_nothing_is_the_environments_fault(tmp_path: Path) -> None:
    """The message names the file and the staging directory."""
    (tmp_path / "file").write_bytes(b"data")
    staging = Staging(tmp_path / "file" / "staging")
    with pytest.raises(EnvironmentUnavailableError, match=r"cannot stage the file .*file in .*staging.*free space"):
        staging.add_file(tmp_path / "file")


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file of this process may grow above 1 MiB, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.usefixtures("small_files")
def test_a_disk_that_is_full_halfway_leaves_nothing(staging: Staging) -> None:
    """The unfinished file is removed; the next, smaller one is staged."""
    with pytest.raises(EnvironmentUnavailableError, match="cannot stage 3000000 bytes"):
        staging.add_bytes(bytes(3_000_000))
    assert leftovers(staging) == []
    assert staging.add_bytes(b"small").size == 5


def test_a_clone_is_taken_where_the_file_system_can(
    staging: Staging, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's clone is what is hashed: what the file becomes meanwhile does not matter."""
    (tmp_path / "file").write_bytes(b"now")

    def clone(target: int, request: int, source: int) -> int:
        assert request == 0x40049409
        os.pwrite(target, os.pread(source, 100, 0), 0)
        (tmp_path / "file").write_bytes(b"later")
        return 0

    monkeypatch.setattr("fcntl.ioctl", clone)
    staged = staging.add_file(tmp_path / "file")
    assert staged == Staged(sha256(b"now"), 3)
    assert staging.path_of(staged.sha256).read_bytes() == b"now"


def _stage_many(root: Path, start: int) -> None:
    staging = Staging(root)
    for index in range(200):
        staging.add_bytes(b"content %d" % ((start + index) % 50))


def test_processes_stage_the_same_content_at_once(tmp_path: Path) -> None:
    """Each content is there once, whole, and nothing is left over."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_stage_many, args=(tmp_path / "s", start)) for start in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    files = [path for path in (tmp_path / "s").rglob("*") if path.is_file()]
    assert len(files) == 50
    assert all(sha256(path.read_bytes()) == path.name for path in files)


def test_a_directory_is_walked_in_order(tmp_path: Path) -> None:
    """Hidden files, nested ones, links to files and to directories; folders without files give nothing."""
    (tmp_path / "b" / "c").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    for name in ("z.txt", ".hidden", "b/1", "b/c/é", "b/.x"):
        (tmp_path / name).write_text(name)
    (tmp_path / "a").symlink_to("b/c")
    (tmp_path / "l").symlink_to("z.txt")
    found = list(walk(tmp_path))
    assert [relative for _, relative in found] == [".hidden", "a/é", "b/.x", "b/1", "b/c/é", "l", "z.txt"]
    assert all(path.is_file() for path, _ in found)


def test_links_that_lead_round_or_nowhere_are_refused(tmp_path: Path) -> None:
    """The message names the link."""
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "back").symlink_to(tmp_path)
    with pytest.raises(InvalidInputError, match="one/back leads back"):
        list(walk(tmp_path))
    (tmp_path / "one" / "back").unlink()
    (tmp_path / "one" / "gone").symlink_to("nothing")
    with pytest.raises(InvalidInputError, match="one/gone points nowhere"):
        list(walk(tmp_path))


def test_what_is_no_directory_is_not_walked(tmp_path: Path) -> None:
    """Missing, and a file."""
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "missing", tmp_path / "file"):
        with pytest.raises(InvalidInputError, match="is no directory"):
            list(walk(path))


def test_a_directory_that_cannot_be_listed_is_the_environments_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when it is removed at that moment."""

    def refuse(path: Path) -> list[str]:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(EnvironmentUnavailableError, match="cannot list"):
        list(walk(tmp_path))


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("a/plot.png", "image/png"),
        ("PLOT.PNG", "image/png"),
        ("model.json", "application/json"),
        ("t.parquet", "application/vnd.apache.parquet"),
        ("t.csv", "text/csv"),
        ("t.csv.gz", "application/gzip"),
        ("t.csv.Z", None),
        ("notes.md", "text/markdown"),
        ("page.html", "text/html"),
        ("m.yaml", "application/yaml"),
        ("weights.unknown", None),
        ("a.png/README", None),
        (".png", None),
    ],
)
def test_the_media_type_is_told_by_the_name(path: str, media_type: str | None) -> None:
    """The same on every machine."""
    assert media_type_of(path) == media_type


def test_staging_of_a_killed_process_is_unfinished_or_whole(tmp_path: Path) -> None:
    """What lies under a content's name is that content, whenever the process was killed."""
    root = tmp_path / "s"
    code = (
        "import os, sys; from pathlib import Path; from runstream.artifacts import Staging\n"
        f"staging = Staging(Path({str(root)!r}))\n"
        "while True: staging.add_bytes(os.urandom(1 << 20)); print(flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(3):
            process.stdout.readline()
        process.kill()
    files = [path for path in root.rglob("*") if path.is_file() and path.parent.name != "tmp"]
    assert len(files) >= 3
    assert all(sha256(path.read_bytes()) == path.name for path in files)
