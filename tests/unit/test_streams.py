"""Which stream a text names: what is taken, in which form it is kept, and what is refused."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runstream_schemas.errors import InvalidInputError
from runstream_schemas.streams import KafkaStream, QueueStream, hide_password, journal_directory, parse_stream


@pytest.mark.parametrize(
    ("text", "servers", "topic"),
    [
        ("kafka://h1:9092,h2:9093/topic", ("h1:9092", "h2:9093"), "topic"),
        ("kafka://b,a/t", ("b:9092", "a:9092"), "t"),
        ("kafka://Broker-1.Example.ORG/T", ("broker-1.example.org:9092",), "T"),
        ("kafka://my_broker:09/a.b_c-1", ("my_broker:9",), "a.b_c-1"),
        ("kafka://[::1]:9,[FE80:0::1]/t", ("[::1]:9", "[fe80::1]:9092"), "t"),
        ("kafka://10.0.0.1:65535/t", ("10.0.0.1:65535",), "t"),
        ("kafka://a,A:9092,b/t", ("a:9092", "b:9092"), "t"),
        (f"kafka://a/{'t' * 249}", ("a:9092",), "t" * 249),
    ],
)
def test_a_stream_in_kafka_is_servers_and_a_topic(text: str, servers: tuple[str, ...], topic: str) -> None:
    """Servers keep their order; ports are written out, hosts are lower case, and none is there twice."""
    found = parse_stream(text)
    assert found == KafkaStream(servers, topic)
    assert parse_stream(str(found)) == found


def test_a_queue_is_an_absolute_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later chdir moves nothing, and the text names the same directory again."""
    monkeypatch.chdir(tmp_path)
    found = parse_stream("queue:./here")
    assert found == QueueStream(tmp_path / "here")
    assert str(found) == f"queue:{tmp_path}/here"
    assert parse_stream(str(found)) == found


def test_a_queue_may_lie_at_home_and_its_name_may_hold_an_at_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tilde is the shell's."""
    monkeypatch.setenv("HOME", "/home/somebody")
    assert parse_stream("queue:~/a@b:c") == QueueStream(Path("/home/somebody/a@b:c"))


def test_a_queue_is_named_though_the_working_directory_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is refused before something must be written there."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert parse_stream("queue:here") == QueueStream(Path("here"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "of no kind that there is; use queue:DIR or kafka://HOST:PORT"),
        ("events", "of no kind"),
        ("Kafka://a/t", "of no kind"),
        ("http://a/t", "of no kind"),
        ("queue:", "names no directory"),
        ("queue:a\0b", "names no directory that can exist"),
        ("queue:\ud800", "names no directory that can exist"),
        ("kafka:", "two slashes"),
        ("kafka:/a/t", "two slashes"),
        ("kafka://", "names no server"),
        ("kafka:///t", "names no server"),
        ("kafka://a", r"names no topic; use kafka://a/TOPIC"),
        ("kafka://a/", "names no topic"),
        ("kafka://a/t/", "has the topic 't/'"),
        ("kafka://a/t?x=1", "has the topic"),
        ("kafka://a/ t", "has the topic ' t'"),
        ("kafka://a/t\n", "has the topic"),
        ("kafka://a/.", "has the topic"),
        ("kafka://a/..", "has the topic"),
        (f"kafka://a/{'t' * 250}", "1 to 249 letters"),
        ("kafka://a, b/t", "has the server ' b'"),
        ("kafka:// a/t", "no spaces"),
        ("kafka://a,,b/t", "has the server ''"),
        ("kafka://a,/t", "has the server ''"),
        ("kafka://-a/t", "has the server '-a'"),
        ("kafka://caf\u00e9/t", "has the server"),
        ("kafka://::1/t", "stands in brackets"),
        ("kafka://[::g]/t", "has the server"),
        ("kafka://[]/t", "has the server"),
        ("kafka://[::1]x/t", "has the server"),
        ("kafka://a:/t", "has the port ''"),
        ("kafka://a:0/t", "a number from 1 to 65535"),
        ("kafka://a:65536/t", "has the port '65536'"),
        ("kafka://a:\u0661/t", "has the port"),
        ("kafka://a:b/t", "has the port 'b'"),
    ],
    ids=repr,
)
def test_what_names_no_stream_is_refused_with_what_is_wrong(text: str, message: str) -> None:
    """The message holds the text, so that it is found."""
    with pytest.raises(InvalidInputError, match=message):
        parse_stream(text)


