"""docs/settings.md says what the code says: every setting, its variable, default and meaning."""

import re
from pathlib import Path
from typing import Any

from runstream.config import PRODUCER_SETTINGS
from runstream_schemas.kafka_settings import CONNECTION_SETTINGS, KAFKA_SETTINGS, SHIPPING_SETTINGS
from runstream_schemas.settings import Setting, parse_size
from runstream_sink.config import SINK_SETTINGS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "settings.md"
ALL: tuple[Setting[Any], ...] = tuple(dict.fromkeys((*PRODUCER_SETTINGS, *SINK_SETTINGS, *KAFKA_SETTINGS)))
UNITS = {"GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10}


def _readers(setting: Setting[Any]) -> str:
    sides = {
        "programs": PRODUCER_SETTINGS,
        "shipper": KAFKA_SETTINGS,
        "sink": (*SINK_SETTINGS, *CONNECTION_SETTINGS),
    }
    return ", ".join(side for side, settings in sides.items() if setting in settings)


def _default(setting: Setting[Any]) -> str:
    if setting.default == "":
        return "empty"
    if setting.unit == "bytes":
        unit = next((unit for unit, size in UNITS.items() if setting.default % size == 0), "")
        return f"`{setting.default // UNITS.get(unit, 1)}{unit}`"
    number = isinstance(setting.default, float)
    return f"`{setting.default:g}`{f' {setting.unit}' if setting.unit else ''}" if number else f"`{setting.default}`"


def _line(setting: Setting[Any]) -> str:
    choices = f" One of {', '.join(f'`{choice}`' for choice in setting.choices)}." if setting.choices else ""
    meaning = setting.help.replace("|", "\\|") + choices
    cells = (f"`{setting.variable}`", _readers(setting), _default(setting), meaning)
    return f"| {' | '.join(cells)} |"


def test_the_documents_table_of_settings_equals_the_codes() -> None:
    """One row a setting, in the order of the code, with what the code says."""
    rows = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| `RUNSTREAM_")]
    assert rows == [_line(setting) for setting in ALL], "\n".join(["docs/settings.md should hold:", *map(_line, ALL)])


def test_sizes_in_the_documents_table_are_values_that_settings_accept() -> None:
    """Who copies a default from the page sets the default."""
    sizes = [setting for setting in ALL if setting.unit == "bytes"]
    assert [parse_size(_default(setting).strip("`")) for setting in sizes] == [setting.default for setting in sizes]


def test_only_the_shipper_reads_how_a_topic_is_made_and_filled() -> None:
    """Of the settings of Kafka, those of the connection hold for both sides."""
    assert {_readers(setting) for setting in CONNECTION_SETTINGS} == {"shipper, sink"}
    assert {_readers(setting) for setting in SHIPPING_SETTINGS} == {"shipper"}


def test_every_variable_that_a_document_or_the_service_unit_names_is_a_setting() -> None:
    """Nobody sets, with a page beside them, what nothing reads."""
    texts = [*(ROOT / "docs").glob("*.md"), ROOT / "README.md", *(ROOT / "deploy").iterdir()]
    named = {name for path in texts for name in re.findall(r"RUNSTREAM_[A-Z_]*[A-Z]", path.read_text("utf-8"))}
    assert named - {"RUNSTREAM_CACHE"} == {setting.variable for setting in ALL}  # but for what only tests read
