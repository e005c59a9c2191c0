"""What goes wrong with Kafka, in one clear sentence: the one seam for the errors of aiokafka.

It is not imported here.  An error is known by its class's name, and by its causes: aiokafka wraps what it was told by
TLS or a broker.  Where it connects for the first time it even throws that away and only logs it: `causes_kept` catches
it there.
"""

import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import Final, NamedTuple

from runstream_schemas.errors import RunstreamError
from runstream_schemas.streams import KafkaStream

__all__ = ["causes_kept", "explain", "may_retry"]

_HOST_MISMATCHES: Final = {62, 64}
"""OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH."""
_EXPIRED: Final = 10
_MOST_CAUSES: Final = 8


class _Rule(NamedTuple):
    """What the errors of some classes mean."""

    names: frozenset[str]
    retry: bool
    text: str
    """With ``{stream}``, ``{servers}``, ``{topic}`` and ``{said}``, what the error itself says."""


def _rule(names: str, text: str, *, retry: bool = False) -> _Rule:
    return _Rule(frozenset(names.split()), retry, text)


_RULES: Final = (
    _rule(
        "SaslAuthenticationFailed AuthenticationFailedError",
        "the brokers of {stream} refuse the login{said}; check the user, the password and the mechanism "
        "(RUNSTREAM_KAFKA_USERNAME, RUNSTREAM_KAFKA_PASSWORD or RUNSTREAM_KAFKA_PASSWORD_FILE, "
        "RUNSTREAM_KAFKA_SASL_MECHANISM, or RUNSTREAM_KAFKA_PROPERTIES)",
    ),
    _rule(
        "UnsupportedSaslMechanismError AuthenticationMethodNotSupported",
        "the brokers of {stream} do not take logins of this mechanism{said}; set RUNSTREAM_KAFKA_SASL_MECHANISM to one "
        "that they have",
    ),
    _rule(
        "IllegalSaslStateError SecurityDisabled",
        "the brokers of {stream} expect no login where they were reached{said}; set RUNSTREAM_KAFKA_SECURITY_PROTOCOL "
        "to what that port is for, or name another port",
    ),
    _rule(
        "TopicAuthorizationFailedError",
        "the user may not use the topic {topic} of {stream}; let who ships Describe, Write and Create it, and the sink "
        "Describe and Read it (kafka-acls --add --allow-principal User:NAME --topic {topic} --operation ...)",
    ),
    _rule(
        "GroupAuthorizationFailedError",
        "the user may not use the consumer group{said} with the brokers of {stream}; let it Read groups whose names "
        "begin with runstream- (kafka-acls --add --allow-principal User:NAME --group runstream- "
        "--resource-pattern-type prefixed --operation Read)",
    ),
    _rule(
        "ClusterAuthorizationFailedError TransactionalIdAuthorizationFailed",
        "the user may not write to {stream}; let it Describe, Write and Create the topic (kafka-acls --add "
        "--allow-principal User:NAME --topic {topic} --producer), and, before Kafka 2.8, also IdempotentWrite on the "
        "cluster",
    ),
    _rule(
        "MessageSizeTooLargeError RecordListTooLargeError RecordTooLargeError",
        "a record is larger than the topic {topic} of {stream} takes{said}; raise the topic's max.message.bytes to at "
        "least 1048588 bytes",
    ),
    _rule(
        "InvalidReplicationFactorError",
        "the topic {topic} of {stream} cannot have that many copies{said}; set RUNSTREAM_KAFKA_REPLICATION to at most "
        "the number of brokers",
    ),
    _rule(
        "InvalidPartitionsError",
        "the topic {topic} of {stream} cannot have that many partitions{said}; set RUNSTREAM_KAFKA_PARTITIONS "
        "to another number",
    ),
    _rule(
        "PolicyViolationError InvalidConfigurationError InvalidTopicError InvalidRequestError",
        "the brokers of {stream} refuse the topic {topic} as it was asked for{said}; create it yourself as they want "
        "it (kafka-topics --create --topic {topic}) and set RUNSTREAM_KAFKA_CREATE_TOPIC=no",
    ),
    _rule(
        "UnsupportedCodecError UnsupportedVersionError UnsupportedForMessageFormatError UnrecognizedBrokerVersion "
        "IncompatibleBrokerVersion",
        "the brokers of {stream} are too old for this client, or a codec is not installed{said}; use Kafka 2.1 or "
        "newer, and install runstream[kafka]",
    ),
    _rule(
        "OffsetOutOfRangeError NoOffsetForPartitionError",
        "the topic {topic} of {stream} does not hold what was to be read any more{said}; raise its retention.ms and "
        "retention.bytes",
    ),
    _rule(
        "UnknownTopicOrPartitionError",
        "the topic {topic} is not there, or has no such partition, at {servers}; create it (kafka-topics --create "
        "--topic {topic}), or allow that with RUNSTREAM_KAFKA_CREATE_TOPIC=yes",
        retry=True,
    ),
    _rule(
        "NotEnoughReplicasError NotEnoughReplicasAfterAppendError",
        "too few brokers that hold copies of the topic {topic} of {stream} are there to keep what is sent safe; bring "
        "them back, or lower the topic's min.insync.replicas",
        retry=True,
    ),
    _rule(
        "KafkaStorageError LogDirNotFound",
        "a broker of {stream} cannot write to its disk; look at the brokers' log",
        retry=True,
    ),
    _rule(
        "ProducerFenced InvalidProducerEpoch OutOfOrderSequenceNumber UnknownProducerId InvalidProducerIdMapping "
        "DuplicateSequenceNumber ProducerClosed",
        "the brokers of {stream} lost track of what was sent{said}; it is sent again over a new connection",
        retry=True,
    ),
    _rule(
        "gaierror",
        "a server of {stream} has no address{said}; check the servers' names, and what the brokers have as "
        "advertised.listeners",
        retry=True,
    ),
    _rule(
        "ConnectionRefusedError",
        "no broker of {stream} is running at {servers}, or where the brokers say that they are (advertised.listeners)"
        "{said}; start it, or correct the address",
        retry=True,
    ),
    _rule(
        "IncompleteReadError ConnectionResetError BrokenPipeError ConnectionAbortedError",
        "a broker of {stream} closed the connection; it may be restarting, or the port may be one for TLS or for "
        "logins: check RUNSTREAM_KAFKA_SECURITY_PROTOCOL",
        retry=True,
    ),
    _rule(
        "KafkaConnectionError NoBrokersAvailable NodeNotReadyError KafkaUnavailableError KafkaTimeoutError "
        "RequestTimedOutError TimeoutError BrokerNotAvailableError OSError",
        "no broker of {stream} answers at {servers}{said}; check that they run and can be reached, and "
        "RUNSTREAM_KAFKA_SECURITY_PROTOCOL",
        retry=True,
    ),
)
"""The first that fits any error of the chain holds."""

