"""The connection to Kafka: made of settings and of client.properties, without showing a secret to anybody."""

import ssl
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from runstream_schemas.errors import EnvironmentUnavailableError, InvalidInputError
from runstream_schemas.kafka import KAFKA_SETTINGS, Connection, connection, explain
from runstream_schemas.kafka_tls import Material, Tls
from runstream_schemas.settings import Setting
from runstream_schemas.streams import KafkaStream
from support.certificates import Authority, Certificate
from support.commands import invoke, invoke_json

STREAM = KafkaStream(("one:9092", "[::1]:9093"), "events")
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"
SECRET = "pass-word"
LOGIN = {
    "security_protocol": "SASL_PLAINTEXT",
    "sasl_mechanism": "SCRAM-SHA-512",
    "username": "alice",
    "password": SECRET,
}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """One that issues certificates."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def client(authority: Authority) -> Certificate:
    """A client's certificate and key."""
    return authority.issue("client")


@pytest.fixture
def properties(tmp_path: Path) -> Path:
    """Where a client.properties file is to lie."""
    return tmp_path / "client.properties"


def made(**settings: object) -> Connection:
    """The connection with these settings, whose names lack their prefix here."""
    return connection(STREAM, {f"RUNSTREAM_KAFKA_{name.upper()}": str(value) for name, value in settings.items()})


def test_without_settings_brokers_are_talked_to_in_the_clear() -> None:
    """As Kafka's own clients do."""
    arguments = made().arguments()
    assert arguments == {
        "bootstrap_servers": ["one:9092", "[::1]:9093"],
        "client_id": "runstream",
        "security_protocol": "PLAINTEXT",
    }


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
def test_a_login_has_a_mechanism_a_user_and_a_password(protocol: str, mechanism: str) -> None:
    """With or without TLS, of which the system's certificates are the default."""
    arguments = made(**LOGIN | {"security_protocol": protocol, "sasl_mechanism": mechanism}).arguments()
    assert arguments["sasl_mechanism"] == mechanism
    assert (arguments["sasl_plain_username"], arguments["sasl_plain_password"]) == ("alice", SECRET)
    context = arguments.get("ssl_context")
    assert (protocol == "SASL_SSL") == isinstance(context, ssl.SSLContext)


async def test_producer_consumer_and_admin_client_take_the_arguments(authority: Authority) -> None:
    """All three are made of them, as they are."""
    arguments = made(**LOGIN | {"security_protocol": "SASL_SSL"}, ca_file=authority.certificate).arguments()
    for kind in (AIOKafkaProducer, AIOKafkaConsumer, AIOKafkaAdminClient):
        await getattr(kind(**arguments), "close" if kind is AIOKafkaAdminClient else "stop")()


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_a_password_may_lie_in_a_file(tmp_path: Path, end: bytes) -> None:
    """The end of its line does not count; blanks do."""
    path = tmp_path / "password"
    path.write_bytes(b" m\xc3\xbcde " + end)
    settings = {name: value for name, value in LOGIN.items() if name != "password"}
    assert made(**settings, password_file=path).arguments()["sasl_plain_password"] == " m\u00fcde "


