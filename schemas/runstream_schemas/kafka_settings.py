"""The settings of the connection to Kafka, and of what is shipped to it; both sides read them from the environment."""

from typing import Any, Final

from runstream_schemas.settings import Setting

__all__ = [
    "CONNECTION_SETTINGS",
    "KAFKA_CA_FILE",
    "KAFKA_CERT_FILE",
    "KAFKA_CHECK_HOSTNAME",
    "KAFKA_COMPRESSION",
    "KAFKA_CREATE_TOPIC",
    "KAFKA_KEY_FILE",
    "KAFKA_KEY_PASSWORD",
    "KAFKA_KEY_PASSWORD_FILE",
    "KAFKA_PARTITIONS",
    "KAFKA_PASSWORD",
    "KAFKA_PASSWORD_FILE",
    "KAFKA_PROPERTIES",
    "KAFKA_REPLICATION",
    "KAFKA_SASL_MECHANISM",
    "KAFKA_SECURITY_PROTOCOL",
    "KAFKA_SETTINGS",
    "KAFKA_USERNAME",
    "SHIPPING_SETTINGS",
]

KAFKA_SECURITY_PROTOCOL: Final = Setting(
    "kafka_security_protocol",
    "PLAINTEXT",
    "How brokers are talked to: with or without TLS (SSL), with or without a login (SASL).",
    choices=("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"),
)
KAFKA_SASL_MECHANISM: Final = Setting(
    "kafka_sasl_mechanism",
    "none",
    "How the login works, where the protocol is SASL_SSL or SASL_PLAINTEXT.",
    choices=("none", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"),
)
KAFKA_USERNAME: Final = Setting("kafka_username", "", "The user that logs in to the brokers.")
KAFKA_PASSWORD: Final = Setting("kafka_password", "", "The user's password.", secret=True)
KAFKA_PASSWORD_FILE: Final = Setting("kafka_password_file", "", "A file that holds the user's password and no more.")
KAFKA_CA_FILE: Final = Setting(
    "kafka_ca_file",
    "",
    "A PEM file with the certificates that the brokers' are checked against. Empty: those of the system.",
)
KAFKA_CERT_FILE: Final = Setting(
    "kafka_cert_file", "", "A PEM file with the certificate that is shown to brokers, and those that it is signed by."
)
KAFKA_KEY_FILE: Final = Setting(
    "kafka_key_file", "", "A PEM file with the key of that certificate. Empty: it is in the certificate's file."
)
KAFKA_KEY_PASSWORD: Final = Setting("kafka_key_password", "", "The key's password, if it is encrypted.", secret=True)
KAFKA_KEY_PASSWORD_FILE: Final = Setting(
    "kafka_key_password_file", "", "A file that holds the key's password and no more."
)
KAFKA_CHECK_HOSTNAME: Final = Setting(
    "kafka_check_hostname",
    "yes",
    "Whether a broker's certificate must be for the host by which it is reached.",
    choices=("yes", "no"),
)
KAFKA_PROPERTIES: Final = Setting(
    "kafka_properties", "", "A client.properties file, as Java's clients have it, for what is not set otherwise."
)
KAFKA_CREATE_TOPIC: Final = Setting(
    "kafka_create_topic", "yes", "Whether a topic that is missing is created.", choices=("yes", "no")
)
KAFKA_PARTITIONS: Final = Setting(
    "kafka_partitions", 0, "How many partitions a topic is created with. 0: as the brokers are configured."
)
KAFKA_REPLICATION: Final = Setting(
    "kafka_replication", 0, "How many brokers hold a copy of a topic that is created. 0: as the brokers are configured."
)
KAFKA_COMPRESSION: Final = Setting(
    "kafka_compression", "zstd", "How what is shipped is compressed.", choices=("zstd", "lz4", "gzip", "none")
)

CONNECTION_SETTINGS: Final[tuple[Setting[Any], ...]] = (
    KAFKA_SECURITY_PROTOCOL,
    KAFKA_SASL_MECHANISM,
    KAFKA_USERNAME,
    KAFKA_PASSWORD,
    KAFKA_PASSWORD_FILE,
    KAFKA_CA_FILE,
    KAFKA_CERT_FILE,
    KAFKA_KEY_FILE,
    KAFKA_KEY_PASSWORD,
    KAFKA_KEY_PASSWORD_FILE,
    KAFKA_CHECK_HOSTNAME,
    KAFKA_PROPERTIES,
)
"""Both the shipper and the sink connect."""

SHIPPING_SETTINGS: Final[tuple[Setting[Any], ...]] = (
    KAFKA_CREATE_TOPIC,
    KAFKA_PARTITIONS,
    KAFKA_REPLICATION,
    KAFKA_COMPRESSION,
)
"""Only what ships makes topics and compresses."""

KAFKA_SETTINGS: Final = CONNECTION_SETTINGS + SHIPPING_SETTINGS