_TLS_REFUSALS: Final = (
    (
        ("ALERT",),
        (
            "the brokers of {stream} refuse the client's certificate, or miss one{said}; set RUNSTREAM_KAFKA_CERT_FILE "
            "and RUNSTREAM_KAFKA_KEY_FILE to one that is signed by a CA that they trust"
        ),
    ),
    (
        ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "UNEXPECTED_EOF"),
        (
            "there is no TLS where the brokers of {stream} were reached{said}; set RUNSTREAM_KAFKA_SECURITY_PROTOCOL "
            "to PLAINTEXT or SASL_PLAINTEXT, or name the port for TLS"
        ),
    ),
    (("",), "TLS with the brokers of {stream} fails{said}; check the certificates and what versions of TLS they have"),
)


def explain(error: BaseException, stream: KafkaStream) -> str:
    """One sentence: what happened, to what, and what to do.  Never holds a password."""
    found = _find(error)
    if found is None:
        return str(error) if isinstance(error, RunstreamError) else f"{stream} failed: {_text(error)}"
    said = _said(found.error)
    return found.text.format(
        stream=stream,
        servers=", ".join(stream.servers),
        topic=stream.topic,
        said=f" ({said})" if said else "",
    )


def may_retry(error: BaseException) -> bool:
    """Whether waiting can help: brokers come back, passwords and permissions have to be changed by somebody."""
    found = _find(error)
    return bool(getattr(error, "retriable", False)) if found is None else found.retry


