r"""The grammar of MLflow's filters and orders: text to clauses, each with its places.

::

    filter     = { clause | "AND" } ;                     (* MLflow does not insist on the AND between two clauses *)
    clause     = field comparator [ value ] ;             (* no value after IS NULL and IS NOT NULL *)
    order      = field [ "ASC" | "DESC" ] ;
    field      = [ entity "." ] key ;                     (* an attribute if there is no entity *)
    entity     = word | "`" word "`" ;
    key        = word { "." word } | quoted ;
    quoted     = "`" text "`" | '"' text '"' | "'" text "'" ;    (* the last only after an entity *)
    comparator = symbols | word | "NOT" word | "IS" ["NOT"] "NULL" ;
    value      = "'" text "'" | '"' text '"' | number | "(" string { "," string } [ "," ] ")" ;

Keywords are read in capitals and small letters.  Nothing in a text is an escape: a quote that is doubled, or follows a
backslash, does not end the text, and both characters stay in it (as in MLflow; take the other kind of quote).  Which
fields, comparators and values belong together is not said here (see `terms`).
"""

import re
from dataclasses import dataclass
from typing import Final

from runstream_sink.query.search.scanner import Scanner
from runstream_sink.store.search_plan import Value

__all__ = ["Clause", "Name", "parse_filter", "parse_order"]

_WORD: Final = re.compile(r"\w+")
_WORDS: Final = re.compile(r"\w+(?:\.\w+)*")
_DOT: Final = re.compile(r"\.")
_BACKTICKS: Final = re.compile(r"`(?:``|[^`])*`")
_SINGLE: Final = re.compile(r"'(?:''|\\'|[^'])*'")
_DOUBLE: Final = re.compile(r'"(?:""|\\"|[^"])*"')
_NUMBER: Final = re.compile(r"-?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?![\w.])", re.ASCII)
_SYMBOLS: Final = re.compile(r"[<>=!~]+")
_COMPARATOR: Final = re.compile(r"IS\s+NOT\s+NULL\b|IS\s+NULL\b|NOT\s+[A-Z]+|[A-Z]+", re.ASCII | re.IGNORECASE)
_AND: Final = re.compile(r"AND\b", re.IGNORECASE)
_OTHER_WORD: Final = re.compile(r"(?:OR|NOT)\b|\(", re.IGNORECASE)
_DIRECTION: Final = re.compile(r"(?:ASC|DESC)\b", re.IGNORECASE)
_AFTER_FIELD: Final = re.compile(r"[\s<>=!~]|$")
_OPEN, _COMMA, _CLOSE = re.compile(r"\("), re.compile(","), re.compile(r"\)")
_LIMIT: Final = 1 << 63
_MOST_DIGITS: Final = 20
_COMPARATORS: Final = ("=", "!=", "<", "<=", ">", ">=", "LIKE", "ILIKE", "IN", "NOT IN", "IS NULL", "IS NOT NULL")
_WITHOUT_VALUE: Final = frozenset({"IS NULL", "IS NOT NULL"})


@dataclass(frozen=True)
class Name:
    """A field as it was written."""

    entity: str | None
    key: str
    at: int
    key_at: int


@dataclass(frozen=True)
class Clause:
    """A comparison as it was written; ``value`` is a text, a number, a list of texts, or None."""

    name: Name
    comparator: str
    comparator_at: int
    value: Value
    value_at: int


def parse_filter(scanner: Scanner) -> list[Clause]:
    """The clauses of a filter.  Raises `InvalidInputError`."""
    scanner.skip_space()
    if scanner.ended:
        scanner.fail("nothing but white space")
    clauses: list[Clause] = []
    while not scanner.ended:
        if scanner.take(_AND) is None:
            clauses.append(_clause(scanner))
        scanner.skip_space()
    return clauses


