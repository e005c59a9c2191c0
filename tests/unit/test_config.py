"""The producer's settings, resolved."""

from pathlib import Path

import pytest

from runstream import config
from runstream_schemas.errors import InvalidInputError
from runstream_sink.config import resolve as resolve_sink


def test_the_defaults_are_those_of_the_contract(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A queue and a store below the directory where the program started."""
    monkeypatch.chdir(tmp_path)
    found = config.resolve()
    assert found.queue == tmp_path / "runstream-data" / "queue"
    assert found.artifacts == str(tmp_path / "runstream-data" / "store" / "artifacts")
    assert (found.policy, found.experiment) == ("drop", "")


@pytest.mark.parametrize(
    "stream", ["queue:q", "queue:./a/../q", "queue:~/q", "queue:~nobody-of-that-name/q", "queue:/q"]
)
def test_producer_and_sink_mean_the_same_directory(stream: str) -> None:
    """Whatever the stream's text looks like."""
    if stream.startswith("queue:~nobody"):
        assert config.resolve(stream=stream).queue.is_absolute()
    else:
        assert config.resolve(stream=stream).queue == resolve_sink(stream=stream).queue


def test_a_later_chdir_does_not_move_the_queue(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The path is absolute from the start."""
    monkeypatch.chdir(tmp_path)
    found = config.resolve(stream="queue:here")
    monkeypatch.chdir("/")
    assert found.queue == tmp_path / "here"


@pytest.mark.parametrize(
    ("store", "artifacts", "expected"),
    [
        ("/s", None, "/s/artifacts"),
        ("sqlite:////s/db", None, "/s/artifacts"),
        ("/s", "/a", "/a"),
        ("/s", "s3://bucket/prefix", "s3://bucket/prefix"),
    ],
)
def test_the_place_of_artifacts_follows_from_store_or_setting(store: str, artifacts: str | None, expected: str) -> None:
    """As the sink decides it."""
    assert config.resolve(store=store, artifacts=artifacts).artifacts == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stream": "kafka://host/topic"}, "use queue:DIR"),
        ({"stream": "queue:"}, "use queue:DIR"),
        ({"stream": "queue:a\0b"}, "names no directory"),
        ({"stream": "queue:\ud800"}, "names no directory"),
        ({"segment_size": 100}, "at least 65536"),
        ({"policy": "wait"}, "drop, block"),
        ({"block_timeout": "nan"}, "must not be negative"),
        ({"journal_quota": "lots"}, "must be bytes"),
    ],
    ids=str,
)
def test_a_wrong_setting_is_refused_with_its_name(arguments: dict[str, str], message: str) -> None:
    """Before anything is logged."""
    with pytest.raises(InvalidInputError, match=message):
        config.resolve(**arguments)  # type: ignore[arg-type]


def test_every_setting_can_be_set_by_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """`configure` takes each of the names that the documentation lists."""
    values = {setting.name: setting.default for setting in config.PRODUCER_SETTINGS}
    assert config.resolve(**values) == config.resolve()  # type: ignore[arg-type]
