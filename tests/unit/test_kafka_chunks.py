"""Bytes out of chunks: in any order, twice, mixed, cut off, and over restarts."""

import os
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from runstream_schemas import directories
from runstream_schemas.chunk import ArtifactChunk
from runstream_schemas.errors import MissingPayloadError
from runstream_sink.kafka import chunks
from runstream_sink.kafka.chunks import UNFINISHED_AGE, ChunkStore

CONTENT = bytes(range(256)) * 4
SHA = sha256(CONTENT).hexdigest()


def pieces(size: int = 100, content: bytes = CONTENT) -> list[ArtifactChunk]:
    """A content in chunks."""
    digest = sha256(content).hexdigest()
    starts = range(0, max(len(content), 1), size)
    return [ArtifactChunk(digest, len(content), at, content[at : at + size]) for at in starts]


def add(root: Path, chunks: list[ArtifactChunk]) -> None:
    """Add chunks, each in a process of its own, as it were."""
    for chunk in chunks:
        store = ChunkStore(root)
        store.add(chunk)
        store.sync()


def whole(root: Path, digest: str = SHA) -> Path:
    """Where whole bytes lie."""
    return root / digest[:2] / digest


def test_chunks_in_their_order_become_a_read_only_file(tmp_path: Path) -> None:
    """It lies as a producer's staged files do, and nothing else is left."""
    store = ChunkStore(tmp_path)
    for chunk in pieces():
        assert not whole(tmp_path).exists()
        store.add(chunk)
    store.sync()
    assert whole(tmp_path).read_bytes() == CONTENT == store.read(SHA, len(CONTENT))
    assert whole(tmp_path).stat().st_mode & 0o777 == 0o444
    assert list((tmp_path / "tmp").iterdir()) == []


def test_whole_bytes_keep_their_first_name_until_the_last_is_on_the_disk(tmp_path: Path) -> None:
    """A rename that a power cut comes into might leave neither; whoever comes next tidies up."""
    store = ChunkStore(tmp_path)
    for chunk in pieces():
        store.add(chunk)
    (unfinished,) = (tmp_path / "tmp").iterdir()
    assert unfinished.samefile(whole(tmp_path))
    add(tmp_path, pieces()[:1])
    assert list((tmp_path / "tmp").iterdir()) == []
    assert whole(tmp_path).read_bytes() == CONTENT


def test_nothing_at_all_is_a_content_too(tmp_path: Path) -> None:
    """One chunk of no bytes."""
    add(tmp_path, pieces(content=b""))
    assert ChunkStore(tmp_path).read(sha256(b"").hexdigest(), 0) == b""


@given(data=st.data())
def test_chunks_in_any_order_and_as_often_as_they_like_give_the_content(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Of several sizes, mixed; each with a restart before it."""
    root = tmp_path_factory.mktemp("chunks")
    chunks = pieces(data.draw(st.integers(90, 400))) + pieces(data.draw(st.integers(90, 400)))[:-1]
    again = data.draw(st.lists(st.sampled_from(chunks), max_size=5))
    add(root, data.draw(st.permutations([*chunks, *again])))
    assert whole(root).read_bytes() == CONTENT
    assert [path for path in (root / "tmp").iterdir() if not path.suffix] == []


def test_what_is_whole_is_wanted_again_when_it_comes_again(tmp_path: Path) -> None:
    """Its age begins anew."""
    add(tmp_path, pieces())
    os.utime(whole(tmp_path), (1, 1))
    add(tmp_path, pieces()[:1])
    assert whole(tmp_path).stat().st_mtime > 1
    assert list((tmp_path / "tmp").iterdir()) == []


def test_what_a_producer_has_staged_as_another_user_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where both reach the directory of the artifacts; it is no failure."""
    add(tmp_path, pieces())

    def refuse(*_: object) -> None:
        raise PermissionError(1, "not yours")

    monkeypatch.setattr(os, "utime", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    add(tmp_path, pieces())
    assert ChunkStore(tmp_path).clean(0, 1e12) == 0
    assert whole(tmp_path).read_bytes() == CONTENT


def test_bytes_that_are_not_what_their_name_says_are_thrown_away(tmp_path: Path) -> None:
    """Somebody lied; who sends the right ones later is heard."""
    with capture_logs() as logs:
        add(tmp_path, [chunk._replace(data=b"?" * len(chunk.data)) for chunk in pieces()])
    assert [line["sha256"] for line in logs] == [SHA]
    with pytest.raises(MissingPayloadError, match=SHA):
        ChunkStore(tmp_path).read(SHA, len(CONTENT))
    add(tmp_path, pieces())
    assert whole(tmp_path).read_bytes() == CONTENT


def test_a_file_that_a_power_cut_left_long_and_empty_is_filled_again(tmp_path: Path) -> None:
    """What was not synced comes again, and is not judged before its end has come."""
    chunks = pieces()
    add(tmp_path, chunks[:3])
    (path,) = (tmp_path / "tmp").iterdir()
    path.write_bytes(path.read_bytes().ljust(len(CONTENT), b"\0"))
    add(tmp_path, chunks[3:])
    assert whole(tmp_path).read_bytes() == CONTENT


def test_what_is_old_is_removed(tmp_path: Path) -> None:
    """Whole bytes after the retention's age, others after a week."""
    add(tmp_path, pieces())
    add(tmp_path, pieces(content=b"other" * 100)[:2])
    store = ChunkStore(tmp_path)
    now = whole(tmp_path).stat().st_mtime
    assert store.clean(100, now + 90) == 0
    assert store.clean(100, now + 110) == 1
    assert store.clean(100, now + UNFINISHED_AGE + 110) == 1
    assert store.clean(100) == 0


def test_bytes_may_go_while_they_are_being_put_together(tmp_path: Path) -> None:
    """Somebody cleans up beside: no error, and what comes anew is taken."""
    store = ChunkStore(tmp_path)
    store.add(pieces()[0])
    for path in (tmp_path / "tmp").iterdir():
        path.unlink()
    store.sync()
    for chunk in pieces():
        store.add(chunk)
    assert store.read(SHA, len(CONTENT)) == CONTENT


def test_a_name_that_a_killed_process_has_given_is_synced_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a store that goes on behind the chunk loses its bytes with the power."""
    for chunk in pieces():
        ChunkStore(tmp_path).add(chunk)  # and never synced
    synced: list[Path] = []
    for module in (chunks, directories):
        monkeypatch.setattr(module, "sync_directory", synced.append)
    add(tmp_path, pieces()[:1])
    assert {tmp_path, whole(tmp_path).parent} <= set(synced)
