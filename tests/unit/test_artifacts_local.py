"""Artifacts in a local directory: verified, published in one step, durable."""

import hashlib
import os
from pathlib import Path

import pytest

from runstream_sink.artifacts import LocalArtifacts, Publication
from runstream_sink.artifacts import local as module


class Place(LocalArtifacts):
    """A root and a staging directory, and what a producer does there."""

    def __init__(self, directory: Path) -> None:
        self.staging = directory / "staging"
        super().__init__(directory / "artifacts", self.staging)

    def stage(self, content: bytes, named: bytes | None = None) -> tuple[str, int]:
        """Stage content, under the hash of other content if that is named; hash and size."""
        digest = hashlib.sha256(content if named is None else named).hexdigest()
        file = self.staging / digest[:2] / digest
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        return digest, len(content if named is None else named)

    async def publish(self, file: str, sha256: str, size: int) -> str:
        """Publish one staged file; why that cannot be, or the empty text."""
        return (await self.publish_all([Publication(file, sha256, size)])).get(file, "")

    async def publish_bytes(self, file: str, content: bytes) -> None:
        """Publish one file whose bytes came with its event."""
        assert await self.publish_all([Publication(file, hashlib.sha256(content).hexdigest(), 0, content)]) == {}

    def files(self) -> dict[str, bytes]:
        """Everything below the root."""
        return {str(file.relative_to(self.root)): file.read_bytes() for file in self.root.rglob("*") if file.is_file()}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """An empty place."""
    return Place(tmp_path)


async def test_staged_bytes_become_the_artifact_and_stay_staged(place: Place) -> None:
    """A replay of the stream finds them again; on one file system no byte is copied."""
    digest, size = place.stage(b"content")
    await place.publish("run/a/b.txt", digest, size)
    await place.make_durable()
    assert place.files() == {"run/a/b.txt": b"content"}
    staged = place.staging / digest[:2] / digest
    assert staged.samefile(place.root / "run/a/b.txt")


async def test_publishing_again_replaces_in_one_step_or_changes_nothing(place: Place) -> None:
    """New content takes the old one's place; the same content is harmless; nothing else is left behind."""
    first, second = place.stage(b"one"), place.stage(b"two")
    for digest, size in (first, first, second):
        await place.publish("run/a.txt", digest, size)
    assert place.files() == {"run/a.txt": b"two"}
    assert (place.staging / first[0][:2] / first[0]).read_bytes() == b"one"


async def test_bytes_of_an_event_become_the_artifact(place: Place) -> None:
    """Nothing is staged; publishing again replaces what is there."""
    for content in (b"one", b"two", b"two", b""):
        await place.publish_bytes("run/a/b.txt", content)
    await place.make_durable()
    assert place.files() == {"run/a/b.txt": b""}
    assert not place.staging.exists()


@pytest.mark.parametrize(
    ("content", "named", "message"),
    [(b"changed", b"content", "another hash"), (b"cont", b"content", "another hash")],
    ids=["changed", "cut"],
)
async def test_bytes_that_are_not_what_the_event_says_are_refused(
    place: Place, content: bytes, named: bytes, message: str
) -> None:
    """Nothing becomes visible; what was there stays."""
    good = place.stage(b"good")
    await place.publish("run/a.txt", *good)
    digest, size = place.stage(content, named)
    assert message in await place.publish("run/a.txt", digest, size)
    assert place.files() == {"run/a.txt": b"good"}


async def test_a_wrong_size_is_refused(place: Place) -> None:
    """Also where the hash is right."""
    digest, size = place.stage(b"content")
    assert await place.publish("run/a.txt", digest, size + 1)


async def test_missing_bytes_are_refused_with_where_they_should_be(place: Place) -> None:
    """Removed, or the queue directory was moved."""
    assert str(place.staging) in await place.publish("run/a.txt", "0" * 64, 5)
    assert not place.root.exists()


async def test_where_links_are_impossible_bytes_are_copied(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another file system, or one without links."""

    def refuse(source: Path, target: Path) -> None:
        raise OSError(18, "cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    digest, size = place.stage(b"x" * 3_000_000)
    await place.publish("run/a.bin", digest, size)
    assert place.files() == {"run/a.bin": b"x" * 3_000_000}
    assert not (place.staging / digest[:2] / digest).samefile(place.root / "run/a.bin")


async def test_a_failure_leaves_no_half_file(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk's error goes up; what was there is whole."""
    digest, size = place.stage(b"content")

    def refuse(path: Path, flags: int = 0) -> None:
        raise OSError(28, "full")

    monkeypatch.setattr(module, "_sync", refuse)
    with pytest.raises(OSError, match="full"):
        await place.publish("run/a.txt", digest, size)
    assert place.files() == {}


async def test_directories_that_could_not_be_synced_are_synced_later(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New directories too, up to the one that was there; a failure forgets none of them."""
    digest, size = place.stage(b"content")
    await place.publish("run/a/b/c.txt", digest, size)
    sync, synced = module._sync, []

    def refuse(path: Path, flags: int = 0) -> None:
        raise OSError(5, "broken")

    def note(path: Path, flags: int = 0) -> None:
        synced.append(path)
        sync(path, flags)

    with monkeypatch.context() as broken:
        broken.setattr(module, "_sync", refuse)
        with pytest.raises(OSError, match="broken"):
            await place.make_durable()
    monkeypatch.setattr(module, "_sync", note)
    await place.make_durable()
    root = place.root
    assert set(synced) == {root, root / "run", root / "run/a", root / "run/a/b"}
    synced.clear()
    await place.make_durable()
    assert synced == []


async def test_many_files_are_published_and_made_durable_at_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file system is synced, not each file and directory; one that is missing holds up none of the others."""
    monkeypatch.setattr(module, "_sync", lambda path, flags=0: pytest.fail("one by one"))
    staged = [(f"run/{number}/a.txt", *place.stage(b"%d" % number)) for number in range(100)]
    publications = [Publication(*one) for one in staged]
    missing = await place.publish_all([*publications, Publication("run/b.txt", "0" * 64, 1)])
    assert list(missing) == ["run/b.txt"]
    await place.make_durable()
    assert place.files() == {f"run/{number}/a.txt": b"%d" % number for number in range(100)}


async def test_what_a_killed_sink_left_unfinished_is_cleared(place: Place) -> None:
    """And nothing else."""
    digest, size = place.stage(b"content")
    await place.publish("run/a.txt", digest, size)
    (place.root / ".new" / "left").write_text("half")
    place.clear()
    assert place.files() == {"run/a.txt": b"content"}
    assert not (place.root / ".new").exists()
