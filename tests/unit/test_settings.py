"""Settings: where a value comes from, and what a bad one is told.  Names: what may be one.  Errors: who is to blame."""

import contextlib
import inspect
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runstream_schemas import errors, names, settings
from runstream_schemas.errors import EnvironmentUnavailableError, InvalidInputError, RunstreamError
from runstream_schemas.settings import Resolved, Setting, parse_size

QUOTA = Setting("quota", 1 << 30, "Most bytes.", unit="bytes")
INTERVAL = Setting("interval", 0.5, "How often.", unit="seconds")
POLICY = Setting("policy", "drop", "What to do.", choices=("drop", "block"))
DECLARED = [value for value in vars(settings).values() if isinstance(value, Setting)]


def test_an_argument_beats_the_environment_which_beats_the_default() -> None:
    """The value nearest to the program holds, and its origin is known."""
    environ = {"RUNSTREAM_INTERVAL": "2.5"}
    assert INTERVAL.resolve(1, environ) == Resolved(1.0, "argument")
    assert INTERVAL.resolve(None, environ) == Resolved(2.5, "environment")
    assert INTERVAL.resolve(None, {}) == Resolved(0.5, "default")


def test_an_empty_variable_counts_as_not_set() -> None:
    """`RUNSTREAM_INTERVAL= program` leaves the default."""
    assert INTERVAL.resolve(None, {"RUNSTREAM_INTERVAL": ""}).origin == "default"


def test_get_reads_the_environment_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """`get` is `resolve` on the real environment, without the origin."""
    monkeypatch.setenv(QUOTA.variable, "10GiB")
    assert QUOTA.get() == 10 << 30
    assert QUOTA.get(5) == 5


@pytest.mark.parametrize(
    ("setting", "text", "expected"),
    [
        (QUOTA, "much", "must be bytes"),
        (INTERVAL, "soon", "must be seconds"),
        (INTERVAL, "-1", "must not be negative"),
        (INTERVAL, "nan", "must not be negative"),
        (POLICY, "wait", "must be one of drop, block"),
        (Setting("port", 8000, "Port."), "http", "must be int"),
    ],
)
def test_a_bad_value_is_refused_with_its_place(setting: Setting, text: str, expected: str) -> None:
    """The message names the variable or the argument, the value, and what it should be."""
    with pytest.raises(InvalidInputError, match=expected) as caught:
        setting.resolve(None, {setting.variable: text})
    assert setting.variable in str(caught.value)
    with pytest.raises(InvalidInputError, match=f"the argument {setting.name} is"):
        setting.resolve(text)


def test_a_chosen_value_is_taken() -> None:
    """One of the choices passes."""
    assert POLICY.get("block") == "block"


@pytest.mark.parametrize("setting", DECLARED, ids=lambda setting: setting.name)
def test_a_declared_setting_explains_itself_and_has_a_valid_default(setting: Setting) -> None:
    """Help ends in a full stop, and the default passes the setting's own check."""
    assert setting.help.endswith(".")
    assert setting.resolve(setting.default, {}).value == setting.default


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("12", 12), ("12 B", 12), ("1KiB", 1024), ("1.5 MiB", 3 << 19), ("2gib", 2 << 30), ("10 GB", 10**10)],
)
def test_sizes_are_read_with_binary_and_decimal_units(text: str, size: int) -> None:
    """KiB, MiB, GiB are powers of 1024; KB, MB, GB powers of 1000; case and blanks do not matter."""
    assert parse_size(text) == size


def test_a_number_is_its_own_size() -> None:
    """A program may pass bytes as an int."""
    assert parse_size(4096) == 4096


@pytest.mark.parametrize("text", ["", "GiB", "1 TiBi", "1 K", "ten MB", "1 GG", "nan", "inf GiB", "1e400"])
def test_what_is_no_size_is_refused(text: str) -> None:
    """Units that do not exist, words and non-finite numbers fail as settings do."""
    with pytest.raises(InvalidInputError):
        QUOTA.resolve(text)


@given(st.text())
def test_any_text_is_a_size_or_is_refused(text: str) -> None:
    """No text makes a setting of bytes fail in another way."""
    with contextlib.suppress(InvalidInputError):
        assert QUOTA.get(text) >= 0


def test_processes_that_never_met_name_the_same_experiment() -> None:
    """The id is a function of the name, pinned here since it is part of the wire rules."""
    assert names.experiment_id_of("Default") == "0"
    assert names.experiment_id_of("humaneval") == "3820312142614852678"
    assert names.experiment_id_of("caf\u00e9") == names.experiment_id_of("cafe\u0301")


