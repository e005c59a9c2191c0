"""client.properties files: their syntax is Java's, and what they say about logins and certificates is found."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runstream_schemas.errors import EnvironmentUnavailableError, InvalidInputError
from runstream_schemas.kafka_properties import Login, Properties, parse, read_properties

PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a=b", {"a": "b"}),
        ("a = b ", {"a": "b "}),
        ("  a\t:b", {"a": "b"}),
        ("a b c", {"a": "b c"}),
        ("a  =  b = c", {"a": "b = c"}),
        ("a", {"a": ""}),
        ("a=", {"a": ""}),
        ("=b", {"": "b"}),
        ("# a=b\n! c=d\n\n \t\f\ne=f", {"e": "f"}),
        ("a=b\\\n    c\\\r\n  d\re=f", {"a": "bcd", "e": "f"}),
        ("a=b\\\\\nc=d", {"a": "b\\", "c": "d"}),
        ("a=b\\\n# c\nd=e", {"a": "b# c", "d": "e"}),
        ("\\\n# c=d", {"#": "c=d"}),
        ("a=b\\", {"a": "b"}),
        ("a\\=b\\:c\\ d=e", {"a=b:c d": "e"}),
        ("a=\\t\\n\\r\\f\\z\\\\", {"a": "\t\n\r\fz\\"}),
        ("a=\\u00e9\\u0416", {"a": "\u00e9\u0416"}),
        ("a=\\ud83d\\ude00", {"a": "\U0001f600"}),
        ("a=1\na=2", {"a": "2"}),
        ("", {}),
    ],
    ids=repr,
)
def test_a_file_is_read_as_java_reads_it(text: str, values: dict[str, str]) -> None:
    """Separators, comments, lines that go on, and escapes, as `java.util.Properties.load` has them."""
    assert parse(text) == values


@given(st.text())
def test_any_text_is_a_file_of_properties(text: str) -> None:
    """Nothing in it raises: what makes no sense is a key that nobody knows."""
    assert all(isinstance(value, str) for value in parse(text).values())


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_file_is_in_utf_8_or_in_javas_encoding(tmp_path: Path, encoding: str) -> None:
    """A password with an umlaut is the same in both."""
    path = tmp_path / "client.properties"
    path.write_bytes("ssl.key.password=m\u00fcde".encode(encoding))
    assert read_properties(path).key_password == "m\u00fcde"


def test_blanks_around_a_value_do_not_count(tmp_path: Path) -> None:
    """An editor leaves them behind, and nobody sees them."""
    path = tmp_path / "client.properties"
    path.write_text("ssl.key.password=p \nssl.truststore.type=pem\t\nssl.truststore.location=/ca \n")
    found = read_properties(path)
    ca = found.ca()
    assert ca is not None
    assert (ca.path, found.key_password) == (Path("/ca"), "p")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """With the setting that names it."""
    with pytest.raises(EnvironmentUnavailableError, match=r"none, which RUNSTREAM_KAFKA_PROPERTIES names, cannot be"):
        read_properties(tmp_path / "none")


@pytest.mark.parametrize(
    ("jaas", "username", "password"),
    [
        (f'{SCRAM} required username="alice" password="secret";', "alice", "secret"),
        (f' {SCRAM}  required\n\tusername=alice\n  password = "a b;c" ; ', "alice", "a b;c"),
        (f'{SCRAM} required username="a\\"b" password="c\\\\d" tokenauth="true";', 'a"b', "c\\d"),
        (f"{SCRAM} required;", "", ""),
        (f'{SCRAM} sufficient password="";', "", ""),
    ],
)
def test_user_and_password_are_found_in_the_login_module(jaas: str, username: str, password: str) -> None:
    """Quoted or not, in any order, with other options between."""
    login = Properties("f", {"sasl.jaas.config": jaas}).login()
    assert login == Login("f", "SCRAM-", username, password)


@pytest.mark.parametrize("jaas", ["", "  "])
def test_an_empty_login_is_none(jaas: str) -> None:
    """As in a file that a program fills in."""
    assert Properties("f", {"sasl.jaas.config": jaas}).login() is None
    assert Properties("f", {}).login() is None


@pytest.mark.parametrize(
    ("jaas", "message"),
    [
        (f'{SCRAM} required username="alice" password="secret"', "cannot be read; it must be MODULE required"),
        (f'{SCRAM} username="alice" password="secret";', "cannot be read"),
        (f'{SCRAM} required password="secret;', "cannot be read"),
        (f'{SCRAM} required password="secret"; {SCRAM} required;', "cannot be read"),
        (
            'com.sun.Krb5LoginModule required password="secret";',
            "login module Krb5LoginModule; only PlainLoginModule and",
        ),
    ],
)
def test_a_login_that_cannot_be_read_is_refused_without_its_password(jaas: str, message: str) -> None:
    """The message names the file and the property."""
    with pytest.raises(InvalidInputError, match=message) as caught:
        Properties("my.properties", {"sasl.jaas.config": jaas}).login()
    assert "my.properties" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_login_module_is_for_its_mechanisms() -> None:
    """Another mechanism is refused, as it would never work."""
    Login("f", "SCRAM-", "u", "p").check("SCRAM-SHA-256")
    with pytest.raises(InvalidInputError, match=r"f has, in sasl.jaas.config, the login module of PLAIN, and the mech"):
        Login("f", "PLAIN", "u", "p").check("SCRAM-SHA-256")


def test_stores_in_pem_are_files_or_text() -> None:
    """The key lies with the certificate, unless it is given apart."""
    files = Properties(
        "f",
        parse("ssl.truststore.type=PEM\nssl.truststore.location=/ca\nssl.keystore.type=PEM\nssl.keystore.location=/k"),
    )
    certificate, key = files.identity()
    ca = files.ca()
    assert ca is not None
    assert certificate is not None
    assert (ca.path, certificate.path, key) == (Path("/ca"), Path("/k"), None)
    inline = Properties(
        "f", {"ssl.keystore.type": "PEM", "ssl.keystore.certificate.chain": "C", "ssl.keystore.key": "K"}
    )
    assert [held and held.text for held in inline.identity()] == ["C", "K"]
    assert Properties("f", {}).ca() is None
    assert Properties("f", {}).identity() == (None, None)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"ssl.truststore.location": "/t.jks"},
            "truststore of the type JKS.*keytool -importkeystore -srckeystore /t.jks",
        ),
        ({"ssl.truststore.location": "/t.p12", "ssl.truststore.type": "PKCS12"}, "openssl pkcs12 -in /t.p12 -nodes"),
        ({"ssl.truststore.location": "/t", "ssl.truststore.type": "BCFKS"}, "BCFKS, and only PEM is known"),
        ({"ssl.truststore.certificates": "C"}, "truststore of the type JKS"),
        (
            {"ssl.truststore.type": "PEM", "ssl.truststore.location": "/t", "ssl.truststore.certificates": "C"},
            "ssl.truststore.location and ssl.truststore.certificates; take one out",
        ),
    ],
)
def test_a_trust_store_that_is_not_in_pem_is_refused_with_what_converts_it(
    values: dict[str, str], message: str
) -> None:
    """Java's type is JKS where none is named."""
    with pytest.raises(InvalidInputError, match=message):
        Properties("f", values).ca()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ssl.keystore.location": "/k.jks"}, "keystore of the type JKS.*keytool"),
        ({"ssl.keystore.type": "PEM", "ssl.keystore.certificate.chain": "C"}, "without ssl.keystore.key; add it"),
    ],
)
def test_a_key_store_that_cannot_be_used_is_refused(values: dict[str, str], message: str) -> None:
    """Before anything is connected."""
    with pytest.raises(InvalidInputError, match=message):
        Properties("f", values).identity()