@pytest.mark.parametrize(
    "text",
    [
        "kafka://alice:pass-word@a/t",
        "kafka://alice:pass-word/1@x@a/t",
        "kafka:alice:pass-word@a/t",
        "kafka:/alice:pass-word@a/t",
        "kafka:///alice:pass-word@a/t",
        "kafka://:pass-word@/t",
        "kafka://a,alice:pass-word@b",
    ],
)
def test_a_password_in_a_stream_is_refused_and_not_repeated(text: str) -> None:
    """The message says which settings to use instead."""
    with pytest.raises(InvalidInputError, match="RUNSTREAM_KAFKA_USERNAME, RUNSTREAM_KAFKA_PASSWORD") as caught:
        parse_stream(text)
    assert "pass-word" not in str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None


@pytest.mark.parametrize("text", ["http://alice:pass-word@a/t", "KAFKA://alice:pass-word@a/t"])
def test_a_password_in_what_is_no_stream_is_not_repeated_either(text: str) -> None:
    """Whatever the scheme."""
    with pytest.raises(InvalidInputError, match="of no kind") as caught:
        parse_stream(text)
    assert "pass-word" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://u:p@h/db", "postgresql://***@h/db"),
        ("kafka://u:p@h/t", "kafka://***@h/t"),
        ("kafka://h/t", "kafka://h/t"),
        ("sqlite:///a@b", "sqlite:///a@b"),
        ("queue:./a@b", "queue:./a@b"),
        ("./a@b", "./a@b"),
        ("s3://bucket/prefix", "s3://bucket/prefix"),
    ],
)
def test_an_address_is_shown_without_its_password(text: str, shown: str) -> None:
    """Paths are left alone."""
    assert hide_password(text) == shown


@given(st.text(), st.sampled_from(["", "queue:", "kafka:", "kafka://", "kafka://a/", "kafka://["]))
def test_any_text_is_a_stream_or_is_refused(text: str, scheme: str) -> None:
    """And a stream's own text names it again."""
    try:
        found = parse_stream(scheme + text)
    except InvalidInputError:
        return
    assert parse_stream(str(found)) == found


def test_the_journal_directory_depends_on_servers_and_topic_alone() -> None:
    """However the servers are ordered, and where the port is left out.  Pinned: programs of all versions share it."""
    names = {
        journal_directory(_kafka(text), Path("/j")).relative_to("/j").as_posix()
        for text in ("kafka://a,b:9092/events", "kafka://B:9092,a:9092/events")
    }
    assert names == {"events-dbe5741f28e1"}


@pytest.mark.parametrize("other", ["kafka://a:9092/events2", "kafka://a:9093/events", "kafka://a,b/events"])
def test_two_streams_never_share_a_journal_directory(other: str) -> None:
    """Another topic or another server is another stream."""
    here = Path("/j")
    assert journal_directory(_kafka(other), here) != journal_directory(_kafka("kafka://a/events"), here)


def test_the_longest_topic_gives_a_directory_that_can_be_made(tmp_path: Path) -> None:
    """A name has at most 255 bytes; topics that begin alike still differ."""
    made = [journal_directory(_kafka(f"kafka://a/{'t' * 248}{end}"), tmp_path) for end in "xy"]
    for directory in made:
        directory.mkdir()
    assert len(list(tmp_path.iterdir())) == 2
    assert all(re.fullmatch(r"t{200}-[0-9a-f]{12}", directory.name) for directory in made)


def _kafka(text: str) -> KafkaStream:
    found = parse_stream(text)
    assert isinstance(found, KafkaStream)
    return found