def test_the_file_of_a_user_who_does_not_exist_is_refused() -> None:
    """As any other that cannot be read."""
    with pytest.raises(EnvironmentUnavailableError, match="~nobody-of-that-name/p, which RUNSTREAM_KAFKA_PROPERTIES"):
        made(properties="~nobody-of-that-name/p")


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, EnvironmentUnavailableError, "cannot be read: No such file"),
        (b"", InvalidInputError, "holds no password"),
        (b"\n", InvalidInputError, "holds no password"),
        (b"\xff\xfe", InvalidInputError, "is not text in UTF-8"),
    ],
)
def test_a_file_without_a_password_is_refused(
    tmp_path: Path, content: bytes | None, error: type[Exception], message: str
) -> None:
    """The file and the setting that names it are in the message."""
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error, match=f"the file {path}, which RUNSTREAM_KAFKA_PASSWORD_FILE names, {message}"):
        made(**LOGIN | {"password": ""}, password_file=path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            LOGIN | {"security_protocol": "PLAINTEXT"},
            "the protocol is PLAINTEXT, which has none; set RUNSTREAM_KAFKA_SEC",
        ),
        ({"username": "alice"}, "settings of a login"),
        ({"password": SECRET}, "settings of a login"),
        (LOGIN | {"security_protocol": "SSL"}, "the protocol is SSL, which has none"),
        (LOGIN | {"sasl_mechanism": "none"}, "needs a mechanism; set RUNSTREAM_KAFKA_SASL_MECHANISM"),
        (LOGIN | {"username": ""}, "needs a user; set RUNSTREAM_KAFKA_USERNAME"),
        (LOGIN | {"password": ""}, "'alice' needs a password; set RUNSTREAM_KAFKA_PASSWORD_FILE or"),
        (LOGIN | {"password_file": "/x"}, "RUNSTREAM_KAFKA_PASSWORD and RUNSTREAM_KAFKA_PASSWORD_FILE are both set"),
        (LOGIN | {"ca_file": "/x"}, "RUNSTREAM_KAFKA_CA_FILE is about TLS, and the protocol SASL_PLAINTEXT has none"),
        ({"cert_file": "/x"}, "RUNSTREAM_KAFKA_CERT_FILE is about TLS"),
        ({"security_protocol": "SSL", "key_file": "/x"}, "a key without a certificate; set RUNSTREAM_KAFKA_CERT_FILE"),
        ({"security_protocol": "TLS"}, "RUNSTREAM_KAFKA_SECURITY_PROTOCOL is 'TLS'; it must be one of PLAINTEXT, SSL"),
        ({"sasl_mechanism": "GSSAPI"}, "must be one of none, PLAIN"),
        ({"security_protocol": "SSL", "check_hostname": "maybe"}, "must be one of yes, no"),
    ],
    ids=str,
)
def test_settings_that_make_no_sense_together_are_refused(settings: dict[str, str], message: str) -> None:
    """The message says which setting to change, and never the password."""
    with pytest.raises(InvalidInputError, match=message) as caught:
        made(**settings)
    assert SECRET not in str(caught.value)


def test_a_client_shows_its_certificate(authority: Authority, client: Certificate) -> None:
    """With its key in a file of its own, encrypted or not, or in the same file."""
    settings = {"security_protocol": "SSL", "ca_file": authority.certificate}
    for identity in (
        {"cert_file": client.certificate, "key_file": client.key},
        {"cert_file": client.certificate, "key_file": client.encrypted_key, "key_password": client.key_password},
        {"cert_file": client.together},
    ):
        context = made(**settings, **identity).arguments()["ssl_context"]
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        assert len(context.get_ca_certs()) == 1  # and none of the system's


def test_the_keys_password_may_lie_in_a_file(tmp_path: Path, client: Certificate) -> None:
    """As the user's may."""
    path = tmp_path / "password"
    path.write_text(client.key_password + "\n")
    made(
        security_protocol="SSL",
        cert_file=client.certificate,
        key_file=client.encrypted_key,
        key_password_file=path,
    ).arguments()


def test_the_check_of_the_hosts_name_can_be_switched_off(authority: Authority) -> None:
    """Certificates are checked all the same."""
    settings = {"security_protocol": "SSL", "ca_file": authority.certificate}
    context = made(**settings, check_hostname="no").arguments()["ssl_context"]
    assert not context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED


def test_certificates_and_keys_that_will_not_do_are_named(
    tmp_path: Path, authority: Authority, client: Certificate
) -> None:
    """Each with the file, and what is wrong with it."""
    other = authority.issue("other")
    broken, jks, p12 = tmp_path / "broken", tmp_path / "jks", tmp_path / "p12"
    broken.write_text("-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n")
    jks.write_bytes(b"\xfe\xed\xfe\xed rest")
    p12.write_bytes(b"\x30\x82 rest")
    identity = {"cert_file": client.certificate}
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        (
            {"ca_file": tmp_path / "none"},
            EnvironmentUnavailableError,
            "none, which RUNSTREAM_KAFKA_CA_FILE names, cannot",
        ),
        ({"ca_file": broken}, InvalidInputError, f"{broken}, which .* holds no certificate that can be read"),
        ({"ca_file": jks}, InvalidInputError, f"not in PEM; convert it: keytool -importkeystore -srckeystore {jks}"),
        ({"ca_file": p12}, InvalidInputError, f"not in PEM; convert it: openssl pkcs12 -in {p12} -nodes"),
        (
            {"ca_file": other.certificate.with_suffix(".ext")},
            InvalidInputError,
            "not in PEM; it must hold lines such as",
        ),
        (identity, InvalidInputError, f"{client.certificate}, which .* hold no certificate with its key"),
        (
            identity | {"key_file": other.key},
            InvalidInputError,
            f"the key in {other.key}, .* does not belong to the cert",
        ),
        (
            identity | {"key_file": other.encrypted_key},
            InvalidInputError,
            "encrypted key; set RUNSTREAM_KAFKA_KEY_PASSWORD",
        ),
        (
            identity | {"key_file": client.encrypted_key, "key_password": SECRET},
            InvalidInputError,
            f"the password of the key in {client.encrypted_key}, .* is wrong",
        ),
    ]
    for settings, error, message in cases:
        with pytest.raises(error, match=message) as caught:
            made(security_protocol="SSL", **settings).arguments()
        assert SECRET not in str(caught.value)


def test_a_file_of_properties_makes_a_whole_connection(
    properties: Path, authority: Authority, client: Certificate
) -> None:
    """As Java's clients take it; what has no effect here is listed."""
    properties.write_text(
        "bootstrap.servers=elsewhere:9092\n"
        "security.protocol=sasl_ssl\nsasl.mechanism=SCRAM-SHA-512\n"
        f'sasl.jaas.config={SCRAM} required \\\n  username="alice" \\\n  password="{SECRET}";\n'
        f"ssl.truststore.type=PEM\nssl.truststore.location={authority.certificate}\n"
        f"ssl.keystore.type=PEM\nssl.keystore.location={client.together}\n"
        "ssl.endpoint.identification.algorithm=\nretries=5\n"
    )
    found = made(properties=properties)
    assert found.ignored == ("bootstrap.servers", "retries")
    arguments = found.arguments()
    assert arguments["bootstrap_servers"] == ["one:9092", "[::1]:9093"]
    assert arguments["sasl_mechanism"] == "SCRAM-SHA-512"
    assert (arguments["sasl_plain_username"], arguments["sasl_plain_password"]) == ("alice", SECRET)
    assert not arguments["ssl_context"].check_hostname


def test_certificates_may_stand_in_the_file_of_properties(
    properties: Path, authority: Authority, client: Certificate
) -> None:
    """With an encrypted key; its password is there too, or is set."""
    lines = {
        "security.protocol": "SSL",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.certificates": authority.certificate.read_text(),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.certificate.chain": client.certificate.read_text(),
        "ssl.keystore.key": client.encrypted_key.read_text(),
    }
    properties.write_text("".join(f"{key}={_continued(value)}\n" for key, value in lines.items()))
    made(properties=properties, key_password=client.key_password).arguments()
    with properties.open("a") as file:
        file.write(f"ssl.key.password={client.key_password}\n")
    made(properties=properties).arguments()
    with pytest.raises(InvalidInputError, match=r"ssl.keystore.key in .*client.properties is wrong"):
        made(properties=properties, key_password=SECRET).arguments()


def _continued(text: str) -> str:
    return text.strip().replace("\n", "\\n\\\n  ")


def test_what_is_set_goes_before_what_the_file_says(
    properties: Path, authority: Authority, client: Certificate
) -> None:
    """Also where the file's own value could not be used."""
    properties.write_text(
        "security.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-256\n"
        f'sasl.jaas.config={SCRAM} required username="bob" password="other";\n'
        "ssl.truststore.location=/t.jks\nssl.keystore.location=/k.jks\n"
        "ssl.endpoint.identification.algorithm=\n"
    )
    found = made(
        **LOGIN | {"security_protocol": "SASL_SSL"},
        properties=properties,
        ca_file=authority.certificate,
        cert_file=client.together,
        check_hostname="yes",
    )
    arguments = found.arguments()
    assert (found.mechanism, found.username, found.password) == ("SCRAM-SHA-512", "alice", SECRET)
    assert arguments["ssl_context"].check_hostname
    assert made(
        properties=properties, password=SECRET, ca_file=authority.certificate, cert_file=client.together
    ).password == SECRET  # fmt: skip


