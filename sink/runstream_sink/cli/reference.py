"""The page docs/cli.md, made from the commands: ``python -m runstream_sink.cli.reference > docs/cli.md``."""

import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Any, Final

import typer

from runstream_sink.cli.app import app
from runstream_sink.cli.exits import MEANINGS

__all__ = ["reference"]

_HEAD: Final = """\
# The command line

This page is made from the commands (`python -m runstream_sink.cli.reference > docs/cli.md`); `runstream COMMAND --help`
says the same. The commands come with the extra `sink`: `pip install 'runstream[sink]'`; `ship` comes with `kafka`,
`import-mlflow` with `mlflow`.

Only data goes to standard output; progress, log lines and errors go to standard error. With `--json` a command prints
one JSON document: bytes as base64, numbers that JSON lacks as the texts `"NaN"`, `"Infinity"` and `"-Infinity"`, times
in milliseconds since the epoch (`emit_ts` and `oldest` in nanoseconds). A run may be named by the beginning of its id,
as long as no other run's id begins so.
"""


def reference() -> str:
    """The page."""
    root: Any = typer.main.get_command(app)
    commands = [
        section for name, command in root.commands.items() for section in _sections(f"runstream {name}", command)
    ]
    rows = [f"| {code.value} | {meaning} |" for code, meaning in MEANINGS.items()]
    exits = ["## Exit codes", "", "| code | meaning |", "|---|---|", *rows]
    return "\n".join([_HEAD, *exits, "", *commands, *_others()])


def _others() -> list[str]:
    """Sections of the commands that other packages bring, as they tell them."""
    loaded = [entry.load() for entry in sorted(entry_points(group="runstream.commands"), key=lambda entry: entry.name)]
    return [command.reference for command in loaded if hasattr(command, "reference")]


def _sections(name: str, command: Any) -> Iterator[str]:
    """A section for each command that does something."""
    for child, inner in getattr(command, "commands", {}).items():
        yield from _sections(f"{name} {child}", inner)
    if not hasattr(command, "commands"):
        yield f"## {name}\n"
        yield f"    {' '.join([name, *map(_usage, command.params)])}\n"
        yield f"{' '.join(command.help.split())}\n"
        lines = [f"- `{_usage(param).strip('[]')}`: {_help(param)}" for param in command.params]
        yield "".join(f"{line}\n" for line in lines)


def _usage(param: Any) -> str:
    if param.param_type_name == "argument":
        return str(param.metavar)
    text = "|".join(param.opts)
    if not param.is_flag:
        text += f" {param.metavar}"
    return text if param.required else f"[{text}]"


def _help(param: Any) -> str:
    default = param.default
    shown = f"  Default: {default}" if isinstance(default, int) and not isinstance(default, bool) else ""
    return " ".join(f"{param.help}{shown}".split())


if __name__ == "__main__":
    sys.stdout.write(reference())
