"""``runstream config``: every setting, its value and where it came from.

Settings are found by the entry points of the group ``runstream.settings``, each of which names a sequence of
`Setting`: the producer's too, whose package the sink does not import.  Secrets are not shown.
"""

from importlib.metadata import entry_points
from typing import Any, Final

from runstream_schemas.errors import InvalidInputError
from runstream_schemas.kafka_settings import KAFKA_SETTINGS
from runstream_schemas.settings import Setting
from runstream_schemas.streams import hide_password
from runstream_sink.cli import output
from runstream_sink.cli.exits import Exit
from runstream_sink.cli.options import JsonOption
from runstream_sink.config import SINK_SETTINGS

__all__ = ["GROUP", "HIDDEN", "config"]

GROUP: Final = "runstream.settings"
HIDDEN: Final = "(set)"
"""Stands for a secret's value."""


def config(json: JsonOption = False) -> int:
    """Show every setting, its value and where it came from; of a password only whether it is set.

    A bad value is shown, and the exit code is then 2.
    """
    shown = [_shown(setting) for setting in _settings()]
    if json:
        output.print_json(shown)
    else:
        rows = [(item["variable"], _text(item), item["origin"], item["help"]) for item in shown]
        output.print_table(("variable", "value", "from", ""), rows)
    wrong = [item["error"] for item in shown if item["error"]]
    for error in wrong:
        output.note(f"runstream: {error}")
    return Exit.USAGE if wrong else Exit.OK


def _settings() -> list[Setting[Any]]:
    """Each setting once, by its name."""
    declared: tuple[Setting[Any], ...] = (*SINK_SETTINGS, *KAFKA_SETTINGS)
    found = {setting.name: setting for setting in declared}
    for entry in entry_points(group=GROUP):
        found |= {setting.name: setting for setting in entry.load()}
    return [found[name] for name in sorted(found)]


def _shown(setting: Setting[Any]) -> dict[str, Any]:
    error = None
    try:
        value, origin = setting.resolve()
    except InvalidInputError as refusal:
        value, origin, error = None, "environment", str(refusal)
    return {
        "name": setting.name,
        "variable": setting.variable,
        "value": _public(setting, value),
        "origin": origin,
        "unit": setting.unit,
        "default": setting.default,
        "help": setting.help,
        "error": error,
    }


def _public(setting: Setting[Any], value: Any) -> Any:
    """A value as it may be shown to anybody."""
    if setting.secret:
        return HIDDEN if value else value
    return hide_password(value) if isinstance(value, str) else value


def _text(item: dict[str, Any]) -> str:
    if item["error"]:
        return "(not a value)"
    unit = f" {item['unit']}" if item["unit"] else ""
    return f"{item['value']}{unit}" if item["value"] != "" else "(empty)"