def test_a_protocol_that_is_set_leaves_out_what_the_file_says_of_others(properties: Path) -> None:
    """So one file serves for the port with a login and for that without."""
    properties.write_text(
        "security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\nssl.truststore.location=/t.jks\n"
        'sasl.jaas.config=x.PlainLoginModule required username="bob" password="other";\n'
    )
    found = made(properties=properties, security_protocol="PLAINTEXT")
    assert found.ignored == ("sasl.jaas.config", "sasl.mechanism", "ssl.truststore.location")
    assert found.arguments()["security_protocol"] == "PLAINTEXT"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("security.protocol=sasl", "client.properties has security.protocol=SASL; it must be one of PLAINTEXT"),
        ("sasl.mechanism=OAUTHBEARER", "has sasl.mechanism=OAUTHBEARER; it must be one of"),
        ("sasl.mechanism=PLAIN", "the protocol is PLAINTEXT, which has none"),
        ("ssl.truststore.location=/x", "client.properties is about TLS, and the protocol PLAINTEXT has none"),
        (
            f'security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\nsasl.jaas.config={SCRAM} required password="{SECRET}";',
            "the login module of SCRAM, and the mechanism is PLAIN",
        ),
        (
            f"security.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-256\nsasl.jaas.config={SCRAM} required username=a;",
            "'a' needs a password",
        ),
    ],
)
def test_properties_that_make_no_sense_are_refused(properties: Path, text: str, message: str) -> None:
    """The message names the file, and never the password."""
    properties.write_text(text)
    with pytest.raises(InvalidInputError, match=message) as caught:
        made(properties=properties)
    assert SECRET not in str(caught.value)


def test_no_repr_shows_a_secret() -> None:
    """Neither of the connection nor of what it is made of."""
    tls = Tls(None, Material("x", text=SECRET), Material("y", text=SECRET), SECRET)
    found = Connection(STREAM, "SASL_SSL", "PLAIN", "alice", SECRET, tls)
    assert "alice" in repr(found)
    assert SECRET not in f"{found} {found!r} {tls!r} {tls.key}"
    assert SECRET not in explain(InvalidInputError("x"), STREAM)


def test_no_secret_shows_up_in_the_command_that_shows_settings(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only that it is set; addresses lose their passwords."""
    secrets = [setting for setting in KAFKA_SETTINGS if setting.secret]
    assert {setting.name for setting in secrets} == {"kafka_password", "kafka_key_password"}
    for setting in secrets:
        monkeypatch.setenv(setting.variable, SECRET)
    monkeypatch.setenv("RUNSTREAM_STORE", f"postgresql://alice:{SECRET}@host/db")
    shown = {item["name"]: item for item in invoke_json(capsys, "config")}
    assert {shown[setting.name]["value"] for setting in secrets} == {"(set)"}
    assert {setting.name for setting in KAFKA_SETTINGS} <= shown.keys()
    assert shown["store"]["value"] == "postgresql://***@host/db"
    assert SECRET not in str(shown)
    text = invoke(capsys, "config").out
    assert "(set)" in text
    assert SECRET not in text


def test_a_secret_that_is_not_set_is_shown_as_empty(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that one sees what is missing."""
    monkeypatch.delenv("RUNSTREAM_KAFKA_PASSWORD", raising=False)
    (shown,) = [item for item in invoke_json(capsys, "config") if item["name"] == "kafka_password"]
    assert (shown["value"], shown["origin"]) == ("", "default")


def test_a_secret_that_is_refused_is_not_repeated() -> None:
    """Should one ever have choices or a number's type."""
    setting = Setting("pin", 0, "A number.", secret=True)
    with pytest.raises(InvalidInputError, match="RUNSTREAM_PIN is not shown here; it must be int") as caught:
        setting.resolve(None, {"RUNSTREAM_PIN": SECRET})
    assert SECRET not in str(caught.value)
