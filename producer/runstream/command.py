"""A command of this package, with its arguments by argparse: what ``runstream ship`` and ``import-mlflow`` share.

Exit codes: 2 for what is wrong in the command line or the settings, 3 for what is not there or does not answer.
"""

import argparse
import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Any, Final

from runstream_schemas.errors import EnvironmentUnavailableError, InvalidInputError

__all__ = ["Command", "fail"]

_USAGE: Final = 2
_UNAVAILABLE: Final = 3


class Command:
    """What an entry point of the group ``runstream.commands`` names.

    ``run`` is given the parsed arguments and returns the exit code; ``purpose`` and ``extra`` name what needs which
    extra, where a module is missing.
    """

    def __init__(
        self,
        parser: argparse.ArgumentParser,
        run: Callable[[Any], int],
        *,
        summary: str,
        purpose: str,
        extra: str,
    ) -> None:
        self._parser = parser
        self._run = run
        self._purpose = purpose
        self._extra = extra
        self.summaries = {parser.prog.removeprefix("runstream "): summary}

    def __call__(self, arguments: Sequence[str]) -> int:
        """Run a command line, the command's name first; returns the exit code."""
        try:
            return self._run(self._parser.parse_args(arguments[1:]))
        except SystemExit as end:  # argparse has said why
            return end.code if isinstance(end.code, int) else _USAGE
        except InvalidInputError as error:
            return fail(_USAGE, str(error))
        except ModuleNotFoundError as error:
            message = f"{self._purpose} needs {error.name}; run: pip install 'runstream[{self._extra}]'"
            return fail(_UNAVAILABLE, message)
        except (EnvironmentUnavailableError, OSError) as error:
            return fail(_UNAVAILABLE, str(error))

    @property
    def reference(self) -> str:
        """Its section of the page about the commands."""
        actions = [action for action in self._parser._actions if action.dest != "help"]  # noqa: SLF001 - as typer's are read
        lines = [f"- `{_usage(action)}`: {action.help}\n" for action in actions]
        usage = " ".join(f"[{_usage(one)}]" if one.option_strings else _usage(one) for one in actions)
        about = " ".join(str(self._parser.description).split())
        name = self._parser.prog
        return f"## {name}\n\n    {name} {usage}\n\n{about}\n\n{''.join(lines)}"


def fail(code: int, message: str) -> int:
    """Say why a command ends, and return its exit code; whoever cannot be told is not told."""
    with contextlib.suppress(OSError):
        os.write(2, f"runstream: {message}\n".encode())
    return code


def _usage(action: argparse.Action) -> str:
    if not action.option_strings:
        return str(action.metavar)
    return f"{action.option_strings[0]} {action.metavar or ''}".strip()
