"""The producer's settings, resolved."""

from pathlib import Path

import pytest

from runstream import config
from runstream_schemas.errors import InvalidInputError
from runstream_schemas.streams import KafkaStream, journal_directory
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
    found = config.resolve(stream=stream)
    assert found.queue == resolve_sink(stream=stream).queue
    assert found.queue.is_absolute()
    assert found.staging == found.queue / "staging" == resolve_sink(stream=stream).staging


KAFKA = "kafka://b:9092,a/events"


def test_a_program_that_streams_to_kafka_journals_in_a_directory_of_that_stream(tmp_path: Path) -> None:
    """Bytes of artifacts lie beside the journals, from where they are shipped."""
    found = config.resolve(stream=KAFKA, journal_dir=str(tmp_path))
    assert str(found.stream) == "kafka://b:9092,a:9092/events"
    assert found.queue == journal_directory(KafkaStream(("a:9092", "b:9092"), "events"), tmp_path)
    assert found.staging == found.queue / "staging"
    assert found.shipper == "auto"


def test_journals_lie_below_where_the_program_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By default, and without any of the settings of a queue."""
    monkeypatch.chdir(tmp_path)
    assert config.resolve(stream=KAFKA, shipper="external").queue.parent == tmp_path / "runstream-data" / "journal"


def test_with_kafka_artifacts_that_both_sides_reach_are_staged_there(tmp_path: Path) -> None:
    """Where RUNSTREAM_ARTIFACTS is set; in an object store nothing is staged."""
    found = config.resolve(stream=KAFKA, artifacts=str(tmp_path))
    assert found.staging == tmp_path / ".staging" == resolve_sink(stream=KAFKA, artifacts=str(tmp_path)).staging
    shipped = config.resolve(stream=KAFKA, artifacts="s3://bucket/prefix")
    assert shipped.staging == shipped.queue / "staging"


def test_a_sink_of_a_stream_in_kafka_has_no_queue_directory() -> None:
    """What needs one is told so, with the stream's name; bytes wait among the artifacts."""
    found = resolve_sink(stream=KAFKA, store="/s")
    assert found.staging == Path("/s/artifacts/.staging")
    with pytest.raises(InvalidInputError, match=r"kafka://b:9092,a:9092/events is in Kafka"):
        _ = found.queue


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
        ({"stream": "kafka://host"}, "names no topic"),
        ({"shipper": "nobody"}, "auto, external"),
        ({"stream": "queue:"}, "use queue:DIR"),
        ({"stream": "queue:a\0b"}, "names no directory"),
        ({"stream": "queue:\ud800"}, "names no directory"),
        ({"segment_size": 100}, "at least 65536"),
        ({"claim_size": 1}, "at least 1024"),
        ({"sample": 2}, "a share between 0 and 1"),
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


def test_a_program_whose_directory_is_gone_still_has_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Paths stay relative then."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert config.resolve(stream=KAFKA, journal_dir="j").queue.parent == Path("j")


def test_artifacts_in_an_object_store_are_refused_by_the_sink() -> None:
    """Until it can write there."""
    with pytest.raises(InvalidInputError, match="not supported by this version"):
        resolve_sink(stream=KAFKA, artifacts="s3://bucket/prefix")


def test_every_setting_can_be_set_by_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """`configure` takes each of the names that the documentation lists."""
    values = {setting.name: setting.default for setting in config.PRODUCER_SETTINGS}
    assert config.resolve(**values) == config.resolve()  # type: ignore[arg-type]
