"""Which stream is meant: ``queue:DIR``, or ``kafka://HOST:PORT[,HOST:PORT]/TOPIC``.

A program that streams to Kafka logs into a *journal directory* first, which has the layout of a queue directory.  Each
stream has one of its own, whose name follows from the stream's servers, in whatever order, and topic.

>>> str(parse_stream("kafka://One,two:9093/events"))
'kafka://one:9092,two:9093/events'
"""

import os
import re
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from runstream_schemas.errors import InvalidInputError

__all__ = ["KafkaStream", "QueueStream", "Stream", "hide_password", "journal_directory", "parse_stream"]

# Patterns are compiled when they are first used, which a program that logs to a queue never does.
_FORMS: Final = "use queue:DIR or kafka://HOST:PORT[,HOST:PORT]/TOPIC"
_DEFAULT_PORT: Final = "9092"
_HOST: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9_.])?"
_TOPIC: Final = r"[a-zA-Z0-9._-]{1,249}"
_SERVER: Final = r"(?s)(?:\[(?P<address>[^\]]*)\]|(?P<host>[^:\[\]]*))(?::(?P<port>.*))?"
_USER: Final = r"(?si)(kafka:/*|[a-z][a-z0-9+.-]*://(?!/)).*@"
_TOPIC_IN_NAME: Final = 200
"""Characters of the topic in a journal directory's name, so that this and the hash stay below what a name may have."""


class QueueStream(NamedTuple):
    """A stream in a directory of this machine."""

    directory: Path
    """Absolute."""

    def __str__(self) -> str:
        return f"queue:{self.directory}"


class KafkaStream(NamedTuple):
    """A stream in a topic of Kafka."""

    servers: tuple[str, ...]
    """``host:port`` each, an IPv6 address in brackets, in the order in which they were named."""
    topic: str

    def __str__(self) -> str:
        return f"kafka://{','.join(self.servers)}/{self.topic}"


Stream: TypeAlias = QueueStream | KafkaStream


def parse_stream(text: str) -> Stream:
    """The stream that a text names.  Raises `InvalidInputError` saying what is wrong, without any password in it.

    Directories are made absolute, so that a later chdir moves nothing.
    """
    scheme, colon, rest = text.partition(":")
    if colon and scheme == "queue":
        return QueueStream(_directory(rest))
    if colon and scheme == "kafka":
        return _kafka(text, rest)
    raise InvalidInputError(f"the stream {hide_password(text)!r:.300} is of no kind that there is; {_FORMS}")


def journal_directory(stream: KafkaStream, journal_dir: Path) -> Path:
    """Where programs of this machine journal what goes to a stream, below RUNSTREAM_JOURNAL_DIR."""
    from hashlib import sha256  # which takes milliseconds

    normal = str(KafkaStream(tuple(sorted(stream.servers)), stream.topic))
    return journal_dir / f"{stream.topic[:_TOPIC_IN_NAME]}-{sha256(normal.encode()).hexdigest()[:12]}"


def hide_password(text: str) -> str:
    """An address as it may be shown: with ``***`` for the user and the password in it."""
    found = re.match(_USER, text)
    return f"{found[1]}***@{text[found.end() :]}" if found else text


def _directory(text: str) -> Path:
    if not text:
        raise InvalidInputError("the stream 'queue:' names no directory; use queue:DIR")
    if not _is_file_name(text):
        raise InvalidInputError(f"the stream {'queue:' + text!r:.300} names no directory that can exist")
    expanded = Path(os.path.expanduser(text))  # noqa: PTH111 - Path's raises where there is no such user
    try:
        return expanded.absolute()
    except OSError:  # the working directory is gone: nothing can be made there, until the program goes elsewhere
        return expanded


def _is_file_name(text: str) -> bool:
    """Whether the operating system could take it as a path."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _kafka(text: str, rest: str) -> KafkaStream:
    shown = f"the stream {hide_password(text)!r:.300}"
    if "@" in rest:
        raise InvalidInputError(
            f"{shown} holds a user; take it out and set RUNSTREAM_KAFKA_USERNAME, RUNSTREAM_KAFKA_PASSWORD (or "
            "RUNSTREAM_KAFKA_PASSWORD_FILE) and RUNSTREAM_KAFKA_SASL_MECHANISM instead"
        )
    if not rest.startswith("//"):
        raise InvalidInputError(f"{shown} needs two slashes after kafka:; use kafka://HOST:PORT/TOPIC")
    servers, slash, topic = rest[2:].partition("/")
    if not servers:
        raise InvalidInputError(f"{shown} names no server; use kafka://HOST:PORT/TOPIC")
    if not slash or not topic:
        raise InvalidInputError(f"{shown} names no topic; use kafka://{servers:.200}/TOPIC")
    if not re.fullmatch(_TOPIC, topic) or topic in {".", ".."}:
        raise InvalidInputError(
            f"{shown} has the topic {topic!r:.100}; a topic has 1 to 249 letters, digits, '.', '_' or '-', and is not "
            "'.' or '..'"
        )
    return KafkaStream(tuple(dict.fromkeys(_server(server, shown) for server in servers.split(","))), topic)


def _server(text: str, shown: str) -> str:
    """``host:port`` in the one form that there is of it."""
    found = re.fullmatch(_SERVER, text)
    host = found and (_address(found["address"]) if found["address"] is not None else _host(found["host"]))
    if not found or not host:
        raise InvalidInputError(
            f"{shown} has the server {text!r:.100}; a server is HOST or HOST:PORT, an IPv6 address stands in brackets, "
            "and there are no spaces"
        )
    port = _DEFAULT_PORT if found["port"] is None else found["port"]
    if not re.fullmatch("[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise InvalidInputError(f"{shown} has the port {port!r:.100}; a port is a number from 1 to 65535")
    return f"{host}:{int(port)}"


def _host(text: str) -> str | None:
    return text.lower() if re.fullmatch(_HOST, text) else None


def _address(text: str) -> str | None:
    """An IPv6 address, with its brackets."""
    from ipaddress import IPv6Address

    try:
        return f"[{IPv6Address(text)}]"
    except ValueError:
        return None