@contextmanager
def causes_kept() -> Iterator[None]:
    """While aiokafka connects: an error that ends this block has as its cause what aiokafka knew of it and only logged.

    Wrap ``start`` of a producer, consumer or admin client in it.  Blocks of several tasks do not disturb each other.
    Without effect only where ``logging.disable`` leaves out all errors.
    """
    failures: deque[BaseException] = deque(maxlen=_MOST_CAUSES)
    with _listener.hearing(failures):
        try:
            yield
        except Exception as error:
            telling = [failure for failure in failures if not may_retry(failure)] or list(failures)
            chain = list(_chain(error))
            if telling and not any(telling[-1] is held for held in chain):
                next(held for held in chain if held.__cause__ is None).__cause__ = telling[-1]
            raise
        finally:
            failures.clear()


class _Listener(logging.Filter):
    """Hears what aiokafka's client logs, also where nobody wants to see that."""

    def __init__(self) -> None:
        super().__init__()
        self._logger = logging.getLogger("aiokafka")
        self._failures: ContextVar[deque[BaseException] | None] = ContextVar("runstream_kafka_failures", default=None)
        self._lock = Lock()
        self._open = 0
        self._own_level = self._least_shown = logging.NOTSET

    @contextmanager
    def hearing(self, failures: deque[BaseException]) -> Iterator[None]:
        """Add to ``failures`` what is logged in this block by this task, and by those that it starts."""
        token = self._failures.set(failures)
        with self._lock:
            self._open += 1
            if self._open == 1:
                self._begin()
        try:
            yield
        finally:
            with self._lock:
                self._open -= 1
                if self._open == 0:
                    self._end()
            self._failures.reset(token)

    def filter(self, record: logging.LogRecord) -> bool:
        """Take the errors out of a record; whether it is logged at all."""
        failures = self._failures.get()
        if failures is not None and isinstance(record.args, tuple):
            failures.extend(argument for argument in record.args if isinstance(argument, BaseException))
        return record.levelno >= self._least_shown

    def _begin(self) -> None:
        self._own_level, self._least_shown = self._logger.level, self._logger.getEffectiveLevel()
        self._logger.setLevel(min(self._least_shown, logging.WARNING))
        self._logger.addFilter(self)

    def _end(self) -> None:
        self._logger.removeFilter(self)
        self._logger.setLevel(self._own_level)


_listener: Final = _Listener()


class _Found(NamedTuple):
    """The error of a chain that tells most, and what it means."""

    error: BaseException
    retry: bool
    text: str


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and its causes, each once."""
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        held = waiting.pop()
        if held is not None and id(held) not in seen:
            seen.add(id(held))
            yield held
            waiting += [held.__context__, held.__cause__]


def _names(error: BaseException) -> frozenset[str]:
    return frozenset(kind.__name__ for kind in type(error).__mro__)


def _find(error: BaseException) -> _Found | None:
    chain = [(held, _names(held)) for held in _chain(error)]
    for held, names in chain:
        if "SSLError" in names:
            return _Found(held, retry=False, text=_tls(held))
    for rule in _RULES:
        for held, names in chain:
            if names & rule.names:
                return _Found(held, rule.retry, rule.text)
    return None


def _tls(error: BaseException) -> str:
    code = getattr(error, "verify_code", None)
    if code in _HOST_MISMATCHES:
        return (
            "the brokers of {stream} show a certificate for another host{said}; name the servers as their "
            "certificates do, or set RUNSTREAM_KAFKA_CHECK_HOSTNAME=no"
        )
    if code == _EXPIRED:
        return "the brokers of {stream} show a certificate that has expired{said}; give them a new one"
    if code is not None:
        return (
            "the brokers of {stream} show a certificate that is not trusted{said}; set RUNSTREAM_KAFKA_CA_FILE to the "
            "certificate of the CA that signed it"
        )
    reason = str(getattr(error, "reason", None) or error)
    return next(text for marks, text in _TLS_REFUSALS if any(mark in reason for mark in marks))


def _text(error: BaseException) -> str:
    """An error of which nothing is known, on one line; aiokafka's say their class's name themselves."""
    name, text = type(error).__name__, " ".join(str(error).split())
    return text if name in text else f"{name}: {text}"


def _said(error: BaseException) -> str:
    """What an error itself says, on one line; nothing where it has no words of its own."""
    verified = getattr(error, "verify_message", None)
    if verified:
        return str(verified)
    reason = getattr(error, "reason", None)
    if isinstance(reason, str) and reason:
        return reason.lower().replace("_", " ")
    if isinstance(error, OSError):
        return error.strerror or " ".join(str(error).split())
    text = error.args[0] if error.args and isinstance(error.args[0], str) else ""
    return "" if text.startswith("Unable to bootstrap") else " ".join(text.split())
