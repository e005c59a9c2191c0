"""A topic by its client, where that is installed."""

from runstream_schemas.errors import EnvironmentUnavailableError
from runstream_schemas.streams import KafkaStream
from runstream_sink.kafka.log import Log

__all__ = ["kafka_log"]


def kafka_log(stream: KafkaStream, *, grouped: bool) -> Log:
    """A topic, not yet connected.  Raises `EnvironmentUnavailableError` if its client is not installed."""
    try:
        from runstream_sink.kafka.client import KafkaLog
    except ImportError as error:
        raise EnvironmentUnavailableError(
            f"the stream {stream} needs {error.name}, which is not installed; run: pip install 'runstream[kafka,sink]'"
        ) from error
    return KafkaLog(stream, grouped=grouped)