def parse_order(scanner: Scanner) -> tuple[Name, bool]:
    """The field of one key of an order, and whether it descends.  Raises `InvalidInputError`."""
    scanner.skip_space()
    if scanner.ended:
        scanner.fail("a field is missing, as in metrics.loss DESC")
    name = _name(scanner)
    scanner.skip_space()
    direction = scanner.take(_DIRECTION)
    scanner.skip_space()
    if not scanner.ended:
        scanner.fail("expected ASC, DESC or the end; give each key of the order in a text of its own")
    return name, direction is not None and direction.upper() == "DESC"


def _clause(scanner: Scanner) -> Clause:
    if scanner.next_is(_OTHER_WORD):
        scanner.fail(f"{scanner.rest()[:3].rstrip()} is not in this grammar; comparisons are joined by AND alone")
    name = _name(scanner)
    scanner.skip_space()
    comparator_at = scanner.at
    written = scanner.take(_SYMBOLS) or scanner.take(_COMPARATOR)
    if written is None:
        raise scanner.error("expected a comparator, such as = or LIKE")
    comparator = " ".join(written.upper().split())
    if comparator not in _COMPARATORS:
        scanner.fail(f"there is no comparator {comparator:.50}; there are {', '.join(_COMPARATORS)}", comparator_at)
    if comparator in _WITHOUT_VALUE:
        return Clause(name, comparator, comparator_at, None, scanner.at)
    scanner.skip_space()
    value_at = scanner.at
    return Clause(name, comparator, comparator_at, _value(scanner), value_at)


def _name(scanner: Scanner) -> Name:
    at = scanner.at
    first = _quoted(scanner, _BACKTICKS)
    if first is None and (first := scanner.take(_WORD)) is None:
        first = _quoted(scanner, _DOUBLE)
        if first is None:
            raise scanner.error("expected a field, such as metrics.loss, params.`a b` or status")
        return _ended(scanner, Name(None, first, at, at))
    if scanner.take(_DOT) is None:
        return _ended(scanner, Name(None, first, at, at))
    key_at = scanner.at
    key = _quoted(scanner, _BACKTICKS, _DOUBLE, _SINGLE)
    if key is None and (key := scanner.take(_WORDS)) is None:
        raise scanner.error(f"a key is missing after {first}.; quote it unless it is letters, digits, _ and dots")
    return _ended(scanner, Name(first, key, at, key_at))


def _ended(scanner: Scanner, name: Name) -> Name:
    """``name``, if the field ends where the scanner stands."""
    if not scanner.next_is(_AFTER_FIELD):
        scanner.fail("a key with other characters than letters, digits, _ and dots is quoted: metrics.`a-b`")
    return name


def _quoted(scanner: Scanner, *patterns: re.Pattern[str]) -> str | None:
    """What stands between the quotes of one of ``patterns``, if there are such."""
    for pattern in patterns:
        if (found := scanner.take(pattern)) is not None:
            return found[1:-1]
    return None


def _value(scanner: Scanner) -> Value:
    text = _quoted(scanner, _SINGLE, _DOUBLE)
    if text is not None:
        return text
    number = scanner.take(_NUMBER)
    if number is not None:
        return _number(number)
    if scanner.take(_OPEN):
        return _list(scanner)
    if scanner.ended:
        raise scanner.error("a value is missing")
    raise scanner.error("expected a value: a number, or a text in quotes ('...' or \"...\"), or a list of such texts")


def _number(written: str) -> int | float:
    """An integer stays one if 64 bits hold it; of others only the size matters."""
    if len(written) <= _MOST_DIGITS and written.lstrip("-").isdigit() and -_LIMIT <= int(written) < _LIMIT:
        return int(written)
    return float(written)


def _list(scanner: Scanner) -> tuple[str, ...]:
    texts: list[str] = []
    scanner.skip_space()
    while not scanner.take(_CLOSE):
        text = _quoted(scanner, _SINGLE, _DOUBLE)
        if text is None:
            raise scanner.error("expected a quoted text or ) in the list")
        texts.append(text)
        scanner.skip_space()
        if not scanner.take(_COMMA) and not scanner.next_is(_CLOSE):
            scanner.fail("expected , or ) in the list")
        scanner.skip_space()
    if not texts:
        scanner.fail("the list is empty; it needs a text at least")
    return tuple(texts)
