"""The script ``runstream``: finds the command that is meant and hands the arguments over.

Commands are entry points of the group ``runstream.commands``, named as the command is.  An entry point's object is
called with the arguments, the command's name first, and returns the exit code; its attribute ``summaries``, if it has
one, holds a line about each command.  Nothing but the standard library is imported here, so that a thin installation
can say what it lacks.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points, version
from typing import Final

__all__ = ["GROUP", "main"]

GROUP: Final = "runstream.commands"
_USAGE: Final = 2
_MISSING: Final = 3
_INTERRUPTED: Final = 130
_OWN: Final = frozenset({"runstream", "runstream_schemas", "runstream_sink"})
_INSTALL: Final = "pip install 'runstream[sink]'"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line ``arguments`` (by default this process's own); returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    commands = {entry.name: entry for entry in entry_points(group=GROUP)}
    if not words or words[0] in {"--help", "-h"}:
        print(_listing(commands))  # noqa: T201
        return 0
    if words[0] == "--version":
        print(f"runstream {version('runstream')}")  # noqa: T201
        return 0
    if words[0] not in commands:
        return _unknown(words[0], commands)
    return _run(commands[words[0]], words)


def _run(entry: EntryPoint, words: list[str]) -> int:
    try:
        command: Callable[[Sequence[str]], int] = entry.load()
        return command(words)
    except ImportError as error:
        module = _foreign_module(error)
        if module is None:
            raise
        return _fail(_MISSING, f"the command {entry.name} needs {module}, which is not installed; run: {_INSTALL}")
    except KeyboardInterrupt:  # while the command was being loaded
        return _INTERRUPTED


def _foreign_module(error: ImportError) -> str | None:
    """The module of somebody else's that is missing, or too old; None where the error is a mistake of ours."""
    module = (error.name or "").partition(".")[0]
    return module if module and module not in _OWN | sys.stdlib_module_names else None


def _unknown(word: str, commands: Mapping[str, EntryPoint]) -> int:
    if word.startswith("-"):
        return _fail(_USAGE, f"unknown option {word}; see `runstream --help`")
    close = get_close_matches(word, commands, n=1)
    hint = f"did you mean `runstream {close[0]}`?" if close else "see `runstream --help`"
    return _fail(_USAGE, f"there is no command {word!r:.100}; {hint}")


def _fail(code: int, message: str) -> int:
    print(f"runstream: {message}", file=sys.stderr)  # noqa: T201
    return code


def _listing(commands: Mapping[str, EntryPoint]) -> str:
    summaries = {name: _summary(entry) for name, entry in sorted(commands.items())}
    width = max(map(len, summaries), default=0)
    lines = [f"  {name:{width}}  {summary}".rstrip() for name, summary in summaries.items()]
    return "\n".join(
        [
            "usage: runstream COMMAND [ARGUMENT...]",
            "",
            "Logs what LLM programs do as events, and makes experiments, tables and artifacts of them.",
            "",
            "commands:",
            *(lines or [f"  none is installed; run: {_INSTALL}"]),
            "",
            "`runstream COMMAND --help` explains one; `runstream --version` prints the version.",
        ]
    )


def _summary(entry: EntryPoint) -> str:
    try:
        summaries: Mapping[str, str] = getattr(entry.load(), "summaries", {})
    except ImportError as error:
        return f"(needs {error.name}: {_INSTALL})"
    return summaries.get(entry.name, "")


if __name__ == "__main__":
    sys.exit(main())