@pytest.mark.parametrize(("value", "checked"), [("https", True), ("HTTPS", True), ("", False)])
def test_the_hosts_name_is_checked_unless_the_algorithm_is_empty(value: str, checked: bool) -> None:
    """As in Java."""
    assert Properties("f", {"ssl.endpoint.identification.algorithm": value}).checks_hostname() is checked
    assert Properties("f", {}).checks_hostname()


def test_an_algorithm_that_is_unknown_is_refused() -> None:
    """Rather than taken for no check."""
    with pytest.raises(InvalidInputError, match="must be https, or empty for no check"):
        Properties("f", {"ssl.endpoint.identification.algorithm": "ldaps"}).checks_hostname()


def test_keys_without_effect_are_listed() -> None:
    """Those that nobody knows here, and those that were left out."""
    text = "bootstrap.servers=a\nclient.id=x\nsecurity.protocol=SSL\nsasl.mechanism=PLAIN\nssl.key.password=p"
    properties = Properties("f", parse(text))
    assert properties.ignored() == ("bootstrap.servers", "client.id")
    assert properties.has_tls
    left = properties.without(login=True, tls=True)
    assert left.ignored() == ("bootstrap.servers", "client.id", "sasl.mechanism", "ssl.key.password")
    assert not left.has_tls
    assert properties.without(login=False, tls=False) == properties