@given(st.text())
def test_every_name_gives_an_experiment_id(name: str) -> None:
    """Also lone surrogates and the empty name: the id is canonical and below 2**63."""
    assert names.is_experiment_id(names.experiment_id_of(name))


@pytest.mark.parametrize("text", ["", "00", "-1", "1.0", "\u0661", str(1 << 63), "9" * 5000, "x"])
def test_what_is_not_canonical_is_no_experiment_id(text: str) -> None:
    """One id has one spelling."""
    assert not names.is_experiment_id(text)


@pytest.mark.parametrize(
    "run_id", ["", "0" * 31, "0" * 33, "A" * 32, "g" * 32, "../" + "0" * 29, "0" * 32 + "\n", None, 7]
)
def test_a_run_id_is_32_lower_case_hexadecimal_digits(run_id: object) -> None:
    """So a run id is always safe as a folder's name."""
    with pytest.raises(InvalidInputError, match="32 lower-case hexadecimal digits"):
        names.check_run_id(run_id)
    assert names.check_run_id("0123456789abcdef" * 2) == "0123456789abcdef" * 2


@pytest.mark.parametrize("key", ["a", "train/loss", "\u043f\u043e\u0442\u0435\u0440\u0438", "k" * names.MAX_KEY, " "])
def test_a_key_is_any_text_of_up_to_250_characters(key: str) -> None:
    """A good key comes back as it is."""
    assert names.check_key(key, "metric") == key


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (5, "must be text, not int"),
        ("", "1 to 250 characters, not 0"),
        ("k" * 251, "1 to 250 characters, not 251"),
        ("a\0", "no control characters"),
        ("a\n", "no control characters"),
        ("\ud800", "lone surrogates"),
    ],
)
def test_a_key_that_can_never_be_logged_raises(key: object, expected: str) -> None:
    """The message says what kind of key it was."""
    with pytest.raises(InvalidInputError, match=expected) as caught:
        names.check_key(key, "param")
    assert "param" in str(caught.value)


HOSTILE = [
    None, "", ".", "..", "../x", "a/../b", "a/./b", "/etc/passwd", "a//b", "a/", "a\0b", "a\\b", "C:\\x", "\ud800",
    "p" * (names.MAX_PATH + 1), "line\nbreak", "\u2024" * 1001,
]  # fmt: skip


@pytest.mark.parametrize("path", HOSTILE)
def test_a_hostile_path_is_refused(path: object) -> None:
    """Nothing leaves the run's folder, whatever a client sends."""
    with pytest.raises(InvalidInputError, match="the artifact's path"):
        names.check_path(path, "the artifact's path")


@given(st.text(max_size=40))
def test_a_path_that_passes_stays_inside_and_is_normal(path: str) -> None:
    """A good path is relative, has only named parts, and checking it again changes nothing."""
    try:
        checked = names.check_path(path, "the path")
    except InvalidInputError:
        return
    assert not {"", ".", ".."}.intersection(checked.split("/"))
    assert checked == unicodedata.normalize("NFC", path) == names.check_path(checked, "the path")


@pytest.mark.parametrize(
    ("path", "table"),
    [
        ("x.csv", "x"),
        ("x.json", "x"),
        ("a/x.csv", "a/x"),
        ("x", "x"),
        ("x.csv.json", "x.csv"),
        ("x.parquet", "x.parquet"),
        (".csv", ".csv"),
        ("a/.json", "a/.json"),
        ("cafe\u0301.csv", "caf\u00e9"),
    ],
)
def test_a_table_is_named_by_its_path_without_suffix(path: str, table: str) -> None:
    """`x.csv` and `x.json` are one table; a name that is nothing but a suffix keeps it."""
    assert names.table_name(path) == table


def test_every_error_is_a_runstream_error() -> None:
    """One `except` catches all that runstream raises on purpose, and all is exported."""
    classes = {name for name, value in vars(errors).items() if inspect.isclass(value)}
    assert classes == set(errors.__all__)
    assert all(issubclass(getattr(errors, name), RunstreamError) for name in classes)


def test_what_the_caller_did_wrong_is_a_value_error_and_the_environment_is_not() -> None:
    """A program that validates its own input catches ValueError alone."""
    assert issubclass(errors.ParamConflictError, ValueError)
    assert not issubclass(EnvironmentUnavailableError, ValueError)
