"""Reading a search text from left to right, and errors that show the place."""

import re
from typing import Final

from runstream_schemas.errors import InvalidInputError

__all__ = ["Scanner"]

_SPACE: Final = re.compile(r"\s*")
_SHOWN: Final = 100
"""Characters of a line that an error shows."""


class Scanner:
    """A place in a text.  ``what`` names the text in errors: "filter" or "order_by".

    Raises `InvalidInputError` for a text that no store could hold (halves of surrogate pairs).
    """

    def __init__(self, text: str, what: str) -> None:
        self._text = text
        self._what = what
        self.at = 0
        try:
            text.encode()
        except UnicodeEncodeError as error:
            self.fail("a character that is no Unicode text", error.start)

    @property
    def ended(self) -> bool:
        """Whether nothing is left."""
        return self.at >= len(self._text)

    def skip_space(self) -> None:
        """Go to what is no white space."""
        found = _SPACE.match(self._text, self.at)
        self.at = found.end() if found else self.at

    def take(self, pattern: re.Pattern[str]) -> str | None:
        """What ``pattern`` matches here, which is then passed; None if it does not match."""
        found = pattern.match(self._text, self.at)
        if found is None:
            return None
        self.at = found.end()
        return found.group()

    def next_is(self, pattern: re.Pattern[str]) -> bool:
        """Whether ``pattern`` matches here."""
        return pattern.match(self._text, self.at) is not None

    def rest(self) -> str:
        """A word or so of what is left, for an error."""
        return self._text[self.at : self.at + _SHOWN].split(maxsplit=1)[0] if not self.ended else ""

    def fail(self, problem: str, start: int | None = None) -> None:
        """Raise `InvalidInputError` that says what is wrong, where, and shows the line."""
        raise self.error(problem, start)

    def error(self, problem: str, start: int | None = None) -> InvalidInputError:
        """The error for a problem at ``start`` (where the scanner stands unless given)."""
        at = self.at if start is None else start
        before = self._text[:at]
        line_start = before.rfind("\n") + 1
        line, column = before.count("\n") + 1, at - line_start + 1
        shown = max(line_start, at - _SHOWN // 2)
        end = self._text.find("\n", at)
        excerpt = self._text[shown : min(shown + _SHOWN, len(self._text) if end < 0 else end)]
        pointed = f"{_printable(excerpt)}\n  {' ' * (at - shown)}^"
        return InvalidInputError(f"invalid {self._what} at line {line}, column {column}: {problem}\n  {pointed}")


def _printable(text: str) -> str:
    """The text with one printable character for each of its own."""
    return "".join(letter if letter.isprintable() else " " if letter.isspace() else "?" for letter in text)
