"""Errors of aiokafka, put into words; with its own classes, and the real ones of TLS."""

import asyncio
import logging
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer, errors

from runstream_schemas.errors import InvalidInputError
from runstream_schemas.kafka import causes_kept, explain, may_retry
from runstream_schemas.streams import KafkaStream
from support.certificates import Authority

STREAM = KafkaStream(("one:9092", "two:9093"), "events")
LOGIN = "the brokers of kafka://one:9092,two:9093/events refuse the login"


def _told(code: int, message: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, f"certificate verify failed: {message}")
    error.verify_code, error.verify_message = code, message
    return error


def _tls(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {reason}] words")
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "message", "retry"),
    [
        (
            errors.SaslAuthenticationFailed("invalid credentials"),
            f"{LOGIN} (invalid credentials); check the user",
            False,
        ),
        (errors.SaslAuthenticationFailed(None), f"{LOGIN}; check the user", False),
        (errors.AuthenticationFailedError(), LOGIN, False),
        (errors.UnsupportedSaslMechanismError("no PLAIN"), "(no PLAIN); set RUNSTREAM_KAFKA_SASL_MECHANISM", False),
        (errors.IllegalSaslStateError(object()), "expect no login where they were reached; set", False),
        (errors.TopicAuthorizationFailedError("events"), "the user may not use the topic events", False),
        (errors.GroupAuthorizationFailedError("g"), "the user may not use the consumer group (g)", False),
        (errors.ClusterAuthorizationFailedError(), "may not write to kafka://one:9092,two:9093/events", False),
        (errors.MessageSizeTooLargeError(), "larger than the topic events", False),
        (errors.RecordTooLargeError("9 bytes"), "(9 bytes); raise the topic's max.message.bytes", False),
        (errors.InvalidReplicationFactorError("5"), "set RUNSTREAM_KAFKA_REPLICATION to at most the number", False),
        (errors.InvalidPartitionsError(), "set RUNSTREAM_KAFKA_PARTITIONS to another number", False),
        (errors.PolicyViolationError("too few"), "(too few); create it yourself", False),
        (errors.UnsupportedCodecError("no zstd"), "install runstream[kafka]", False),
        (errors.OffsetOutOfRangeError(), "does not hold what was to be read any more", False),
        (errors.UnknownTopicOrPartitionError(), "the topic events is not there", True),
        (errors.NotEnoughReplicasError(), "lower the topic's min.insync.replicas", True),
        (errors.KafkaStorageError(), "cannot write to its disk", True),
        (errors.ProducerFenced(), "sent again over a new connection", True),
        (
            errors.KafkaConnectionError("Connection at one:9092 closed"),
            "answers at one:9092, two:9093 (Connection",
            True,
        ),
        (errors.NodeNotReadyError(), "no broker of kafka://", True),
        (errors.RequestTimedOutError(), "no broker of kafka://", True),
        (TimeoutError(), "answers at one:9092, two:9093; check", True),
        (OSError(113, "No route to host"), "(No route to host); check", True),
        (ConnectionRefusedError(111, "refused"), "is running at one:9092, two:9093", True),
        (ConnectionResetError(), "closed the connection", True),
        (asyncio.IncompleteReadError(b"", 4), "closed the connection", True),
        (socket.gaierror(-2, "Name or service not known"), "has no address (Name or service not known)", True),
        (_told(20, "unable to get local issuer certificate"), "not trusted (unable to get local issuer", False),
        (_told(62, "Hostname mismatch"), "for another host (Hostname mismatch); name the servers", False),
        (_told(10, "certificate has expired"), "has expired (certificate has expired); give them", False),
        (_tls("SSLV3_ALERT_BAD_CERTIFICATE"), "refuse the client's certificate, or miss one (sslv3 alert bad", False),
        (_tls("WRONG_VERSION_NUMBER"), "there is no TLS where the brokers", False),
        (_tls("NO_CIPHERS"), "TLS with the brokers of kafka://one:9092,two:9093/events fails (no ciphers)", False),
        (InvalidInputError("settings make no sense"), "settings make no sense", False),
        (errors.StaleMetadata("old"), "events failed: StaleMetadata: old", True),
        (ValueError("odd"), "events failed: ValueError: odd", False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_an_error_is_one_sentence_that_says_what_to_do(error: BaseException, message: str, retry: bool) -> None:
    """And whether waiting can help."""
    said = explain(error, STREAM)
    assert message in said
    assert "\n" not in said
    assert "{" not in said
    assert may_retry(error) is retry


@pytest.mark.parametrize("link", ["__cause__", "__context__"])
def test_the_cause_tells_more_than_what_wraps_it(link: str) -> None:
    """The client says that it cannot connect; why, stands below."""
    error, wrapper = errors.KafkaConnectionError("Unable to bootstrap from [...]"), errors.KafkaError("failed")
    setattr(wrapper, link, errors.SaslAuthenticationFailed("bad\n password"))
    error.__cause__ = wrapper
    assert explain(error, STREAM).startswith(f"{LOGIN} (bad password); check")
    assert not may_retry(error)


def test_causes_that_go_in_a_circle_end() -> None:
    """Nothing in Python prevents them."""
    one, two = errors.KafkaConnectionError("Unable to bootstrap from x"), errors.KafkaConnectionError("two")
    one.__cause__, two.__context__ = two, one
    assert explain(one, STREAM).endswith("RUNSTREAM_KAFKA_SECURITY_PROTOCOL")


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port at which nobody listens, and nobody else will."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


async def _failure(port: int, **arguments: object) -> errors.KafkaConnectionError:
    producer = AIOKafkaProducer(bootstrap_servers=f"127.0.0.1:{port}", **arguments)
    try:
        with pytest.raises(errors.KafkaConnectionError) as caught, causes_kept():
            await producer.start()
    finally:
        await producer.stop()
    return caught.value


@contextmanager
def _logger(level: int) -> Iterator[logging.Logger]:
    logger = logging.getLogger("aiokafka")
    before = logger.level
    logger.setLevel(level)
    try:
        yield logger
    finally:
        logger.setLevel(before)


async def test_what_the_client_only_logs_becomes_the_cause(closed_port: int) -> None:
    """The first connection's error is thrown away by aiokafka."""
    error = await _failure(closed_port)
    assert isinstance(error.__cause__, ConnectionRefusedError)
    assert "is running at" in explain(error, STREAM)


async def test_the_cause_is_found_where_nobody_wants_to_see_errors(
    closed_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    """They are not logged all the same, and the level is afterwards what it was."""
    with _logger(logging.CRITICAL) as logger:
        error = await _failure(closed_port)
        assert logger.level == logging.CRITICAL
    assert isinstance(error.__cause__, ConnectionRefusedError)
    assert [record for record in caplog.records if record.name == "aiokafka"] == []
    assert logger.filters == []


async def test_blocks_of_several_tasks_do_not_disturb_each_other(closed_port: int, tmp_path: Path) -> None:
    """Each error has the cause that its own task saw."""
    authority = Authority(tmp_path)

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0, ssl=_server_context(authority))
    async with server:
        port = server.sockets[0].getsockname()[1]
        untrusted = _failure(port, security_protocol="SSL", ssl_context=ssl.create_default_context())
        with _logger(logging.CRITICAL):
            one, two = await asyncio.gather(_failure(closed_port), untrusted)
    assert isinstance(one.__cause__, ConnectionRefusedError)
    assert isinstance(two.__cause__, ssl.SSLCertVerificationError)
    assert "set RUNSTREAM_KAFKA_CA_FILE" in explain(two, STREAM)


def _server_context(authority: Authority) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued = authority.issue("broker")
    context.load_cert_chain(issued.certificate, issued.key)
    return context


def _log(*failures: BaseException) -> None:
    for failure in failures:
        logging.getLogger("aiokafka").error("Unable connect to %s: %s", "one", failure)


def _wrapped() -> BaseException:
    error = TimeoutError()
    error.__cause__ = asyncio.CancelledError()
    return error


@pytest.mark.parametrize("make", [lambda: errors.KafkaConnectionError("Unable to bootstrap"), _wrapped])
def test_of_several_causes_the_one_that_waiting_does_not_mend_is_kept(make: Callable[[], BaseException]) -> None:
    """One server may be down, and another refuses the password; a deadline has a cause of its own already."""
    refusal = errors.SaslAuthenticationFailed("bad password")
    error = make()
    with pytest.raises(type(error)), causes_kept():  # noqa: PT012 - what is logged in the block is what is tested
        _log(refusal, ConnectionRefusedError())
        raise error
    assert re.match(rf"{LOGIN} \(bad password\)", explain(error, STREAM))


def test_an_error_that_was_logged_and_raised_is_not_its_own_cause() -> None:
    """A log line may name the very error that is raised then."""
    error = errors.KafkaConnectionError("gone")
    with pytest.raises(errors.KafkaConnectionError), causes_kept():  # noqa: PT012 - as above
        _log(error)
        raise error
    assert error.__cause__ is None


def test_lines_without_errors_and_blocks_that_end_well_change_nothing() -> None:
    """Whatever is logged in them."""
    with causes_kept():
        logging.getLogger("aiokafka").error("no arguments")
        logging.getLogger("aiokafka").error("%(named)s", {"named": 1})
    with pytest.raises(ValueError, match="other") as caught, causes_kept():
        raise ValueError("other")
    assert caught.value.__cause__ is None
